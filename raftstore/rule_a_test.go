package raftstore

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/raftstore/engine"
)

// Rule A1: an entry is accepted only in its term, at its bounds and on its base; what was built on a refused one is
// refused too, on all replicas alike.
func TestA1EntriesAreAcceptedOnTheirBaseOnly(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(*batchEntry)
	}{
		{"of another base", func(e *batchEntry) { e.Base++ }},
		{"of an earlier base", func(e *batchEntry) { e.Base-- }},
		{"of an earlier term", func(e *batchEntry) { e.Term-- }},
		{"of earlier bounds", func(e *batchEntry) { e.Bounds-- }},
		{"of later bounds", func(e *batchEntry) { e.Bounds++ }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newTestCluster(t, 3)
			c.ok(testRange, put("a", "1"))
			lead := c.leaseholder(testRange)
			before := lead.replica(testRange).snapshot().applied
			e1 := lead.nextEntry(testRange, kv("a", "never"))
			tc.spoil(e1)
			// What is built on it: as if e1 had been accepted.
			e2 := lead.nextEntry(testRange, kv("b", "read what never happened"))
			e2.Base++
			c.forge(lead, testRange, e1)
			c.forge(lead, testRange, e2)
			c.tick(3)
			for _, n := range c.nodes {
				after := n.replica(testRange).snapshot().applied
				if after.Count != before.Count || after.Index < before.Index+2 {
					t.Fatalf("store %s went from %+v to %+v", n.id, before, after)
				}
			}
			if a, b := c.ok(testRange, get("a")).value(), c.ok(testRange, get("b")).value(); a != "1" || b != "" {
				t.Fatalf("refused entries left a=%q b=%q", a, b)
			}
			// The sequencer goes on from what is applied.
			c.ok(testRange, cas("a", "1", "2"))
			c.equal(testRange)
			c.healthy()
		})
	}
}

// Rule A1: e1 meets ErrProposalDropped, e2 was evaluated on it and would be accepted by Raft.
func TestA1NothingFollowsADroppedProposal(t *testing.T) {
	c := newTestCluster(t, 3)
	c.ok(testRange, put("x", "0"))
	lead := c.leaseholder(testRange)
	r := lead.replica(testRange)
	// A transfer to a replica that can't be reached: Raft drops proposals meanwhile.
	c.cut(2)
	c.cut(3)
	r.post(raftInput{run: func() { r.raft.node.TransferLeader(uint64(c.info(testRange, 2).Replica)) }})
	c.settle()
	lead.exec.hold(true, QueueRaft)
	one := lead.send(testRange, put("x", "1"))
	c.settle()
	two := lead.send(testRange, cas("x", "1", "2"))
	c.settle()
	if n := len(r.seq.mu.inflight); n != 2 {
		t.Fatalf("%d entries in flight, want 2", n)
	}
	// The first is dropped, and only the second meets a Raft that takes proposals again.
	r.inbox.Lock()
	inputs := r.inbox.inputs
	r.inbox.inputs = nil
	r.inbox.Unlock()
	var proposals []raftInput
	for _, in := range inputs {
		if in.proposal != nil {
			proposals = append(proposals, in)
		}
	}
	abort := raftInput{run: func() {
		for range 12 { // the library gives a transfer up after an election timeout
			r.raft.node.Tick()
			r.step(&raftpb.Message{Type: raftpb.MsgHeartbeatResp.Enum(), From: new(uint64(2)), To: new(uint64(r.self)), Term: new(uint64(r.snapshot().term))})
		}
		if r.raft.node.BasicStatus().LeadTransferee != 0 {
			t.Error("the transfer is still under way")
		}
	}}
	r.post(proposals[0])
	r.post(abort)
	r.post(proposals[1])
	lead.exec.hold(false, QueueRaft)
	c.heal()
	c.settle()
	c.tick(5)
	for _, p := range []*pending{one, two} {
		want[*api.RetryError](t, "a command of a dropped proposal", p.err())
	}
	if v := c.ok(testRange, get("x")).value(); v != "0" {
		t.Fatalf("x=%q was written on top of a dropped entry", v)
	}
	if m := lead.Collect(); m.RefusedEntries != 0 {
		t.Fatalf("%d entries were proposed after the dropped one and left for apply to refuse", m.RefusedEntries)
	}
	c.ok(testRange, cas("x", "0", "3"))
	c.healthy()
}

