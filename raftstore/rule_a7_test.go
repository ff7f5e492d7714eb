package raftstore

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/packed"
)

// Rule A7, optimistic mode.

func optimistic(fn, k, arg string) *locuspb.Request {
	r := call(fn, k, arg)
	r.GetCall().Optimistic = true
	return r
}

// optimisticCluster is one store whose calls run fn.
func optimisticCluster(t *testing.T, fn func(*locuspb.CallRequest, Tx) (*locuspb.CallResponse, error)) (*testCluster, *testNode) {
	t.Helper()
	c := newTestCluster(t, 1)
	c.eval = fn
	return c, c.node(1)
}

// attemptThen runs a call on a snapshot, lets others commit, and then lets the sequencer judge it.
func (c *testCluster) attemptThen(n *testNode, req *locuspb.Request, others ...*locuspb.Request) *pending {
	c.t.Helper()
	n.exec.hold(true, QueueEval)
	var before []*pending
	for _, o := range others {
		before = append(before, n.send(testRange, o)) // stand in the queue before the attempt, which does not see them
	}
	p := n.send(testRange, req)
	c.settle()
	if p.answered() {
		c.t.Fatal("answered before it was judged")
	}
	n.exec.hold(false, QueueEval)
	c.settle()
	for _, o := range before {
		c.must(o.err())
	}
	return p
}

func (n *testNode) reruns() uint64 { return n.Collect().OptimisticReruns }

func TestA7ACallWhoseReadsChangedRunsAgain(t *testing.T) {
	c, n := optimisticCluster(t, addOne)
	c.must(c.attemptThen(n, optimistic("add", "n", "")).err())
	if n.reruns() != 0 {
		t.Fatal("ran again for nothing")
	}
	p := c.attemptThen(n, optimistic("add", "n", ""), call("add", "n", ""))
	c.must(p.err())
	if got := number(p.resp.GetCall().GetResult()); got != 3 || n.reruns() != 1 {
		t.Fatalf("the third increment returned %d after %d more runs", got, n.reruns())
	}
}

// What a call did not read may change.
func TestA7OthersWritesDoNotDisturb(t *testing.T) {
	c, n := optimisticCluster(t, addOne)
	c.must(c.attemptThen(n, optimistic("add", "n", ""), put("m", "1"), put("o", "1")).err())
	if n.reruns() != 0 {
		t.Fatal("ran again though nothing that it read was written")
	}
}

// A key that was absent, and one that appears inside a span, count as read.
func TestA7AbsenceIsRead(t *testing.T) {
	count := func(req *locuspb.CallRequest, tx Tx) (*locuspb.CallResponse, error) {
		n := 0
		err := tx.Scan(keys.Span{Start: key("a"), End: key("f")}, 0, func(b []byte) bool {
			for r := packed.NewReader(b); r.Next(); {
				n++
			}
			return true
		})
		return &locuspb.CallResponse{Result: fmt.Append(nil, n)}, errors.Join(err, tx.Put(req.Key, fmt.Append(nil, n), 0))
	}
	for what, write := range map[string]*locuspb.Request{
		"a phantom":  put("c", "1"),
		"a deletion": write(&locuspb.Mutation{Key: key("b"), Delete: true}),
		"a change":   put("b", "2"),
	} {
		t.Run(what, func(t *testing.T) {
			c, n := optimisticCluster(t, count)
			c.ok(testRange, put("b", "1"))
			c.must(c.attemptThen(n, optimistic("count", "x", ""), write).err())
			if n.reruns() != 1 {
				t.Fatalf("ran again %d times", n.reruns())
			}
		})
	}
	c, n := optimisticCluster(t, count)
	c.must(c.attemptThen(n, optimistic("count", "x", ""), put("g", "1")).err())
	if n.reruns() != 0 {
		t.Fatal("a write beside the span made it run again")
	}
}

// A value that expires between the snapshot and the entry was not there.
func TestA7ExpiryIsRead(t *testing.T) {
	c, n := optimisticCluster(t, func(req *locuspb.CallRequest, tx Tx) (*locuspb.CallResponse, error) {
		v, found, err := tx.Get(req.Key)
		return &locuspb.CallResponse{Result: fmt.Append(nil, found, string(v))}, errors.Join(err, tx.Put(key("seen"), fmt.Append(nil, found), 0))
	})
	short := put("x", "1")
	short.GetWrite().Mutations[0].TtlMs = 1000
	c.ok(testRange, short)
	n.exec.hold(true, QueueEval)
	p := n.send(testRange, optimistic("look", "x", ""))
	c.settle()
	c.pass(2 * time.Second)
	n.exec.hold(false, QueueEval)
	c.settle()
	c.must(p.err())
	if got := string(p.resp.GetCall().GetResult()); got != "false" || n.reruns() != 1 {
		t.Fatalf("the call saw %q, %d more runs", got, n.reruns())
	}
}

// Write skew: each of two calls may clear its flag only while the other's is set.
func TestA7NoWriteSkew(t *testing.T) {
	c, n := optimisticCluster(t, func(req *locuspb.CallRequest, tx Tx) (*locuspb.CallResponse, error) {
		set := 0
		for _, k := range []string{"a", "b"} {
			if _, found, err := tx.Get(key(k)); err != nil {
				return nil, err
			} else if found {
				set++
			}
		}
		if set < 2 {
			return nil, errors.New("refused")
		}
		return &locuspb.CallResponse{}, tx.Delete(req.Key)
	})
	c.ok(testRange, put("a", "1"))
	c.ok(testRange, put("b", "1"))
	n.exec.hold(true, QueueEval)
	p, q := n.send(testRange, optimistic("clear", "a", "")), n.send(testRange, optimistic("clear", "b", ""))
	c.settle() // both have seen both flags
	n.exec.hold(false, QueueEval)
	c.settle()
	if (p.err() == nil) == (q.err() == nil) {
		t.Fatalf("one has to be refused: %v, %v", p.err(), q.err())
	}
}

