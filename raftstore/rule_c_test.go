package raftstore

import (
	"fmt"
	"testing"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
)

// Rule C1: the leader's clock is ahead, its successor's behind: timestamps go on above all that the log holds, and
// above what was closed.
func TestC1ANewLeaderBeginsAboveTheLog(t *testing.T) {
	c := newTestCluster(t, 3)
	first, second := c.leaseholder(testRange), c.node(2)
	first.wall = first.wall.Add(400 * time.Millisecond)
	w := c.ok(testRange, put("x", "1"))
	// Close a T above the newest write.
	closed := first.clock.Now()
	c.must(c.do(first, testRange, getAt("x", closed)).err())
	if w.ts().Millis() <= second.clock.Wall().Millis() {
		t.Fatal("the clocks do not differ")
	}
	c.elect(testRange, second.id)
	next := c.ok(testRange, put("x", "2"))
	if next.ts() <= w.ts() || next.ts() <= closed {
		t.Fatalf("the next leader wrote at %s, after a write at %s and %s closed", next.ts(), w.ts(), closed)
	}
	// The read at the closed timestamp gives for ever what it gave.
	if v := c.ok(testRange, getAt("x", closed)).value(); v != "1" {
		t.Fatalf("at the closed timestamp x=%q", v)
	}
	c.healthy()
}

// Rule C1: a split closes its own timestamp, and the child begins above it, on every replica: the child's leader has a
// clock behind the parent's, and would write below what the parent wrote.
func TestC1AChildBeginsAboveItsParent(t *testing.T) {
	c := newTestCluster(t, 3)
	lead := c.leaseholder(testRange)
	lead.wall = lead.wall.Add(400 * time.Millisecond)
	w := c.ok(testRange, put("z", "1"))
	c.split(testRange, "m", 100)
	for _, n := range c.nodes {
		r := n.replica(100)
		parent := n.replica(testRange)
		if r.snapshot().applied.Closed < w.ts() || r.snapshot().applied.TS < w.ts() {
			t.Fatalf("store %s: the child begins at %+v after a write at %s", n.id, r.snapshot().applied, w.ts())
		}
		if parent.snapshot().applied.Closed < parent.snapshot().applied.TS {
			t.Fatalf("store %s: the split closed %s, not its own %s", n.id, parent.snapshot().applied.Closed, parent.snapshot().applied.TS)
		}
	}
	c.elect(100, 2)
	next := c.ok(100, put("z", "2"))
	if next.ts() <= w.ts() {
		t.Fatalf("the child wrote at %s, the parent at %s", next.ts(), w.ts())
	}
	c.healthy()
}

// Rule C1: what an entry closes is closed: a T above the leaseholder's clock is refused, and a requested T never gets
// into an entry at or below it.
func TestC1ClosingIsBoundedByTheClock(t *testing.T) {
	c := newTestCluster(t, 1)
	n := c.node(1)
	c.ok(testRange, put("x", "1"))
	future := n.clock.Now().Add(300 * time.Millisecond) // within the clock offset
	p := c.do(n, testRange, getAt("x", future))
	want[*api.ClockOffsetError](t, "a T above the leaseholder's clock", p.err())
	// A write and a request to close the present meet in one batch.
	now := n.clock.Now()
	n.exec.hold(true, QueueEval)
	r := n.send(testRange, getAt("x", now))
	w := n.send(testRange, put("x", "2"))
	n.exec.hold(false, QueueEval)
	c.settle()
	c.must(r.err())
	c.must(w.err())
	if w.ts() <= now || r.value() != "1" {
		t.Fatalf("closed %s, then wrote at %s; the read gave %q", now, w.ts(), r.value())
	}
}

// Rule C2: a clock is read behind a leadership check, so that a deposed leader's does not count.
func TestC2ADeposedLeadersClockDoesNotCount(t *testing.T) {
	c := newTestCluster(t, 3)
	old := c.leaseholder(testRange)
	c.cut(old.id)
	c.elect(testRange, old.id%3+1)
	p := old.send(testRange, &locuspb.Request{Op: &locuspb.Request_ClockAt{ClockAt: &locuspb.ClockRequest{}}})
	c.settle()
	if p.answered() && p.err() == nil {
		t.Fatalf("a deposed leader gave its clock: %v", p.resp)
	}
	c.heal()
	c.tick(12)
	if p.err() == nil || !p.answered() {
		t.Fatal("it was not sent on")
	}
	w := c.ok(testRange, put("x", "1"))
	if at := c.ok(testRange, &locuspb.Request{Op: &locuspb.Request_ClockAt{ClockAt: &locuspb.ClockRequest{}}}); at.ts() < w.ts() {
		t.Fatalf("a fresh timestamp %s below the write at %s", at.ts(), w.ts())
	}
}

