package server

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/boottime"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/raftstore"
	"github.com/locuskv/locus/server/clustermap"
)

const (
	// minReport is the least time between the begins of two heartbeats, whoever asks for one.
	minReport = 20 * time.Millisecond
	// operatorsAtOnce bounds the operators that run here at a time; the driver plans fewer.
	operatorsAtOnce = 64
)

// reporter sends this node's heartbeats to the placement driver, wherever that is, and does what the
// answers say: it takes over the cluster map, runs the operators, removes replicas that are gone.
type reporter struct {
	store    store
	clock    *hlc.Clock
	cmap     *clustermap.Map
	finder   *finder
	office   *office
	self     func() *locuspb.NodeInfo
	splitter *splitter
	holder   holder
	interval time.Duration
	log      *slog.Logger
	// moved is another number whenever something of the replicas may have become news; nil: it may be at any time. To look at
	// 1,000 replicas ten times a second costs more than all else that an idle node does. NB: a leader that steps down for nobody
	// is none, and waits for the next heartbeat.
	moved func() uint64
	// learned is called after each answer, for whoever keeps addresses.
	learned func(nodes []*locuspb.NodeInfo)
	// trusted is called after each answer of the driver in office that vouches for the functions, with when the report was sent
	// (by boottime) and how long they may be gone by; used says whether the driver should, and functions is called with what is
	// registered.
	trusted   func(began, duration time.Duration)
	used      func() bool
	functions func(list []*locuspb.FunctionInfo)
	ledger    ledger // of run alone

	kick      chan struct{}
	looks     chan struct{}
	operators chan struct{} // slots
	wg        sync.WaitGroup
	last      atomic.Int64 // time of the last answer, in nanoseconds since the Unix epoch; 0: none yet
	running   sync.Map     // ids of ranges with an operator of ours under way

	// looked is of look alone: what moved was, and whether it had just changed.
	looked struct {
		at    uint64
		again bool
	}

	refusals struct {
		sync.Mutex
		waiting []*locuspb.RefusedOperator // for the next report
	}
}

func newReporter() *reporter {
	return &reporter{kick: make(chan struct{}, 1), looks: make(chan struct{}, 1), operators: make(chan struct{}, operatorsAtOnce)}
}

// refresh asks for a heartbeat soon, and so for news of the map.
func (r *reporter) refresh() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// look has the store looked at for news, some time soon. It is called every officePeriod, and costs next to nothing while
// nothing moves.
func (r *reporter) look() {
	if r.moved != nil {
		now := r.moved()
		if now == r.looked.at && !r.looked.again {
			return
		}
		r.looked.again, r.looked.at = now != r.looked.at, now
	}
	select {
	case r.looks <- struct{}{}:
	default:
	}
}

// sinceAnswer is how long ago the driver last answered; false if it never did.
func (r *reporter) sinceAnswer() (time.Duration, bool) {
	at := r.last.Load()
	if at == 0 {
		return 0, false
	}
	return time.Since(time.Unix(0, at)), true
}

// run reports until ctx ends, then waits for the operators under way.
func (r *reporter) run(ctx context.Context) {
	defer r.wg.Wait()
	var buffer []raftstore.RangeInfo // nobody keeps the list
	ranges := func() []raftstore.RangeInfo {
		buffer = r.store.AppendRanges(buffer[:0])
		return buffer
	}
	n := news{ranges: ranges, moved: r.moved}
	for ctx.Err() == nil {
		began := time.Now()
		due := time.NewTimer(r.report(ctx, n.reported()))
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				waiting = false
			case <-due.C:
				waiting = false
			case <-r.kick:
				waiting = false
			case <-r.looks:
				// A new leader or descriptor is news that clients wait for.
				waiting = !n.look()
			}
		}
		due.Stop()
		if early := minReport - time.Since(began); early > 0 {
			pauseFor(ctx, early)
		}
	}
}

// news finds out whether something of the replicas has become news since they were last reported.
type news struct {
	ranges func() []raftstore.RangeInfo
	moved  func() uint64 // reporter.moved
	seen   uint64        // of moved
	again  bool          // look once more: the store may count before it shows
	digest uint64        // of what was reported
}

func (n *news) counted() uint64 {
	if n.moved == nil {
		return 0
	}
	return n.moved()
}

// reported is what to report now.
func (n *news) reported() []raftstore.RangeInfo {
	now := n.counted() // before the ranges: what happens meanwhile is looked at
	n.seen, n.again = now, n.again || now != n.seen
	ranges := n.ranges()
	n.digest = digestOf(ranges)
	return ranges
}

// look says whether there is news.
func (n *news) look() bool {
	now := n.counted()
	if n.moved != nil && now == n.seen && !n.again {
		return false
	}
	n.again, n.seen = now != n.seen, now
	return digestOf(n.ranges()) != n.digest
}

