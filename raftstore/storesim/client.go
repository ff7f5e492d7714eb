package storesim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
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
	// History is what porcupine judges.
	History []Event
	process int
	ctr     []byte
	Counted struct{ Done, Unknown int }
	// ttlKeys are written with a time to live, and read.
	ttlKeys [][]byte
	// seen is the highest timestamp that this client wrote, or whose value it read.
	seen hlc.Timestamp
}

// Event is one operation on one key.
type Event struct {
	Key    string
	Op     porcupine.Operation
	Unsure bool
}

type input struct {
	kind     string // get | put | delete | cas
	value    string
	expected string // cas
}

// writes says whether the operation writes a register.
func (i *input) writes() bool { return i.kind == "put" || i.kind == "delete" || i.kind == "cas" }

type output struct {
	value   string // get; "" is missing
	ok      bool   // cas
	unknown bool
	ts      hlc.Timestamp
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
	op := &operation{in: in, key: key, begin: w.Now(), seen: cl.seen}
	if in.writes() {
		op.entry = cl.c.ledger.begin(&written{key: string(key), value: in.value, deleted: in.kind == "delete", begin: op.begin})
	}
	cl.submit(clientcore.Op{Request: req}, func(d clientcore.Done) { cl.finished(op, d) })
}

// operation is one of the register's or the counter's.
type operation struct {
	in    input
	key   []byte
	begin time.Duration
	seen  hlc.Timestamp // by the client, when it began
	entry *written      // of a write
}

// draw chooses an operation.
func (cl *Client) draw() (input, *locuspb.Request, []byte) {
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
	switch {
	case x < 35:
		return input{kind: "get"}, &locuspb.Request{Op: &locuspb.Request_Get{Get: &locuspb.GetRequest{Key: key}}}, key
	case x < 65:
		return input{kind: "put", value: value}, mutation(&locuspb.Mutation{Value: []byte(value)}), key
	case x < 70:
		return input{kind: "delete"}, mutation(&locuspb.Mutation{Delete: true}), key
	case x < 80:
		in := input{kind: "cas", value: value}
		cond := &locuspb.Condition{Key: key, Kind: locuspb.Condition_ABSENT}
		if last := cl.lastSeen(key); last != "" {
			in.expected = last
			cond = &locuspb.Condition{Key: key, Kind: locuspb.Condition_VALUE, Value: []byte(last)}
		}
		return in, mutation(&locuspb.Mutation{Value: []byte(value)}, cond), key
	default:
		// An increment with ballast may be dropped, and a light one that was evaluated on it be taken.
		call := &locuspb.CallRequest{Function: "counter", Key: cl.ctr}
		if w.Chance(0.3) {
			call.Argument = make([]byte, w.Rand.IntN(600))
		}
		return input{kind: "count"}, &locuspb.Request{Op: &locuspb.Request_Call{Call: call}}, cl.ctr
	}
}

// lastSeen is the newest value of key in this client's history.
func (cl *Client) lastSeen(key []byte) string {
	for i := len(cl.History) - 1; i >= 0; i-- {
		e := &cl.History[i]
		if e.Key != string(key) {
			continue
		}
		in := e.Op.Input.(input)
		if in.kind == "get" {
			return e.Op.Output.(output).value
		}
		return in.value
	}
	return ""
}

// finished records how an operation ended.
func (cl *Client) finished(op *operation, d clientcore.Done) {
	in, w := op.in, cl.c.W
	if op.entry != nil {
		cl.settled(op.entry, d, op.seen)
	}
	out := output{}
	var cond *api.ConditionError
	read := in.kind == "get"
	switch {
	case d.Err == nil && read:
		out.value = string(d.Response.GetGet().GetValue())
		cl.found(hlc.Timestamp(d.Response.Timestamp), op.key, d.Response.GetGet(), "a linearizable get")
		cl.seen = max(cl.seen, hlc.Timestamp(d.Response.GetGet().GetTimestamp()))
	case d.Err == nil:
		out.ok, out.ts = true, hlc.Timestamp(d.Response.Timestamp)
	case errors.As(d.Err, &cond):
		if cond.Exists {
			cl.c.ledger.glimpsed(cut{key: string(op.key), value: string(cond.Value), ts: cond.Timestamp, who: fmt.Sprintf("client %d's condition", cl.id)})
		}
	case uncertain(d.Err):
		out.unknown = true
		cl.c.Stats.Unknown++
	default:
		out.unknown = false
		if !read && in.kind != "count" {
			in.kind = "nothing" // it certainly did nothing
		}
	}
	switch {
	case in.kind == "count":
		if d.Err == nil {
			cl.Counted.Done++
			at := stamp{hlc.Timestamp(d.Response.Timestamp), d.Response.Place}
			cl.c.ledger.counted(Counter(d.Response.GetCall().GetResult()), at, op.begin, w.Now(), op.seen)
			cl.seen = max(cl.seen, at.ts)
		} else if out.unknown {
			cl.Counted.Unknown++
		}
	case in.kind == "nothing" || (read && d.Err != nil):
	default:
		end := int64(w.Now())
		if out.unknown {
			end = 1 << 62
		}
		cl.History = append(cl.History, Event{Key: string(op.key), Op: porcupine.Operation{
			ClientId: cl.process, Input: in, Call: int64(op.begin), Output: out, Return: end,
		}})
		if out.unknown {
			cl.process += 1000 // an operation of unknown end never ends: its process is another from now on
		}
	}
	cl.rest()
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

// registerModel is a register that starts empty.
var registerModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation { return [][]porcupine.Operation{history} },
	Init:      func() any { return "" },
	Step: func(state, in, out any) (bool, any) {
		s, i, o := state.(string), in.(input), out.(output)
		switch i.kind {
		case "get":
			return o.value == s, s
		case "put":
			return true, i.value
		case "delete":
			return true, ""
		}
		if o.unknown { // a compare-and-swap of unknown outcome did what its condition says
			if s == i.expected {
				return true, i.value
			}
			return true, s
		}
		if o.ok {
			return s == i.expected, i.value
		}
		return s != i.expected, s
	},
	Equal:             func(a, b any) bool { return a == b },
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %+v", in, out) },
}

// Check judges the clients' histories and the counter's final value.
func Check(clients []*Client, final uint64) error {
	byKey := make(map[string][]porcupine.Operation)
	var order []string
	done, unknown := 0, 0
	for _, cl := range clients {
		done += cl.Counted.Done
		unknown += cl.Counted.Unknown
		for _, e := range cl.History {
			if byKey[e.Key] == nil {
				order = append(order, e.Key)
			}
			byKey[e.Key] = append(byKey[e.Key], e.Op)
		}
	}
	for _, key := range order {
		switch porcupine.CheckOperationsTimeout(registerModel, byKey[key], 30*time.Second) {
		case porcupine.Illegal:
			return fmt.Errorf("the history of key %q is not linearizable (P1)", key)
		case porcupine.Unknown:
			return fmt.Errorf("the history of key %q could not be judged in time", key)
		}
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