// Rule C3: at open the clock begins above everything the store has seen, though the wall clock fell back.
func TestC3TheClockBeginsAboveTheLog(t *testing.T) {
	for _, checkpoint := range []bool{false, true} {
		t.Run(fmt.Sprint("checkpoint=", checkpoint), func(t *testing.T) {
			c := newTestCluster(t, 1)
			n := c.node(1)
			n.wall = n.wall.Add(time.Hour)
			w := c.ok(testRange, put("x", "1"))
			if checkpoint {
				n.takeCheckpoint()
			}
			n.crash(false)
			n.wall = testEpoch
			n.start()
			c.settle()
			if now := n.clock.Now(); now <= w.ts() {
				t.Fatalf("the clock begins at %s, below the write at %s", now, w.ts())
			}
			if next := c.ok(testRange, put("x", "2")); next.ts() <= w.ts() {
				t.Fatalf("wrote at %s after %s", next.ts(), w.ts())
			}
		})
	}
}

// Rule C5: a range that goes quiet closes its present, once.
func TestC5QuietRangesCloseThePresentOnce(t *testing.T) {
	c := newTestCluster(t, 3)
	w := c.ok(testRange, put("x", "1"))
	lead := c.leaseholder(testRange)
	if c.info(testRange, lead.id).Closed >= w.ts() {
		t.Fatal("an ordinary entry closed its own timestamp")
	}
	c.tick(lead.opts.QuietTicks + 2)
	quiet := c.info(testRange, lead.id)
	if quiet.Closed < w.ts() {
		t.Fatalf("quiet, and closed at %s only, below %s", quiet.Closed, w.ts())
	}
	// The present is served without a proposal, by followers too.
	for _, n := range c.nodes {
		p := c.do(n, testRange, getAt("x", quiet.Closed))
		c.must(p.err())
		if p.value() != "1" {
			t.Fatalf("store %s: %q", n.id, p.value())
		}
	}
	c.tick(10 * lead.opts.QuietTicks)
	if later := c.info(testRange, lead.id); later.Applied != quiet.Applied {
		t.Fatalf("an idle range went from index %d to %d", quiet.Applied, later.Applied)
	}
}

// versions writes a key some times and returns the timestamps; the value is the number of the write.
func (c *testCluster) versions(id ids.RangeID, k string, n int) []hlc.Timestamp {
	c.t.Helper()
	var out []hlc.Timestamp
	for i := range n {
		c.pass(time.Millisecond)
		out = append(out, c.ok(id, put(k, fmt.Sprint(i))).ts())
	}
	return out
}

func (c *testCluster) checkVersions(what string, n *testNode, id ids.RangeID, k string, at []hlc.Timestamp) {
	c.t.Helper()
	for i, ts := range at {
		p := c.do(n, id, getAt(k, ts))
		if p.err() != nil || p.value() != fmt.Sprint(i) {
			c.t.Fatalf("%s: store %s range %s: %s as of write %d (%s) is %q, %v", what, n.id, id, k, i, ts, p.value(), p.err())
		}
		if i > 0 {
			before := c.do(n, id, getAt(k, ts.Prev()))
			if before.err() != nil || before.value() != fmt.Sprint(i-1) {
				c.t.Fatalf("%s: just below write %d: %q, %v", what, i, before.value(), before.err())
			}
		}
	}
}

