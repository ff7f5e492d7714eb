package raftstore

import (
	"testing"
	"time"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
)

// Rule D3 and Invariant I8. In these tests all clocks stand still until they are moved, and every store has its own.

// leasedCluster is three stores of which the first leads and holds a lease until its clock says one lease length from
// now. Its followers heard the question that renewed it at the same moment.
func leasedCluster(t *testing.T, tune ...func(*Options)) (*testCluster, *testNode) {
	t.Helper()
	c := newTestCluster(t, 3, tune...)
	c.elapse(testTimeout) // what came before plays no part
	c.ok(testRange, put("x", "1"))
	lead := c.leaseholder(testRange)
	if lead.id != 1 {
		t.Fatalf("store %s leads", lead.id)
	}
	c.ok(testRange, get("x")) // a round
	return c, lead
}

func (n *testNode) leased(id ids.RangeID) bool {
	s := n.replica(id).snapshot()
	return s.leased(n.mono)
}

// depose lets the other stores' ticks come, as many as they need to elect one of them; no time passes.
func (c *testCluster) depose(lead *testNode) *testNode {
	c.t.Helper()
	for range 100 {
		for _, n := range c.nodes {
			if n != lead {
				n.Tick()
			}
		}
		c.settle()
		if n := c.leaseholder(testRange); n != lead {
			return n
		}
	}
	c.t.Fatal("nobody is elected")
	return nil
}

// A lease answers without a message, for as long as it lasts and no longer, and is renewed while it is used.
func TestD3ALeaseAnswersAlone(t *testing.T) {
	c, lead := leasedCluster(t)
	rounds := lead.Collect().ReadRounds
	c.cut(lead.id)
	c.elapse(lead.opts.leaseLength() - 1)
	if v := c.ok(testRange, get("x")).value(); v != "1" {
		t.Fatal(v)
	}
	if m := lead.Collect(); m.ReadRounds != rounds || m.LeaseReads == 0 {
		t.Fatalf("%d rounds, %d reads by lease", m.ReadRounds-rounds, m.LeaseReads)
	}
	c.elapse(1)
	p := lead.send(testRange, get("x"))
	c.settle()
	if p.answered() {
		t.Fatal("answered after the lease's end")
	}
	c.settle()
	c.heal()
	c.tick(5, lead.id) // its followers would look for another leader by now
	if !lead.leased(testRange) {
		t.Fatal("the answer of a round is a lease")
	}

	// Used, it is renewed when half of it is gone; unused, never.
	rounds = lead.Collect().ReadRounds
	c.tick(20)
	if n := lead.Collect().ReadRounds; n != rounds || lead.leased(testRange) {
		t.Fatalf("an unused lease was renewed %d times", n-rounds)
	}
	c.ok(testRange, get("x"))
	rounds = lead.Collect().ReadRounds
	for range 30 {
		if !lead.leased(testRange) {
			t.Fatal("a lease in use has run out")
		}
		c.ok(testRange, get("x"))
		c.tick(1)
	}
	if n := lead.Collect().ReadRounds - rounds; n < 5 || n > 10 {
		t.Fatalf("%d rounds in three seconds", n)
	}
}

// The lease counts from the question. Its answer takes most of an election timeout; the followers' promise began when they
// were asked, so a lease that counted from the answer would outlive it.
func TestD3TheLeaseCountsFromTheQuestion(t *testing.T) {
	c, lead := leasedCluster(t)
	c.elapse(testTimeout)
	read := lead.send(testRange, get("x"))
	c.run()
	c.carry(1, 2)
	c.carry(1, 3)
	c.run() // the followers have answered; the answers are under way
	c.elapse(testTimeout * 8 / 10)
	c.settle()
	c.must(read.err())
	c.cut(lead.id)
	c.elapse(testTimeout * 2 / 10)
	next := c.depose(lead)
	c.must(c.do(next, testRange, put("x", "2")).err())
	p := lead.send(testRange, get("x"))
	c.settle()
	if p.answered() && p.err() == nil {
		t.Fatalf("I8: read %q by lease after store %s was elected", p.value(), next.id)
	}
}

