package storesim

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/sim"
	"github.com/locuskv/locus/internal/topology"
	"github.com/locuskv/locus/internal/vfs"
	"github.com/locuskv/locus/raftstore"
	"github.com/locuskv/locus/raftstore/engine"
	"github.com/locuskv/locus/raftstore/raftlog"
)

const (
	tickInterval = 100 * time.Millisecond
	clusterID    = "11111111-1111-4111-8111-111111111111"
)

// epoch is the wall clock at the beginning of every simulation.
var epoch = time.UnixMilli(1_700_000_000_000)

// Faults say how bad the world is. Probabilities are per message.
type Faults struct {
	Drop, Duplicate float64
	// Delay is the longest ordinary delay of a message; one in a hundred takes up to ten times as long.
	Delay time.Duration
	// Skew is the largest distance of a node's clock from the world's.
	Skew time.Duration
}

// Cluster is a number of stores in one world.
type Cluster struct {
	W      *sim.World
	Nodes  []*Node
	Faults Faults
	// cut[a][b]: messages from a to b are lost.
	cut map[[2]ids.StoreID]bool

	nextRange uint64
	leaders   map[leaderKey]ids.StoreID
	lives     map[replicaKey]*replicaLife
	// Violation is the first broken invariant that a check found.
	Violation error
	Stats     Stats
	logger    *slog.Logger
	// ledger is what the clients wrote and saw; past are timestamps that were fresh not long ago.
	ledger *ledger
	past   []hlc.Timestamp
}

type leaderKey struct {
	id   ids.RangeID
	term ids.Term
}

// Stats counts what a run went through.
type Stats struct {
	Crashes, LostBytes, Restarts, Partitions      int
	Splits, Transfers, ReplicaChanges, Operations int
	Elections, Undone, Snapshots, Checkpoints     uint64
	Unknown                                       int
}

// Node is one store, its disks and its clock.
type Node struct {
	c     *Cluster
	ID    ids.StoreID
	files *vfs.Memory
	eng   *engine.Memory
	skew  time.Duration

	life  *sim.Life
	log   raftlog.Log
	Store *raftstore.Store
}

// New makes a cluster of n stores, the first of them bootstrapped, none running.
func New(w *sim.World, n int, f Faults, logger *slog.Logger) (*Cluster, error) {
	c := &Cluster{
		W: w, Faults: f, cut: make(map[[2]ids.StoreID]bool), nextRange: uint64(raftstore.TailRange) + 1,
		leaders: make(map[leaderKey]ids.StoreID), lives: make(map[replicaKey]*replicaLife), logger: logger, ledger: newLedger(),
	}
	for i := range n {
		node := &Node{c: c, ID: ids.StoreID(i + 1), files: vfs.NewMemory(), eng: engine.NewMemory(engine.Limits{})}
		if f.Skew > 0 {
			node.skew = w.Between(-f.Skew, f.Skew)
		}
		l, err := node.openLog()
		if err != nil {
			return nil, err
		}
		id := node.ident()
		if i == 0 {
			err = raftstore.Bootstrap(node.eng, l, id, hlc.FromTime(epoch))
		} else {
			err = raftstore.WriteIdent(l, id)
		}
		if err != nil {
			return nil, err
		}
		if err := l.Close(); err != nil {
			return nil, err
		}
		c.Nodes = append(c.Nodes, node)
	}
	return c, nil
}

func (n *Node) ident() raftstore.Ident {
	return raftstore.Ident{ClusterID: clusterID, NodeID: "node-" + strconv.Itoa(int(n.ID)), StoreID: n.ID}
}

func (n *Node) openLog() (raftlog.Log, error) {
	return raftlog.Open(raftlog.Options{FS: n.files, Dir: "/log", SegmentSize: 16 << 10, CacheBytes: 64 << 10})
}

// Start opens the store and lets it run.
func (n *Node) Start() error {
	n.life = n.c.W.NewLife(n.delays())
	l, err := n.openLog()
	if err != nil {
		return fmt.Errorf("store %s: %w", n.ID, err)
	}
	n.log = l
	life := n.life
	store, err := raftstore.Open(raftstore.Options{
		Ident: n.ident(), Engine: n.eng, Log: l, Files: n.files, SnapshotDir: "/snapshots",
		Clock:     hlc.NewClock(n.wall, 0),
		Monotonic: n.c.W.Now, TickInterval: tickInterval,
		Executor: executor{life}, Transport: &transport{n}, Evaluator: counter{}, Logger: n.c.logger,
		Rand:    rand.New(rand.NewPCG(n.c.W.Rand.Uint64(), 1)),
		OnFatal: func(err error) { n.c.violate(fmt.Errorf("store %s stopped: %w", n.ID, err)) },
		// Small bounds, so that a short run meets them.
		RetainedEntries: 20, CheckpointTicks: 40, MaxLagBytes: 64 << 10, MaxEntryCommands: 8, Retention: 20 * time.Second,
		MaxUncommittedBytes: 300,
	})
	if err != nil {
		return fmt.Errorf("store %s: %w", n.ID, err)
	}
	n.Store = store
	n.tick(life)
	return nil
}