// Rule C6: timestamps below the split are mapped through the parent, also on children of children, also when the
// parent's replica has left the store, and after a restart.
func TestC6LineageReachesThroughSplits(t *testing.T) {
	c := newTestCluster(t, 3)
	at := c.versions(testRange, "z", 5)
	c.split(testRange, "m", 100)
	for i := range 3 {
		c.pass(time.Millisecond)
		at = append(at, c.ok(100, put("z", fmt.Sprint(5+i))).ts())
	}
	c.split(100, "s", 101)
	for i := range 3 {
		c.pass(time.Millisecond)
		at = append(at, c.ok(101, put("z", fmt.Sprint(8+i))).ts())
	}
	// The parent writes on, far beyond: none of that counts for the child.
	c.versions(testRange, "a", 5)
	last := c.leaseholder(101).clock.Now()
	c.must(c.do(c.leaseholder(101), 101, getAt("z", last)).err()) // closes it everywhere
	c.settle()
	c.tick(3)
	for _, n := range c.nodes {
		c.checkVersions("after two splits", n, 101, "z", at)
	}
	// The parent leaves store 3, its data is wiped, and it comes back as another replica.
	if c.leaseholder(testRange).id == 3 {
		c.elect(testRange, 1)
	}
	c.removeOn(testRange, 3)
	c.tick(5)
	c.checkVersions("without the parent", c.node(3), 101, "z", at)
	c.addVoter(testRange, 3)
	c.checkVersions("with another replica of the parent", c.node(3), 101, "z", at)
	// The tail is undone and replayed.
	n := c.node(3)
	n.crash(true)
	n.start()
	c.settle()
	c.tick(3)
	c.checkVersions("after a restart", n, 101, "z", at)
	c.healthy()
}

// Rule C6: a replica that came by snapshot says what it can't serve; another serves it.
func TestC6AReplicaFromASnapshotKnowsItsBeginning(t *testing.T) {
	c := newTestCluster(t, 3)
	c.removeOn(testRange, 3)
	c.tick(3)
	at := c.versions(testRange, "x", 4)
	c.addVoter(testRange, 3)
	last := c.leaseholder(testRange).clock.Now()
	c.must(c.do(c.leaseholder(testRange), testRange, getAt("x", last)).err())
	c.tick(3)
	p := c.do(c.node(3), testRange, getAt("x", at[1]))
	e := want[*api.TimestampUnavailableError](t, "below the snapshot", p.err())
	if e.Oldest <= at[1] || e.Oldest > last || !e.Elsewhere {
		t.Fatalf("the oldest is said to be %s, elsewhere %v", e.Oldest, e.Elsewhere)
	}
	if q := c.do(c.node(3), testRange, getAt("x", e.Oldest)); q.err() != nil || q.value() != "3" {
		t.Fatalf("the oldest that works: %q, %v", q.value(), q.err())
	}
	c.checkVersions("from the beginning", c.node(1), testRange, "x", at)
	// A child of this replica inherits its beginning.
	c.split(testRange, "m", 100)
	c.ok(100, put("z", "1"))
	c.tick(15)
	q := c.do(c.node(3), 100, getAt("z", at[1]))
	if e := want[*api.TimestampUnavailableError](t, "the child below the parent's snapshot", q.err()); e.Oldest <= at[3] {
		t.Fatalf("the child says that it can read as of %s", e.Oldest)
	}
	c.healthy()
}

// Rule C6 and undo: no read maps into an undone interval, whatever the engine kept of it.
func TestC6UndoneIntervalsAreSteppedOver(t *testing.T) {
	for name, kept := range map[string]drawn{
		"nothing kept": {0}, "all kept": {1}, "every other batch kept": {3, 1, 0}, "the others kept": {3, 0, 1}, "one in three": {3, 0, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestCluster(t, 1)
			n := c.node(1)
			restart := func() {
				n.crashWith(&draws{of: kept})
				n.start()
				c.settle()
			}
			at := c.versions(testRange, "x", 3)
			n.takeCheckpoint()
			for i := range 6 {
				c.pass(time.Millisecond)
				at = append(at, c.ok(testRange, put("x", fmt.Sprint(3+i))).ts())
			}
			restart()
			if kept[0] != 0 && n.Collect().UndoneSequences == 0 {
				t.Fatal("nothing was undone")
			}
			c.checkVersions("after undo and replay", n, testRange, "x", at)
			for i := range 2 {
				c.pass(time.Millisecond)
				at = append(at, c.ok(testRange, put("x", fmt.Sprint(9+i))).ts())
			}
			restart() // goes back to the same checkpoint
			c.checkVersions("after another undo", n, testRange, "x", at)
			n.takeCheckpoint()
			restart()
			c.checkVersions("from the next checkpoint", n, testRange, "x", at)
			c.healthy()
		})
	}
}

