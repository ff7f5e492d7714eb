package raftstore

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
)

const heldWindow = 10 * time.Second

// heldCluster is a store that keeps ten seconds, and the timestamps of writes to x, one a second: the i-th wrote i.
type heldCluster struct {
	*testCluster
	n  *testNode
	at []hlc.Timestamp
}

func newHeldCluster(t *testing.T) *heldCluster {
	c := newTestCluster(t, 1, func(o *Options) { o.Retention = heldWindow; o.CheckpointTicks = 20 })
	return &heldCluster{testCluster: c, n: c.node(1)}
}

// write lets seconds pass, with a write in each.
func (c *heldCluster) write(seconds int) {
	c.t.Helper()
	for range seconds {
		c.at = append(c.at, c.ok(testRange, put("x", fmt.Sprint(len(c.at)))).ts())
		c.tick(10)
	}
}

// hold tells the store of one hold, and says whether it vouches for it.
func (c *heldCluster) hold(i int, d time.Duration) bool {
	from := c.n.Retain([]Hold{{Timestamp: c.at[i], Deadline: c.n.clock.Wall().Add(d)}})
	return from <= c.at[i]
}

func (c *heldCluster) shows(what string, i int) {
	c.t.Helper()
	if p := c.do(c.n, testRange, getAt("x", c.at[i])); p.err() != nil || p.value() != fmt.Sprint(i) {
		c.t.Fatalf("%s: write %d reads %q, %v", what, i, p.value(), p.err())
	}
}

func (c *heldCluster) refuses(what string, i int) hlc.Timestamp {
	c.t.Helper()
	e := want[*api.TimestampUnavailableError](c.t, what, c.do(c.n, testRange, getAt("x", c.at[i])).err())
	if e.Oldest <= c.at[i] {
		c.t.Fatalf("%s: %s is refused, and %s is said to work", what, c.at[i], e.Oldest)
	}
	return e.Oldest
}

// Rule C9: the discard sequence does not pass a timestamp that is held, nor anything younger, until the deadline; then it does,
// whether or not anybody says so. *Breaks:* a function at T takes longer than the window, and reads what is left of T.
func TestC9AHeldTimestampStays(t *testing.T) {
	c := newHeldCluster(t)
	c.write(15)
	if !c.hold(12, 40*time.Second) {
		t.Fatal("a young timestamp is not vouched for")
	}
	c.write(30)
	if n, age := c.n.Held(); n != 1 || age != c.n.clock.Wall().Sub(c.at[12]) || age <= 0 {
		t.Fatalf("%d timestamps are said to be held, the oldest for %s", n, age)
	}
	c.shows("held", 12)
	c.shows("younger than the held one", 13)
	if oldest := c.refuses("older than the held one", 5); oldest != c.at[12] {
		t.Fatalf("the oldest that works is said to be %s, not the held %s", oldest, c.at[12])
	}
	c.write(30)
	if n, age := c.n.Held(); n != 0 || age != 0 {
		t.Fatalf("%d timestamps are said to be held after the deadline, the oldest for %s", n, age)
	}
	if oldest := c.refuses("after the deadline", 12); c.do(c.n, testRange, getAt("x", oldest)).err() != nil {
		t.Fatalf("the oldest that works, %s, does not", oldest)
	}
	c.healthy()
}

// Rule C9: a hold that is left out of the list ends; the oldest of those that are left counts.
func TestC9AReleasedHoldEnds(t *testing.T) {
	c := newHeldCluster(t)
	c.write(15)
	end := c.n.clock.Wall().Add(time.Hour)
	c.n.Retain([]Hold{{c.at[14], end}, {c.at[10], end}})
	c.write(20)
	c.shows("held", 10)
	c.n.Retain([]Hold{{c.at[14], end}})
	c.write(5)
	c.refuses("released", 10)
	c.shows("still held", 14)
	c.n.Retain(nil)
	c.write(5)
	c.refuses("released too", 14)
}

// Rule C9: a hold that comes too late is not vouched for. What is kept yet stays all the same, as long as the driver says so:
// it tells only the oldest of the holds that last as long, and this one stands for younger ones that came in time.
func TestC9AHoldThatComesTooLate(t *testing.T) {
	c := newHeldCluster(t)
	c.write(40)
	if c.hold(2, time.Hour) {
		t.Fatal("the store vouches for what it has let go")
	}
	c.write(30)
	c.refuses("too late", 2)
	c.shows("a younger one for which it stands", 38)
	c.n.Retain(nil)
	c.write(15)
	c.refuses("the window has moved on", 38)
}

