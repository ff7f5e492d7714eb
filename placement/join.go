package placement

import (
	"fmt"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
)

// Join gives a node its store id: a known node id the one it has, for ever, an unknown one the next, which is
// durable before the answer. A node of another cluster is refused with *api.ClusterMismatchError; a node id
// whose node is up at another address (a copied data directory) with *api.UnavailableError: a node that
// merely moved is let in once its old address has been silent for SuspectAfter.
func (d *Driver) Join(req *locuspb.JoinRequest, done func(*locuspb.JoinResponse, error)) {
	d.step(func(c *core) { c.join(req, done) })
}

func (d *core) join(req *locuspb.JoinRequest, done func(*locuspb.JoinResponse, error)) {
	if err := d.mayJoin(req); err != nil {
		d.effect(func() { done(nil, err) })
		return
	}
	info := lasting(req.Node)
	var resp *locuspb.JoinResponse
	d.enqueue(job{
		prepare: func() ([]*locuspb.Mutation, error) { return d.prepareJoin(info) },
		commit: func() {
			now := d.o.Now()
			d.commitJoin(now, info)
			resp = &locuspb.JoinResponse{ClusterId: d.o.ClusterID, StoreId: info.StoreId, Nodes: d.nodeInfos(now)}
		},
		done: func(err error) { done(resp, err) },
	})
}

func (d *core) mayJoin(req *locuspb.JoinRequest) error {
	if err := d.ready(); err != nil {
		return err
	}
	if req.ClusterId != "" && req.ClusterId != d.o.ClusterID {
		return &api.ClusterMismatchError{Want: d.o.ClusterID, Got: req.ClusterId}
	}
	id, address := req.GetNode().GetNodeId(), req.GetNode().GetAddress()
	if !validNodeID(id) {
		return &api.InvalidArgumentError{Reason: fmt.Sprintf("node id %q is not 1 to 64 letters, digits or dashes", id)}
	}
	store, known := d.cat.byNode[id]
	if !known {
		if got := ids.StoreID(req.Node.StoreId); got != 0 {
			return &api.InvalidArgumentError{Reason: fmt.Sprintf("node %s says it has store id %d, but cluster %s does not know it", id, got, d.o.ClusterID)}
		}
		return nil
	}
	if got := ids.StoreID(req.Node.StoreId); got != 0 && got != store {
		return &api.InvalidArgumentError{Reason: fmt.Sprintf("node %s says it has store id %d, but its store id is %d", id, got, store)}
	}
	if n := d.cl.nodes[store]; n.spoken && n.info.Address != address && d.o.Now()-n.heard < d.o.SuspectAfter {
		return &api.UnavailableError{Reason: fmt.Sprintf("node %s is running at %s; a copy of its data directory can't join", id, n.info.Address)}
	}
	return nil
}

// prepareJoin runs when the job's turn has come: another join of the same node may have come before.
func (d *core) prepareJoin(info *locuspb.NodeInfo) ([]*locuspb.Mutation, error) {
	if id, known := d.cat.byNode[info.NodeId]; known {
		info.StoreId = uint64(id)
		if !describesOther(d.cat.stores[id], info) {
			return nil, nil
		}
		return []*locuspb.Mutation{putMessage(storeKey(info.StoreId), info)}, nil
	}
	info.StoreId = d.cat.nextStore
	return []*locuspb.Mutation{
		putNumber(keyNextStore, info.StoreId+1),
		putMessage(storeKey(info.StoreId), info),
	}, nil
}

func (d *core) commitJoin(now time.Duration, info *locuspb.NodeInfo) {
	d.cat.nextStore = max(d.cat.nextStore, info.StoreId+1)
	d.cat.putStore(info)
	d.cl.admit(now, info)
	d.cl.judge(now, d.since, &d.o)
}

func validNodeID(id string) bool {
	if len(id) == 0 || len(id) > 64 {
		return false
	}
	for _, c := range []byte(id) {
		if !letterOrDigit(c) && c != '-' {
			return false
		}
	}
	return true
}

func letterOrDigit(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// idPool is the rest of the newest batch of range ids.
type idPool struct {
	next, limit uint64 // [next, limit) are free
	filling     bool
}

// AllocateIDs hands out count range ids in a row, never handed out before nor after, and calls done with the
// first.
func (d *Driver) AllocateIDs(count uint64, done func(first ids.RangeID, err error)) {
	d.step(func(c *core) { c.allocate(count, done) })
}

func (d *core) allocate(count uint64, done func(ids.RangeID, error)) {
	err := d.ready()
	if err == nil && (count == 0 || count > maxIDs) {
		err = &api.LimitError{What: "number of ids", Limit: maxIDs, Got: int64(min(count, 1<<62))}
	}
	if err != nil {
		d.effect(func() { done(0, err) })
		return
	}
	var first ids.RangeID
	d.reserve(count, func() { first = d.take(count) }, func(err error) { done(first, err) })
}

// reserve makes the pool hold at least count ids in a row, then takes.
func (d *core) reserve(count uint64, take func(), done func(error)) {
	var upTo uint64
	d.enqueue(job{
		prepare: func() ([]*locuspb.Mutation, error) {
			if d.pool.limit-d.pool.next >= count {
				return nil, nil
			}
			upTo = d.cat.nextRange + max(count, d.o.IDBatch)
			return []*locuspb.Mutation{putNumber(keyNextRange, upTo)}, nil
		},
		commit: func() {
			if upTo != 0 {
				d.refill(upTo)
			}
			take()
		},
		done: done,
	})
}

// refill takes a new batch into the pool. It follows on the old one unless another office took ids between.
func (d *core) refill(upTo uint64) {
	if d.pool.limit != d.cat.nextRange {
		d.pool.next = d.cat.nextRange
	}
	d.pool.limit, d.cat.nextRange = upTo, upTo
}

func (d *core) take(count uint64) ids.RangeID {
	first := d.pool.next
	d.pool.next += count
	return ids.RangeID(first)
}

// takeOne takes an id for a split now, if there is one, and sees to it that there will be more.
func (d *core) takeOne() (ids.RangeID, bool) {
	if left := d.pool.limit - d.pool.next; left < d.o.IDBatch/2 && !d.pool.filling {
		d.pool.filling = true
		d.reserve(d.o.IDBatch, func() {}, func(error) { d.locked(func() { d.pool.filling = false }) })
	}
	if d.pool.next == d.pool.limit {
		return 0, false
	}
	return d.take(1), true
}
