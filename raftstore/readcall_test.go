package raftstore

import (
	"errors"
	"testing"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
)

func readCall(fn, k string) *locuspb.Request {
	r := call(fn, k, "")
	r.GetCall().ReadOnly = true
	return r
}

func returnsValue(req *locuspb.CallRequest, tx Tx) (*locuspb.CallResponse, error) {
	value, _, err := tx.Get(req.Key)
	return &locuspb.CallResponse{Result: value}, err
}

// A call that only reads holds up no write, and no write it: it sees what was acknowledged before.
func TestReadCallsAreReads(t *testing.T) {
	c, n := optimisticCluster(t, returnsValue)
	c.ok(testRange, put("a", "1"))
	applied := c.info(testRange, n.id).Applied

	n.exec.hold(true, QueueEval)
	w := n.send(testRange, put("a", "2"))
	p := n.send(testRange, readCall("get", "a"))
	c.settle()
	c.must(p.err())
	if got := string(p.resp.GetCall().GetResult()); got != "1" || w.answered() {
		t.Fatalf("it read %q beside the sequencer", got)
	}
	n.exec.hold(false, QueueEval)
	c.settle()
	c.must(w.err())

	n.exec.hold(true, QueueReadCall)
	p = n.send(testRange, readCall("get", "a"))
	c.ok(testRange, put("a", "3"))
	c.ok(testRange, get("a"))
	slow := readCall("get", "a")
	slow.GetCall().Optimistic = true
	if got := string(c.ok(testRange, slow).resp.GetCall().GetResult()); got != "3" {
		t.Fatalf("in optimistic mode it read %q", got)
	}
	n.exec.hold(false, QueueReadCall)
	c.settle()
	c.must(p.err())
	if got := string(p.resp.GetCall().GetResult()); got != "3" {
		t.Fatalf("it read %q", got)
	}
	if p.ts() == 0 {
		t.Fatal("no timestamp")
	}
	if n := c.info(testRange, n.id).Applied - applied; n != 2 {
		t.Fatalf("%d entries for two writes", n)
	}
}

// What reads can't write, whatever the function makes of the refusal, and neither an error nor a leader that is none is an answer.
func TestReadCallsAreRefused(t *testing.T) {
	broken := errors.New("broken")
	c := newTestCluster(t, 3)
	c.eval = func(req *locuspb.CallRequest, tx Tx) (*locuspb.CallResponse, error) {
		if req.Function == "broken" {
			return nil, broken
		}
		if tx.Put(req.Key, []byte("x"), 0) == nil || tx.Delete(req.Key) == nil {
			return nil, errors.New("it may write")
		}
		if _, _, err := tx.Get([]byte("elsewhere")); !errors.Is(err, api.ErrNotOneGroup) {
			return nil, err
		}
		return &locuspb.CallResponse{}, nil
	}
	c.ok(testRange, put("a", "1"))
	c.ok(testRange, readCall("write", "a"))
	if v := c.ok(testRange, get("a")).value(); v != "1" {
		t.Fatalf("a=%q", v)
	}
	lead := c.leaseholder(testRange)
	if p := c.do(lead, testRange, readCall("broken", "a")); p.err() == nil {
		t.Fatal("no error")
	}
	for _, n := range c.nodes {
		if n != lead {
			want[*api.NotLeaseholderError](t, "a follower", c.do(n, testRange, readCall("write", "a")).err())
		}
	}
}

