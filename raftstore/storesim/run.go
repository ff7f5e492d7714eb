package storesim

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/bench/history"
	"github.com/locuskv/locus/internal/clientcore"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/sim"
	"github.com/locuskv/locus/internal/topology"
	"github.com/locuskv/locus/raftstore"
)

// Options of one run. Zero values are their defaults.
type Options struct {
	Seed uint64
	// Stores at the beginning; by default the seed says how many, from 3 to 7.
	Stores int
	// Clients run Operations between them, on Keys registers and a counter. Defaults: 10, 2,000, 5.
	Clients, Operations, Keys int
	// Chaos is how long faults go on, in simulated time; after it the network heals, all stores run, and everything must
	// come to rest. Default 5 minutes.
	Chaos  time.Duration
	Logger *slog.Logger
}

func (o *Options) setDefaults() {
	for _, d := range []struct {
		v    *int
		unit int
	}{{&o.Clients, 10}, {&o.Operations, 2000}, {&o.Keys, 5}} {
		if *d.v == 0 {
			*d.v = d.unit
		}
	}
	if o.Chaos == 0 {
		o.Chaos = 5 * time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Result of one run.
type Result struct {
	Hash  uint64
	Steps uint64
	Time  time.Duration // simulated
	Stats Stats
}

// Run plays one seed to its end. An error is a violation, or a cluster that did not come to rest. Several goroutines may
// each play a seed.
func Run(o Options) (Result, error) {
	o.setDefaults()
	w := sim.NewWorld(o.Seed)
	defer w.Close()
	elections := mrand.New(mrand.NewPCG(o.Seed, 7))
	w.Entered = func() func() { return seedJitter(elections) }
	defer w.Entered()()
	f := Faults{
		Drop: 0.01 * w.Rand.Float64(), Duplicate: 0.02 * w.Rand.Float64(), Late: 0.002 * w.Rand.Float64(), Rot: 0.01,
		Delay: w.Between(time.Millisecond, 15*time.Millisecond), Skew: []time.Duration{100, 100, 240}[w.Rand.IntN(3)] * time.Millisecond, Drift: maxDrift,
	}
	if o.Stores == 0 {
		o.Stores = []int{3, 3, 3, 3, 4, 5, 5, 5, 6, 7}[w.Rand.IntN(10)]
	}
	c, err := newCluster(w, o.Stores, f, o.Logger)
	if err != nil {
		return Result{}, err
	}
	r := &run{Options: o, c: c, voters: 3}
	if o.Stores >= 5 && w.Chance(0.25) {
		r.voters = 5
	}
	if w.Chance(0.2) {
		c.reads = raftstore.ReadIndex
	}
	c.rowCache = []int64{-1, 4 << 10, 1 << 20}[w.Rand.IntN(3)]
	c.scanCache = []int64{-1, 64 << 10, 1 << 20}[w.Rand.IntN(3)]
	c.fallen, c.joint = r.fallen, r.part
	err = r.guarded()
	for _, n := range c.Nodes {
		if n.Up() {
			n.collect()
		}
	}
	return Result{Hash: w.Hash(), Steps: w.Steps(), Time: w.Now(), Stats: c.Stats}, err
}

// leaseDrift is by how much the rate of one clock may exceed another's, for leases; maxDrift is by how much clocks
// differ from the world's, in parts per million: between two of them just as much as that.
const (
	leaseDrift = 0.05
	maxDrift   = 24_000
)

// guarded plays; a broken invariant's panic is a violation like any other, so that the seed is known.
func (r *run) guarded() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return r.play()
}

type run struct {
	Options
	c       *Cluster
	clients []*Client
	keys    [][]byte
	counter []byte
	voters  int // that each range is to have
	chaos   bool
	jumped  *Node // whose clock is an hour off
}

var layout = keys.Layout{ID: 1}

func (r *run) play() error {
	c, w := r.c, r.c.W
	for _, n := range c.Nodes {
		if err := n.Start(); err != nil {
			return err
		}
	}
	for i := range r.Keys {
		r.keys = append(r.keys, layout.Encode(fmt.Appendf(nil, "key-%02d", i)))
	}
	r.counter = layout.Encode([]byte("key-00-counter"))
	ops := (r.Operations + r.Clients - 1) / r.Clients
	for i := range r.Clients {
		cl := NewClient(c, i+1, ops, 5*r.Chaos/time.Duration(ops), r.keys, r.counter)
		for _, k := range []string{"key-00-ttl", "key-02-ttl", "key-04-ttl"} {
			cl.ttlKeys = append(cl.ttlKeys, layout.Encode([]byte(k)))
		}
		r.clients = append(r.clients, cl)
	}
	r.chaos = true
	r.drive()
	if w.Chance(0.5) { // they stand in the way of many moves
		r.hold()
	}
	// The cluster grows to full replication before the worst begins, so that crashes meet a quorum.
	ready := every(w, 100*time.Millisecond, r.replicated)
	w.RunUntil(30*time.Second, func() bool { return c.Violation != nil || ready() })
	if c.Violation != nil {
		return c.Violation
	}
	if !r.replicated() {
		return errors.New("the ranges did not get their replicas: " + r.describe())
	}
	for _, cl := range r.clients {
		cl.Start()
	}
	r.nemesis()
	r.storms()
	r.compare()
	w.After(r.Chaos, "the end of chaos", func() { r.chaos = false })
	w.Run(func() bool { return r.chaos && c.Violation == nil })
	if c.Violation != nil {
		return c.Violation
	}
	return r.settle()
}

// every asks a costly question at most once in a while.
func every(w *sim.World, pause time.Duration, ask func() bool) func() bool {
	var next time.Duration
	return func() bool {
		if w.Now() < next {
			return false
		}
		next = w.Now() + pause
		return ask()
	}
}

// compare looks at the replicas of one range now and then.
func (r *run) compare() {
	w := r.c.W
	w.After(w.Between(500*time.Millisecond, 3*time.Second), "compare", func() {
		all := r.c.Descriptors()
		if err := r.c.digests(all[w.Rand.IntN(len(all))]); err != nil {
			r.c.violate(err)
		}
		r.compare()
	})
}

// settle ends the faults, waits until everything is at rest, and judges.
func (r *run) settle() error {
	c, w := r.c, r.c.W
	c.Heal()
	c.Faults.Drop, c.Faults.Duplicate, c.Faults.Late, c.Faults.Rot = 0, 0, 0, 0
	c.Faults.Skew /= 4 // so that every store may lead
	for _, n := range c.Nodes {
		if n.lost {
			continue
		}
		n.heal()
		if n.Up() && n.flipped() {
			n.Crash() // now the damage must be found
		}
		if !n.Up() {
			r.start(n)
		}
	}
	rest := func() bool {
		for _, cl := range r.clients {
			if !cl.Finished() {
				return false
			}
		}
		for _, n := range c.Nodes {
			if !n.lost && !n.Up() {
				return false // it has found damage, and starts again
			}
		}
		return r.replicated() && r.caughtUp()
	}
	// For a while: an operator may still have been in a queue when it all looked settled.
	since := w.Now()
	resting := every(w, 100*time.Millisecond, func() bool {
		if !rest() {
			since = w.Now()
		}
		return w.Now()-since > 2*time.Second
	})
	w.RunUntil(w.Now()+5*time.Minute, func() bool { return c.Violation != nil || resting() })
	if c.Violation != nil {
		return c.Violation
	}
	if !rest() {
		return errors.New("the cluster did not come to rest: " + r.describe())
	}
	if err := r.tiled(); err != nil {
		return err
	}
	if err := r.equal(); err != nil {
		return err
	}
	if err := r.everyoneLeads(); err != nil {
		return err
	}
	for _, key := range r.keys { // what was acknowledged is there (I6)
		if err := r.lastRead(key); err != nil {
			return err
		}
	}
	final, err := r.read(r.counter)
	if err != nil {
		return err
	}
	if err := Check(r.clients, Counter(final.GetValue())); err != nil {
		return err
	}
	unknown := 0
	for _, cl := range r.clients {
		unknown += cl.Counted.Unknown
	}
	return c.ledger.judge(string(r.counter), unknown)
}

// lastRead makes a key's value at rest the last operation of its history.
func (r *run) lastRead(key []byte) error {
	begin := r.c.W.Now()
	g, err := r.read(key)
	if err != nil {
		return err
	}
	cl := r.clients[0]
	cl.History = append(cl.History, history.Operation{
		Input:  history.Input{Key: string(key)},
		Output: history.Output{Value: valueOf(g), Timestamp: g.GetTimestamp()},
		Call:   history.Instant(begin), Return: history.Instant(r.c.W.Now()),
	})
	return nil
}

// read gets a key through a fresh client.
func (r *run) read(key []byte) (*locuspb.GetResponse, error) {
	cl := NewClient(r.c, 9999, 0, 0, nil, nil)
	cl.busy = true
	var done *clientcore.Done
	w := r.c.W
	_, err := cl.core.Submit(w.Now(), clientcore.Op{
		Request:  &locuspb.Request{Op: &locuspb.Request_Get{Get: &locuspb.GetRequest{Key: key}}},
		Deadline: w.Now() + time.Minute,
		Tag:      func(d clientcore.Done) { done = &d },
	})
	if err != nil {
		return nil, err
	}
	cl.effects()
	w.RunUntil(w.Now()+time.Minute, func() bool { return done != nil })
	if done == nil {
		return nil, errors.New("the last read did not end")
	}
	if done.Err != nil {
		return nil, done.Err
	}
	return done.Response.GetGet(), nil
}

// replicated says whether every range has its voters, no more, none on a lost store, and no change under way.
func (r *run) replicated() bool {
	for _, d := range r.c.Descriptors() {
		if d.Joint() || len(d.Voters()) != r.voters || len(d.Replicas) != r.voters || r.lost(d) != 0 {
			return false
		}
	}
	return true
}

// lost is a replica on a store that never comes back; 0 if there is none.
func (r *run) lost(d *topology.Descriptor) ids.ReplicaID {
	for _, rep := range d.Replicas {
		if r.c.node(rep.Store).lost {
			return rep.ID
		}
	}
	return 0
}

// caughtUp says whether every replica of every range has applied the same, and nothing else is there.
func (r *run) caughtUp() bool {
	for _, d := range r.c.Descriptors() {
		var index ids.Index
		for i, rep := range d.Replicas {
			n := r.c.node(rep.Store)
			if !n.Up() {
				return false
			}
			info, ok := n.Store.Range(d.ID)
			if !ok || info.Replica != rep.ID || info.Descriptor.Epoch != d.Epoch {
				return false
			}
			if i == 0 {
				index = info.Applied
			} else if info.Applied != index {
				return false
			}
		}
	}
	return true
}

// tiled checks I3 over what the stores say.
func (r *run) tiled() error {
	return topology.CheckTiling(keys.Span{}, r.c.Descriptors())
}

// equal checks I2: at equal applied index all replicas of a range hold equal state.
func (r *run) equal() error {
	for _, d := range r.c.Descriptors() {
		if err := r.c.digests(d); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) describe() string {
	var b bytes.Buffer
	for _, n := range r.c.Nodes {
		fmt.Fprintf(&b, "\n%s:", n.ID)
		if !n.Up() {
			fmt.Fprintf(&b, " down (lost %v)", n.lost)
			continue
		}
		for _, i := range n.Store.Ranges() {
			fmt.Fprintf(&b, "\n  %s lead %s term %d lease %v applied %d of %d", i.Descriptor, i.Leader, i.Term, i.Leaseholder, i.Applied, i.LastIndex)
		}
	}
	for _, cl := range r.clients {
		if !cl.Finished() {
			fmt.Fprintf(&b, "\nclient %d has %d left, busy %v", cl.id, cl.left, cl.busy)
		}
	}
	return b.String()
}
