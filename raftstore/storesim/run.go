package storesim

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/clientcore"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/sim"
	"github.com/locuskv/locus/internal/topology"
)

// Options of one run.
type Options struct {
	Seed    uint64
	Stores  int
	Clients int
	Ops     int // per client
	Keys    int
	// Chaos is how long faults go on; after it the network heals, all stores run, and everything must come to
	// rest.
	Chaos  time.Duration
	Logger *slog.Logger
}

// Result of one run.
type Result struct {
	Hash  uint64
	Steps uint64
	Time  time.Duration // simulated
	Stats Stats
}

// seededReader replaces the source of Raft's election jitter: the library reads the process-wide one.
type seededReader struct{ rng *mrand.Rand }

func (s seededReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(s.rng.Uint32())
	}
	return len(p), nil
}

// Run plays one seed to its end. An error is a violation, or a cluster that did not come to rest.
func Run(o Options) (Result, error) {
	old := rand.Reader
	rand.Reader = seededReader{mrand.New(mrand.NewPCG(o.Seed, 7))}
	defer func() { rand.Reader = old }()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	w := sim.NewWorld(o.Seed)
	f := Faults{Drop: 0.01 * w.Rand.Float64(), Duplicate: 0.02 * w.Rand.Float64(), Delay: w.Between(time.Millisecond, 15*time.Millisecond), Skew: 240 * time.Millisecond}
	c, err := New(w, o.Stores, f, o.Logger)
	if err != nil {
		return Result{}, err
	}
	r := &run{Options: o, c: c}
	err = r.guarded()
	for _, n := range c.Nodes {
		if n.Up() {
			n.collect()
		}
	}
	return Result{Hash: w.Hash(), Steps: w.Steps(), Time: w.Now(), Stats: c.Stats}, err
}

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
	chaos   bool
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
	for i := range r.Clients {
		cl := NewClient(c, i+1, r.Ops, 6*r.Chaos/time.Duration(r.Ops), r.keys, r.counter)
		for _, k := range []string{"key-00-ttl", "key-02-ttl", "key-04-ttl"} {
			cl.ttlKeys = append(cl.ttlKeys, layout.Encode([]byte(k)))
		}
		r.clients = append(r.clients, cl)
	}
	r.chaos = true
	r.drive()
	// The cluster grows to full replication before the worst begins, so that crashes meet a quorum.
	w.RunUntil(20*time.Second, func() bool { return c.Violation != nil || r.replicated(min(3, r.Stores)) })
	if c.Violation != nil {
		return c.Violation
	}
	if !r.replicated(min(3, r.Stores)) {
		return errors.New("the ranges did not get their replicas: " + r.describe())
	}
	for _, cl := range r.clients {
		cl.Start()
	}
	r.nemesis()
	w.RunUntil(w.Now()+r.Chaos, func() bool { return c.Violation != nil })
	if c.Violation != nil {
		return c.Violation
	}
	return r.settle()
}