// Rule C7: what has expired by the leaseholder's clock is told only when the log says so, too.
func TestC7ReadCallsWaitForTheLog(t *testing.T) {
	c := newTestCluster(t, 3)
	c.eval = returnsValue
	fast, slow := c.leaseholder(testRange), c.node(2)
	c.ok(testRange, write(&locuspb.Mutation{Key: key("x"), Value: []byte("1"), TtlMs: 300}))
	before := c.info(testRange, fast.id).Applied
	if got := string(c.ok(testRange, readCall("get", "x")).resp.GetCall().GetResult()); got != "1" {
		t.Fatalf("x=%q before it expires", got)
	}
	if n := c.info(testRange, fast.id).Applied - before; n != 0 {
		t.Fatalf("%d entries for a read", n)
	}
	fast.wall = fast.wall.Add(400 * time.Millisecond)
	fast.exec.hold(true, QueueEval)
	p := fast.send(testRange, readCall("get", "x"))
	c.settle()
	if p.answered() {
		t.Fatal("it is told that x has expired, and the log does not say so")
	}
	fast.exec.hold(false, QueueEval)
	c.settle()
	c.must(p.err())
	if got := string(p.resp.GetCall().GetResult()); got != "" {
		t.Fatalf("x=%q", got)
	}
	c.elect(testRange, slow.id)
	if v := c.ok(testRange, get("x")).value(); v != "" {
		t.Fatalf("the slow leader says %q", v)
	}
}

// Rule C7: what was written before a value expired, and is not in the log yet, is not passed over for the value's expiry.
func TestC7ReadCallsSeeWhatOverwroteTheExpired(t *testing.T) {
	c := newTestCluster(t, 1)
	c.eval = returnsValue
	n := c.node(1)
	c.ok(testRange, write(&locuspb.Mutation{Key: key("x"), Value: []byte("1"), TtlMs: 300}))
	n.wall = n.wall.Add(200 * time.Millisecond)
	n.exec.hold(true, QueueLog)
	w := n.send(testRange, put("x", "2"))
	c.settle()
	if w.answered() {
		t.Fatal("it is not in the log")
	}
	n.wall = n.wall.Add(200 * time.Millisecond)
	p := n.send(testRange, readCall("get", "x"))
	c.settle()
	if p.answered() {
		t.Fatalf("it is told that x is %q", p.resp.GetCall().GetResult())
	}
	n.exec.hold(false, QueueLog)
	c.settle()
	c.must(p.err())
	if got := string(p.resp.GetCall().GetResult()); got != "2" || p.ts() < w.ts() {
		t.Fatalf("x=%q at %d, written at %d", got, p.ts(), w.ts())
	}
}

// Rule B1: a retry may be of a call that wrote, by an earlier version of the function: it goes where its number is known.
func TestB1RetriesOfReadCallsAreCommands(t *testing.T) {
	c, n := optimisticCluster(t, func(req *locuspb.CallRequest, tx Tx) (*locuspb.CallResponse, error) {
		old, _, err := tx.Get(req.Key)
		if err == nil && req.Function == "set" {
			err = tx.Put(req.Key, []byte("set"), 0)
		}
		return &locuspb.CallResponse{Result: append([]byte(req.Function+" "), old...)}, err
	})
	c.ok(testRange, put("a", "old"))
	s := newTestSession(1, n.clock.Now())
	n.exec.hold(true, QueueLog)
	first := n.send(testRange, s.with(1, call("set", "a", "")))
	c.settle()
	retry := s.with(1, readCall("get", "a"))
	retry.Session.Retry = true
	second := n.send(testRange, retry)
	c.settle()
	if second.answered() {
		t.Fatalf("answered %q before the first attempt ended", second.resp.GetCall().GetResult())
	}
	n.exec.hold(false, QueueLog)
	c.settle()
	c.must(first.err())
	c.must(second.err())
	if got := string(second.resp.GetCall().GetResult()); got != "set old" {
		t.Fatalf("the retry got %q", got)
	}
}

// Too many are refused, and those that were refused don't count.
func TestReadCallsAreBounded(t *testing.T) {
	c, n := optimisticCluster(t, returnsValue)
	c.ok(testRange, put("a", "1"))
	n.exec.hold(true, QueueReadCall)
	var all []*pending
	for range maxReadCalls {
		all = append(all, n.send(testRange, readCall("get", "a")))
	}
	for range 3 {
		want[*api.OverloadedError](t, "one too many", n.send(testRange, readCall("get", "a")).err())
	}
	n.exec.hold(false, QueueReadCall)
	c.settle()
	for _, p := range all {
		c.must(p.err())
	}
	c.ok(testRange, readCall("get", "a"))
	if n := n.Store.readCalls.Load(); n != 0 {
		t.Fatalf("%d are under way", n)
	}
}