// TestA2NothingIsEvaluatedBehindAReplicaChange: whatever comes behind a change of replicas was evaluated when it was applied, so
// that it proves that the change is known (retire.go).
func TestA2NothingIsEvaluatedBehindAReplicaChange(t *testing.T) {
	c := newTestCluster(t, 3)
	c.removeOn(testRange, 3)
	c.tick(2 * askTicks)
	lead := c.leaseholder(testRange)
	r := lead.replica(testRange)
	n, op := c.operator(testRange)
	op.Step = &locuspb.Operator_AddLearner{AddLearner: &locuspb.AddLearner{StoreId: 3}}
	lead.exec.hold(true, QueueApply)
	n.RunOperator(op, func(error) {})
	c.settle()
	var behind []*pending
	for range 5 {
		behind = append(behind, lead.send(testRange, put("a", "1")))
	}
	c.settle()
	if n := len(r.seq.mu.inflight); n != 1 {
		t.Fatalf("%d batches in flight beside a replica change", n-1)
	}
	lead.exec.hold(false, QueueApply)
	c.settle()
	for _, p := range behind {
		c.must(p.err())
	}
	if !r.snapshot().change.settled {
		t.Fatal("entries behind the change do not settle it")
	}
}

// Rule A2: a descriptor change is evaluated on an empty overlay, and nothing before it is applied.
func TestA2DescriptorChangesGoAlone(t *testing.T) {
	c := newTestCluster(t, 3)
	lead := c.leaseholder(testRange)
	r := lead.replica(testRange)
	lead.exec.hold(true, QueueApply)
	before := lead.send(testRange, put("z", "1"))
	c.settle()
	split := c.beginSplit(testRange, "m", 100)
	c.settle()
	behind := lead.send(testRange, put("z", "2"))
	same := lead.send(testRange, put("a", "2"))
	c.settle()
	if n := len(r.seq.mu.inflight); n != 1 || r.snapshot().frozen {
		t.Fatalf("the split was evaluated with %d entries in flight", n)
	}
	// Let the write be applied: now the split is evaluated, alone.
	lead.exec.hold(false, QueueApply)
	for !r.snapshot().frozen {
		for _, q := range lead.exec.queues {
			if !r.snapshot().frozen {
				q.step()
			}
		}
		mail := c.mail
		c.mail = nil
		for _, l := range mail {
			c.deliver(l)
		}
		for _, n := range c.nodes[1:] {
			n.exec.run()
		}
	}
	c.must(before.err())
	lead.exec.hold(true, QueueApply)
	c.settle()
	if n := len(r.seq.mu.inflight); n != 1 || behind.answered() || same.answered() {
		t.Fatalf("%d batches in flight beside the split", n)
	}
	lead.exec.hold(false, QueueApply)
	c.settle()
	c.must(*split)
	// Commands for the old bounds are sent back with the cure, whichever half their key lies in (rule E8).
	for what, p := range map[string]*pending{"left": same, "right": behind} {
		e := want[*api.EpochMismatchError](t, what, p.err())
		if len(e.Routes) != 2 {
			t.Fatalf("%s: routes %v", what, e.Routes)
		}
	}
	c.awaitLead(100)
	if v := c.ok(100, get("z")).value(); v != "1" {
		t.Fatalf("z=%q", v)
	}
	c.healthy()
}

