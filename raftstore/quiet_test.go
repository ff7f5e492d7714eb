package raftstore

import (
	"crypto/rand"
	"fmt"
	"testing"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
)

// quietCluster is three stores whose ranges are all quiet.
func quietCluster(t *testing.T) *testCluster {
	t.Helper()
	c := newTestCluster(t, 3)
	c.ok(testRange, put("x", "1"))
	c.awaitQuiet(60)
	return c
}

func (n *testNode) quiet(id ids.RangeID) bool {
	r := n.replica(id)
	return r != nil && r.raft.quiet
}

func (c *testCluster) allQuiet() bool {
	for _, n := range c.nodes {
		if n.Store == nil {
			continue
		}
		for _, r := range n.allReplicas() {
			if !r.raft.quiet {
				return false
			}
		}
	}
	return true
}

func (c *testCluster) awaitQuiet(ticks int) {
	c.t.Helper()
	for range ticks {
		if c.allQuiet() {
			return
		}
		c.tick(1)
	}
	c.t.Fatalf("not quiet after %d ticks", ticks)
}

// count makes the cluster count the letters of ranges, and those of stores alone.
func (c *testCluster) count() (ofRanges, ofStores *int) {
	ofRanges, ofStores = new(int), new(int)
	c.lose = func(l letter) bool {
		if l.env.RangeId == 0 {
			*ofStores++
		} else {
			*ofRanges++
		}
		return false
	}
	return ofRanges, ofStores
}

// An idle range costs no ticks and no messages; its store says that it lives, once for all of its ranges.
func TestQuietRangesCostNothing(t *testing.T) {
	c := quietCluster(t)
	for i := range 20 {
		c.split(testRange, fmt.Sprintf("s%02d", 20-i), ids.RangeID(100+i))
	}
	c.awaitQuiet(200)
	ranges, stores := c.count()
	c.tick(100)
	// Two followers of one range may have their turn to look after it: two questions, one answer, and the answer to that.
	if looks := 2 * 4; !c.allQuiet() || *ranges > looks {
		t.Fatalf("%d messages of idle ranges in 100 ticks, at most %d are due; still quiet: %v", *ranges, looks, c.allQuiet())
	}
	// Signs of life, and questions after the clock with their answers.
	if limit := 2 * 3 * (25 + 2*10); *stores == 0 || *stores > limit {
		t.Fatalf("%d letters of stores in 100 ticks, at most %d are due", *stores, limit)
	}
	if awake := c.node(1).rest(); len(awake) != 0 {
		t.Fatalf("%d replicas tick", len(awake))
	}
}

// A quiet range wakes for a write, and everywhere.
func TestAQuietRangeWakesForAWrite(t *testing.T) {
	c := quietCluster(t)
	c.must(c.do(c.leaseholder(testRange), testRange, put("x", "2")).err())
	c.tick(3)
	for _, n := range c.nodes {
		if n.quiet(testRange) {
			t.Errorf("store %s sleeps on", n.id)
		}
	}
	c.equal(testRange)
	c.awaitQuiet(60)
}

// Rule D3: a quiet leader has no lease. Its followers may have a new leader that it has not heard of.
func TestD3AQuietLeaderHasNoLease(t *testing.T) {
	c := newTestCluster(t, 3)
	c.ok(testRange, put("x", "1"))
	for !c.allQuiet() {
		c.tick(1)
	}
	lead := c.leaseholder(testRange)
	if lead.leased(testRange) {
		t.Fatal("a quiet leader keeps its lease")
	}
	c.cut(lead.id)
	c.tick(40)
	next := c.leaseholder(testRange)
	if next == lead {
		t.Fatal("nobody is elected")
	}
	c.must(c.do(next, testRange, put("x", "2")).err())
	p := lead.send(testRange, get("x"))
	c.settle()
	if p.answered() && p.err() == nil {
		t.Fatalf("I8: a leader that slept read %q", p.value())
	}
	c.heal()
	c.tick(20)
	if v := c.ok(testRange, get("x")).value(); v != "2" {
		t.Fatal(v)
	}
}

// A quiet leader that is cut off from its followers finds out when it is asked for something.
func TestAQuietLeaderThatIsCutOffStepsDown(t *testing.T) {
	for what, req := range map[string]*locuspb.Request{"read": get("x"), "write": put("x", "2")} {
		t.Run(what, func(t *testing.T) {
			c := quietCluster(t)
			lead := c.leaseholder(testRange)
			c.cut(lead.id)
			p := lead.send(testRange, req)
			c.tick(3*lead.opts.ElectionTicks, lead.id)
			if !p.answered() || p.err() == nil {
				t.Fatalf("answered %v: %v", p.answered(), p.resp)
			}
		})
	}
}

// Those who lose a leader in their sleep do not wait for another election timeout: they have waited for one already.
func TestQuietRangesElectAtOnce(t *testing.T) {
	c := quietCluster(t)
	c.leaseholder(testRange).crash(true)
	c.tick(c.node(2).opts.ElectionTicks + c.node(2).opts.HeartbeatTicks + 3)
	for _, n := range c.nodes[1:] {
		if i, ok := n.Range(testRange); ok && i.Leaseholder {
			return
		}
	}
	t.Fatal("no leader yet")
}

// longest is a source of chance by which the Raft library waits for as long as it ever does before it campaigns: it draws the
// ticks beyond an election timeout from rand.Reader, as a number of four bits below the 10 of Options.ElectionTicks.
type longest struct{}

func (longest) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 9
	}
	return len(b), nil
}

