package storesim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/bench/history"
	"github.com/locuskv/locus/internal/clientcore"
	"github.com/locuskv/locus/internal/hlc"
)

// Client runs one operation after another against a cluster, through the core that the client library uses too,
// and records what it did and saw.
type Client struct {
	c    *Cluster
	id   int
	core *clientcore.Core
	keys [][]byte
	busy bool
	wake time.Duration // 0: none is scheduled
	left int
	turn int // of pauses: one that was cut short does not end again
	// think is the longest pause between two operations.
	think time.Duration
	// History is of registers.
	History []history.Operation
	process int
	ctr     []byte
	Counted struct{ Done, Unknown int }
	// ttlKeys are written with a time to live, and read.
	ttlKeys [][]byte
	// seen is the highest timestamp that this client wrote, or whose value it read.
	seen hlc.Timestamp
}

// NewClient makes a client that will run some operations on registers and on a counter.
func NewClient(c *Cluster, id, ops int, think time.Duration, keys [][]byte, counterKey []byte) *Client {
	rng := rand.New(rand.NewPCG(c.W.Rand.Uint64(), uint64(id)))
	return &Client{
		c: c, id: id, left: ops, think: think, keys: keys, ctr: counterKey, process: id,
		core: clientcore.New(clientcore.Options{Rand: rng}),
	}
}

// Start lets the client run.
func (cl *Client) Start() {
	cl.pause(cl.c.W.Between(0, 50*time.Millisecond))
}

// Finished says whether all operations have ended.
func (cl *Client) Finished() bool { return cl.left == 0 && !cl.busy }

func (cl *Client) next() {
	if cl.left == 0 || cl.busy {
		return
	}
	cl.left--
	cl.busy = true
	cl.c.Stats.Operations++
	w := cl.c.W
	switch x := w.Rand.IntN(100); {
	case x < 8:
		cl.snapshot()
		return
	case x < 13:
		cl.stale()
		return
	case x < 22:
		cl.expiring()
		return
	}
	in, req, key := cl.draw()
	op := &operation{in: in, key: key, begin: w.Now(), seen: cl.seen, counts: req.GetCall() != nil && !req.GetCall().ReadOnly}
	if req.GetWrite() != nil {
		op.entry = cl.c.ledger.begin(&written{key: string(key), value: in.New.Data, deleted: in.Kind == history.Delete, begin: op.begin})
	}
	cl.submit(clientcore.Op{Request: req}, func(d clientcore.Done) { cl.finished(op, d) })
}

// operation is one of the register's or the counter's.
type operation struct {
	in     history.Input // the register's
	counts bool          // it is the counter's
	key    []byte
	begin  time.Duration
	seen   hlc.Timestamp // by the client, when it began
	entry  *written      // of a write
}

// draw chooses an operation. A value that it writes is never written again: the judges of histories rely on that.
func (cl *Client) draw() (history.Input, *locuspb.Request, []byte) {
	w := cl.c.W
	key := cl.keys[w.Rand.IntN(len(cl.keys))]
	value := fmt.Sprintf("c%d-%d", cl.id, cl.left)
	if w.Chance(0.2) { // of all sizes, so that a large proposal may be dropped and a small one after it be taken
		value += strings.Repeat(".", w.Rand.IntN(1000))
	}
	mutation := func(m *locuspb.Mutation, conds ...*locuspb.Condition) *locuspb.Request {
		m.Key = key
		return &locuspb.Request{Op: &locuspb.Request_Write{Write: &locuspb.WriteRequest{Mutations: []*locuspb.Mutation{m}, Conditions: conds}}}
	}
	x := w.Rand.IntN(100)
	if cl.c.storm > w.Now() && w.Chance(0.8) {
		x = 99
	}
	in := history.Input{Key: string(key)}
	switch {
	case x < 10:
		return in, peekRequest(key), key
	case x < 35:
		return in, &locuspb.Request{Op: &locuspb.Request_Get{Get: &locuspb.GetRequest{Key: key}}}, key
	case x < 65:
		in.Kind, in.New = history.Put, history.Of(value)
		return in, mutation(&locuspb.Mutation{Value: []byte(value)}), key
	case x < 70:
		in.Kind = history.Delete
		return in, mutation(&locuspb.Mutation{Delete: true}), key
	case x < 80:
		in.Kind, in.Old, in.New = history.CompareAndSwap, cl.lastSeen(key), history.Of(value)
		cond := &locuspb.Condition{Key: key, Kind: locuspb.Condition_ABSENT}
		if in.Old.Exists {
			cond = &locuspb.Condition{Key: key, Kind: locuspb.Condition_VALUE, Value: []byte(in.Old.Data)}
		}
		return in, mutation(&locuspb.Mutation{Value: []byte(value)}, cond), key
	default:
		// An increment with ballast may be dropped, and a light one that was evaluated on it be taken.
		call := &locuspb.CallRequest{Function: "counter", Key: cl.ctr}
		if w.Chance(0.3) {
			call.Argument = make([]byte, w.Rand.IntN(600))
		}
		return in, &locuspb.Request{Op: &locuspb.Request_Call{Call: call}}, cl.ctr
	}
}