// delays draws how slow a life's parts are. Slow disks and slow applying stretch the moments between two steps in which a
// crash tells whether their order matters.
func (n *Node) delays() func(kind string) time.Duration {
	w := n.c.W
	longest := map[string]time.Duration{}
	for _, k := range []struct {
		kind string
		of   [3]time.Duration
	}{
		{"raft", [3]time.Duration{100 * time.Microsecond, time.Millisecond, 8 * time.Millisecond}},
		{"log", [3]time.Duration{100 * time.Microsecond, time.Millisecond, 10 * time.Millisecond}},
		{"apply", [3]time.Duration{100 * time.Microsecond, 100 * time.Microsecond, 10 * time.Millisecond}},
		{"disk", [3]time.Duration{100 * time.Microsecond, 10 * time.Millisecond, 300 * time.Millisecond}},
		{"read", [3]time.Duration{100 * time.Microsecond, 100 * time.Microsecond, 5 * time.Millisecond}},
	} {
		longest[k.kind] = k.of[w.Rand.IntN(3)]
	}
	return func(kind string) time.Duration {
		if w.Chance(0.005) {
			return w.Between(time.Millisecond, 20*time.Millisecond)
		}
		return w.Between(0, max(longest[kind], 100*time.Microsecond))
	}
}

func (n *Node) wall() time.Time { return epoch.Add(n.c.W.Now() + n.skew) }

func (n *Node) tick(life *sim.Life) {
	life.After(tickInterval, "tick", func() {
		n.Store.Tick()
		n.c.observe(n)
		n.tick(life)
	})
}

// Up says whether the store runs.
func (n *Node) Up() bool { return n.Store != nil && !n.life.Ended() }

// Crash ends the process and loses what was not synced.
func (n *Node) Crash() {
	n.life.End()
	n.collect()
	lost := n.eng.MaxSeq() > n.eng.Durable()
	if lost {
		n.c.Stats.LostBytes++
	}
	n.c.Stats.Crashes++
	n.files = n.files.Crash(n.c.W.Rand)
	n.eng = n.eng.Crash(n.c.W.Rand)
	n.Store, n.log = nil, nil
}

// collect adds up a life's counters.
func (n *Node) collect() {
	m := n.Store.Collect()
	s := &n.c.Stats
	s.Elections += m.Elections
	s.Undone += m.UndoneSequences
	s.Snapshots += m.SnapshotsApplied
	s.Checkpoints += m.Checkpoints
	s.Splits += int(m.Splits)
}

func (c *Cluster) violate(err error) {
	if c.Violation == nil {
		c.Violation = err
	}
}

// observe checks what must hold at every moment.
func (c *Cluster) observe(n *Node) {
	for _, r := range n.Store.Ranges() {
		c.observeReplicas(r.Descriptor)
		if !r.Leaseholder {
			continue
		}
		k := leaderKey{r.Descriptor.ID, r.Term}
		if prev, ok := c.leaders[k]; ok && prev != n.ID {
			c.violate(fmt.Errorf("I1: stores %s and %s both lead range %s in term %d", prev, n.ID, k.id, k.term))
		}
		c.leaders[k] = n.ID
	}
}

// Cut loses messages between two stores, one way.
func (c *Cluster) Cut(from, to ids.StoreID) { c.cut[[2]ids.StoreID{from, to}] = true }

// Heal ends all partitions.
func (c *Cluster) Heal() { clear(c.cut) }

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
	return d, true
}

// carry delivers something to a store, or not.
func (c *Cluster) carry(from, to ids.StoreID, label string, f func(*Node)) {
	copies := 1
	if c.W.Chance(c.Faults.Duplicate) {
		copies = 2
	}
	for range copies {
		if d, ok := c.latency(from, to); ok {
			c.W.After(d, label, func() {
				if n := c.node(to); n != nil && n.Up() {
					f(n)
				}
			})
		}
	}
}

type executor struct{ life *sim.Life }

var kindNames = [...]string{"raft", "eval", "read", "log", "apply", "disk"}

func (e executor) NewQueue(kind raftstore.QueueKind) raftstore.Queue {
	return e.life.NewQueue(kindNames[kind])
}

func (e executor) Go(kind raftstore.QueueKind, step func()) {
	e.life.After(e.life.Delay(kindNames[kind]), kindNames[kind], step)
}

type transport struct{ n *Node }

