package client

import (
	"context"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// systemName is what the system's range is said to be of: no keyspace can have that name.
const systemName = "(system)"

// RangeInfo describes one range.
type RangeInfo struct {
	ID       RangeID
	Keyspace string // "(system)": what the cluster knows of itself; empty: none that has a name
	// Start and End are keys of the keyspace (in a hash-partitioned one, two bytes of the bucket stand before
	// the key); nil: the keyspace's ends.
	Start, End  []byte
	Replicas    []ReplicaInfo
	Leaseholder StoreID // 0: not known
	Term        uint64
	ConfEpoch   uint64 // rises with each change of replicas
	BoundsEpoch uint64 // rises with each split
	Bytes       uint64 // approximate, of keys and values
	Records     uint64 // approximate
}

// ReplicaInfo is one copy of a range.
type ReplicaInfo struct {
	Store StoreID
	ID    uint64
	Role  string // voter, learner, voter-incoming, voter-outgoing
}

// NodeInfo describes one node.
type NodeInfo struct {
	Store          StoreID
	ID             string // permanent
	Address        string // gRPC
	HTTPAddress    string
	GossipAddress  string
	Version        string
	State          string // up, suspect, dead, left
	Replicas       uint64
	Leases         uint64
	CapacityBytes  uint64
	AvailableBytes uint64
	UsedBytes      uint64
	NearlyFull     bool          // fewer bytes are available than must be: ranges with a replica there take no puts
	ClockOff       bool          // its wall clock is too far from the others': it leads no range until that is right
	ClockOffset    time.Duration // how far its wall clock is ahead of the median of the stores it hears
	SinceHeartbeat time.Duration
}

// Status is the cluster's state as one node sees it.
type Status struct {
	ClusterID       string
	NodeID          string // of the node that answered
	Store           StoreID
	Version         string
	Ranges          uint64
	UnderReplicated uint64 // ranges with fewer voters than WantedReplicas
	Unavailable     uint64 // ranges without a known leaseholder
	LiveNodes       uint64
	SuspectNodes    uint64 // silent for a while: about to be live again, or dead
	DeadNodes       uint64
	NearlyFull      []StoreID // ranges with a replica there take no puts (*DiskFullError)
	ClockOff        []StoreID // their wall clocks are too far from the others': they lead no range until that is right
	Holds           uint64    // timestamps that are held beyond the retention window; see Hold
	OldestHold      Timestamp // the oldest of them; 0: none
	DriverAddress   string    // of the node that runs the placement driver
	Keyspaces       uint64
	WantedReplicas  uint64
}

// Split is what a range was split into.
type Split struct {
	Left, Right RangeID
	// Key is where the right one begins, as RangeInfo has it.
	Key []byte
}

// Ranges lists all ranges in key order, the system's included.
func (db *DB) Ranges(ctx context.Context) ([]RangeInfo, error) {
	return db.rangesOf(ctx, keys.Span{})
}

// Ranges lists the ranges of the keyspace in key order.
func (k *Keyspace) Ranges(ctx context.Context) ([]RangeInfo, error) {
	l, err := k.resolve(ctx)
	if err != nil {
		return nil, public(err, k)
	}
	return k.db.rangesOf(ctx, l.All())
}

func (db *DB) rangesOf(ctx context.Context, span keys.Span) ([]RangeInfo, error) {
	ctx, cancel := db.limited(ctx)
	defer cancel()
	names := make(map[ids.KeyspaceID]string)
	spaces, err := db.Keyspaces(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range spaces {
		names[ids.KeyspaceID(s.ID)] = s.Name
	}
	m, err := call(ctx, db, true, func(ctx context.Context, c locuspb.LocusClient) (*locuspb.RoutesResponse, error) {
		return c.Routes(ctx, &locuspb.RoutesRequest{Span: &locuspb.Span{Start: span.Start, End: span.End}})
	})
	if err != nil {
		return nil, public(err, nil)
	}
	db.learn(m)
	var out []RangeInfo
	for _, r := range api.RoutesFromProto(m.Routes) {
		out = append(out, rangeInfo(r, names))
	}
	return out, nil
}

func rangeInfo(r api.Route, names map[ids.KeyspaceID]string) RangeInfo {
	d := r.Descriptor
	info := RangeInfo{
		ID: RangeID(d.ID), Leaseholder: StoreID(r.Leaseholder), Term: uint64(r.Term),
		ConfEpoch: d.Epoch.Conf, BoundsEpoch: d.Epoch.Bounds, Bytes: r.Bytes, Records: r.Records,
	}
	id, ok := keys.KeyspaceOf(d.Span.Start)
	if len(d.Span.Start) == 0 { // the first range of all begins before keyspace 0's first key
		id, ok = 0, true
	}
	if ok {
		info.Keyspace = names[id]
		if id == 0 {
			info.Keyspace = systemName
		}
		all := keys.KeyspaceSpan(id)
		info.Start = userBound(d.Span.Start, all)
		info.End = userBound(d.Span.End, all)
	}
	for _, x := range d.Replicas {
		info.Replicas = append(info.Replicas, ReplicaInfo{StoreID(x.Store), uint64(x.ID), x.Role.String()})
	}
	return info
}

// userBound cuts the keyspace off a border of a range; nil for the keyspace's own borders.
func userBound(global []byte, all keys.Span) []byte {
	if !all.Contains(global) || len(global) <= len(all.Start) {
		return nil
	}
	return global[len(all.Start):]
}

// Split splits the range that holds key so that the right part begins at key, or at the start of its group.
func (k *Keyspace) Split(ctx context.Context, key []byte) (Split, error) {
	if err := checkKey(key); err != nil {
		return Split{}, err
	}
	l, err := k.resolve(ctx)
	if err != nil {
		return Split{}, public(err, k)
	}
	return k.db.split(ctx, &locuspb.SplitRangeRequest{Key: l.Encode(key)}, k)
}

func (db *DB) split(ctx context.Context, req *locuspb.SplitRangeRequest, k *Keyspace) (Split, error) {
	ctx, cancel := db.limited(ctx)
	defer cancel()
	m, err := call(ctx, db, false, func(ctx context.Context, c locuspb.LocusClient) (*locuspb.SplitRangeResponse, error) {
		return c.SplitRange(ctx, req)
	})
	if err != nil {
		return Split{}, public(err, k)
	}
	s := Split{Left: RangeID(m.Left), Right: RangeID(m.Right)}
	if id, ok := keys.KeyspaceOf(m.Key); ok {
		s.Key = userBound(m.Key, keys.KeyspaceSpan(id))
	}
	return s, nil
}

// TransferRange makes a store's replica the leaseholder of a range.
func (db *DB) TransferRange(ctx context.Context, id RangeID, to StoreID) error {
	ctx, cancel := db.limited(ctx)
	defer cancel()
	_, err := call(ctx, db, true, func(ctx context.Context, c locuspb.LocusClient) (*locuspb.TransferRangeResponse, error) {
		return c.TransferRange(ctx, &locuspb.TransferRangeRequest{RangeId: uint64(id), ToStore: uint64(to)})
	})
	return public(err, nil)
}

// Nodes lists the nodes of the cluster.
func (db *DB) Nodes(ctx context.Context) ([]NodeInfo, error) {
	ctx, cancel := db.limited(ctx)
	defer cancel()
	m, err := call(ctx, db, true, func(ctx context.Context, c locuspb.LocusClient) (*locuspb.ListNodesResponse, error) {
		return c.ListNodes(ctx, &locuspb.ListNodesRequest{})
	})
	if err != nil {
		return nil, public(err, nil)
	}
	var out []NodeInfo
	for _, n := range m.Nodes {
		if n == nil {
			continue
		}
		out = append(out, NodeInfo{
			Store: StoreID(n.StoreId), ID: n.NodeId, Address: n.Address, HTTPAddress: n.HttpAddress,
			GossipAddress: n.GossipAddress, Version: n.Version, State: n.State, Replicas: n.Replicas, Leases: n.Leases,
			CapacityBytes: n.CapacityBytes, AvailableBytes: n.AvailableBytes, UsedBytes: n.UsedBytes,
			NearlyFull:     n.NearlyFull,
			ClockOff:       n.ClockOff,
			ClockOffset:    time.Duration(n.ClockOffsetUs) * time.Microsecond,
			SinceHeartbeat: time.Duration(n.SinceHeartbeatMs) * time.Millisecond,
		})
	}
	return out, nil
}

func storeIDs(raw []uint64) []StoreID {
	var out []StoreID
	for _, id := range raw {
		out = append(out, StoreID(id))
	}
	return out
}

// Status asks a node for the state of the cluster.
func (db *DB) Status(ctx context.Context) (Status, error) {
	ctx, cancel := db.limited(ctx)
	defer cancel()
	m, err := call(ctx, db, true, func(ctx context.Context, c locuspb.LocusClient) (*locuspb.StatusResponse, error) {
		return c.Status(ctx, &locuspb.StatusRequest{})
	})
	if err != nil {
		return Status{}, public(err, nil)
	}
	return Status{
		NearlyFull: storeIDs(m.NearlyFull), ClockOff: storeIDs(m.ClockOff),
		ClusterID: m.ClusterId, NodeID: m.NodeId, Store: StoreID(m.StoreId), Version: m.Version, Ranges: m.Ranges,
		UnderReplicated: m.Underreplicated, Unavailable: m.Unavailable, LiveNodes: m.LiveNodes, DeadNodes: m.DeadNodes, SuspectNodes: m.SuspectNodes,
		DriverAddress: m.DriverAddress, Keyspaces: m.Keyspaces, WantedReplicas: m.WantedReplicas,
		Holds: m.Holds, OldestHold: Timestamp(m.OldestHold),
	}, nil
}