// Rule A2 and the bounds of a command: deleting a span of the old bounds must not quietly delete a part of it.
func TestA2DeleteSpanBehindASplitIsRefused(t *testing.T) {
	c := newTestCluster(t, 1)
	c.ok(testRange, put("b", "1"))
	c.ok(testRange, put("y", "1"))
	lead := c.node(1)
	lead.exec.hold(true, QueueEval)
	split := c.beginSplit(testRange, "m", 100)
	del := scan("a", "z").GetScan().Span
	p := lead.send(testRange, &locuspb.Request{Op: &locuspb.Request_Write{Write: &locuspb.WriteRequest{DeleteSpan: true, Span: del, Limit: 100}}})
	lead.exec.hold(false, QueueEval)
	c.settle()
	c.must(*split)
	want[*api.EpochMismatchError](t, "delete of a span across the split", p.err())
	if v := c.ok(testRange, get("b")).value(); v != "1" {
		t.Fatal("a part of the span was deleted")
	}
}

// Rule A3: a command that writes nothing saw a write that never came to be.
func TestA3MismatchOnALostWriteIsNotAnswered(t *testing.T) {
	c := newTestCluster(t, 3)
	old := c.leaseholder(testRange)
	c.cut(old.id)
	lost := old.send(testRange, put("x", "1"))
	c.settle()
	saw := old.send(testRange, cas("x", "", "2")) // evaluates to "x=1 exists"
	c.settle()
	if saw.answered() {
		t.Fatalf("answered %v on a write that is not committed", saw.err())
	}
	other := c.node(old.id%3 + 1)
	c.elect(testRange, other.id)
	c.heal()
	c.tick(3)
	want[*api.RetryError](t, "the lost write", lost.err())
	want[*api.RetryError](t, "the command that saw it", saw.err())
	if v := c.ok(testRange, get("x")).value(); v != "" {
		t.Fatalf("x=%q", v)
	}
}

// Rule A3: with nothing in flight, a leader that was replaced must not answer from what it has.
func TestA3MismatchNeedsALeadershipCheck(t *testing.T) {
	c := newTestCluster(t, 3)
	c.ok(testRange, put("x", "1"))
	old := c.leaseholder(testRange)
	c.cut(old.id)
	other := c.node(old.id%3 + 1)
	c.elect(testRange, other.id)
	p := c.do(other, testRange, write(&locuspb.Mutation{Key: key("x"), Delete: true}))
	c.must(p.err())
	// x does not exist any more; the old leader would say that it does.
	stale := old.send(testRange, cas("x", "", "2"))
	c.settle()
	c.tick(2, old.id)
	if stale.answered() && errors.As(stale.err(), new(*api.ConditionError)) {
		t.Fatalf("a deposed leader answered %v", stale.err())
	}
	c.heal()
	c.tick(12)
	if !stale.answered() || stale.err() == nil {
		t.Fatalf("the command was never sent back: %v", stale.err())
	}
}

// Rule A3: in a batch that writes, the mismatch is answered with the entry.
func TestA3MismatchIsAnsweredWithItsEntry(t *testing.T) {
	c := newTestCluster(t, 3)
	lead := c.leaseholder(testRange)
	lead.exec.hold(true, QueueEval)
	w := lead.send(testRange, put("x", "1"))
	m := lead.send(testRange, cas("x", "", "2"))
	lead.exec.hold(false, QueueEval)
	lead.exec.hold(true, QueueApply)
	c.settle()
	if w.answered() || m.answered() {
		t.Fatal("answered before the entry is applied")
	}
	lead.exec.hold(false, QueueApply)
	c.settle()
	c.must(w.err())
	e := want[*api.ConditionError](t, "mismatch", m.err())
	if string(e.Value) != "1" || e.Timestamp != w.ts() {
		t.Fatalf("%+v, the write was at %s", e, w.ts())
	}
}