// Exactly once: a retry that meets its first attempt gets the first result, and the call counts once.
func TestA7ExactlyOnce(t *testing.T) {
	c, n := optimisticCluster(t, addOne)
	s := newTestSession(1, n.clock.Now())
	n.exec.hold(true, QueueEval)
	p, q := n.send(testRange, s.with(1, optimistic("add", "n", ""))), n.send(testRange, s.with(1, optimistic("add", "n", "")))
	c.settle()
	n.exec.hold(false, QueueEval)
	c.settle()
	c.must(p.err())
	c.must(q.err())
	r := c.ok(testRange, s.with(1, optimistic("add", "n", "")))
	if !proto.Equal(p.resp.GetCall(), q.resp.GetCall()) || !proto.Equal(p.resp.GetCall(), r.resp.GetCall()) || p.ts() != r.ts() {
		t.Fatalf("first %v, then %v and %v", p.resp, q.resp, r.resp)
	}
	if v := c.ok(testRange, get("n")).resp.GetGet().GetValue(); number(v) != 1 {
		t.Fatalf("counted %d times", number(v))
	}
}

// A call that takes long holds up nobody, and one that never gets through is refused.
func TestA7TheSequencerGoesOn(t *testing.T) {
	c, n := optimisticCluster(t, addOne)
	n.exec.hold(true, QueueCall)
	p := n.send(testRange, optimistic("add", "n", ""))
	for i := range 10 {
		c.ok(testRange, put("x", fmt.Sprint(i)))
	}
	n.exec.hold(false, QueueCall)
	c.settle()
	c.must(p.err())

	var disturb func()
	c.eval = func(req *locuspb.CallRequest, tx Tx) (*locuspb.CallResponse, error) {
		resp, err := addOne(req, tx)
		if disturb != nil {
			disturb()
		}
		return resp, err
	}
	disturb = func() { n.send(testRange, put("n", "12345678")) }
	p = n.send(testRange, optimistic("add", "n", ""))
	c.settle()
	want[*api.RetryError](t, "a call that is always overtaken", p.err())
	if n.reruns() != maxAttempts-1 {
		t.Fatalf("%d more runs", n.reruns())
	}
	disturb = nil
	c.ok(testRange, optimistic("add", "n", ""))
}

// A call may read only so much, whatever it makes of the error.
func TestA7ReadsAreBounded(t *testing.T) {
	c, n := optimisticCluster(t, func(req *locuspb.CallRequest, tx Tx) (*locuspb.CallResponse, error) {
		for i := range maxOptimisticReads + 1 {
			_, _, _ = tx.Get(key(fmt.Sprint(i)))
		}
		return &locuspb.CallResponse{}, tx.Put(req.Key, []byte("done"), 0)
	})
	p := c.do(n, testRange, optimistic("much", "x", ""))
	if e := want[*api.LimitError](t, "too many reads", p.err()); e.Limit != maxOptimisticReads {
		t.Fatal(e)
	}
	if v := c.ok(testRange, get("x")).value(); v != "" {
		t.Fatalf("wrote %q", v)
	}
}

// Rule A1 holds for it as for any command: an attempt on a leader's state is nothing to the next leader's sequencer.
func TestA7AnAttemptEndsWithItsOffice(t *testing.T) {
	c := newTestCluster(t, 3)
	c.eval = addOne
	lead := c.leaseholder(testRange)
	lead.exec.hold(true, QueueEval)
	s := newTestSession(1, lead.clock.Now())
	p := lead.send(testRange, s.with(1, optimistic("add", "n", "")))
	c.settle()
	c.elect(testRange, 2)
	c.ok(testRange, call("add", "n", ""))
	lead.exec.hold(false, QueueEval)
	c.settle()
	if p.err() == nil {
		t.Fatal("the old leader's attempt was accepted")
	}
	retried := c.ok(testRange, s.with(1, optimistic("add", "n", "")))
	if got := number(retried.resp.GetCall().GetResult()); got != 2 {
		t.Fatalf("the retry returned %d", got)
	}
	c.equal(testRange)
}

// The entry's timestamp, and not the snapshot's, is what a time to live counts from.
func TestA7TimeToLiveCountsFromTheEntry(t *testing.T) {
	c, n := optimisticCluster(t, func(req *locuspb.CallRequest, tx Tx) (*locuspb.CallResponse, error) {
		return &locuspb.CallResponse{}, tx.Put(req.Key, []byte("1"), 1000)
	})
	n.exec.hold(true, QueueEval)
	p := n.send(testRange, optimistic("put", "x", ""))
	c.settle()
	c.pass(time.Minute)
	n.exec.hold(false, QueueEval)
	c.settle()
	c.must(p.err())
	got := c.ok(testRange, get("x")).resp.GetGet()
	if want := p.ts().AddMillis(1000); hlc.Timestamp(got.GetExpires()) != want {
		t.Fatalf("expires at %s, want %s", hlc.Timestamp(got.GetExpires()), want)
	}
}