func (t *transport) Send(to ids.StoreID, envs []*locuspb.RaftEnvelope) {
	from := t.n.ID
	for _, env := range envs {
		frame := proto.Clone(env).(*locuspb.RaftEnvelope)
		t.n.c.carry(from, to, "raft message", func(n *Node) {
			n.Store.HandleRaft(from, []*locuspb.RaftEnvelope{proto.Clone(frame).(*locuspb.RaftEnvelope)})
		})
	}
}

func (t *transport) SendSnapshot(to ids.StoreID, h *locuspb.SnapshotHeader, r raftstore.SnapshotReader, done func(error)) {
	n, life := t.n, t.n.life
	finish := func(err error) {
		life.After(0, "snapshot report", func() { done(err) })
	}
	d, ok := n.c.latency(n.ID, to)
	life.After(d, "snapshot stream", func() {
		defer r.Close()
		target := n.c.node(to)
		if !ok || target == nil || !target.Up() {
			finish(fmt.Errorf("store %s can't be reached", to))
			return
		}
		finish(stream(target.Store, proto.Clone(h).(*locuspb.SnapshotHeader), r))
	})
}

func stream(s *raftstore.Store, h *locuspb.SnapshotHeader, r raftstore.SnapshotReader) error {
	sink, err := s.BeginSnapshot(h)
	if err != nil {
		return err
	}
	for {
		chunk, err := r.Next()
		if err == io.EOF {
			return sink.Finish()
		}
		if err == nil {
			err = sink.Write(chunk)
		}
		if err != nil {
			sink.Abort()
			return err
		}
	}
}

// counter is the function of the simulation: it adds 1 to a number and returns the sum.
type counter struct{}

func (counter) Evaluate(call *locuspb.CallRequest, tx raftstore.Tx) (*locuspb.CallResponse, error) {
	raw, found, err := tx.Get(call.Key)
	if err != nil {
		return nil, err
	}
	var v uint64
	if found {
		v = binary.BigEndian.Uint64(raw)
	}
	if len(call.Argument) > 0 { // ballast
		if err := tx.Put(append(call.Key[:len(call.Key):len(call.Key)], "-ballast"...), call.Argument, 0); err != nil {
			return nil, err
		}
	}
	sum := binary.BigEndian.AppendUint64(nil, v+1)
	if err := tx.Put(call.Key, sum, 0); err != nil {
		return nil, err
	}
	return &locuspb.CallResponse{Result: sum}, nil
}

// Routes are the newest descriptors that running stores know, and who leads.
func (c *Cluster) Routes() *locuspb.RoutesResponse {
	best := make(map[ids.RangeID]api.Route)
	for _, n := range c.Nodes {
		if !n.Up() {
			continue
		}
		for _, r := range n.Store.Ranges() {
			rt := api.Route{Descriptor: r.Descriptor, Leaseholder: r.Leader, Term: r.Term}
			old, ok := best[r.Descriptor.ID]
			if !ok || r.Descriptor.Epoch.Newer(old.Descriptor.Epoch) || (!old.Descriptor.Epoch.Newer(r.Descriptor.Epoch) && rt.Term > old.Term) {
				best[r.Descriptor.ID] = rt
			}
		}
	}
	resp := &locuspb.RoutesResponse{}
	var order []ids.RangeID
	for id := range best {
		order = append(order, id)
	}
	slices.Sort(order)
	for _, id := range order {
		resp.Routes = append(resp.Routes, api.RouteToProto(best[id]))
	}
	for _, n := range c.Nodes {
		if n.Up() {
			resp.Nodes = append(resp.Nodes, &locuspb.NodeInfo{StoreId: uint64(n.ID), State: "up"})
			resp.Clock = max(resp.Clock, uint64(hlc.FromTime(n.wall())))
		}
	}
	return resp
}

// Descriptors are the newest descriptors of all ranges, by start key.
func (c *Cluster) Descriptors() []*topology.Descriptor {
	var out []*topology.Descriptor
	for _, rt := range api.RoutesFromProto(c.Routes().Routes) {
		out = append(out, rt.Descriptor)
	}
	slices.SortFunc(out, func(a, b *topology.Descriptor) int {
		return slices.Compare(a.Span.Start, b.Span.Start)
	})
	return out
}

func (s *Stats) add(o Stats) {
	s.Crashes += o.Crashes
	s.LostBytes += o.LostBytes
	s.Restarts += o.Restarts
	s.Partitions += o.Partitions
	s.Splits += o.Splits
	s.Transfers += o.Transfers
	s.ReplicaChanges += o.ReplicaChanges
	s.Operations += o.Operations
	s.Elections += o.Elections
	s.Undone += o.Undone
	s.Snapshots += o.Snapshots
	s.Checkpoints += o.Checkpoints
	s.Unknown += o.Unknown
}
