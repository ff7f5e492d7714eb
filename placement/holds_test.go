package placement

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
)

// holdBench is a driver with three stores that have the newest map and keep to no holds.
type holdBench struct {
	*dropBench
	answers []string
}

func newHoldBench(t *testing.T) *holdBench {
	t.Helper()
	b := &holdBench{dropBench: newDropBench(t)}
	b.begin()
	return b
}

// begin has every store speak, an hour into the cluster's life.
func (b *holdBench) begin() {
	b.holds, b.readable = map[uint64]uint64{}, map[uint64]uint64{}
	b.clock = uint64(hlc.Make(time.Hour.Milliseconds(), 0))
	for s := uint64(1); s <= 3; s++ {
		b.take(s)
	}
}

// next is the bench of the driver that takes office after this one.
func (b *holdBench) next() *holdBench {
	b.Stop()
	n := &holdBench{dropBench: &dropBench{bench: started(b.t, b.rec), clock: b.clock}}
	n.has, n.holds, n.readable = b.has, b.holds, b.readable
	return n
}

func holdID(i int) []byte { return fmt.Appendf(nil, "%016d", i) }

func (b *holdBench) wish(i int, ts uint64, d time.Duration) *locuspb.HoldRequest {
	return &locuspb.HoldRequest{Id: holdID(i), Timestamp: ts, DurationMs: d.Milliseconds(), Owner: "test", Clock: b.clock}
}

func (b *holdBench) ask(req *locuspb.HoldRequest) {
	b.Hold(req, func(resp *locuspb.HoldResponse, err error) {
		if err != nil {
			b.answers = append(b.answers, err.Error())
			return
		}
		b.answers = append(b.answers, fmt.Sprint(hlc.Timestamp(resp.Deadline).Sub(hlc.Timestamp(req.Clock))))
	})
}

func (b *holdBench) release(i int) (err error) {
	b.Release(&locuspb.ReleaseRequest{Id: holdID(i)}, func(e error) { err = e })
	return err
}

// keep has a store take the holds of an answer, which its next heartbeat says.
func (b *holdBench) keep(s uint64) *locuspb.HeartbeatResponse {
	resp := b.beatOf(s)
	if h := resp.Holds; h != nil {
		b.holds[s] = h.Version
		if len(h.Held) == 0 {
			b.holds[s] = 0
		}
	}
	return resp
}

// confirm has every store keep to the holds and say so.
func (b *holdBench) confirm() {
	for range 2 {
		for s := uint64(1); s <= 3; s++ {
			b.keep(s)
		}
	}
}

func (b *holdBench) wantAnswers(what string, want ...string) {
	b.t.Helper()
	if !slices.EqualFunc(b.answers, want, func(got, want string) bool { return strings.Contains(got, want) }) {
		b.t.Fatalf("%s: answers %q, want %q", what, b.answers, want)
	}
	b.answers = nil
}

func (b *holdBench) records() (n int) {
	for k := range b.rec.records {
		if recordSpan(prefixHold).Contains([]byte(k)) {
			n++
		}
	}
	return n
}

// Rule C9: a hold is answered when the last store says that it keeps to it; stores are told without delay.
func TestHoldWaitsForAll(t *testing.T) {
	b := newHoldBench(t)
	ts := b.clock
	b.ask(b.wish(1, ts, time.Minute))
	b.ask(b.wish(1, ts, time.Minute)) // whoever lost the answer asks again
	for s := uint64(1); s <= 3; s++ {
		b.wantAnswers("nobody, or not all, have confirmed")
		resp := b.keep(s)
		if h := resp.Holds; len(h.GetHeld()) != 1 || h.Held[0].Timestamp != ts || resp.NextMs != 1 {
			t.Fatalf("store %d is told %v, next in %d ms", s, h, resp.NextMs)
		}
	}
	b.ask(b.wish(1, ts, time.Minute)) // no other hold, so nobody need hear of it anew
	b.beatOf(1)
	b.beatOf(2)
	b.wantAnswers("two have confirmed")
	if resp := b.beatOf(3); resp.Holds != nil || resp.NextMs == 1 {
		t.Errorf("told again: %v, next in %d ms", resp.Holds, resp.NextMs)
	}
	b.wantAnswers("all have confirmed", "1m0s", "1m0s", "1m0s")
	if s, _ := b.Status(); s.Holds != 1 || s.OldestHold != ts {
		t.Errorf("status: %d holds, the oldest %d", s.Holds, s.OldestHold)
	}
}

