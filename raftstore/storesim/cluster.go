package storesim

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/sim"
	"github.com/locuskv/locus/internal/topology"
	"github.com/locuskv/locus/raftstore"
)

// epoch is the wall clock at the beginning of every simulation.
var epoch = time.UnixMilli(1_700_000_000_000)

// Faults say how bad the world is. Probabilities are per message.
type Faults struct {
	Drop, Duplicate float64
	// Late is how likely a message between stores is to arrive seconds after it was sent, and Delay the longest
	// ordinary delay; one message in a hundred takes up to ten times as long.
	Late  float64
	Delay time.Duration
	// Rot is how likely the file of a snapshot that was received is to be damaged.
	Rot float64
	// Skew is the largest distance of a node's wall clock from the world's, but for jumps; Drift the largest
	// difference of the rate of its clock, in parts per million.
	Skew  time.Duration
	Drift int64
}

// Cluster is a number of stores in one world.
type Cluster struct {
	W      *sim.World
	Nodes  []*Node
	Faults Faults
	// cut[a][b]: messages from a to b are lost.
	cut map[[2]ids.StoreID]bool
	// lag[a][b]: messages from a to b take up to so much longer.
	lag map[[2]ids.StoreID]time.Duration

	// How the stores read: by lease or by index, and with how large caches of rows and of scans (below 0: none).
	reads               raftstore.ReadMode
	rowCache, scanCache int64

	// storm is until when clients raise the counter without a pause, in proposals that Raft drops for their size and in others
	// that are evaluated on top of those.
	storm time.Duration

	nextRange uint64
	watch     *watch
	// Violation is the first broken invariant that a check found.
	Violation error
	Stats     Stats
	logger    *slog.Logger
	// ledger is what the clients wrote and saw; past are timestamps that were fresh not long ago.
	ledger *ledger
	past   []hlc.Timestamp
	holds  holds
	// fallen is told of a store that stopped by itself, and why.
	fallen func(*Node, error)
	// joint is told of a joint configuration that begins, and of its leader, if one is set.
	joint func(*topology.Descriptor, ids.StoreID)
}

// newCluster makes a cluster of n stores, the first of them bootstrapped, none running.
func newCluster(w *sim.World, n int, f Faults, logger *slog.Logger) (*Cluster, error) {
	c := &Cluster{
		W: w, Faults: f, cut: make(map[[2]ids.StoreID]bool), lag: make(map[[2]ids.StoreID]time.Duration), nextRange: uint64(raftstore.TailRange) + 1,
		logger: logger, ledger: newLedger(), holds: holds{confirmed: make(map[hlc.Timestamp]map[ids.StoreID]bool)},
	}
	c.watch = newWatch(c)
	for i := range n {
		if _, err := c.add(i == 0); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Cluster) violate(err error) {
	if c.Violation == nil {
		c.Violation = err
	}
}

// Cut loses messages between two stores, one way.
func (c *Cluster) Cut(from, to ids.StoreID) { c.cut[[2]ids.StoreID{from, to}] = true }

// Heal ends all partitions and lags.
func (c *Cluster) Heal() {
	clear(c.cut)
	clear(c.lag)
}

func (c *Cluster) node(id ids.StoreID) *Node {
	if id == 0 || int(id) > len(c.Nodes) {
		return nil
	}
	return c.Nodes[id-1]
}

// latency draws a message's delay; false: it is lost.
func (c *Cluster) latency(from, to ids.StoreID) (time.Duration, bool) {
	if c.cut[[2]ids.StoreID{from, to}] || c.W.Chance(c.Faults.Drop) {
		return 0, false
	}
	d := c.W.Between(50*time.Microsecond, max(c.Faults.Delay, time.Millisecond))
	if c.W.Chance(0.01) {
		d *= 10
	}
	if lag := c.lag[[2]ids.StoreID{from, to}]; lag > 0 {
		d += c.W.Between(lag/2, lag)
	}
	return d, true
}

// carry delivers something to a store, or not.
func (c *Cluster) carry(from, to ids.StoreID, label string, f func(*Node)) {
	copies := 1
	if c.W.Chance(c.Faults.Duplicate) {
		copies = 2
	}
	for range copies {
		d, ok := c.latency(from, to)
		if !ok {
			continue
		}
		if c.W.Chance(c.Faults.Late) {
			d += c.W.Between(500*time.Millisecond, 10*time.Second)
		}
		c.W.After(d, label, func() {
			if n := c.node(to); n != nil && n.Up() {
				n.life.Deliver(label, func() { f(n) })
			}
		})
	}
}

// Routes are the newest descriptors that running stores know, and who leads.
func (c *Cluster) Routes() *locuspb.RoutesResponse {
	best := make(map[ids.RangeID]api.Route)
	resp := &locuspb.RoutesResponse{}
	for _, n := range c.Nodes {
		if !n.Up() {
			continue
		}
		resp.Nodes = append(resp.Nodes, &locuspb.NodeInfo{StoreId: uint64(n.ID), State: "up"})
		resp.Clock = max(resp.Clock, uint64(n.hlc.Hint()))
		for _, r := range n.Store.Ranges() {
			rt := api.Route{Descriptor: r.Descriptor, Leaseholder: r.Leader, Term: r.Term}
			old, ok := best[r.Descriptor.ID]
			if !ok || r.Descriptor.Epoch.Newer(old.Descriptor.Epoch) || (!old.Descriptor.Epoch.Newer(r.Descriptor.Epoch) && rt.Term > old.Term) {
				best[r.Descriptor.ID] = rt
			}
		}
	}
	var order []ids.RangeID
	for id := range best {
		order = append(order, id)
	}
	slices.Sort(order)
	for _, id := range order {
		resp.Routes = append(resp.Routes, api.RouteToProto(best[id]))
	}
	return resp
}

// Descriptors are the newest that any store has had, by start key.
func (c *Cluster) Descriptors() []*topology.Descriptor { return c.watch.descriptors() }

// whole says whether every range has at least three voters, all of them there, and none on a store that is about to be
// lost: then one store may be. Whom a change has removed must be there too for as long as one of the others does not know: of the
// old configuration, with which that one works, no more may be lost than of the new one.
func (c *Cluster) whole() bool {
	if c.rotten() {
		return false
	}
	for _, d := range c.Descriptors() {
		if d.Joint() || len(d.Voters()) < 3 || !c.allUp(d) {
			return false
		}
		for _, rep := range d.Replicas {
			if r, ok := c.node(rep.Store).Store.Range(d.ID); ok && r.Descriptor != nil && !c.allUp(r.Descriptor) {
				return false
			}
		}
	}
	return true
}

// allUp says whether the stores of all replicas run.
func (c *Cluster) allUp(d *topology.Descriptor) bool {
	return !slices.ContainsFunc(d.Replicas, func(rep topology.Replica) bool { return !c.node(rep.Store).Up() })
}

// rotten says whether a store is about to be lost.
func (c *Cluster) rotten() bool {
	return slices.ContainsFunc(c.Nodes, func(n *Node) bool { return !n.lost && n.flipped() })
}

func (c *Cluster) failed(n *Node, err error) {
	if c.fallen == nil {
		c.violate(fmt.Errorf("store %s stopped: %w", n.ID, err))
		return
	}
	c.fallen(n, err)
}
