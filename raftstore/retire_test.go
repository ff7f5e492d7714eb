package raftstore

import (
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
)

// leaving is a range of stores 1, 2 and 3 that moves from 1 to 4 while 3's disk is lost, at the moment at which 1 has applied
// its removal: 2 proposed it and lost the lead, 1 committed it with 2 and 4, and neither of these was told.
func leaving(t *testing.T) *testCluster {
	c := newTestCluster(t, 4)
	c.removeOn(testRange, 4)
	c.tick(2 * askTicks)
	c.addLearner(testRange, 4)
	c.elapse(time.Hour) // so that all replicas can be read as far back as anybody may ask
	c.tick(50)
	c.elect(testRange, 2)
	c.ok(testRange, put("x", "1"))
	c.tellOldest(testRange)
	c.node(3).crash(true)

	n, op := c.operator(testRange)
	d := c.info(testRange, 2).Descriptor
	from, _ := d.On(1)
	to, _ := d.On(4)
	op.Step = &locuspb.Operator_Replace{Replace: &locuspb.ReplaceVoters{Promote: []uint64{uint64(to.ID)}, Remove: []uint64{uint64(from.ID)}}}
	c.must(c.operate(n, op))
	for range 10 {
		c.node(2).replica(testRange).post(raftInput{run: c.node(2).replica(testRange).sendLate})
		c.settle()
	}
	for _, id := range []ids.StoreID{1, 2, 4} {
		if !c.info(testRange, id).Descriptor.Joint() {
			t.Fatalf("store %s is not in the joint configuration", id)
		}
	}
	c.lose = func(l letter) bool { return l.to == 2 } // what 2 proposes now, the end of it, is appended, and 2 does not hear of that
	c.tick(1, 2)
	c.lose = func(l letter) bool {
		if l.from != 1 || l.to == 3 || len(l.env.Message) == 0 {
			return false
		}
		m, err := decodeMessage(l.env.Message)
		c.must(err)
		return m.GetType() == raftpb.MsgHeartbeat || ids.Index(m.GetCommit()) > c.info(testRange, l.to).Applied
	}
	c.campaign(testRange, 1)
	c.settle()
	c.lose = nil
	if r := c.node(1).replica(testRange); r != nil && !r.retired(r.snapshot().desc) {
		t.Fatalf("store 1 has not applied its removal: %+v", c.info(testRange, 1))
	}
	for _, id := range []ids.StoreID{2, 4} {
		if !c.info(testRange, id).Descriptor.Joint() {
			t.Fatalf("store %s knows that the joint configuration is over: the test has lost its point", id)
		}
	}
	return c
}

// TestRemovedReplicasStayWhileTheyAreNeeded: two of the old configuration's three replicas are the removed one and one that
// does not know; without the removed one's vote nobody would ever lead. It goes once the others know for good.
func TestRemovedReplicasStayWhileTheyAreNeeded(t *testing.T) {
	c := leaving(t)
	c.awaitLead(testRange)
	c.ok(testRange, put("x", "2"))
	for range 100 {
		if c.node(1).replica(testRange) == nil {
			break
		}
		c.tick(1)
	}
	if c.node(1).replica(testRange) != nil {
		t.Fatal("the removed replica stays for ever")
	}
	if v := c.ok(testRange, get("x")).value(); v != "2" {
		t.Fatalf("x=%q", v)
	}
	c.healthy()
}

// TestNobodySendsAwayWhoIsNeeded: those that know of a removal which is not settled don't end a replica that asks.
func TestNobodySendsAwayWhoIsNeeded(t *testing.T) {
	c := newTestCluster(t, 3)
	c.cut(3)
	c.removeOn(testRange, 3)
	lead := c.leaseholder(testRange)
	if lead.replica(testRange).snapshot().change.settled {
		t.Fatal("a removal is settled with the entry that makes it")
	}
	c.heal()
	lead.exec.hold(true, QueueEval) // no entry follows
	three, to := c.info(testRange, 3), c.info(testRange, lead.id)
	lead.asked(&locuspb.RaftEnvelope{
		RangeId: uint64(testRange), FromReplica: uint64(three.Replica), ToReplica: uint64(to.Replica),
		FromStore: 3, ToStore: uint64(lead.id), ConfEpoch: three.Descriptor.Epoch.Conf, Asks: true,
	})
	c.settle()
	if r := c.node(3).replica(testRange); r == nil || r.snapshot().gone {
		t.Fatal("gone before the removal was settled")
	}
	lead.exec.hold(false, QueueEval)
	c.settle()
	if !lead.replica(testRange).snapshot().change.settled {
		t.Fatal("nobody settles the removal")
	}
	if c.node(3).replica(testRange) != nil {
		t.Fatal("who asked is not told when it may go")
	}
}

// TestSettledIsKnownAfterAStart: an idle range says after a start, too, who may go: nothing else would ever tell, as nobody
// writes to it.
func TestSettledIsKnownAfterAStart(t *testing.T) {
	c := newTestCluster(t, 3)
	c.cut(3)
	c.removeOn(testRange, 3)
	c.tick(50) // it closes its present, and is idle
	for _, id := range []ids.StoreID{1, 2} {
		c.node(id).takeCheckpoint() // nothing is applied again
		c.node(id).crash(true)
		c.node(id).start()
	}
	c.awaitLead(testRange)
	lead := c.leaseholder(testRange).replica(testRange)
	if st := lead.snapshot(); !st.change.settled {
		t.Fatalf("whether the removal is settled was forgotten: %+v", st.applied)
	}
	before := lead.snapshot().applied.Count
	c.heal()
	c.tick(60)
	if c.node(3).replica(testRange) != nil {
		t.Fatal("the removed replica is not told")
	}
	if n := lead.snapshot().applied.Count; n > before+1 {
		t.Fatalf("%d entries were made for it", n-before)
	}
}

// TestSettledIsNotTakenFromBefore: a snapshot up to a replica change settles nothing, whatever the replica knew before.
func TestSettledIsNotTakenFromBefore(t *testing.T) {
	for closed, want := range map[hlc.Timestamp]bool{9: false, 10: true} {
		if got := changeBehind(appliedState{TS: 10, Closed: closed}).settled; got != want {
			t.Errorf("closed %d of 10: settled %v", closed, got)
		}
	}
	c := newTestCluster(t, 4)
	c.removeOn(testRange, 4)
	c.tick(30)
	c.addLearner(testRange, 4) // by a snapshot behind which there is the change, or with it in the log
	r := c.node(4).replica(testRange)
	if st := r.snapshot(); st.change.settled && st.applied.Closed < st.applied.TS {
		t.Fatal("settled by a replica change")
	}
}