// Rule C7: the old leader's clock says expired, the new one's says alive.
func TestC7ExpiryIsJudgedByTheLog(t *testing.T) {
	c := newTestCluster(t, 3)
	fast, slow := c.leaseholder(testRange), c.node(2)
	c.ok(testRange, write(&locuspb.Mutation{Key: key("x"), Value: []byte("1"), TtlMs: 300}))
	if v := c.ok(testRange, get("x")).value(); v != "1" {
		t.Fatalf("x=%q before it expires", v)
	}
	fast.wall = fast.wall.Add(400 * time.Millisecond)
	before := c.info(testRange, fast.id).Applied
	// Several readers at once: expired by the leader's clock.
	fast.exec.hold(true, QueueRead)
	var ps []*pending
	for range 3 {
		ps = append(ps, fast.send(testRange, get("x")))
	}
	c.settle()
	fast.exec.hold(false, QueueRead)
	fast.exec.hold(true, QueueEval)
	c.settle()
	fast.exec.hold(false, QueueEval)
	c.settle()
	for _, p := range ps {
		c.must(p.err())
		if p.value() != "" {
			t.Fatalf("the fast leader says %q", p.value())
		}
	}
	if n := c.info(testRange, fast.id).Applied - before; n != 1 {
		t.Fatalf("%d entries were proposed for three readers", n)
	}
	c.elect(testRange, slow.id)
	if v := c.ok(testRange, get("x")).value(); v != "" {
		t.Fatalf("the slow leader says %q after the fast one said that it had expired", v)
	}
	p := c.ok(testRange, cas("x", "", "2"))
	if p.ts() == 0 {
		t.Fatal("no timestamp")
	}
}

// Rule C7: snapshots judge by their own timestamp, before and after.
func TestC7SnapshotsJudgeByTheirTimestamp(t *testing.T) {
	c := newTestCluster(t, 1)
	w := c.ok(testRange, write(&locuspb.Mutation{Key: key("x"), Value: []byte("1"), TtlMs: 300}))
	c.pass(time.Second)
	c.ok(testRange, put("y", "1"))
	for d, value := range map[time.Duration]string{0: "1", 299 * time.Millisecond: "1", 300 * time.Millisecond: "", 900 * time.Millisecond: ""} {
		p := c.ok(testRange, getAt("x", w.ts().Add(d)))
		if p.value() != value {
			t.Errorf("%s after the write x=%q, want %q", d, p.value(), value)
		}
		s := scan("a", "zz")
		s.Consistency = &locuspb.Consistency{Level: locuspb.ConsistencyLevel_SNAPSHOT, Timestamp: uint64(w.ts().Add(d))}
		n := 0
		if value != "" {
			n = 1
		}
		if got := c.ok(testRange, s).records(t); len(got) != n {
			t.Errorf("%s after the write a scan finds %v", d, got)
		}
	}
}

// Rule C8: reads inside the retention window work, reads below it are refused with the oldest that works; neither
// stops the store.
func TestC8TheRetentionWindow(t *testing.T) {
	c := newTestCluster(t, 1, func(o *Options) { o.Retention = 10 * time.Second; o.CheckpointTicks = 20 })
	n := c.node(1)
	var at []hlc.Timestamp
	for i := range 60 {
		at = append(at, c.ok(testRange, put("x", fmt.Sprint(i))).ts())
		c.tick(10)
	}
	c.healthy()
	if n.holds.discard == 0 {
		t.Fatal("nothing was ever let go")
	}
	if n.holds.discard > n.holds.checkpoint {
		t.Fatalf("let go up to %d, past the checkpoint %d", n.holds.discard, n.holds.checkpoint)
	}
	for i := 51; i < 60; i++ {
		p := c.do(n, testRange, getAt("x", at[i]))
		if p.err() != nil || p.value() != fmt.Sprint(i) {
			t.Fatalf("inside the window, write %d: %q, %v", i, p.value(), p.err())
		}
	}
	old := c.do(n, testRange, getAt("x", at[2]))
	c.healthy()
	e := want[*api.TimestampUnavailableError](t, "below the window", old.err())
	if e.Elsewhere {
		t.Fatal("what lies below the window is no replica's own affair")
	}
	if p := c.do(n, testRange, getAt("x", e.Oldest)); p.err() != nil {
		t.Fatalf("the oldest that works does not: %v", p.err())
	}
	// An open view holds its timestamp.
	var v View
	n.OpenView(testRange, 1, at[52], func(view View, err error) { c.must(err); v = view })
	c.settle()
	for i := range 40 {
		c.ok(testRange, put("x", fmt.Sprint(100+i)))
		c.tick(10)
	}
	c.healthy()
	got, found, err := v.Get(key("x"))
	if err != nil || !found || string(got) != "52" {
		t.Fatalf("the held view: %q %v %v", got, found, err)
	}
	v.Close()
	c.tick(20)
	c.healthy()
}
