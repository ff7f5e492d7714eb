package placement

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// hurryOn is for how many HurryIntervals after the last operator began all nodes report often.
const hurryOn = 5

func (d *core) heartbeat(now time.Duration, req *locuspb.HeartbeatRequest) (*locuspb.HeartbeatResponse, error) {
	n := d.cl.nodes[ids.StoreID(req.GetNode().GetStoreId())]
	if n == nil || n.info.NodeId != req.Node.NodeId {
		return nil, &api.InvalidArgumentError{Reason: fmt.Sprintf("node %q with store id %d is not a member of cluster %s: it must join",
			req.GetNode().GetNodeId(), req.GetNode().GetStoreId(), d.o.ClusterID)}
	}
	if req.MapVersion>>32 > d.cat.office {
		d.lose(errReplaced)
		return nil, &api.NotDriverError{}
	}
	d.clock = max(d.clock, hlc.Timestamp(req.Clock))
	current := d.cl.observe(now, n, req, d.o.SuspectAfter)
	if current {
		d.keepAddress(n)
	}
	d.stirred = d.stirred || len(req.Leading)+len(req.Released)+len(req.Refused) > 0
	d.advance(now)
	d.refuse(now, n, req.Refused)
	d.spread(now)
	resp := &locuspb.HeartbeatResponse{
		Operators: d.handOut(now, n), Gone: d.cl.gone(n.id, n.holding), FunctionsMs: d.functionsTrust().Milliseconds(),
	}
	if current && n.taken {
		resp.Taken = req.Clock
	}
	d.addMap(now, resp, req.MapVersion)
	d.addHolds(resp, req.HoldsVersion)
	switch {
	case req.Base != 0 && resp.Taken == 0:
		resp.NextMs = 1 // little is known of the node until its next report, which is whole
	case d.unaware(n) && resp.MapVersion != req.MapVersion, resp.Holds != nil && d.uninformed(n):
		resp.NextMs = 1 // the news is in this answer, and somebody waits to hear that it has arrived
	case d.hurried(now, n):
		resp.NextMs = max(1, d.o.HurryInterval.Milliseconds())
	}
	return resp, nil
}

// addMap adds the cluster map if the node's is another: of its routes, those that have changed. A map with holes is held back at the begin of an
// office: the nodes' own, from the office before, is better. It gets the first version of this office, below all that have a map: what drivers
// before this one say is not news for the node any more.
func (d *core) addMap(now time.Duration, resp *locuspb.HeartbeatResponse, have uint64) {
	if d.cl.tile().holes > 0 && now-d.since < d.o.Grace {
		resp.MapVersion = max(have, d.cat.office<<32)
		return
	}
	resp.MapVersion = d.mapVersion()
	if resp.MapVersion != have {
		resp.Routes = d.cl.routesSince(d.versionIn(have))
		resp.Nodes = d.nodeInfos(now)
		resp.Keyspaces = d.keyspaces(true)
	}
}

// mapVersion names the state of the map. The office number makes versions of a later driver higher.
func (d *core) mapVersion() uint64 { return d.cat.office<<32 | d.cl.version&(1<<32-1) }

// versionIn is the version of the cluster in a version of the map; 0, before all, if that is of another office.
func (d *core) versionIn(version uint64) uint64 {
	if version>>32 != d.cat.office {
		return 0
	}
	return version & (1<<32 - 1)
}

// hurried says whether work is under way that the node's next report will move on, or has just been: then the next plan may
// have an operator for any node, which waits for its report.
func (d *core) hurried(now time.Duration, n *node) bool {
	if len(d.running) > 0 || d.began > 0 && now-d.began < hurryOn*d.o.HurryInterval {
		return true
	}
	if len(d.births) > 0 || len(d.wishes) > 0 || d.unaware(n) || d.uninformed(n) {
		return true
	}
	for _, id := range n.leading {
		if r := d.cl.ranges[id]; len(r.desc.Voters()) < len(r.desc.Replicas) {
			return true
		}
	}
	return false
}

// keepAddress records the new address of a node that has moved, for the map of the next office.
func (d *core) keepAddress(n *node) {
	if !describesOther(d.cat.stores[n.id], n.info) || len(d.jobs) > 0 || d.writing {
		return // nothing new, or not now: the next heartbeat says it again
	}
	info := lasting(n.info)
	d.enqueue(job{
		prepare: func() ([]*locuspb.Mutation, error) {
			return []*locuspb.Mutation{putMessage(storeKey(info.StoreId), info)}, nil
		},
		commit: func() { d.cat.putStore(info) },
	})
}

// lasting is the part of a node's description that is recorded.
func lasting(n *locuspb.NodeInfo) *locuspb.NodeInfo {
	return &locuspb.NodeInfo{
		StoreId: n.StoreId, NodeId: n.NodeId, Address: n.Address, HttpAddress: n.HttpAddress,
		GossipAddress: n.GossipAddress, Version: n.Version,
	}
}

func (c *cluster) storeIDs() []ids.StoreID { return slices.Sorted(maps.Keys(c.nodes)) }

// nodeInfos describes all nodes, in the order of their store ids.
func (d *core) nodeInfos(now time.Duration) []*locuspb.NodeInfo {
	out := make([]*locuspb.NodeInfo, 0, len(d.cl.nodes))
	for _, id := range d.cl.storeIDs() {
		n := d.cl.nodes[id]
		info := proto.CloneOf(n.info)
		info.State = n.state.String()
		info.Replicas, info.Leases = uint64(len(n.holding)), uint64(len(n.leading))
		info.SinceHeartbeatMs = (now - n.heard).Milliseconds()
		out = append(out, info)
	}
	return out
}

// keyspaces lists the keyspaces by name, then, if asked, the dropped ones whose data is not gone yet.
func (d *core) keyspaces(withDropped bool) []*locuspb.Keyspace {
	byID := func(a, b *locuspb.Keyspace) int { return cmp.Compare(a.Id, b.Id) }
	out := slices.SortedFunc(maps.Values(d.cat.spaces), func(a, b *locuspb.Keyspace) int { return cmp.Compare(a.Name, b.Name) })
	if withDropped {
		out = append(out, slices.SortedFunc(maps.Values(d.cat.dropped), byID)...)
	}
	return out
}

// wanted is the number of voters that the keyspace of a key asks for; 0: it says nothing.
func (d *core) wanted(key []byte) int {
	id, ok := keys.KeyspaceOf(key)
	if !ok {
		return 0
	}
	return int(d.cat.byID[id].GetReplicas())
}
