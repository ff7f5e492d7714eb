package raftstore

import (
	"fmt"
	"testing"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/raftstore/engine"
)

// Second review: reads under a lease, the row cache, quiet ranges, optimistic mode.

func clockAt() *locuspb.Request {
	return &locuspb.Request{Op: &locuspb.Request_ClockAt{ClockAt: &locuspb.ClockRequest{}}}
}

// TestReview2AFreshReadIsNotTakenBack: a scan of several ranges takes a fresh timestamp from the leaseholders and reads
// at it. A replica that has closed it may answer: the client's route is old, or the gateway's first attempt failed. What
// that shows was committed; whoever asks the leaseholder afterwards, without the other's token, must not be shown less. So
// followers learn of a commit only once it is visible on the leaseholder.
func TestReview2AFreshReadIsNotTakenBack(t *testing.T) {
	for _, mode := range []ReadMode{ReadIndex, ReadLease} {
		t.Run(mode.String(), func(t *testing.T) {
			c, lead := leasedCluster(t, func(o *Options) { o.Reads, o.commitAtOnce = mode, false })
			c.ok(testRange, put("x", "old"))
			c.ok(testRange, get("x"))
			lead.exec.hold(true, QueueApply)
			lead.send(testRange, put("x", "new"))
			c.settle()
			fresh := uint64(lead.clock.Now())
			if mode == ReadLease {
				p := lead.send(testRange, clockAt()) // asked behind a check of the lease (rule C2)
				c.settle()
				c.must(p.err())
				fresh = p.resp.GetClockAt().GetClock()
			}
			lead.send(testRange, getAt("x", ts(fresh))) // somebody closes it
			c.settle()
			c.tick(2) // followers hear that it is committed
			scanned := c.do(c.node(2), testRange, getAt("x", ts(fresh)))
			later := lead.send(testRange, get("x"))
			c.settle()
			if scanned.err() == nil && later.answered() && later.value() != scanned.value() {
				t.Errorf("a linearizable read found %q after a read at a fresh timestamp had found %q", later.value(), scanned.value())
			}
			lead.exec.hold(false, QueueApply)
			c.settle()
			c.tick(3) // and now followers hear of it
			if scanned = c.do(c.node(2), testRange, getAt("x", ts(fresh))); scanned.err() != nil || scanned.value() != "new" {
				t.Fatalf("the follower has %q, %v", scanned.value(), scanned.err())
			}
			c.healthy()
		})
	}
}

// TestReview2AQuietReplicaHearsThatItWasRemoved: a quiet follower trusts its leader's store, which goes on vouching for other
// ranges. Meanwhile the lead goes to a replica that can't reach the follower, and that one removes it. Awake, it would
// look for a leader and be told that it is gone; quiet, it asks nobody.
func TestReview2AQuietReplicaHearsThatItWasRemoved(t *testing.T) {
	c := newTestCluster(t, 3)
	c.split(testRange, "m", 100) // what store 1 goes on vouching for
	// All clocks go on by an election timeout when a lead is taken, and then chance may give another away.
	for home, tries := false, 0; !home; tries++ {
		home = true
		for _, id := range []ids.RangeID{testRange, 100} {
			if c.leaseholder(id).id != 1 {
				c.elect(id, 1)
				home = false
			}
		}
		c.awaitQuiet(200)
		if tries == 20 {
			t.Fatal("store 1 does not lead both ranges")
		}
	}
	c.drop[[2]ids.StoreID{2, 3}], c.drop[[2]ids.StoreID{3, 2}] = true, true
	op := &locuspb.Operator{RangeId: uint64(testRange), Step: &locuspb.Operator_Transfer{Transfer: &locuspb.TransferLease{StoreId: 2}}}
	c.must(c.operate(c.node(1), op))
	if c.leaseholder(testRange).id != 2 {
		t.Fatal("no transfer")
	}
	c.removeOn(testRange, 3)
	c.heal()
	c.tick(lookAfterTicks + 100)
	if i, ok := c.node(3).Range(testRange); ok {
		t.Errorf("ten minutes later store 3 still has replica %s of range %s, quiet: %v", i.Replica, testRange, c.node(3).quiet(testRange))
	}
	// Its span is in the way of others.
	c.ok(testRange, put("a", "1"))
	c.split(testRange, "f", 101)
	n, op := c.operator(101)
	op.Step = &locuspb.Operator_AddLearner{AddLearner: &locuspb.AddLearner{StoreId: 3}}
	c.must(c.operate(n, op))
	c.tick(100)
	if _, ok := c.node(3).Range(101); !ok {
		t.Error("a new range's replica finds no place there")
	}
	c.healthy()
}