// lastSeen is the newest value of key in this client's history, or one that it failed to write.
func (cl *Client) lastSeen(key []byte) history.Value {
	for i := len(cl.History) - 1; i >= 0; i-- {
		o := &cl.History[i]
		switch {
		case o.Input.Key != string(key):
		case o.Input.Kind == history.Get:
			return o.Output.Value
		default:
			return o.Input.New
		}
	}
	return history.Value{}
}

// finished records how an operation ended.
func (cl *Client) finished(op *operation, d clientcore.Done) {
	if op.entry != nil {
		cl.settled(op.entry, d, op.seen)
	}
	if uncertain(d.Err) {
		cl.c.Stats.Unknown++
	}
	if op.counts {
		cl.counted(op, d)
	} else if out, did := cl.told(op, d); did {
		cl.record(op, out)
	}
	cl.rest()
}

// counted records how an increment ended.
func (cl *Client) counted(op *operation, d clientcore.Done) {
	switch {
	case d.Err == nil:
		cl.Counted.Done++
		at := stamp{hlc.Timestamp(d.Response.Timestamp), d.Response.Place}
		cl.c.ledger.counted(Counter(d.Response.GetCall().GetResult()), at, op.begin, cl.c.W.Now(), op.seen)
		cl.seen = max(cl.seen, at.ts)
	case uncertain(d.Err):
		cl.Counted.Unknown++
	}
}

// told is what an operation on a register was told; did is false if it certainly did nothing and was told nothing.
func (cl *Client) told(op *operation, d clientcore.Done) (out history.Output, did bool) {
	var cond *api.ConditionError
	read := op.in.Kind == history.Get
	switch {
	case d.Err == nil && read:
		g := gotten(d.Response)
		if d.Response.GetCall().GetFuel() != sequenced {
			cl.found(hlc.Timestamp(d.Response.Timestamp), op.key, g, "a linearizable get")
		}
		cl.seen = max(cl.seen, hlc.Timestamp(g.GetTimestamp()))
		return history.Output{Value: valueOf(g), Timestamp: g.GetTimestamp()}, true
	case d.Err == nil:
		return history.Output{Timestamp: d.Response.Timestamp}, true
	case errors.As(d.Err, &cond):
		v := history.Value{Exists: cond.Exists, Data: string(cond.Value)}
		if v.Exists {
			cl.c.ledger.glimpsed(cut{key: string(op.key), value: v.Data, ts: cond.Timestamp, who: fmt.Sprintf("client %d's condition", cl.id)})
		}
		return history.Output{Failed: true, Value: v, Timestamp: uint64(cond.Timestamp)}, true
	case uncertain(d.Err):
		return history.Output{Unknown: true}, !read
	}
	return history.Output{}, false
}

// record adds an operation on a register to the history.
func (cl *Client) record(op *operation, out history.Output) {
	o := history.Operation{Client: cl.process, Input: op.in, Output: out, Call: history.Instant(op.begin), Return: history.Instant(cl.c.W.Now())}
	if out.Unknown {
		o.Return = history.Never
		cl.process += 1000 // it never ends: its process is another from now on
	}
	cl.History = append(cl.History, o)
}

