package raftstore

import (
	"fmt"
	"testing"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
)

// Rule D4, the row cache. The cache's own tests are in rowcache; these are about who tells it what and when.

// halfApplied is a store on which a write of x is in the engine and not visible. x was never read before.
func halfApplied(t *testing.T, cached bool) (*testCluster, *testNode, *pending) {
	t.Helper()
	c := newTestCluster(t, 1)
	n := c.node(1)
	c.ok(testRange, put("x", "1"))
	if cached {
		c.ok(testRange, get("x"))
	}
	c.ok(testRange, get("other")) // a lease
	n.exec.hold(true, QueueApply)
	w := n.send(testRange, put("x", "2"))
	c.settle()
	n.applier.queue.(*stepQueue).step()
	if w.answered() {
		t.Fatal("published")
	}
	return c, n, w
}

// A read that begins before a write becomes visible, and after it was applied, must leave nothing behind.
func TestD4AReadThatAWriteOvertookFillsNothing(t *testing.T) {
	c, n, _ := halfApplied(t, false)
	if v := c.do(n, testRange, get("x")).value(); v != "1" {
		t.Fatalf("read %q, which nobody may see yet", v)
	}
	n.exec.hold(false, QueueApply)
	c.settle()
	if v := c.ok(testRange, get("x")).value(); v != "2" {
		t.Fatalf("read %q after 2 was acknowledged", v)
	}
}

// A cached row follows the engine before the write is visible, and who reads meanwhile does not see it.
func TestD4ARowIsNotReadAheadOfItsTime(t *testing.T) {
	c, n, _ := halfApplied(t, true)
	if v := c.do(n, testRange, get("x")).value(); v != "1" {
		t.Fatalf("read %q, which nobody may see yet", v)
	}
	n.exec.hold(false, QueueApply)
	c.settle()
	hits := n.rows.Stats().Hits
	if v := c.ok(testRange, get("x")).value(); v != "2" {
		t.Fatalf("read %q after 2 was acknowledged", v)
	}
	if n.rows.Stats().Hits == hits {
		t.Fatal("the row was evicted and not updated")
	}
}

// A read at an old timestamp neither finds what came later nor leaves what it found.
func TestD4ThePastIsNotCached(t *testing.T) {
	c := newTestCluster(t, 1)
	old := c.ok(testRange, put("x", "1")).ts()
	c.ok(testRange, put("x", "2"))
	for range 2 {
		if v := c.ok(testRange, getAt("x", old)).value(); v != "1" {
			t.Fatalf("at %s: %q", old, v)
		}
		if v := c.ok(testRange, get("x")).value(); v != "2" {
			t.Fatal(v)
		}
	}
}

// Writes of one range do not keep another's rows out of the cache.
func TestD4RangesShareTheCache(t *testing.T) {
	c := newTestCluster(t, 1)
	n := c.node(1)
	for i := range 100 {
		c.ok(testRange, put(fmt.Sprint("a", i), "1"))
	}
	c.split(testRange, "m", 100)
	c.ok(100, put("z", "1")) // touches a shard at a sequence above all that the left range shows
	for i := range 200 {
		c.ok(100, put(fmt.Sprint("z", i), "1"))
	}
	before := n.rows.Stats()
	for range 2 {
		for i := range 100 {
			c.ok(testRange, get(fmt.Sprint("a", i)))
		}
	}
	if after := n.rows.Stats(); after.Hits-before.Hits < 100 || after.Refused != before.Refused {
		t.Fatalf("%d hits in 200 reads of 100 rows, %d fills refused", after.Hits-before.Hits, after.Refused-before.Refused)
	}
}

// A split's child goes on with its parent's rows, and its own writes change them.
func TestD4AChildKeepsItsParentsRows(t *testing.T) {
	c := newTestCluster(t, 1)
	n := c.node(1)
	c.ok(testRange, put("z", "1"))
	c.ok(testRange, get("z"))
	c.split(testRange, "m", 100)
	hits := n.rows.Stats().Hits
	if v := c.ok(100, get("z")).value(); v != "1" || n.rows.Stats().Hits == hits {
		t.Fatalf("%q, %d hits", v, n.rows.Stats().Hits-hits)
	}
	c.ok(100, put("z", "2"))
	if v := c.ok(100, get("z")).value(); v != "2" {
		t.Fatal(v)
	}
}

// What was cached before a snapshot replaced the range's data is not read after it.
func TestD4ASnapshotEndsWhatWasCached(t *testing.T) {
	c := newTestCluster(t, 3, func(o *Options) { o.RetainedEntries = 1; o.MaxLagBytes = 1 })
	c.elect(testRange, 3)
	n := c.node(3)
	c.ok(testRange, put("x", "old"))
	c.ok(testRange, put("gone", "1"))
	for _, k := range []string{"x", "gone", "new"} {
		c.ok(testRange, get(k)) // cached
	}
	c.elect(testRange, 1)
	c.tick(3)
	n.takeCheckpoint()
	c.cut(3)
	c.ok(testRange, write(&locuspb.Mutation{Key: key("gone"), Delete: true}))
	c.ok(testRange, put("new", "1"))
	for i := range 20 {
		c.ok(testRange, put("x", fmt.Sprint(i)))
	}
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
	c.elect(testRange, 3)
	for k, want := range map[string]string{"x": "19", "gone": "", "new": "1"} {
		if v := c.ok(testRange, get(k)).value(); v != want {
			t.Errorf("%s: %q after the snapshot, want %q", k, v, want)
		}
	}
}

// A store that was removed from a range and has it again reads nothing of the first time.
func TestD4AReplicaThatReturnsForgets(t *testing.T) {
	c := newTestCluster(t, 3)
	c.elect(testRange, 3)
	c.ok(testRange, put("x", "old"))
	c.ok(testRange, get("x"))
	c.elect(testRange, 1)
	c.removeOn(testRange, 3)
	c.tick(20)
	c.ok(testRange, put("x", "new"))
	c.addVoter(testRange, ids.StoreID(3))
	c.elect(testRange, 3)
	if v := c.ok(testRange, get("x")).value(); v != "new" {
		t.Fatalf("read %q", v)
	}
}
