package placement

import (
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
)

func onStore(id ids.StoreID) func(topology.Replica) bool {
	return func(r topology.Replica) bool { return r.Store == id }
}

// Routes lists, in key order, the routes of the ranges that overlap a span, and the parts of the span that
// no leader has reported yet.
func (d *Driver) Routes(span keys.Span) (routes []*locuspb.Route, holes []keys.Span, err error) {
	d.step(func(c *core) {
		if err = c.ready(); err == nil {
			routes, holes = c.cl.routes(span), c.cl.tile().holesIn(span)
		}
	})
	return routes, holes, err
}

// Nodes describes all nodes that ever joined, by store id.
func (d *Driver) Nodes() (nodes []*locuspb.NodeInfo, err error) {
	d.step(func(c *core) {
		if err = c.ready(); err == nil {
			nodes = c.nodeInfos(c.o.Now())
		}
	})
	return nodes, err
}

// Status sums up the cluster; what belongs to the answering node (NodeId, StoreId, Version, DriverAddress) is
// left to the caller. A part of the key space that nobody has reported counts as one unavailable range.
func (d *Driver) Status() (s *locuspb.StatusResponse, err error) {
	d.step(func(c *core) {
		if err = c.ready(); err == nil {
			s = c.status()
		}
	})
	return s, err
}

// Held tells how many timestamps are held (rule C9), and the oldest of them; 0: none is.
func (d *Driver) Held() (n int, oldest hlc.Timestamp) {
	d.step(func(c *core) {
		if c.ready() == nil {
			n, oldest = c.held()
		}
	})
	return n, oldest
}

func (d *core) held() (n int, oldest hlc.Timestamp) {
	for _, h := range d.cat.holds {
		if t := hlc.Timestamp(h.Timestamp); oldest == 0 || t < oldest {
			oldest = t
		}
	}
	return len(d.cat.holds), oldest
}

func (d *core) status() *locuspb.StatusResponse {
	d.cl.judge(d.o.Now(), d.since, &d.o)
	t := d.cl.tile()
	s := &locuspb.StatusResponse{
		ClusterId:      d.o.ClusterID,
		Ranges:         uint64(len(t.list)),
		Unavailable:    uint64(t.holes),
		LiveNodes:      uint64(d.cl.countNodes(Up)),
		DeadNodes:      uint64(d.cl.countNodes(Dead)),
		SuspectNodes:   uint64(d.cl.countNodes(Suspect)),
		Keyspaces:      uint64(len(d.cat.spaces)),
		WantedReplicas: uint64(min(d.o.Limits.Replicas, len(d.cl.nodes)-d.cl.countNodes(Dead))),
	}
	holds, oldest := d.held()
	s.Holds, s.OldestHold = uint64(holds), uint64(oldest)
	for _, id := range d.cl.storeIDs() {
		n := d.cl.nodes[id]
		if n.state == Dead {
			continue
		}
		if n.info.NearlyFull {
			s.NearlyFull = append(s.NearlyFull, uint64(id))
		}
		if n.info.ClockOff {
			s.ClockOff = append(s.ClockOff, uint64(id))
		}
	}
	for _, r := range t.list {
		if d.cl.leaseholder(r) == 0 {
			s.Unavailable++
		}
		if d.underreplicated(r) {
			s.Underreplicated++
		}
	}
	return s
}
