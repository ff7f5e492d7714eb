package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/raftstore/engine"
)

// same fails unless a retry got the first attempt's answer.
func same(t *testing.T, what string, first, retry *pending) {
	t.Helper()
	if retry.err() != nil || retry.ts() != first.ts() || retry.resp.Place != first.resp.Place ||
		!bytes.Equal(retry.resp.GetCall().GetResult(), first.resp.GetCall().GetResult()) {
		t.Fatalf("%s: first %v, retry %v", what, first.resp, retry.resp)
	}
}

// counted is a counter's value on a range.
func (c *testCluster) counted(id ids.RangeID, k string) uint64 {
	c.t.Helper()
	return number([]byte(c.ok(id, get(k)).value()))
}

// Rule B1: 7 and 8 are in flight, 8 is applied first; 7 is no duplicate. A number below the floor is refused.
func TestB1NumbersComeInAnyOrder(t *testing.T) {
	c := newTestCluster(t, 1)
	c.eval = addOne
	s := newTestSession(1, c.node(1).clock.Now())
	eight := c.ok(testRange, s.with(8, call("add", "n", "")))
	seven := c.ok(testRange, s.with(7, call("add", "n", "")))
	if number(seven.resp.GetCall().Result) != 2 {
		t.Fatal("7 was taken for a duplicate of 8")
	}
	same(t, "8", eight, c.ok(testRange, s.with(8, call("add", "n", ""))))
	same(t, "7", seven, c.ok(testRange, s.with(7, call("add", "n", ""))))
	s.floor = 8
	c.ok(testRange, s.with(9, call("add", "n", "")))
	late := c.do(c.node(1), testRange, s.with(7, call("add", "n", "")))
	if !errors.Is(late.err(), api.ErrSessionExpired) {
		t.Fatalf("a number below the floor: %v", late.err())
	}
	same(t, "8 at the floor", eight, c.ok(testRange, s.with(8, call("add", "n", ""))))
	if n := c.counted(testRange, "n"); n != 3 {
		t.Fatalf("counted %d", n)
	}
}

// Rule B1 on the leader that follows: floor and results are in the range's records.
func TestB1SessionsSurviveLeaders(t *testing.T) {
	c := newTestCluster(t, 3)
	c.eval = addOne
	s := newTestSession(1, c.node(1).clock.Now())
	five := c.ok(testRange, s.with(5, call("add", "n", "")))
	s.floor = 5
	six := c.ok(testRange, s.with(6, call("add", "n", "")))
	c.elect(testRange, 2)
	same(t, "5", five, c.ok(testRange, s.with(5, call("add", "n", ""))))
	same(t, "6", six, c.ok(testRange, s.with(6, call("add", "n", ""))))
	below := c.do(c.node(2), testRange, s.with(4, call("add", "n", "")))
	if !errors.Is(below.err(), api.ErrSessionExpired) {
		t.Fatalf("below the floor: %v", below.err())
	}
	c.tick(3)
	c.equal(testRange)
}

// Rule B2: number 5 is applied, its reply lost, the record expires, the retry must not run again.
func TestB2ARetryAfterTheWindowIsRefused(t *testing.T) {
	c := newTestCluster(t, 1)
	c.eval = addOne
	n := c.node(1)
	maxOffset := n.clock.MaxOffset()
	s := newTestSession(1, n.clock.Now())
	first := c.ok(testRange, s.with(5, call("add", "n", "")))
	records := func() int {
		k, _, err := keysIn(n.engine, localSpan(testRange, suffixSession), n.replica(testRange).snapshot().visible, 100)
		c.must(err)
		return len(k)
	}
	// As long as a retry may come, the record stays: to the window's end and a clock offset more.
	c.pass(SessionWindow)
	c.ok(testRange, put("other", "1"))
	same(t, "at the end of the window", first, c.ok(testRange, s.with(5, call("add", "n", ""))))
	c.pass(maxOffset)
	c.ok(testRange, put("other", "2"))
	if records() != 1 {
		t.Fatalf("%d session records: dropped before no command can belong to it", records())
	}
	c.pass(time.Second)
	c.ok(testRange, put("other", "3"))
	if records() != 0 {
		t.Fatalf("%d session records are left", records())
	}
	retry := c.do(n, testRange, s.with(5, call("add", "n", "")))
	if !errors.Is(retry.err(), api.ErrSessionExpired) {
		t.Fatalf("the retry: %v", retry.err())
	}
	if got := c.counted(testRange, "n"); got != 1 {
		t.Fatalf("counted %d", got)
	}
	future := newTestSession(2, n.clock.Now().Add(maxOffset+time.Minute))
	p := c.do(n, testRange, future.with(1, call("add", "n", "")))
	want[*api.ClockOffsetError](t, "first attempt in the future", p.err())
}

