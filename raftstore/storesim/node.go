package storesim

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/sim"
	"github.com/locuskv/locus/internal/vfs"
	"github.com/locuskv/locus/raftstore"
	"github.com/locuskv/locus/raftstore/engine"
	"github.com/locuskv/locus/raftstore/raftlog"
)

const (
	tickInterval = 100 * time.Millisecond
	clusterID    = "11111111-1111-4111-8111-111111111111"
	logDir       = "/log"
	snapshotDir  = "/snapshots"
)

// Node is one store, its disks and its clock.
type Node struct {
	c     *Cluster
	ID    ids.StoreID
	files *vfs.Memory
	eng   *engine.Memory
	clock *sim.Clock
	hlc   *hlc.Clock // of the running store

	life  *sim.Life
	log   raftlog.Log
	Store *raftstore.Store

	// lost: its disk is damaged and it never comes back.
	lost bool
	// jumped: its wall clock was set wrong and nobody corrects it.
	jumped bool
	// mayEvaluate is how many batches a store may have evaluated while its clock is wrong, led how many ranges it led when
	// that began.
	mayEvaluate uint64
	led         int
	// slow: until then every step that touches a disk takes long.
	slow time.Duration
	disk diskFaults
	// changes are the store's when it was last looked at (watch.stepped).
	changes uint64
	// fatal is why the store stopped by itself.
	fatal error
}

// add gives the cluster one more store, with empty disks.
func (c *Cluster) add(bootstrap bool) (*Node, error) {
	n := &Node{
		c: c, ID: ids.StoreID(len(c.Nodes) + 1), files: vfs.NewMemory(), eng: engine.NewMemory(engine.Limits{}),
		clock: c.W.NewClock(c.W.Between(-c.Faults.Skew, c.Faults.Skew)),
	}
	if c.Faults.Drift > 0 {
		n.clock.SetRate(c.W.Rand.Int64N(2*c.Faults.Drift+1) - c.Faults.Drift)
	}
	l, err := n.openLog()
	if err != nil {
		return nil, err
	}
	if bootstrap {
		err = raftstore.Bootstrap(n.eng, l, n.ident(), hlc.FromTime(epoch))
	} else {
		err = raftstore.WriteIdent(l, n.ident())
	}
	if err == nil {
		err = l.Close()
	}
	if err != nil {
		return nil, err
	}
	c.Nodes = append(c.Nodes, n)
	return n, nil
}

func (n *Node) ident() raftstore.Ident {
	return raftstore.Ident{ClusterID: clusterID, NodeID: "node-" + strconv.Itoa(int(n.ID)), StoreID: n.ID}
}

func (n *Node) openLog() (raftlog.Log, error) {
	return raftlog.Open(raftlog.Options{FS: n.files, Dir: logDir, SegmentSize: 16 << 10, CacheBytes: 64 << 10})
}

// Start opens the store and lets it run. After an error the node is down.
func (n *Node) Start() error {
	n.mayEvaluate, n.led = 0, 0
	life := n.c.W.NewLife(n.delays())
	life.Stepped = func(kind string) { n.c.watch.stepped(n, kind) }
	n.life, n.fatal, n.disk.snapshot = life, nil, ""
	store, err := n.open(life)
	if err != nil {
		life.End()
		n.lose(nil)
		return fmt.Errorf("store %s: %w", n.ID, err)
	}
	n.Store = store
	n.tellHolds() // its first heartbeat
	n.tick(life)
	return nil
}

func (n *Node) open(life *sim.Life) (*raftstore.Store, error) {
	l, err := n.openLog()
	if err != nil {
		return nil, err
	}
	n.log, n.hlc = l, hlc.NewSteadyClock(n.wall, n.clock.Monotonic, 0)
	return raftstore.Open(raftstore.Options{
		Ident: n.ident(), Engine: n.eng, Log: l, Files: n.files, SnapshotDir: snapshotDir,
		Clock: n.hlc, Monotonic: n.clock.Monotonic, TickInterval: tickInterval,
		Reads: n.c.reads, MaxClockDrift: leaseDrift, RowCacheBytes: n.c.rowCache, ScanCacheBytes: n.c.scanCache,
		Executor: executor{n, life}, Transport: &transport{n}, Evaluator: counter{}, Logger: n.c.logger,
		Rand:    rand.New(rand.NewPCG(n.c.W.Rand.Uint64(), 1)),
		OnFatal: func(err error) { n.failed(life, err) },
		// Small bounds, so that a short run meets them.
		RetainedEntries: 20, CheckpointTicks: 40, MaxLagBytes: 64 << 10, MaxEntryCommands: 8, Retention: retention,
		MaxUncommittedBytes: 300,
	})
}