// While there are no holds, heartbeats carry nothing of them, before the first and after the last.
func TestNoHoldsCostNothing(t *testing.T) {
	b := newHoldBench(t)
	quiet := func(when string) {
		t.Helper()
		for s := uint64(1); s <= 3; s++ {
			if resp := b.beatOf(s); resp.Holds != nil {
				t.Fatalf("%s: %v", when, resp.Holds)
			}
		}
	}
	quiet("before")
	b.ask(b.wish(1, b.clock, time.Minute))
	b.confirm()
	quiet("known to all")
	if err := b.release(1); err != nil {
		t.Fatal(err)
	}
	for s := uint64(1); s <= 3; s++ {
		if resp := b.keep(s); resp.Holds == nil || len(resp.Holds.Held) > 0 {
			t.Fatalf("the last one is gone: store %d is told %v", s, resp.Holds)
		}
	}
	quiet("after")
	if n := b.records(); n != 0 {
		t.Errorf("%d records are left", n)
	}
}

// Rule C9: a store that may have let the timestamp go ends the hold, with the oldest timestamp that it vouches for.
func TestHoldThatComesTooLate(t *testing.T) {
	b := newHoldBench(t)
	b.readable[2] = b.clock - 10
	b.ask(b.wish(1, b.clock-11, time.Minute))
	b.ask(b.wish(2, b.clock-10, time.Minute))
	b.confirm()
	b.wantAnswers("one is too old", "store s2 may have let it go", "1m0s")
	if b.records() != 1 {
		t.Errorf("%d records", b.records())
	}
	if held := frontier(b.core.cat.holds); len(held) != 1 || held[0].Timestamp != b.readable[2] {
		t.Errorf("stores are told %v", held)
	}
	if err := b.release(1); err != nil {
		t.Error(err)
	}
}

// A store that is silent for SuspectAfter is not waited for, and what it said before does not count.
func TestHoldPassesSilentStores(t *testing.T) {
	b := newHoldBench(t)
	b.ask(b.wish(1, b.clock, time.Minute))
	b.now += b.core.o.SuspectAfter - 1
	for range 2 {
		b.keep(1)
		b.keep(2)
	}
	b.Tick()
	b.wantAnswers("the third may still speak")
	b.now++
	b.Tick()
	b.wantAnswers("the third is suspect", "1m0s")
	if resp := b.keep(3); len(resp.Holds.GetHeld()) != 1 {
		t.Errorf("back again, it is told %v", resp.Holds)
	}
}

// Rule C9: holds outlive the driver. The next one tells all stores again, whatever they heard before, under a higher version,
// and answers who asks again once all have confirmed.
func TestHoldAcrossOffices(t *testing.T) {
	b := newHoldBench(t)
	ts := b.clock
	b.ask(b.wish(1, ts, 10*time.Minute))
	b.keep(1)
	before := b.holds[1]
	n := b.next()
	b.wantAnswers("the office has ended", "placement driver")
	n.ask(n.wish(1, ts, 10*time.Minute))
	n.beatOf(1)
	n.wantAnswers("store 1 has heard of the other office alone")
	n.confirm()
	n.wantAnswers("all have confirmed", "10m0s")
	if n.holds[1] <= before {
		t.Errorf("version %d, before it was %d", n.holds[1], before)
	}
	n = n.next() // nobody asks
	n.confirm()
	if held := frontier(n.core.cat.holds); len(held) != 1 || held[0].Timestamp != ts || n.holds[3]>>32 != n.core.cat.office {
		t.Errorf("the third driver holds %v; store 3 heard %x", held, n.holds[3])
	}
}