// Rule A4: an entry is applied and published in the middle of an evaluation, between two of its reads.
func TestA4EvaluationKeepsItsView(t *testing.T) {
	c := newTestCluster(t, 1)
	n := c.node(1)
	n.exec.hold(true, QueueApply)
	w := n.send(testRange, put("x", "1"))
	c.settle()
	c.eval = func(_ *locuspb.CallRequest, tx Tx) (*locuspb.CallResponse, error) {
		first, _, err := tx.Get(key("x"))
		c.must(err)
		// The other queues run on; the evaluation's own can't.
		n.exec.hold(true, QueueEval)
		n.exec.hold(false, QueueApply)
		n.exec.run()
		n.exec.hold(false, QueueEval)
		if !w.answered() {
			t.Error("the write was not applied meanwhile")
		}
		second, _, err := tx.Get(key("x"))
		c.must(err)
		if string(first) != "1" || string(second) != "1" {
			t.Errorf("one evaluation read x=%q, then %q", first, second)
		}
		if again := tx.Timestamp(); again <= w.ts() {
			t.Errorf("evaluated at %s, on a write of %s", again, w.ts())
		}
		return &locuspb.CallResponse{}, tx.Put(key("y"), second, 0)
	}
	p := n.send(testRange, call("f", "y", ""))
	c.settle()
	c.must(p.err())
	if v := c.ok(testRange, get("y")).value(); v != "1" {
		t.Fatalf("y=%q", v)
	}
	if left := n.replica(testRange).seq.overlay.writes.Len(); left > 1 {
		t.Fatalf("%d writes are left in the overlay", left)
	}
}

// Rule A5: commands of one entry share its timestamp and are ordered by their place; one version remains per key.
func TestA5OrderInsideAnEntry(t *testing.T) {
	c := newTestCluster(t, 1)
	c.eval = addOne
	n := c.node(1)
	n.exec.hold(true, QueueEval)
	var ps []*pending
	for range 3 {
		ps = append(ps, n.send(testRange, call("add", "n", "")))
	}
	ps = append(ps, n.send(testRange, put("n", "last")))
	before := n.eng.MaxSeq()
	n.exec.hold(false, QueueEval)
	c.settle()
	for i, p := range ps {
		c.must(p.err())
		if p.ts() != ps[0].ts() || p.resp.Place != uint32(i) {
			t.Fatalf("command %d has timestamp %s place %d, the first %s", i, p.ts(), p.resp.Place, ps[0].ts())
		}
		if i < 3 && number(p.resp.GetCall().Result) != uint64(i+1) {
			t.Fatalf("command %d did not see those before it: %d", i, number(p.resp.GetCall().Result))
		}
	}
	if after := n.eng.MaxSeq(); after != before+1 {
		t.Fatalf("one entry took %d sequences", after-before)
	}
	if _, version, found, err := n.eng.Get(dataKey(key("n")), before); found || err != nil {
		t.Fatalf("n has a version at %d: %v", version, err)
	}
	if v := c.ok(testRange, get("n")).value(); v != "last" {
		t.Fatalf("n=%q", v)
	}
}