// A follower keeps its promise by its clock: it gives no vote and no pre-vote, and does not campaign by any number of
// ticks, before an election timeout has passed since it heard its leader.
func TestD3FollowersAreBoundByTime(t *testing.T) {
	c, lead := leasedCluster(t)
	c.cut(lead.id)
	burst := func() { // ticks that have waited in a queue, and come all at once
		for range 100 {
			c.node(2).Tick()
			c.node(3).Tick()
			c.settle()
		}
	}
	burst()
	c.elapse(testTimeout - 1)
	burst()
	for _, n := range c.nodes[1:] {
		if s := n.replica(testRange).snapshot(); s.isLeader || s.term != lead.replica(testRange).snapshot().term {
			t.Fatalf("I8: store %s leads: %v, term %d, while the lease of store 1 may last", n.id, s.isLeader, s.term)
		}
	}
	c.elapse(1)
	burst()
	if c.leaseholder(testRange).id == lead.id {
		t.Fatal("nobody is elected after the timeout")
	}
	c.healthy()
}

// One follower that is not bound, because it did not hear the question, is not helped by the one that did.
func TestD3ABoundFollowerGivesNoVote(t *testing.T) {
	c, lead := leasedCluster(t)
	c.elapse(testTimeout)
	c.drop[[2]ids.StoreID{1, 3}] = true
	c.ok(testRange, get("x")) // store 2 answers
	c.cut(lead.id)
	for range 100 {
		c.node(3).Tick()
		c.settle()
	}
	if c.leaseholder(testRange).id != lead.id {
		t.Fatal("I8: elected by a follower that has promised not to")
	}
	if v := c.ok(testRange, get("x")).value(); v != "1" {
		t.Fatal(v)
	}
}

// A store that restarts has forgotten what it promised, and keeps still for as long as it could have promised.
func TestD3ARestartedFollowerIsBound(t *testing.T) {
	c, lead := leasedCluster(t)
	c.elapse(testTimeout)
	c.drop[[2]ids.StoreID{1, 3}] = true
	c.ok(testRange, get("x")) // store 2 answers
	c.cut(lead.id)
	n := c.node(2)
	n.crash(true)
	n.start()
	c.settle()
	for range 100 {
		c.node(3).Tick()
		c.node(2).Tick()
		c.settle()
	}
	if c.leaseholder(testRange).id != lead.id {
		t.Fatal("I8: elected by a follower that forgot its promise")
	}
	c.elapse(testTimeout)
	for range 100 {
		c.node(3).Tick()
		c.node(2).Tick()
		c.settle()
	}
	if c.leaseholder(testRange).id == lead.id {
		t.Fatal("nobody is elected after the timeout")
	}
}

// From the beginning of a transfer there is no lease for the rest of the term: followers follow its message whenever it
// comes, also when the leader has given the transfer up.
func TestD3NoLeaseAfterATransferBegan(t *testing.T) {
	c, lead := leasedCluster(t)
	var late []letter
	c.lose = func(l letter) bool {
		if l.snap == nil && l.to == 2 && messageType(t, l) == "MsgTimeoutNow" {
			late = append(late, l)
			return true
		}
		return false
	}
	op := &locuspb.Operator{RangeId: uint64(testRange), Step: &locuspb.Operator_Transfer{Transfer: &locuspb.TransferLease{StoreId: 2}}}
	lead.RunOperator(op, func(error) {})
	c.settle()
	if len(late) == 0 || lead.leased(testRange) {
		t.Fatalf("%d messages of the transfer; still leased: %v", len(late), lead.leased(testRange))
	}
	c.tick(15) // the transfer is given up
	c.must(c.do(lead, testRange, put("x", "2")).err())
	c.ok(testRange, get("x"))
	c.ok(testRange, get("x"))
	if lead.leased(testRange) {
		t.Fatal("the term has a lease again")
	}
	c.lose = nil
	c.deliver(late[0])
	c.cut(lead.id)
	c.settle()
	if c.leaseholder(testRange).id != 2 {
		t.Fatal("the late message elects nobody: the test is void")
	}
	c.must(c.do(c.node(2), testRange, put("x", "3")).err())
	p := lead.send(testRange, get("x"))
	c.settle()
	if p.answered() && p.err() == nil {
		t.Fatalf("I8: read %q", p.value())
	}
	c.heal()
	c.tick(3)
	c.ok(testRange, get("x"))
	if !c.node(2).leased(testRange) {
		t.Fatal("the new term has no lease")
	}
}