// Rule C9: a store that starts again lets nothing go before a window has passed, and vouches for what its checkpoint kept.
func TestC9HoldsAcrossARestart(t *testing.T) {
	c := newHeldCluster(t)
	c.write(15)
	c.hold(12, 5*time.Minute)
	c.write(20)
	c.n.takeCheckpoint()
	kept := c.n.holds.start
	c.n.crash(false)
	c.n.start()
	c.awaitLead(testRange)
	if c.n.holds.start != kept || kept == 0 {
		t.Fatalf("kept from %s before the crash, from %s after", kept, c.n.holds.start)
	}
	c.write(8)
	c.shows("before it hears of holds", 12)
	if !c.hold(12, 5*time.Minute) {
		t.Fatal("a timestamp that was held all the time is not vouched for")
	}
	c.write(30)
	c.shows("held again", 12)

	// Nobody tells it any more: the window decides.
	c.n.takeCheckpoint()
	c.n.crash(false)
	c.n.start()
	c.awaitLead(testRange)
	c.write(30)
	c.refuses("a window after the restart", 12)
	c.healthy()
}

// Rule C9: an entry's timestamp may be above this store's clock by what clocks may be apart: the sample that a hold keeps is
// that much older.
func TestC9AHoldAllowsForClocks(t *testing.T) {
	c := newTestCluster(t, 2, func(o *Options) { o.Retention = heldWindow; o.CheckpointTicks = 20 })
	if c.leaseholder(testRange).id != 1 {
		c.elect(testRange, 1)
	}
	c.node(1).wall = c.node(1).wall.Add(400 * time.Millisecond) // the leaseholder's is ahead
	follower := c.node(2)
	var at []hlc.Timestamp
	for i := range 100 {
		at = append(at, c.ok(testRange, put("x", fmt.Sprint(i))).ts())
		c.tick(1)
	}
	// Just above a sample of the follower's, which has applied later entries by then.
	sample := follower.holds.window[len(follower.holds.window)-2]
	i := slices.IndexFunc(at, func(ts hlc.Timestamp) bool { return ts > sample.ts })
	if ahead := at[i+1].Sub(sample.ts); ahead >= 400*time.Millisecond {
		t.Fatalf("the next write is %s above the sample: it was applied after it", ahead)
	}
	if from := follower.Retain([]Hold{{at[i], hlc.Max}}); from > at[i] {
		t.Fatalf("it vouches only from %s on", from)
	}
	for range 200 {
		c.ok(testRange, put("x", "later"))
		c.tick(1)
	}
	c.elect(testRange, follower.id)
	if p := c.do(follower, testRange, getAt("x", at[i])); p.value() != fmt.Sprint(i) {
		t.Fatalf("write %d reads %q, %v", i, p.value(), p.err())
	}
}

// Rule C9: a store vouches for no timestamp that may be below what it has let go, by what clocks may be apart.
func TestC9AHoldAtTheEdge(t *testing.T) {
	c := newHeldCluster(t)
	c.write(40)
	start, apart := c.n.holds.start, c.n.clock.MaxOffset()
	if from := c.n.Retain(nil); start == 0 || from != start.Add(apart) {
		t.Fatalf("lets go of what is older than %s, vouches from %s on", start, from)
	}
}

// Rule C9: what is held counts as within the window when a replica is to be removed.
func TestC9AHeldReplicaStays(t *testing.T) {
	c, w := youngCluster(t)
	c.elect(testRange, 2)
	c.tick(5)
	for id := ids.StoreID(1); id <= 3; id++ {
		c.node(id).Retain([]Hold{{w.ts(), c.node(id).clock.Wall().Add(10 * time.Minute)}})
	}
	c.elapse(2 * time.Minute)
	c.tick(5)
	want[*api.RetryError](t, "the only replica that can be read at a held timestamp", c.remove(testRange, 1))
	c.elapse(10 * time.Minute)
	c.tick(5)
	c.must(c.remove(testRange, 1))
}