// Rule A6: what is too large is refused before anything is proposed, and what is let through fits into a batch of
// the engine, however much the calls of one evaluation write.
func TestA6EntriesAreBoundedWhenFormed(t *testing.T) {
	c := newTestCluster(t, 1)
	n := c.node(1)
	before := n.Collect().ProposedEntries
	var ms []*locuspb.Mutation
	for i := range 5 {
		ms = append(ms, &locuspb.Mutation{Key: key(fmt.Sprint("k", i)), Value: make([]byte, 500<<10)})
	}
	large := c.do(n, testRange, &locuspb.Request{Op: &locuspb.Request_Write{Write: &locuspb.WriteRequest{Mutations: ms}}})
	if e := want[*api.LimitError](t, "a large command", large.err()); e.Limit != int64(n.opts.MaxCommandBytes) {
		t.Fatal(e)
	}
	// Calls tell how much they write only when they run.
	c.eval = func(call *locuspb.CallRequest, tx Tx) (*locuspb.CallResponse, error) {
		for i := range len(call.Argument) {
			if err := tx.Put([]byte(fmt.Sprintf("%s-%d", call.Key, i)), make([]byte, 500<<10), 0); err != nil {
				return nil, err
			}
		}
		return &locuspb.CallResponse{}, nil
	}
	over := c.do(n, testRange, call("fill", "o", strings.Repeat(".", 5)))
	want[*api.LimitError](t, "a call that writes too much", over.err())
	if after := n.Collect().ProposedEntries; after != before {
		t.Fatalf("%d entries were proposed for commands over the limit", after-before)
	}
	n.exec.hold(true, QueueEval)
	var ps []*pending
	for i := range 16 {
		ps = append(ps, n.send(testRange, call("fill", fmt.Sprintf("c%02d", i), strings.Repeat(".", 3))))
	}
	n.exec.hold(false, QueueEval)
	c.settle()
	c.healthy()
	for i, p := range ps {
		c.must(p.err())
		if i > 0 && (p.ts() < ps[i-1].ts() || p.ts() == ps[i-1].ts() && p.resp.Place <= ps[i-1].resp.Place) {
			t.Fatalf("command %d at %s/%d is not behind the one before it", i, p.ts(), p.resp.Place)
		}
	}
	// Many small writes: bounded by their number.
	c.eval = func(call *locuspb.CallRequest, tx Tx) (*locuspb.CallResponse, error) {
		for i := range 20_000 {
			if err := tx.Put([]byte(fmt.Sprintf("%s-%d", call.Key, i)), nil, 0); err != nil {
				return nil, err
			}
		}
		return &locuspb.CallResponse{}, nil
	}
	n.exec.hold(true, QueueEval)
	ps = ps[:0]
	for i := range 6 {
		ps = append(ps, n.send(testRange, call("many", fmt.Sprint("m", i), "")))
	}
	n.exec.hold(false, QueueEval)
	c.settle()
	c.healthy()
	for _, p := range ps {
		c.must(p.err())
	}
}

// Rule A6: an engine whose batches are too small for what may be formed is refused at open.
func TestA6LimitsAreComparedAtOpen(t *testing.T) {
	for _, limits := range []engine.Limits{{MaxBatchBytes: 4 << 20}, {MaxBatchOps: 1000}} {
		o := Options{Engine: engine.NewMemory(limits)}
		o.setDefaults()
		if err := o.checkLimits(); err == nil {
			t.Errorf("limits %+v were accepted", limits)
		}
	}
	o := Options{Engine: engine.NewMemory(engine.Limits{})}
	o.setDefaults()
	if err := o.checkLimits(); err != nil {
		t.Error(err)
	}
}

// Rule A6: a split carries the whole session table, in one transaction.
func TestA6SplitWithAFullSessionTable(t *testing.T) {
	c := newTestCluster(t, 1, func(o *Options) { o.MaxSessionBytes = 64 << 10 })
	c.eval = func(call *locuspb.CallRequest, tx Tx) (*locuspb.CallResponse, error) {
		return &locuspb.CallResponse{Result: make([]byte, 4000)}, tx.Put(call.Key, nil, 0)
	}
	full := false
	for i := 0; i < 100 && !full; i++ {
		s := newTestSession(byte(i+1), c.node(1).clock.Now())
		p := c.do(c.node(1), testRange, s.with(1, call("big", "k", "")))
		full = errors.As(p.err(), new(*api.OverloadedError))
	}
	if !full {
		t.Fatal("the session table never filled")
	}
	c.split(testRange, "m", 100)
	c.healthy()
	c.ok(100, put("z", "1"))
	if ids.RangeID(100) != c.info(100, 1).Descriptor.ID {
		t.Fatal("no child")
	}
}

// Rule A4: a write leaves the overlay only once its sequence is visible to the next evaluation.
func TestA4OverlayOutlivesApply(t *testing.T) {
	c := newTestCluster(t, 1)
	n := c.node(1)
	n.exec.hold(true, QueueApply)
	w := n.send(testRange, put("x", "1"))
	c.settle()
	before := n.eng.MaxSeq()
	if !n.applier.queue.(*stepQueue).step() || n.eng.MaxSeq() != before+1 || w.answered() {
		t.Fatal("the entry should be in the engine and not yet be published")
	}
	p := n.send(testRange, cas("x", "1", "2"))
	c.settle() // evaluated
	n.exec.hold(false, QueueApply)
	c.settle()
	c.must(w.err())
	c.must(p.err())
}