// failed is the store's word that it stops. Its other workers run on for a moment, as a process's do that is about to
// exit: what they say then must be true as well.
func (n *Node) failed(life *sim.Life, err error) {
	w := n.c.W
	if n.fatal != nil {
		n.c.violate(fmt.Errorf("store %s stopped twice: %w, after %w", n.ID, err, n.fatal))
		return
	}
	n.fatal = err
	n.c.logger.Info("store stops", "store", n.ID, "err", err)
	w.After(w.Between(0, 20*time.Millisecond), "exit", func() {
		if n.life == life && n.Up() {
			n.Crash()
			n.c.failed(n, err)
		}
	})
}

// delays draws how slow a life's parts are. Slow disks and slow applying stretch the moments between two steps in which a
// crash tells whether their order matters.
func (n *Node) delays() func(kind string) time.Duration {
	w := n.c.W
	type kindOf struct {
		kind    string
		longest time.Duration
	}
	var kinds []kindOf // few: quicker to look through than a map
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
		kinds = append(kinds, kindOf{k.kind, k.of[w.Rand.IntN(3)]})
	}
	return func(kind string) time.Duration {
		if n.slow > w.Now() && (kind == "log" || kind == "disk" || kind == "apply") && w.Chance(0.3) {
			return w.Between(50*time.Millisecond, 2*time.Second)
		}
		if w.Chance(0.005) {
			return w.Between(time.Millisecond, 20*time.Millisecond)
		}
		longest := 100 * time.Microsecond
		for i := range kinds {
			if kinds[i].kind == kind {
				longest = max(longest, kinds[i].longest)
				break
			}
		}
		return w.Between(0, longest)
	}
}

func (n *Node) wall() time.Time { return epoch.Add(n.clock.Wall()) }

// tick goes by the node's own clock.
func (n *Node) tick(life *sim.Life) {
	life.After(n.clock.Real(tickInterval), "tick", func() {
		if !n.jumped {
			n.clock.Discipline(n.c.Faults.Skew)
		}
		n.Store.Tick()
		n.tick(life)
	})
}

// Up says whether the store runs, or at least has not ended.
func (n *Node) Up() bool { return n.Store != nil && !n.life.Ended() }

// Crash ends the process and loses what was not synced.
func (n *Node) Crash() {
	n.life.End()
	n.collect()
	if n.eng.MaxSeq() > n.eng.Durable() {
		n.c.Stats.LostBytes++
	}
	n.c.Stats.Crashes++
	n.lose(n.c.W.Rand)
}

// lose is what a crash leaves; a nil rng keeps of the files all that the process wrote.
func (n *Node) lose(rng *rand.Rand) {
	if rng == nil {
		n.files = n.files.Clone()
	} else {
		n.files = n.files.Crash(rng)
		n.eng = n.eng.Crash(rng)
	}
	n.Store, n.log = nil, nil
}

// leads counts the ranges that the store leads.
func (n *Node) leads() int {
	leads := 0
	for _, i := range n.Store.Ranges() {
		if i.Leaseholder {
			leads++
		}
	}
	return leads
}

// judgeJump looks at what a store did while its wall clock was an hour wrong: it must not have evaluated anything.
func (n *Node) judgeJump() {
	if m := n.Store.Collect(); m.EvaluatedBatches > n.mayEvaluate {
		n.c.violate(fmt.Errorf("C4: store %s evaluated %d batches since its clock jumped, at most %d may have been under way",
			n.ID, m.EvaluatedBatches, n.mayEvaluate))
	}
	if n.led > 0 && n.leads() == 0 {
		n.c.Stats.LeadsGivenUp++
	}
}

// collect adds up a life's counters.
func (n *Node) collect() {
	if n.jumped {
		n.judgeJump()
	}
	m := n.Store.Collect()
	s := &n.c.Stats
	s.Elections += m.Elections
	s.Undone += m.UndoneSequences
	s.Snapshots += m.SnapshotsApplied
	s.Checkpoints += m.Checkpoints
	s.Splits += m.Splits
	s.LeaseReads += m.LeaseReads
	s.CachedScans += uint64(m.ScanCache.Hits)
	s.EndedBlocks += uint64(m.ScanCache.Ended)
}