// settle ends the faults, waits until everything is at rest, and judges.
func (r *run) settle() error {
	c, w := r.c, r.c.W
	r.chaos = false
	c.Heal()
	c.Faults.Drop, c.Faults.Duplicate = 0, 0
	for _, n := range c.Nodes {
		if !n.Up() {
			if err := n.Start(); err != nil {
				return err
			}
		}
	}
	rest := func() bool {
		for _, cl := range r.clients {
			if !cl.Finished() {
				return false
			}
		}
		return r.replicated(min(3, r.Stores)) && r.caughtUp()
	}
	w.RunUntil(w.Now()+5*time.Minute, func() bool { return c.Violation != nil || (w.Steps()%64 == 0 && rest()) })
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
	cl.History = append(cl.History, Event{Key: string(key), Op: porcupine.Operation{
		ClientId: 0, Input: input{kind: "get"}, Call: int64(begin), Output: output{value: string(g.GetValue())}, Return: int64(r.c.W.Now()),
	}})
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

// replicated says whether every range has its voters, no more, and no change under way.
func (r *run) replicated(want int) bool {
	for _, d := range r.c.Descriptors() {
		if d.Joint() || len(d.Voters()) != want || len(d.Replicas) != want {
			return false
		}
	}
	return true
}

// caughtUp says whether every replica of every range has applied the same, and nothing else is there.
func (r *run) caughtUp() bool {
	for _, d := range r.c.Descriptors() {
		var index ids.Index
		for i, rep := range d.Replicas {
			info, ok := r.c.node(rep.Store).Store.Range(d.ID)
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
		var first []byte
		for i, rep := range d.Replicas {
			sum, err := r.c.node(rep.Store).Store.Digest(d.ID)
			if err != nil {
				return err
			}
			if i == 0 {
				first = sum
			} else if !bytes.Equal(first, sum) {
				return fmt.Errorf("I2: replicas of range %s on stores %s and %s differ", d.ID, d.Replicas[0].Store, rep.Store)
			}
		}
	}
	return nil
}

func (r *run) describe() string {
	var b bytes.Buffer
	for _, n := range r.c.Nodes {
		fmt.Fprintf(&b, "\n%s:", n.ID)
		if !n.Up() {
			b.WriteString(" down")
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

// drive is the placement of the simulation: it gives every range its replicas, and now and then splits, moves or
// transfers one.
func (r *run) drive() {
	w := r.c.W
	w.After(w.Between(50*time.Millisecond, 150*time.Millisecond), "driver", func() {
		for _, n := range r.c.Nodes {
			if !n.Up() {
				continue
			}
			for _, info := range n.Store.Ranges() {
				if info.Leaseholder {
					if op := r.operator(n, info.Descriptor); op != nil {
						n.Store.RunOperator(op, func(error) {})
					}
				}
			}
		}
		r.drive()
	})
}

func (r *run) operator(n *Node, d *topology.Descriptor) *locuspb.Operator {
	w := r.c.W
	op := &locuspb.Operator{RangeId: uint64(d.ID), ConfEpoch: d.Epoch.Conf, BoundsEpoch: d.Epoch.Bounds}
	info, _ := n.Store.Range(d.ID)
	if d.Joint() {
		return nil
	}
	want := min(3, r.Stores)
	var promote, remove []uint64
	for _, rep := range d.Replicas {
		if rep.Role == topology.Learner {
			for _, p := range info.Progress {
				if p.Replica == rep.ID && p.Match+5 >= info.LastIndex && p.Match > 0 {
					promote = append(promote, uint64(rep.ID))
				}
			}
		}
	}
	voters := d.Voters()
	switch {
	case len(promote) > 0:
		if len(voters)+len(promote) > want {
			for _, v := range voters {
				if v.Store != n.ID && len(remove) == 0 {
					remove = append(remove, uint64(v.ID))
				}
			}
		}
		op.Step = &locuspb.Operator_Replace{Replace: &locuspb.ReplaceVoters{Promote: promote, Remove: remove}}
		r.c.Stats.ReplicaChanges++
	case len(d.Replicas) < want, r.chaos && len(r.clients) > 0 && r.Stores > 3 && len(d.Replicas) == want && w.Chance(0.02):
		free := r.freeStore(d)
		if free == 0 {
			return nil
		}
		op.Step = &locuspb.Operator_AddLearner{AddLearner: &locuspb.AddLearner{StoreId: uint64(free)}}
		r.c.Stats.ReplicaChanges++
	case len(voters) == want && len(d.Replicas) > want && w.Chance(0.05), len(voters) > want:
		// a learner that never caught up, or a voter too many
		last := d.Replicas[len(d.Replicas)-1]
		if last.Store == n.ID {
			return nil
		}
		op.Step = &locuspb.Operator_Remove{Remove: &locuspb.RemoveReplica{ReplicaId: uint64(last.ID)}}
		r.c.Stats.ReplicaChanges++
	case r.chaos && w.Chance(0.01):
		op.Step = &locuspb.Operator_Transfer{Transfer: &locuspb.TransferLease{StoreId: uint64(voters[w.Rand.IntN(len(voters))].Store)}}
		r.c.Stats.Transfers++
	case r.chaos && d.ID != ids.SystemRange && len(r.c.Descriptors()) < 8 && w.Chance(0.02):
		key := r.keys[w.Rand.IntN(len(r.keys))]
		if !d.Span.Contains(key) || bytes.Equal(key, d.Span.Start) {
			return nil
		}
		op.Step = &locuspb.Operator_Split{Split: &locuspb.SplitAt{Key: key, NewRangeId: r.c.nextRange}}
		r.c.nextRange++
	default:
		return nil
	}
	return op
}

func (r *run) freeStore(d *topology.Descriptor) ids.StoreID {
	var free []ids.StoreID
	for _, n := range r.c.Nodes {
		if _, ok := d.On(n.ID); !ok && n.Up() {
			free = append(free, n.ID)
		}
	}
	if len(free) == 0 {
		return 0
	}
	return free[r.c.W.Rand.IntN(len(free))]
}

// nemesis crashes, restarts and partitions stores.
func (r *run) nemesis() {
	c, w := r.c, r.c.W
	w.After(w.Between(200*time.Millisecond, 3*time.Second), "nemesis", func() {
		if !r.chaos {
			return
		}
		n := c.Nodes[w.Rand.IntN(len(c.Nodes))]
		switch x := w.Rand.IntN(10); {
		case x < 2 && n.Up():
			n.doom(func() bool { return r.chaos }, func() { r.restartLater(n) })
		case x < 4 && n.Up():
			n.Crash()
			r.restartLater(n)
		case x == 4: // power loss everywhere
			for _, n := range c.Nodes {
				if n.Up() {
					n.Crash()
					r.restartLater(n)
				}
			}
		case x < 8:
			r.partition(n)
		default:
			c.Heal()
		}
		r.nemesis()
	})
}

func (r *run) restartLater(n *Node) {
	c, w := r.c, r.c.W
	w.After(w.Between(100*time.Millisecond, 4*time.Second), "restart", func() {
		if n.Up() {
			return
		}
		c.Stats.Restarts++
		if err := n.Start(); err != nil {
			c.violate(err)
		}
	})
}

func (r *run) partition(n *Node) {
	c, w := r.c, r.c.W
	c.Stats.Partitions++
	both := w.Chance(0.6)
	for _, other := range c.Nodes {
		if other == n || w.Chance(0.3) {
			continue
		}
		c.Cut(n.ID, other.ID)
		if both {
			c.Cut(other.ID, n.ID)
		}
	}
	w.After(w.Between(500*time.Millisecond, 5*time.Second), "heal", c.Heal)
}