// A hold ends at its deadline, by the stores' clocks as the driver hears them, and is renewed for an hour in all.
func TestHoldDeadlines(t *testing.T) {
	b := newHoldBench(t)
	pass := func(d time.Duration) {
		b.clock = uint64(hlc.Timestamp(b.clock).Add(d))
		b.confirm()
		b.Tick()
	}
	ts := b.clock
	b.ask(b.wish(1, ts, 20*time.Minute))
	b.ask(b.wish(2, ts+1, 10*time.Minute))
	pass(0)
	b.wantAnswers("made", "20m0s", "10m0s")
	pass(9 * time.Minute)
	if b.records() != 2 {
		t.Fatal("one ended before its deadline")
	}
	pass(2 * time.Minute)
	if b.records() != 1 || len(b.core.cat.holds) != 1 {
		t.Fatalf("%d records after the deadline of one", b.records())
	}
	b.ask(b.wish(1, ts, time.Minute)) // shorter than what is left
	pass(0)
	b.wantAnswers("a renewal never shortens", "9m0s")
	b.ask(b.wish(1, ts, time.Hour))
	pass(0)
	b.wantAnswers("an hour since it was made", "49m0s")
	pass(time.Hour)
	if b.records() != 0 {
		t.Fatal("it outlives its hour")
	}
}

func TestHoldRefuses(t *testing.T) {
	b := newHoldBench(t)
	ts := b.clock
	for _, c := range []struct {
		spoil func(*locuspb.HoldRequest)
		want  api.Code
	}{
		{func(r *locuspb.HoldRequest) { r.Id = r.Id[1:] }, api.CodeInvalidArgument},
		{func(r *locuspb.HoldRequest) { r.Timestamp = 0 }, api.CodeInvalidArgument},
		{func(r *locuspb.HoldRequest) { r.DurationMs = 0 }, api.CodeInvalidArgument},
		{func(r *locuspb.HoldRequest) { r.DurationMs = time.Hour.Milliseconds() + 1 }, api.CodeLimit},
		{func(r *locuspb.HoldRequest) { r.Owner = strings.Repeat("o", maxOwnerLen+1) }, api.CodeLimit},
		{func(r *locuspb.HoldRequest) { r.Owner = "\xff" }, api.CodeInvalidArgument},
	} {
		req := b.wish(1, ts, time.Minute)
		c.spoil(req)
		var got error
		b.Hold(req, func(_ *locuspb.HoldResponse, err error) { got = err })
		if api.CodeOf(got) != c.want {
			t.Errorf("%v: %v", req, got)
		}
	}
	for i := range maxHolds {
		b.ask(b.wish(i, ts, time.Minute))
	}
	b.wantAnswers("made, and not confirmed yet")
	b.ask(b.wish(maxHolds, ts, time.Minute))
	b.wantAnswers("one too many", "number of holds")
	b.ask(b.wish(1, ts+1, time.Minute))
	b.wantAnswers("another timestamp under the same id", "another timestamp")
	for range 2 {
		if err := b.release(1); err != nil {
			t.Errorf("a release is not repeatable: %v", err)
		}
	}
	b.wantAnswers("who waits hears of the release", "released")
	b.ask(b.wish(maxHolds, ts, time.Minute))
	b.wantAnswers("there is room again")
}

// What stores are told is bounded by what matters to them.
func TestHoldsFrontier(t *testing.T) {
	holds := map[string]*locuspb.Hold{}
	for i, h := range [][2]uint64{{10, 50}, {20, 40}, {20, 60}, {30, 60}, {40, 55}, {50, 70}, {10, 45}} {
		holds[fmt.Sprint(i)] = &locuspb.Hold{Timestamp: h[0], Deadline: h[1]}
	}
	want := &locuspb.Holds{Held: []*locuspb.Held{{Timestamp: 10, Deadline: 50}, {Timestamp: 20, Deadline: 60}, {Timestamp: 50, Deadline: 70}}}
	if got := (&locuspb.Holds{Held: frontier(holds)}); !proto.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
}

// Rule C9: a hold was granted while a store was silent, which has let the timestamp go since. Renewing the hold fails, and it
// stays what it was for the others.
func TestALateRenewalEndsNoHold(t *testing.T) {
	b := newHoldBench(t)
	ts := b.clock
	b.ask(b.wish(1, ts, time.Minute))
	b.confirm()
	b.wantAnswers("granted", "1m0s")
	b.readable[3] = ts + 1
	b.ask(b.wish(1, ts, 2*time.Minute))
	b.confirm()
	b.wantAnswers("renewed too late", "may have let it go")
	if n := b.records(); n != 1 {
		t.Fatalf("%d holds are left", n)
	}
}
