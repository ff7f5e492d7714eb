package server

import (
	"context"
	"errors"
	"time"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/raftstore"
)

const (
	// handOverTime bounds how long a stopping node tries to hand its leases to others. What is left is
	// elected anew, which takes longer but needs nobody's help.
	handOverTime = 2 * time.Second
	// handOverPoll is how often a stopping node looks whether others lead; a transfer takes a few milliseconds.
	handOverPoll = 5 * time.Millisecond
	// graceTime bounds how long requests under way may take to end.
	graceTime = time.Second
	// closeTime bounds the wait for the store's last checkpoint.
	closeTime = 30 * time.Second
)

// Stop ends the node in order (see the package comment) and returns what went wrong on the way. A crash
// instead of it loses nothing that was acknowledged; Stop spares the others an election and this node the
// recovery. It may be called again, and then waits for the first call.
func (n *Node) Stop(ctx context.Context) error {
	n.stopOnce.Do(func() {
		err := n.stop(ctx)
		n.mu.Lock()
		n.mu.stopErr = err
		n.mu.Unlock()
		close(n.stopped)
	})
	<-n.stopped
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.stopErr
}

func (n *Node) stop(ctx context.Context) error {
	n.ready.Store(false)
	n.log.Info("node stops", "node", n.ident.NodeID)
	if n.failure() == nil {
		n.handOver(ctx)
	}
	n.cancel()
	err := n.gossip.Stop()
	n.endRequests(ctx)
	n.raft.Close()
	n.ticking()
	err = errors.Join(err, n.closeStore(ctx))
	shutdown, cancel := context.WithTimeout(ctx, graceTime)
	defer cancel()
	if n.http.Shutdown(shutdown) != nil {
		_ = n.http.Close() // a client that holds on to its connection
	}
	n.endBackground()
	return errors.Join(err, n.closeFiles())
}

// handOver gives the leases of this node's ranges to voters that are up to date, and waits until they lead:
// a node that ended in the middle of a transfer would leave its range to an election.
func (n *Node) handOver(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, handOverTime)
	defer cancel()
	handed := make(map[ids.RangeID]bool)
	for _, info := range n.store.Ranges() {
		to, ok := successor(info, n.ident.StoreID)
		if !ok {
			continue
		}
		handed[info.Descriptor.ID] = true
		n.store.RunOperator(&locuspb.Operator{
			RangeId: uint64(info.Descriptor.ID), ConfEpoch: info.Descriptor.Epoch.Conf, BoundsEpoch: info.Descriptor.Epoch.Bounds,
			Step:   &locuspb.Operator_Transfer{Transfer: &locuspb.TransferLease{StoreId: uint64(to)}},
			Reason: "the node stops",
		}, func(error) {}) // a transfer that was refused shows in who leads
	}
	tick := time.NewTicker(handOverPoll)
	defer tick.Stop()
	for n.leadsAny(handed) {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// leadsAny says whether one of the ranges has no other leader yet.
func (n *Node) leadsAny(ranges map[ids.RangeID]bool) bool {
	for _, info := range n.store.Ranges() {
		if ranges[info.Descriptor.ID] && (info.Leader == 0 || info.Leader == n.ident.StoreID) {
			return true
		}
	}
	return false
}

// successor is the store of the active voter that has most of a range's log.
func successor(info raftstore.RangeInfo, self ids.StoreID) (ids.StoreID, bool) {
	if !info.Leaseholder {
		return 0, false
	}
	var best ids.StoreID
	var match ids.Index
	for _, v := range info.Descriptor.Voters() {
		for _, p := range info.Progress {
			if p.Replica == v.ID && v.Store != self && p.Active && (best == 0 || p.Match > match) {
				best, match = v.Store, p.Match
			}
		}
	}
	return best, best != 0
}

// endRequests lets requests under way end, for a while, and then ends every stream. It does not wait for
// the streams themselves (GracefulStop does): clients and peers hold theirs open for as long as they live.
func (n *Node) endRequests(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, graceTime)
	defer cancel()
	_ = n.listener.Close() // nobody new
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for n.dispatcher.underWay.Load() > 0 {
		select {
		case <-look.C:
			continue
		case <-ctx.Done():
		}
		break
	}
	n.grpc.Stop()
	n.runner.close() // whose contexts ended with the streams; they hold views of the engine
}

// closeStore takes the last checkpoint and ends the store's workers.
func (n *Node) closeStore(ctx context.Context) error {
	done := make(chan struct{})
	n.store.Stop(func() { close(done) })
	timer := time.NewTimer(closeTime)
	defer timer.Stop()
	select {
	case <-done:
	case <-n.failed:
	case <-timer.C:
		return errors.New("server: the store's last checkpoint took too long; the next start recovers from an older one")
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// endBackground waits for what ends with n.background.
func (n *Node) endBackground() {
	if n.catalog != nil {
		n.catalog.close()
	}
	n.wg.Wait()
}

// closeFiles closes what is open on disk, in the reverse order of opening.
func (n *Node) closeFiles() error {
	var err error
	if n.executor != nil {
		n.executor.Close()
	}
	if n.functions != nil {
		err = errors.Join(err, n.functions.close())
	}
	if n.pool != nil {
		n.pool.Close()
	}
	if n.engine != nil {
		err = errors.Join(err, n.engine.Close())
	}
	if n.raftLog != nil {
		err = errors.Join(err, n.raftLog.Close())
	}
	if n.dir != nil {
		err = errors.Join(err, n.dir.close())
	}
	return err
}

// abandon undoes what a failed start had done.
func (n *Node) abandon() {
	n.cancel()
	if n.ticking != nil {
		n.ticking()
	}
	if n.gossip != nil {
		_ = n.gossip.Stop()
	}
	if n.grpc != nil {
		n.grpc.Stop()
	}
	if n.raft != nil {
		n.raft.Close()
	}
	if n.store != nil {
		_ = n.closeStore(context.Background())
	}
	for _, l := range []interface{ Close() error }{closer(n.listener), closer(n.web)} {
		if l != nil {
			_ = l.Close()
		}
	}
	n.endBackground()
	if err := n.closeFiles(); err != nil {
		n.log.Warn("closing after a failed start", "error", err)
	}
}

// closer keeps a nil listener nil.
func closer[T interface {
	comparable
	Close() error
}](c T) interface{ Close() error } {
	var zero T
	if c == zero {
		return nil
	}
	return c
}