// TestReview2QuietAfterASnapshot: a follower that caught up by a snapshot has all that the leader has, and rests with it.
func TestReview2QuietAfterASnapshot(t *testing.T) {
	c := newTestCluster(t, 3, func(o *Options) { o.RetainedEntries = 1; o.MaxLagBytes = 1 })
	c.ok(testRange, put("x", "0"))
	c.tick(3)
	n := c.node(3)
	n.takeCheckpoint()
	c.cut(3)
	for i := range 20 {
		c.ok(testRange, put("x", fmt.Sprint(i)))
	}
	c.tick(30) // the range closes its present
	for _, m := range c.nodes[:2] {
		m.takeCheckpoint()
	}
	c.settle()
	c.heal()
	restored := n.Collect().SnapshotsApplied
	c.tick(30)
	if n.Collect().SnapshotsApplied == restored {
		t.Fatal("no snapshot came: the test is void")
	}
	c.tick(100)
	woken, quiet := 0, 0
	for range 300 {
		c.tick(1)
		switch {
		case c.allQuiet():
			quiet++
		case !c.node(1).quiet(testRange):
			woken++
		}
	}
	if quiet == 0 {
		t.Errorf("all were quiet in %d of 300 ticks, the leader was awake in %d", quiet, woken)
	}
}

// TestReview2ScansOfNothingAreBounded: what a run has read the sequencer reads again, so every read counts, also of nothing.
func TestReview2ScansOfNothingAreBounded(t *testing.T) {
	c, n := optimisticCluster(t, func(req *locuspb.CallRequest, tx Tx) (*locuspb.CallResponse, error) {
		for range maxOptimisticReads + 1 {
			if err := tx.Scan(keys.Span{Start: key("p"), End: key("q")}, 0, func([]byte) bool { return true }); err != nil {
				return nil, err
			}
		}
		return &locuspb.CallResponse{}, tx.Put(req.Key, []byte("1"), 0)
	})
	p := c.do(n, testRange, optimistic("scan", "x", ""))
	want[*api.LimitError](t, "too many scans", p.err())
}

// countingEngine counts point reads.
type countingEngine struct {
	engine.Engine
	gets int
}

func (e *countingEngine) Get(k []byte, seq ids.Seq) ([]byte, ids.Seq, bool, error) {
	e.gets++
	return e.Engine.Get(k, seq)
}