// Whoever leaves leadership has no lease in that very step, whatever its clock says.
func TestD3LeadershipTakesTheLeaseWithIt(t *testing.T) {
	c, lead := leasedCluster(t)
	lead.mono -= testTimeout // a clock that is wrong, so that only the step can end the lease
	c.ok(testRange, get("x"))
	if !lead.leased(testRange) {
		t.Fatal("no lease")
	}
	c.elect(testRange, 2)
	if s := lead.replica(testRange).snapshot(); s.leaseUntil != 0 {
		t.Fatalf("a follower's lease lasts until %s", s.leaseUntil)
	}
}

// Rule D2 under a lease: while a split is proposed and not applied the lease answers nothing.
func TestD2NoReadByLeaseBetweenSplitAndApply(t *testing.T) {
	c, lead := leasedCluster(t)
	c.ok(testRange, put("z", "old"))
	c.ok(testRange, get("z"))
	c.beginSplit(testRange, "m", 100)
	lead.exec.hold(true, QueueApply)
	c.settle()
	c.tick(2) // followers hear of the commit, and apply it
	c.elect(100, 2)
	c.must(c.do(c.node(2), 100, put("z", "new")).err())
	lead.mono -= testTimeout
	if lead.replica(testRange).snapshot().leaseUntil <= lead.mono {
		t.Fatal("no lease: the test is void")
	}
	at := lead.send(testRange, get("z"))
	c.settle()
	// Confirmed by its lease before, this one would take its sequence when this store leads no more and follows only.
	lead.exec.hold(true, QueueRead)
	later := lead.send(testRange, get("z"))
	c.elect(testRange, 2)
	lead.exec.hold(false, QueueRead)
	c.settle()
	for what, p := range map[string]*pending{"at once": at, "later": later} {
		if p.answered() && p.err() == nil {
			t.Fatalf("%s: read %q by lease for what is the child's", what, p.value())
		}
	}
	lead.exec.hold(false, QueueApply)
	c.settle()
	c.healthy()
}

// Somebody who has seen a write on a follower that the leaseholder has committed and not applied sees it there too.
func TestALeaseWaitsForWhatItsReaderHasSeen(t *testing.T) {
	c, lead := leasedCluster(t)
	c.ok(testRange, put("x", "old"))
	c.ok(testRange, get("x"))
	lead.exec.hold(true, QueueApply)
	w := lead.send(testRange, put("x", "new"))
	c.settle()
	c.tick(2)
	if w.answered() {
		t.Fatal("acknowledged before it was applied")
	}
	r := get("x")
	r.Consistency = &locuspb.Consistency{Level: locuspb.ConsistencyLevel_EVENTUAL}
	seen := c.do(c.node(2), testRange, r)
	if seen.value() != "new" {
		t.Fatalf("the follower has %q", seen.value())
	}
	if v := c.ok(testRange, get("x")).value(); v != "old" {
		t.Fatalf("a stranger reads %q", v)
	}
	again := get("x")
	again.Token = uint64(seen.ts())
	p := lead.send(testRange, again)
	c.settle()
	if p.answered() {
		t.Fatalf("answered %q", p.value())
	}
	lead.exec.hold(false, QueueApply)
	c.settle()
	if p.value() != "new" {
		t.Fatalf("read %q after having seen %q", p.value(), "new")
	}
}

// With reads by index clocks play no part.
func TestReadsByIndexTakeNoLease(t *testing.T) {
	c, lead := leasedCluster(t, func(o *Options) { o.Reads = ReadIndex })
	before := lead.Collect()
	for range 3 {
		c.ok(testRange, get("x"))
	}
	after := lead.Collect()
	if after.ReadRounds != before.ReadRounds+3 || after.LeaseReads != 0 || lead.leased(testRange) {
		t.Fatalf("%d rounds, %d by lease", after.ReadRounds-before.ReadRounds, after.LeaseReads)
	}
}

// The shorter lease makes up for clocks that run at different rates, up to the stated drift.
func TestD3TheLeaseIsShorterThanThePromise(t *testing.T) {
	o := Options{}
	o.setDefaults()
	fast := time.Duration(float64(o.electionTimeout()) / (1 + o.MaxClockDrift)) // the promise, by a clock at the leader's rate
	if o.leaseLength() >= fast {
		t.Fatalf("a lease of %s, a promise of %s by the fastest clock", o.leaseLength(), fast)
	}
}
