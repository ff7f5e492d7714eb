package raftstore

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/packed"
)

// Rule D5, the scan cache. The cache's own tests are in scancache; these are about who tells it what and when.

// view opens a range on a node, whatever its role there, at a timestamp that is closed; 0: at the newest that it has applied.
func (n *testNode) view(id ids.RangeID, ts hlc.Timestamp) View {
	n.c.t.Helper()
	r := n.replica(id)
	v, err := r.take(r.snapshot().desc.Epoch.Bounds, ts)
	n.c.must(err)
	return openView{reading: v, once: new(sync.Once)}
}

// shown is what a view shows in the part [from, to) of keyspace 1.
func (c *testCluster) shown(v View, from, to string) string {
	c.t.Helper()
	var out []string
	span := keys.Layout{ID: 1}.Span([]byte(from), []byte(to))
	c.must(v.Scan(span, len(key("")), func(b Batch) bool {
		for r := packed.NewReader(b.Packed); r.Next(); {
			out = append(out, fmt.Sprintf("%s=%s", r.Key(), r.Value()))
		}
		return true
	}))
	return strings.Join(out, " ")
}

// look opens a view, and closes it when it has shown what it shows.
func (n *testNode) look(id ids.RangeID, from, to string) string {
	n.c.t.Helper()
	v := n.view(id, 0)
	defer v.Close()
	return n.c.shown(v, from, to)
}

func (c *testCluster) wantShown(what, got, want string) {
	c.t.Helper()
	if got != want {
		c.t.Errorf("%s: %q is shown, want %q", what, got, want)
	}
}

// A scan between the moment that a write is in the engine and the one in which it is visible leaves nothing for those after.
func TestD5AWriteThatIsNotVisibleYet(t *testing.T) {
	for _, cached := range []bool{false, true} {
		c := newTestCluster(t, 1)
		n := c.node(1)
		c.ok(testRange, put("x", "1"))
		if cached {
			c.wantShown("before", n.look(testRange, "a", "z"), "x=1")
		}
		n.exec.hold(true, QueueApply)
		n.send(testRange, put("x", "2"))
		c.settle()
		n.applier.queue.(*stepQueue).step()
		for range 2 {
			c.wantShown("not published", n.look(testRange, "a", "z"), "x=1")
		}
		n.exec.hold(false, QueueApply)
		c.settle()
		c.wantShown("published", n.look(testRange, "a", "z"), "x=2")
	}
}

// A view of before the snapshot that replaced the range's data shows what it showed, and one of after it the new data,
// whichever of them filled the cache.
func TestD5ASnapshotEndsWhatWasScanned(t *testing.T) {
	c := newTestCluster(t, 3, func(o *Options) { o.RetainedEntries = 1; o.MaxLagBytes = 1 })
	n := c.node(3)
	c.ok(testRange, put("gone", "1"))
	c.ok(testRange, put("x", "old"))
	c.tick(3)
	n.takeCheckpoint()
	c.wantShown("before", n.look(testRange, "a", "zz"), "gone=1 x=old")
	old, unread := n.view(testRange, 0), n.view(testRange, 0)
	defer old.Close()
	defer unread.Close()
	c.cut(3)
	c.ok(testRange, write(&locuspb.Mutation{Key: key("gone"), Delete: true}))
	for i := range 20 {
		c.ok(testRange, put("x", fmt.Sprint(i)))
	}
	c.ok(testRange, put("y", "new"))
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
	for range 2 {
		c.wantShown("after", n.look(testRange, "a", "zz"), "x=19 y=new")
		c.wantShown("a view of before", c.shown(old, "a", "zz"), "gone=1 x=old")
		c.wantShown("another, in part", c.shown(unread, "h", "xx"), "x=old")
	}
}

// A store that was removed from a range and has it again shows nothing of the first time.
func TestD5AReplicaThatReturnsForgets(t *testing.T) {
	c := newTestCluster(t, 3)
	n := c.node(3)
	c.ok(testRange, put("gone", "1"))
	c.ok(testRange, put("x", "old"))
	c.tick(3)
	c.wantShown("before", n.look(testRange, "a", "h"), "gone=1")
	c.wantShown("before", n.look(testRange, "h", "zz"), "x=old")
	c.removeOn(testRange, 3)
	c.tick(20)
	c.ok(testRange, put("x", "new"))
	c.ok(testRange, write(&locuspb.Mutation{Key: key("gone"), Delete: true}))
	c.addVoter(testRange, ids.StoreID(3))
	c.tick(3)
	c.wantShown("after", n.look(testRange, "a", "h"), "") // which only the wipe has written to
	c.wantShown("after", n.look(testRange, "h", "zz"), "x=new")
}

// A split moves nothing: both sides find what was scanned before it, and only what is theirs.
func TestD5BothSidesOfASplitFindWhatWasScanned(t *testing.T) {
	c := newTestCluster(t, 1)
	n := c.node(1)
	for _, k := range []string{"a", "m", "z"} {
		c.ok(testRange, put(k, "1"))
	}
	whole := "a=1 m=1 z=1"
	c.wantShown("before", n.look(testRange, "", "~"), whole)
	c.split(testRange, "m", 100)
	misses := n.scans.Stats().Misses
	c.wantShown("left", n.look(testRange, "", "m"), "a=1")
	c.wantShown("right", n.look(100, "m", "~"), "m=1 z=1")
	if got := n.scans.Stats().Misses; got != misses {
		t.Errorf("%d misses", got-misses)
	}
	c.ok(100, put("z", "2"))
	c.wantShown("left", n.look(testRange, "", "m"), "a=1")
	c.wantShown("right", n.look(100, "m", "~"), "m=1 z=2")
}