// TestReview2OneStepChecksNotTooMuch: the sequencer checks what runs have read, while the range's writes, and those of all
// ranges whose turn on the worker comes after, wait. That must not take as long as there are runs.
func TestReview2OneStepChecksNotTooMuch(t *testing.T) {
	var e *countingEngine
	c := newTestCluster(t, 1, func(o *Options) {
		e = &countingEngine{Engine: o.Engine}
		o.Engine, o.RowCacheBytes = e, -1
	})
	const calls, reads = 100, 2000
	c.eval = func(req *locuspb.CallRequest, tx Tx) (*locuspb.CallResponse, error) {
		for i := range reads {
			if _, _, err := tx.Get(key(fmt.Sprint("r", i))); err != nil {
				return nil, err
			}
		}
		return &locuspb.CallResponse{}, tx.Put(req.Key, []byte("1"), 0)
	}
	n := c.node(1)
	n.exec.hold(true, QueueEval)
	var all []*pending
	for i := range calls {
		all = append(all, n.send(testRange, optimistic("read", fmt.Sprint("w", i), "")))
	}
	c.settle()
	q := n.replica(testRange).seq
	if q.mu.bytes < calls*reads*8 {
		t.Errorf("%d runs that note %d keys each are counted as %d bytes of queue", len(q.mu.waiting), reads, q.mu.bytes)
	}
	most := 0
	for eq := q.queue.(*stepQueue); ; {
		before := e.gets
		if !eq.step() {
			break
		}
		most = max(most, e.gets-before)
		c.run()
	}
	n.exec.hold(false, QueueEval)
	c.settle()
	for _, p := range all {
		c.must(p.err())
	}
	if most > maxOptimisticReads {
		t.Errorf("one step of the sequencer read %d keys", most)
	}
}

// TestReview2WhatHasExpiredStaysExpired: rule C7. A command that writes nothing leaves no entry, so what it finds expired has to
// be so by the log: the next leader's clock may be behind.
func TestReview2WhatHasExpiredStaysExpired(t *testing.T) {
	look := func(req *locuspb.CallRequest, tx Tx) (*locuspb.CallResponse, error) {
		_, found, err := tx.Get(req.Key)
		return &locuspb.CallResponse{Result: fmt.Append(nil, found)}, err
	}
	for what, req := range map[string]*locuspb.Request{
		"an optimistic call":       optimistic("look", "x", ""),
		"a call on the sequencer":  call("look", "x", ""),
		"a condition on its value": cas("x", "1", "2"),
	} {
		t.Run(what, func(t *testing.T) {
			c := newTestCluster(t, 3)
			c.eval = look
			if c.leaseholder(testRange).id != 1 {
				t.Fatal("store 1 should lead")
			}
			short := put("x", "1")
			short.GetWrite().Mutations[0].TtlMs = 1000
			c.ok(testRange, short)
			c.tick(3)
			c.pass(900 * time.Millisecond)
			c.node(1).wall = c.node(1).wall.Add(200 * time.Millisecond)
			p := c.do(c.node(1), testRange, req)
			if s := string(p.resp.GetCall().GetResult()); p.err() == nil && s != "false" {
				t.Fatalf("the test is void: %q, %v", s, p.err())
			}
			c.elect(testRange, 2)
			if later := c.ok(testRange, get("x")); later.value() != "" {
				t.Errorf("found nothing (%v), and the next leader reads %q", p.resp, later.value())
			}
		})
	}
}

// TestReview2NoTransferToALostReplica: a transfer stops the range's writes for an election timeout and its leases for the rest of
// the term, so it is not begun where the leader knows that it can't succeed.
func TestReview2NoTransferToALostReplica(t *testing.T) {
	c, lead := leasedCluster(t)
	c.node(3).crash(true)
	c.tick(20)
	c.ok(testRange, put("x", "2"))
	c.ok(testRange, get("x"))
	if !lead.leased(testRange) {
		t.Fatal("no lease: the test is void")
	}
	op := &locuspb.Operator{RangeId: uint64(testRange), Step: &locuspb.Operator_Transfer{Transfer: &locuspb.TransferLease{StoreId: 3}}}
	if err := c.operate(lead, op); err == nil {
		p := lead.send(testRange, put("x", "3"))
		ticks := 0
		for ; !p.answered() && ticks < 100; ticks++ {
			c.tick(1)
		}
		c.ok(testRange, get("x"))
		c.ok(testRange, get("x"))
		t.Errorf("begun; a write waited for %d ticks, leased afterwards: %v", ticks, lead.leased(testRange))
	}
}

func ts(clock uint64) hlc.Timestamp { return hlc.Timestamp(clock) }