// Rule B3: a full table refuses new commands and forgets none; a large result is kept as a fact only.
func TestB3AFullTableRefuses(t *testing.T) {
	c := newTestCluster(t, 1, func(o *Options) { o.MaxSessionBytes = 1000 })
	c.eval = addOne
	n := c.node(1)
	var sessions []*testSession
	var firsts []*pending
	for i := range 30 {
		s := newTestSession(byte(i+1), n.clock.Now())
		p := c.do(n, testRange, s.with(1, call("add", "n", "")))
		if p.err() != nil {
			e := want[*api.OverloadedError](t, "a full table", p.err())
			if e.RetryAfter <= 0 {
				t.Fatal("no word of when to come again")
			}
			break
		}
		sessions, firsts = append(sessions, s), append(firsts, p)
	}
	if len(sessions) < 2 || len(sessions) > 20 {
		t.Fatalf("%d sessions fit", len(sessions))
	}
	for i, s := range sessions {
		same(t, fmt.Sprint("session ", i), firsts[i], c.ok(testRange, s.with(1, call("add", "n", ""))))
	}
	if got := c.counted(testRange, "n"); got != uint64(len(sessions)) {
		t.Fatalf("counted %d for %d commands", got, len(sessions))
	}
}

func TestB3LargeResultsAreNotKept(t *testing.T) {
	c := newTestCluster(t, 1)
	ran := 0
	c.eval = func(call *locuspb.CallRequest, tx Tx) (*locuspb.CallResponse, error) {
		ran++
		return &locuspb.CallResponse{Result: make([]byte, 5000)}, tx.Put(call.Key, []byte("x"), 0)
	}
	s := newTestSession(1, c.node(1).clock.Now())
	c.ok(testRange, s.with(1, call("big", "k", "")))
	retry := c.do(c.node(1), testRange, s.with(1, call("big", "k", "")))
	if !errors.Is(retry.err(), api.ErrResultNotKept) || ran != 1 {
		t.Fatalf("%v after %d runs", retry.err(), ran)
	}
}

