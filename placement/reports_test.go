package placement

import (
	"slices"
	"testing"
	"time"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
)

// change sends a report of store 1 that builds on another.
func (b *bench) change(base, clock uint64, released []uint64, reports ...*locuspb.RangeReport) *locuspb.HeartbeatResponse {
	b.t.Helper()
	resp, err := b.Heartbeat(&locuspb.HeartbeatRequest{
		Node: &locuspb.NodeInfo{StoreId: 1, NodeId: "n1", Address: "a1"}, Clock: clock, Base: base, Leading: reports, Released: released,
		MapVersion: b.has[1],
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return resp
}

// leads checks what the driver believes of store 1.
func (b *bench) leads(want ...ids.RangeID) {
	b.t.Helper()
	var led []ids.RangeID
	for id, r := range b.core.cl.ranges {
		if r.leader == 1 {
			led = append(led, id)
		}
	}
	slices.Sort(led)
	if n := b.core.cl.nodes[1]; !slices.Equal(n.leading, want) || !slices.Equal(led, want) {
		b.t.Fatalf("leads %v, by the ranges %v; want %v", n.leading, led, want)
	}
}

// TestReportsOfChanges: a report with a base changes what it names and leaves the rest.
func TestReportsOfChanges(t *testing.T) {
	b := started(t, newTable())
	if taken := b.beat(1, 10, bootstrapped(1)...).Taken; taken != 10 {
		t.Fatalf("taken: %d", taken)
	}
	b.leads(1, 2, 3)
	if resp := b.change(10, 11, nil); resp.Taken != 11 || len(b.core.cl.nodes[1].holding) != 3 {
		t.Fatalf("taken: %d; holds %v", resp.Taken, b.core.cl.nodes[1].holding)
	}
	b.leads(1, 2, 3)
	b.change(11, 12, []uint64{2})
	b.leads(1, 3)
	b.change(12, 13, []uint64{3}, report(2, defaultSpan, 1, 1, 7, 1))
	b.leads(1, 2)
	// Another store takes over; the old leader does not know.
	if _, err := b.join("n2", "a2"); err != nil {
		t.Fatal(err)
	}
	b.beat(2, 1, report(2, defaultSpan, 1, 1, 8, 1, 2))
	b.change(13, 14, nil, report(3, tailSpan, 1, 1, 9, 1))
	b.leads(1, 3)
	b.change(14, 15, []uint64{2, 99}) // now it does
	b.leads(1, 3)
}

// TestReportsThatBuildOnOthers: one whose base is not the newest report here says that its store lives, and the driver asks
// for a whole one.
func TestReportsThatBuildOnOthers(t *testing.T) {
	b := started(t, newTable())
	b.beat(1, 10, bootstrapped(1)...)
	b.change(10, 11, []uint64{2}) // its answer is lost
	b.now += b.core.o.SuspectAfter
	resp := b.change(10, 12, nil)
	if resp.Taken != 0 || resp.NextMs != 1 {
		t.Fatalf("taken %d, next after %d ms", resp.Taken, resp.NextMs)
	}
	b.leads(1, 3)
	if n := b.core.cl.nodes[1]; n.state != Up {
		t.Fatalf("store 1 is %s", n.state)
	}
	b.beat(1, 13, bootstrapped(1)...)
	b.leads(1, 2, 3)
	if resp := b.change(12, 12, []uint64{1, 2, 3}); resp.Taken != 0 {
		t.Fatal("an old report is taken")
	}
	b.leads(1, 2, 3)

	// A new office knows of no report, and doesn't take a store for one that leads nothing.
	next := started(t, b.rec)
	if resp := next.change(13, 14, nil); resp.Taken != 0 || resp.NextMs != 1 {
		t.Fatalf("taken %d, next after %d ms", resp.Taken, resp.NextMs)
	}
	if next.core.cl.nodes[1].spoken {
		t.Fatal("the store's report counts as one")
	}
	next.beat(1, 15, bootstrapped(1)...)
	next.leads(1, 2, 3)
}

// TestPlansOnlyWhenSomethingChanged: a driver of idle ranges plans once in a restInterval, and at once after a change.
func TestPlansOnlyWhenSomethingChanged(t *testing.T) {
	b := started(t, newTable())
	b.beat(1, 1, bootstrapped(1)...)
	plans := 0
	last := b.core.planned
	ticks := func(n int) (planned int) {
		for range n {
			b.now += 100 * time.Millisecond
			b.Tick()
			if b.core.planned != last {
				planned, last = planned+1, b.core.planned
			}
		}
		return planned
	}
	ticks(20)
	for range 5 {
		b.change(b.core.cl.nodes[1].clock, b.core.cl.nodes[1].clock+1, nil)
		plans += ticks(10)
	}
	if plans > 6 {
		t.Errorf("%d plans in 5 s though nothing changed", plans)
	}
	b.change(b.core.cl.nodes[1].clock, b.core.cl.nodes[1].clock+1, nil, report(2, defaultSpan, 1, 1, 7, 1))
	if ticks(1) == 0 {
		t.Error("a change waits")
	}
}
