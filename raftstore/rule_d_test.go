package raftstore

import (
	"testing"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
)

// Rule D1: bounds are taken with the sequence, after all waiting: a read that was confirmed before a split must not
// answer for keys that are the child's by now.
func TestD1BoundsAreTakenAfterTheWait(t *testing.T) {
	c := newTestCluster(t, 3)
	c.ok(testRange, put("z", "old"))
	lead := c.leaseholder(testRange)
	lead.exec.hold(true, QueueRead)
	g := lead.send(testRange, get("z"))
	s := lead.send(testRange, scan("a", "zz"))
	c.settle() // confirmed; only the reading itself is left
	c.split(testRange, "m", 100)
	c.ok(100, put("z", "new"))
	lead.exec.hold(false, QueueRead)
	c.settle()
	for what, p := range map[string]*pending{"get": g, "scan": s} {
		e := want[*api.EpochMismatchError](t, what, p.err())
		if len(e.Routes) != 2 {
			t.Fatalf("%s: routes %v", what, e.Routes)
		}
	}
}

// Rule D1: a read reads at one sequence. An entry that writes two keys is applied between the two steps of a view.
func TestD1AViewStaysAtItsSequence(t *testing.T) {
	c := newTestCluster(t, 1)
	n := c.node(1)
	two := func(v string) *locuspb.Request {
		r := put("a", v)
		r.GetWrite().Mutations = append(r.GetWrite().Mutations, &locuspb.Mutation{Key: key("b"), Value: []byte(v)})
		return r
	}
	c.ok(testRange, two("1"))
	var v View
	n.OpenView(testRange, 1, 0, func(view View, err error) { c.must(err); v = view })
	c.settle()
	a, _, err := v.Get(key("a"))
	c.must(err)
	c.ok(testRange, two("2"))
	c.ok(testRange, put("c", "2"))
	b, _, err := v.Get(key("b"))
	c.must(err)
	if string(a) != "1" || string(b) != "1" {
		t.Fatalf("a=%s b=%s", a, b)
	}
	if _, found, err := v.Get(key("c")); found || err != nil {
		t.Fatalf("the view sees what came after it (%v)", err)
	}
	v.Close()
}

// Rule D1: an entry in the engine that is not published yet is seen by nobody.
func TestD1ReadsSeeWhatIsPublished(t *testing.T) {
	c := newTestCluster(t, 1)
	n := c.node(1)
	c.ok(testRange, put("x", "1"))
	n.exec.hold(true, QueueApply)
	w := n.send(testRange, put("x", "2"))
	c.settle()
	before := n.eng.MaxSeq()
	n.applier.queue.(*stepQueue).step()
	if n.eng.MaxSeq() != before+1 || w.answered() {
		t.Fatal("the entry should be in the engine and not yet be published")
	}
	r := get("x")
	r.Consistency = &locuspb.Consistency{Level: locuspb.ConsistencyLevel_EVENTUAL}
	p := c.do(n, testRange, r)
	if p.value() != "1" {
		t.Fatalf("read %q, which nobody may see yet", p.value())
	}
	n.exec.hold(false, QueueApply)
	c.settle()
	if v := c.ok(testRange, get("x")).value(); v != "2" {
		t.Fatal(v)
	}
}

// P1, without leases: a deposed leader answers no linearizable read, and a new one none before it has applied an entry
// of its own term.
func TestDeposedLeadersAnswerNoRead(t *testing.T) {
	c := newTestCluster(t, 3)
	c.ok(testRange, put("x", "1"))
	old, next := c.leaseholder(testRange), c.node(2)
	c.cut(old.id)
	next.exec.hold(true, QueueApply)
	c.campaign(testRange, next.id)
	c.settle()
	early := next.send(testRange, get("x"))
	c.settle()
	if !next.replica(testRange).snapshot().isLeader || early.answered() {
		t.Fatalf("leader %v, answered before its term's first entry: %v", next.replica(testRange).snapshot().isLeader, early.resp)
	}
	next.exec.hold(false, QueueApply)
	c.settle()
	c.must(early.err())
	c.must(c.do(next, testRange, put("x", "2")).err())
	stale := old.send(testRange, get("x"))
	c.tick(3, old.id)
	if stale.answered() && stale.err() == nil {
		t.Fatalf("the deposed leader read %q", stale.value())
	}
	c.heal()
	c.tick(12)
	want[*api.NotLeaseholderError](t, "the deposed leader", stale.err())
}

// Rule D2: N1 leads and lags in applying the split; N2 and N3 have applied it, elect N2 for the child and acknowledge a
// write; a client with an old route reads at N1.
func TestD2NoReadBetweenSplitAndApply(t *testing.T) {
	c := newTestCluster(t, 3)
	c.ok(testRange, put("z", "old"))
	lead := c.leaseholder(testRange)
	split := c.beginSplit(testRange, "m", 100)
	lead.exec.hold(true, QueueApply)
	c.settle()
	c.tick(2) // followers hear of the commit
	for _, id := range []ids.StoreID{2, 3} {
		if _, ok := c.node(id).Range(100); !ok {
			t.Fatalf("store %s has not applied the split", id)
		}
	}
	c.elect(100, 2)
	w := c.do(c.node(2), 100, put("z", "new"))
	c.must(w.err())
	for _, level := range []locuspb.ConsistencyLevel{locuspb.ConsistencyLevel_LINEARIZABLE, locuspb.ConsistencyLevel_EVENTUAL} {
		r := get("z")
		r.Consistency = &locuspb.Consistency{Level: level}
		p := lead.send(testRange, r)
		c.settle()
		if p.answered() && p.err() == nil {
			t.Fatalf("%s: N1 answered %q for what is the child's", level, p.value())
		}
	}
	lead.exec.hold(false, QueueApply)
	c.settle()
	c.must(*split)
	p := c.do(lead, testRange, get("z"))
	want[*api.EpochMismatchError](t, "after the split", p.err())
	c.healthy()
}

// Rule D2, its end: a split that never came to be leaves the range readable, on the new leader, and on the old one when
// it leads again or only follows.
func TestD2AFrozenRangeThaws(t *testing.T) {
	c := newTestCluster(t, 3)
	c.ok(testRange, put("z", "1"))
	old := c.leaseholder(testRange)
	c.cut(old.id)
	split := c.beginSplit(testRange, "m", 100)
	c.settle()
	if !old.replica(testRange).snapshot().frozen {
		t.Fatal("not frozen")
	}
	c.elect(testRange, 2)
	c.heal()
	c.tick(3)
	if *split == nil {
		t.Fatal("the split was reported done")
	}
	if v := c.ok(testRange, get("z")).value(); v != "1" {
		t.Fatal(v)
	}
	r := get("z")
	r.Consistency = &locuspb.Consistency{Level: locuspb.ConsistencyLevel_EVENTUAL}
	if p := c.do(old, testRange, r); p.err() != nil || p.value() != "1" {
		t.Fatalf("the old leader, a follower now: %q, %v", p.value(), p.err())
	}
	c.elect(testRange, old.id)
	if v := c.ok(testRange, get("z")).value(); v != "1" {
		t.Fatal(v)
	}
	c.split(testRange, "m", 101)
	c.healthy()
}