// Nor do those who are awake: when a whole store falls silent the first of the others campaigns as soon as it may, so
// that a failover takes one election timeout and not up to two. Chance has no part in it: two that chance lets campaign in
// one tick, before a store is known to be silent, share the votes and wait again.
func TestALostStoreIsReplacedAtOnce(t *testing.T) {
	chance := rand.Reader
	t.Cleanup(func() { rand.Reader = chance })
	rand.Reader = longest{}
	c := newTestCluster(t, 3)
	c.ok(testRange, put("x", "1"))
	c.tick(2)
	lost := c.leaseholder(testRange)
	term := c.info(testRange, lost.id).Term
	lost.crash(true)
	c.tick(c.node(2).opts.ElectionTicks - 1)
	if i, _ := c.node(2).Range(testRange); i.Term != term {
		t.Fatalf("term %d before the timeout, after %d", i.Term, term)
	}
	c.tick(5)
	if i, j := c.info(testRange, 2), c.info(testRange, 3); !i.Leaseholder && !j.Leaseholder {
		t.Fatalf("no leader after the timeout: %+v", i)
	}
	c.healthy()
}

// The loss of a store wakes the ranges that it led, some at a time, and they elect another leader.
func TestQuietRangesNoticeALostStore(t *testing.T) {
	c := newTestCluster(t, 3)
	n := 2*maxWakes + 10
	for i := range n {
		c.split(testRange, fmt.Sprintf("s%04d", n-i), ids.RangeID(100+i))
	}
	c.awaitQuiet(600)
	lost := c.node(1)
	lost.crash(true)
	c.tick(lost.tuned().ElectionTicks - 2*lost.tuned().HeartbeatTicks) // its last sign of life may be as old as they are apart
	for _, m := range c.nodes[1:] {
		if !m.quiet(testRange) {
			t.Fatalf("store %s wakes before an election timeout has passed", m.id)
		}
	}
	before := 0
	for range 15 {
		c.tick(1)
		awake := 0
		for _, r := range c.node(2).allReplicas() {
			if !r.raft.quiet {
				awake++
			}
		}
		if awake-before > maxWakes {
			t.Fatalf("%d replicas woke in one tick", awake-before)
		}
		before = awake
	}
	c.tick(15)
	for _, r := range c.node(2).allReplicas() {
		c.awaitLead(r.id)
	}
	c.must(c.do(c.leaseholder(testRange), testRange, put("a", "2")).err())
	c.healthy()
}

// tuned are the options that a store of this test has, also while it is down.
func (n *testNode) tuned() *Options {
	o := &Options{}
	if n.tune != nil {
		n.tune(o)
	}
	o.setDefaults()
	return o
}

// A store that restarts vouches for nobody of before: its ranges wake though signs of life go on.
func TestQuietRangesNoticeARestart(t *testing.T) {
	c := quietCluster(t)
	n := c.leaseholder(testRange)
	n.crash(true)
	n.start()
	c.settle()
	n.Store.opts.Transport.Send(2, signsOfLife(n, 2))
	c.settle()
	c.tick(1)
	if c.node(2).quiet(testRange) {
		t.Fatal("a follower trusts a process that knows nothing of its range")
	}
	c.tick(30)
	c.must(c.do(c.leaseholder(testRange), testRange, put("x", "2")).err())
	c.awaitQuiet(60)
}

// A follower that misses the last heartbeat comes to rest with the others in the end.
func TestALostLastHeartbeatDoesNoHarm(t *testing.T) {
	c := newTestCluster(t, 3)
	c.ok(testRange, put("x", "1"))
	lost := 0
	c.lose = func(l letter) bool {
		if l.env.Quiet && l.to == 3 && lost == 0 {
			lost++
			return true
		}
		return false
	}
	for range 300 {
		c.tick(1)
		if lost > 0 && c.allQuiet() {
			break
		}
	}
	if lost == 0 || !c.allQuiet() {
		t.Fatalf("lost %d, quiet %v", lost, c.allQuiet())
	}
	c.must(c.do(c.leaseholder(testRange), testRange, put("x", "2")).err())
	c.equal(testRange)
}

// A range with a lost replica stays awake, so that the replica finds a leader when it returns.
func TestARangeWithALostReplicaStaysAwake(t *testing.T) {
	c := newTestCluster(t, 3)
	lead := c.leaseholder(testRange)
	down := c.node(3)
	down.crash(true)
	c.ok(testRange, put("x", "1"))
	c.tick(100)
	if lead.quiet(testRange) {
		t.Fatal("quiet without one of its replicas")
	}
	down.start()
	c.tick(5)
	c.equal(testRange)
	c.awaitQuiet(100)
}

func signsOfLife(n *testNode, to ids.StoreID) []*locuspb.RaftEnvelope {
	return []*locuspb.RaftEnvelope{{FromStore: uint64(n.id), ToStore: uint64(to), Incarnation: n.incarnation}}
}

// A quiet follower that looks after its range (lookAfterTicks) finds its leader, and does not take its place, which it
// would if it waited for a heartbeat, as a quiet leader sends none.
func TestALookCostsNoElection(t *testing.T) {
	c := quietCluster(t)
	leader := c.leaseholder(testRange).id
	elections := func() (sum uint64) {
		for _, n := range c.nodes {
			if n.Store != nil {
				sum += n.Collect().Elections
			}
		}
		return sum
	}
	before := elections()
	looks := 0
	c.lose = func(l letter) bool {
		if l.env.Asks {
			looks++
		}
		return false
	}
	for range lookAfterTicks + lookTicks {
		c.tick(1)
		if !c.allQuiet() {
			t.Fatal("a look woke the range")
		}
	}
	if looks == 0 {
		t.Fatal("nobody looked")
	}
	if after := elections(); after != before || c.leaseholder(testRange).id != leader {
		t.Fatalf("%d elections of idle ranges in %d ticks; store %s led, and now %s", after-before, lookAfterTicks+lookTicks, leader, c.leaseholder(testRange).id)
	}
}