func pauseFor(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// report sends one heartbeat and acts on the answer. It returns when the next is due.
func (r *reporter) report(ctx context.Context, ranges []raftstore.RangeInfo) time.Duration {
	began := boottime.Now()
	r.splitter.lookAt(ranges)
	r.splitter.loads.turn()
	req := r.request(ranges)
	ctx, cancel := context.WithTimeout(ctx, max(r.interval, tryTimeout))
	defer cancel()
	resp, err := askDriver(ctx, r.finder,
		func(ctx context.Context) (*locuspb.HeartbeatResponse, error) {
			return r.office.heartbeat(ctx, req)
		},
		func(ctx context.Context, conn grpc.ClientConnInterface) (*locuspb.HeartbeatResponse, error) {
			return locuspb.NewNodeClient(conn).Heartbeat(ctx, req)
		})
	r.ledger.answered(req, resp)
	if err != nil {
		r.log.Debug("heartbeat not answered", "error", err)
		return min(r.interval, 250*time.Millisecond)
	}
	if err := r.clock.Update(hlc.Timestamp(resp.Clock)); err != nil {
		r.log.Warn("the placement driver's clock is too far ahead", "error", err)
	}
	r.last.Store(time.Now().UnixNano())
	r.act(began, resp)
	if resp.NextMs > 0 {
		return min(r.interval, time.Duration(resp.NextMs)*time.Millisecond)
	}
	return r.interval
}

func (r *reporter) request(ranges []raftstore.RangeInfo) *locuspb.HeartbeatRequest {
	req := &locuspb.HeartbeatRequest{Node: r.self(), MapVersion: r.cmap.Version()}
	wish := r.splitter.wish
	if r.splitter.calm() {
		wish = func(raftstore.RangeInfo) *locuspb.SplitWish { return nil }
	}
	r.cmap.Learn(routesOf(r.ledger.enter(req, ranges, wish)))
	req.Refused, req.FunctionsUsed = r.takeRefusals(), r.used()
	r.holder.report(req)
	// Last, so that two reports in a row are ordered by it.
	req.Clock = uint64(r.clock.Now())
	return req
}

func reportOf(i raftstore.RangeInfo) *locuspb.RangeReport {
	out := &locuspb.RangeReport{
		Descriptor_: api.DescriptorToProto(i.Descriptor), Term: uint64(i.Term), Applied: uint64(i.Applied),
		ApproxBytes: i.Bytes, ApproxRecords: i.Records, Unsettled: !i.Settled,
	}
	for _, p := range i.Progress {
		out.Progress = append(out.Progress, &locuspb.ReplicaProgress{ReplicaId: uint64(p.Replica), Match: uint64(p.Match), Active: p.Active})
	}
	return out
}

// routesOf is what the replicas here know, as routes.
func routesOf(ranges []raftstore.RangeInfo) []api.Route {
	out := make([]api.Route, 0, len(ranges))
	for _, i := range ranges {
		if i.Descriptor != nil {
			out = append(out, api.Route{Descriptor: i.Descriptor, Leaseholder: i.Leader, Term: i.Term, Bytes: i.Bytes, Records: i.Records})
		}
	}
	return out
}

// act does what an answer says.
func (r *reporter) act(began time.Duration, resp *locuspb.HeartbeatResponse) {
	if r.cmap.Apply(resp) {
		if !resp.FunctionsUnconfirmed {
			r.trusted(began, time.Duration(resp.FunctionsMs)*time.Millisecond)
		}
		r.functions(resp.Functions)
	}
	r.holder.heard(r.store, resp.Holds)
	if len(resp.Nodes) > 0 {
		r.learned(resp.Nodes)
	}
	for _, g := range resp.Gone {
		r.log.Info("replica is gone", "range", g.RangeId)
		r.store.RemoveReplica(ids.RangeID(g.RangeId), ids.ReplicaID(g.NextReplicaId))
	}
	for _, op := range resp.Operators {
		r.operate(op)
	}
}

// operate runs one operator, unless one of its range is under way: the driver hands an operator out again
// until it sees the effect.
func (r *reporter) operate(op *locuspb.Operator) {
	if _, busy := r.running.LoadOrStore(op.RangeId, true); busy {
		return
	}
	select {
	case r.operators <- struct{}{}:
	default:
		r.running.Delete(op.RangeId)
		return
	}
	r.log.Debug("operator", "range", op.RangeId, "reason", op.Reason)
	r.store.RunOperator(op, func(err error) {
		<-r.operators
		r.running.Delete(op.RangeId)
		if err != nil {
			r.log.Debug("operator refused", "range", op.RangeId, "reason", op.Reason, "error", err)
			r.refused(op, err)
		}
		r.refresh()
	})
}

// refused keeps the reason for the driver, which plans something else or waits. Lost on its way, it shows in time anyway
// that the operator had no effect.
func (r *reporter) refused(op *locuspb.Operator, err error) {
	r.refusals.Lock()
	defer r.refusals.Unlock()
	if len(r.refusals.waiting) < operatorsAtOnce {
		r.refusals.waiting = append(r.refusals.waiting, &locuspb.RefusedOperator{
			RangeId: op.RangeId, ConfEpoch: op.ConfEpoch, BoundsEpoch: op.BoundsEpoch, Error: api.ToProto(err),
		})
	}
}

func (r *reporter) takeRefusals() []*locuspb.RefusedOperator {
	r.refusals.Lock()
	defer r.refusals.Unlock()
	out := r.refusals.waiting
	r.refusals.waiting = nil
	return out
}

// digestOf changes when something of the replicas changes that others route by.
func digestOf(ranges []raftstore.RangeInfo) uint64 {
	const prime = 1099511628211 // FNV-1a, over words
	h := uint64(14695981039346656037)
	mix := func(v uint64) { h = (h ^ v) * prime }
	for _, i := range ranges {
		if i.Descriptor == nil {
			continue
		}
		mix(uint64(i.Descriptor.ID))
		mix(i.Descriptor.Epoch.Conf)
		mix(i.Descriptor.Epoch.Bounds)
		mix(uint64(i.Term))
		mix(uint64(i.Leader))
		if i.Leaseholder {
			mix(1)
		}
	}
	return h
}