// Rule B4: a retry of a command in the overlay runs nothing and is answered only once that is applied; if it never
// is, neither was answered. One record is written per session and entry.
func TestB4ResultsInTheOverlayCount(t *testing.T) {
	c := newTestCluster(t, 3)
	ran := 0
	c.eval = func(call *locuspb.CallRequest, tx Tx) (*locuspb.CallResponse, error) {
		ran++
		return addOne(call, tx)
	}
	lead := c.leaseholder(testRange)
	s := newTestSession(1, lead.clock.Now())
	lead.exec.hold(true, QueueApply)
	first := lead.send(testRange, s.with(1, call("add", "n", "")))
	c.settle()
	retry := lead.send(testRange, s.with(1, call("add", "n", "")))
	c.settle()
	if first.answered() || retry.answered() || ran != 1 {
		t.Fatalf("answered %v, %v before applied; ran %d times", first.answered(), retry.answered(), ran)
	}
	lead.exec.hold(false, QueueApply)
	c.settle()
	c.must(first.err())
	same(t, "retry", first, retry)

	// Three commands of one session in one entry, and a retry among them.
	lead.exec.hold(true, QueueEval)
	var ps []*pending
	for _, number := range []uint64{2, 3, 2, 4} {
		ps = append(ps, lead.send(testRange, s.with(number, call("add", "n", ""))))
	}
	before := lead.replica(testRange).snapshot()
	lead.exec.hold(false, QueueEval)
	c.settle()
	for _, p := range ps {
		c.must(p.err())
	}
	same(t, "retry in one batch", ps[0], ps[2])
	after := lead.replica(testRange).snapshot()
	if after.applied.Count != before.applied.Count+1 || ran != 4 {
		t.Fatalf("%d entries, %d runs", after.applied.Count-before.applied.Count, ran)
	}
	old, _, err := keysIn(lead.engine, localSpan(testRange, suffixSession), before.visible, 100)
	c.must(err)
	now, _, err := keysIn(lead.engine, localSpan(testRange, suffixSession), after.visible, 100)
	c.must(err)
	if len(now) != len(old)+1 {
		t.Fatalf("%d session records became %d", len(old), len(now))
	}
}

// Rule B4: the retry of a command that is lost with its leader must not have been answered.
func TestB4ARetryOnALostEntryIsNotAnswered(t *testing.T) {
	c := newTestCluster(t, 3)
	c.eval = addOne
	old := c.leaseholder(testRange)
	s := newTestSession(1, old.clock.Now())
	c.cut(old.id)
	first := old.send(testRange, s.with(1, call("add", "n", "")))
	c.settle()
	retry := old.send(testRange, s.with(1, call("add", "n", "")))
	c.settle()
	if first.answered() || retry.answered() {
		t.Fatal("answered what is not committed")
	}
	c.elect(testRange, old.id%3+1)
	c.heal()
	c.tick(3)
	want[*api.RetryError](t, "first", first.err())
	want[*api.RetryError](t, "retry", retry.err())
	c.ok(testRange, s.with(1, call("add", "n", "")))
	if got := c.counted(testRange, "n"); got != 1 {
		t.Fatalf("counted %d", got)
	}
}

// Rule B5: a split copies the table to both sides, and the child's own first record takes nobody's place.
func TestB5SplitsCopySessions(t *testing.T) {
	c := newTestCluster(t, 3)
	c.eval = addOne
	s := newTestSession(1, c.node(1).clock.Now())
	s.floor = 3
	left := c.ok(testRange, s.with(3, call("add", "a", "")))
	right := c.ok(testRange, s.with(4, call("add", "z", "")))
	c.split(testRange, "m", 100)
	same(t, "left", left, c.ok(testRange, s.with(3, call("add", "a", ""))))
	same(t, "right", right, c.ok(100, s.with(4, call("add", "z", ""))))
	below := c.do(c.leaseholder(100), 100, s.with(2, call("add", "z", "")))
	if !errors.Is(below.err(), api.ErrSessionExpired) {
		t.Fatalf("the child forgot the floor: %v", below.err())
	}
	// The child writes first records of its own, of this session and of another; then its leader changes, so that
	// the table is read from the records.
	five := c.ok(100, s.with(5, call("add", "z", "")))
	other := newTestSession(2, c.node(1).clock.Now())
	c.ok(100, other.with(1, call("add", "z", "")))
	lead := c.leaseholder(100)
	c.elect(100, lead.id%3+1)
	same(t, "inherited", right, c.ok(100, s.with(4, call("add", "z", ""))))
	same(t, "its own", five, c.ok(100, s.with(5, call("add", "z", ""))))
	if a, z := c.counted(testRange, "a"), c.counted(100, "z"); a != 1 || z != 3 {
		t.Fatalf("a=%d z=%d", a, z)
	}
	c.tick(3)
	c.equal(testRange)
	c.equal(100)
}