// valueOf is what a read found.
func valueOf(g *locuspb.GetResponse) history.Value {
	if !g.GetFound() {
		return history.Value{}
	}
	return history.Of(string(g.GetValue()))
}

func uncertain(err error) bool {
	var amb *api.AmbiguousError
	return errors.As(err, &amb) || errors.Is(err, api.ErrSessionExpired)
}

// effects does what the core asks for.
func (cl *Client) effects() {
	for {
		var e clientcore.Effects
		cl.core.Take(&e)
		if len(e.Sends) == 0 && len(e.Done) == 0 && e.Routes == nil {
			break
		}
		for _, s := range e.Sends {
			cl.send(s)
		}
		for _, d := range e.Done {
			d.Tag.(func(clientcore.Done))(d)
		}
		if e.Routes != nil {
			w := cl.c.W
			w.After(w.Between(time.Millisecond, 10*time.Millisecond), "routes", func() {
				cl.core.RoutesArrived(w.Now(), cl.c.Routes())
				cl.effects()
			})
		}
	}
	cl.schedule()
}

// schedule wakes the core when it wants to be.
func (cl *Client) schedule() {
	at, ok := cl.core.Wake()
	w := cl.c.W
	if !ok || (cl.wake != 0 && cl.wake <= at && cl.wake > w.Now()) {
		return
	}
	at = max(at, w.Now()+time.Microsecond)
	cl.wake = at
	w.After(at-w.Now(), "client tick", func() {
		cl.wake = 0
		cl.core.Tick(w.Now())
		cl.effects()
	})
}

// send carries a request to a store and its answer back, or loses one of them.
func (cl *Client) send(s clientcore.Send) {
	c := cl.c
	req := proto.Clone(s.Request).(*locuspb.Request)
	fail := func(sent bool) {
		c.W.After(c.W.Between(0, 5*time.Millisecond), "connection failed", func() {
			cl.core.Fail(c.W.Now(), req.Id, sent, &api.UnavailableError{Reason: "connection failed"})
			cl.effects()
		})
	}
	d, ok := c.latency(0, s.Store)
	n := c.node(s.Store)
	if n == nil || !n.Up() {
		fail(false)
		return
	}
	if !ok {
		return // the attempt's own timeout notices
	}
	if c.W.Chance(0.01) {
		d += c.W.Between(2*time.Second, 12*time.Second) // overtaken by its retries
	}
	c.W.After(d, "request", func() {
		if !n.Up() {
			fail(true)
			return
		}
		n.life.Deliver("request", func() { cl.do(n, req) })
	})
}

// do executes a request at a store and carries the answer back, or loses it.
func (cl *Client) do(n *Node, req *locuspb.Request) {
	c := cl.c
	n.Store.Do(req, func(resp *locuspb.Response) {
		d, ok := c.latency(n.ID, 0)
		if !ok || c.W.Chance(0.02) {
			return // what was done is done again, perhaps by another range
		}
		clock := uint64(n.hlc.Hint())
		answer := proto.Clone(resp).(*locuspb.Response)
		c.W.After(d, "answer", func() {
			cl.core.Deliver(c.W.Now(), &locuspb.BatchResponse{Clock: clock, Responses: []*locuspb.Response{answer}})
			cl.effects()
		})
	})
}

// Check judges the clients' histories and the counter's final value.
func Check(clients []*Client, final uint64) error {
	var ops []history.Operation
	done, unknown := 0, 0
	for _, cl := range clients {
		done += cl.Counted.Done
		unknown += cl.Counted.Unknown
		ops = append(ops, cl.History...)
	}
	if err := history.CheckRegisters(ops, ""); err != nil {
		return fmt.Errorf("P1: %w", err)
	}
	if final < uint64(done) || final > uint64(done+unknown) {
		return fmt.Errorf("the counter is %d after %d increments and %d of unknown outcome (P4)", final, done, unknown)
	}
	return nil
}

// Counter reads a counter's value out of a store's answer.
func Counter(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}