// Rule B5: a snapshot carries the table.
func TestB5SnapshotsCarrySessions(t *testing.T) {
	c := newTestCluster(t, 3)
	c.eval = addOne
	c.removeOn(testRange, 3)
	c.tick(3)
	s := newTestSession(1, c.node(1).clock.Now())
	s.floor = 2
	first := c.ok(testRange, s.with(2, call("add", "n", "")))
	before := c.node(3).Collect().SnapshotsApplied
	c.addVoter(testRange, 3)
	if c.node(3).Collect().SnapshotsApplied == before {
		t.Fatal("the replica came without a snapshot")
	}
	c.elect(testRange, 3)
	same(t, "after the snapshot", first, c.ok(testRange, s.with(2, call("add", "n", ""))))
	below := c.do(c.node(3), testRange, s.with(1, call("add", "n", "")))
	if !errors.Is(below.err(), api.ErrSessionExpired) {
		t.Fatalf("the floor was lost: %v", below.err())
	}
	c.tick(2)
	c.equal(testRange)
}

// The session table by itself: what it keeps in memory is what its records say, whatever came in which order.
func TestSessionTableMatchesItsRecords(t *testing.T) {
	e := engine.NewMemory(engine.Limits{})
	live := newSessionTable()
	seq := ids.Seq(0)
	for i := range uint64(200) {
		id := sessionID{byte(i % 7)}
		d := &sessionDelta{TS: hlc.Timestamp(1000 + i), Floor: i / 3}
		for k := range i % 4 {
			d.Results = append(d.Results, sessionResult{Number: i/2 + k, Place: uint32(k), Kind: resultApplied, Result: make([]byte, i%5), TS: d.TS})
		}
		seq++
		b := engine.Batch{Seq: seq}
		for _, w := range live.record(id, i, d) {
			b.Ops = append(b.Ops, engine.Op{Key: localKey(7, w.Suffix...), Value: w.Value, Delete: w.Value == nil})
		}
		if err := e.Apply([]engine.Batch{b}); err != nil {
			t.Fatal(err)
		}
	}
	loaded, err := loadSessions(e, 7, seq)
	if err != nil {
		t.Fatal(err)
	}
	for id, s := range live.sessions {
		l := loaded.sessions[id]
		if l == nil || l.floor != s.floor || l.lastUse != s.lastUse || len(l.results) != len(s.results) || len(l.records) != len(s.records) {
			t.Fatalf("session %x: live %+v, loaded %+v", id[:1], s, l)
		}
		for n, r := range s.results {
			if got := l.results[n]; got == nil || got.TS != r.TS || got.Place != r.Place || len(got.Result) != len(r.Result) {
				t.Fatalf("session %x number %d: live %+v, loaded %+v", id[:1], n, r, got)
			}
		}
	}
	if live.bytes != loaded.bytes {
		t.Fatalf("live %d bytes, loaded %d", live.bytes, loaded.bytes)
	}
}

// Rule B1: a retry was refused while its first attempt was still on its way through the network. That must not succeed
// after the client has been told of the refusal.
func TestB1ARefusedRetryRefusesTheFirstAttempt(t *testing.T) {
	c := newTestCluster(t, 3)
	c.ok(testRange, put("x", "1"))
	s := newTestSession(1, c.node(1).clock.Now())
	first := s.with(1, cas("x", "2", "mine")) // delayed
	retry := s.with(1, cas("x", "2", "mine"))
	retry.Session.Retry = true
	p := c.do(c.leaseholder(testRange), testRange, retry)
	refused := want[*api.ConditionError](t, "the retry", p.err())
	c.ok(testRange, put("x", "2")) // now it would succeed
	c.elect(testRange, 2)
	q := c.do(c.leaseholder(testRange), testRange, first)
	again := want[*api.ConditionError](t, "the first attempt", q.err())
	if string(again.Value) != string(refused.Value) || c.ok(testRange, get("x")).value() != "2" {
		t.Fatalf("refused with %+v, then with %+v", refused, again)
	}
}
