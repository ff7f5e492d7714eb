package raftstore

import (
	"testing"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
)

// Rule C4: a clock is judged by the median of all that are heard, its own among them.
func TestJudgeClock(t *testing.T) {
	const tolerance = 250 * time.Millisecond
	ms := func(by ...int) []clockOffset {
		var out []clockOffset
		for _, b := range by {
			out = append(out, clockOffset{by: time.Duration(b) * time.Millisecond, doubt: 10 * time.Millisecond})
		}
		return out
	}
	const hour = 3_600_000
	for _, tc := range []struct {
		name   string
		others []clockOffset
		want   clockVerdict
		median int // ms
	}{
		{"nobody heard", nil, clockUnjudged, 0},
		{"one other agrees", ms(400), clockRight, 400},
		{"one other differs: who is wrong?", ms(hour), clockUnjudged, hour},
		{"two others agree with each other", ms(hour, hour+20), clockOff, hour},
		{"and behind", ms(-hour, -hour-20), clockOff, -hour},
		{"one of two is wrong", ms(hour, 20), clockRight, 20},
		{"both are, in different ways", ms(hour, -hour), clockRight, 0},
		{"just right", ms(187, 300), clockRight, 187},
		{"neither", ms(220, 300), clockUnjudged, 220},
		{"beyond, but for the doubt", ms(255, 300), clockUnjudged, 255},
		{"beyond", ms(261, 300), clockOff, 261},
		{"two of three are wrong: the nearer of the middle ones counts", ms(hour, hour, 0), clockRight, 0},
		{"three agree", ms(hour, hour, hour), clockOff, hour},
		{"two of four are wrong", ms(hour, hour, 5, 6), clockRight, 6},
		{"three of four are wrong alike", ms(hour, hour, hour, 5), clockOff, hour},
	} {
		verdict, median := judgeClock(tc.others, tolerance)
		if verdict != tc.want || median != time.Duration(tc.median)*time.Millisecond {
			t.Errorf("%s: verdict %d, median %s; want %d, %d ms", tc.name, verdict, median, tc.want, tc.median)
		}
	}
}

// What a round trip says of another clock is within its doubt, however the time is spread over its ways.
func TestProbedIsWithinItsDoubt(t *testing.T) {
	const offset, asked = 7 * time.Second, 100 * time.Second
	for _, there := range []time.Duration{0, time.Millisecond, 40 * time.Millisecond} {
		for _, back := range []time.Duration{0, time.Millisecond, 40 * time.Millisecond} {
			c := probed(asked, asked+there+back, asked+there+offset)
			if (c.ahead - offset).Abs() > c.doubt {
				t.Errorf("there %s, back %s: %s ahead, give or take %s; it is %s", there, back, c.ahead, c.doubt, offset)
			}
		}
	}
	old := clockSample{ahead: 0, doubt: 10 * time.Millisecond, asked: 0}
	for _, tc := range []struct {
		sample clockSample
		want   bool
	}{
		{clockSample{ahead: 5 * time.Millisecond, doubt: 40 * time.Millisecond, asked: time.Second}, true},   // the old one's doubt has grown to 60
		{clockSample{ahead: 5 * time.Millisecond, doubt: 100 * time.Millisecond, asked: time.Second}, false}, // it is still better
		{clockSample{ahead: time.Hour, doubt: 100 * time.Millisecond, asked: time.Second}, true},             // that clock was set
	} {
		if got := tc.sample.better(old, time.Second, 0.05); got != tc.want {
			t.Errorf("%+v after %+v: %v", tc.sample, old, got)
		}
	}
}

// steadily gives stores clocks that leave out steps, as in production.
func steadily(n *testNode) func(*Options) {
	return func(o *Options) {
		o.Clock = hlc.NewSteadyClock(func() time.Time { return n.wall }, func() time.Duration { return n.mono }, 0)
	}
}

// newSteadyCluster is a cluster whose stores have such clocks, each confirmed.
func newSteadyCluster(t *testing.T, n int) *testCluster {
	c := newTestCluster(t, n)
	for _, node := range c.nodes {
		node.tune = steadily(node)
		node.crash(true)
		node.start()
	}
	c.tick(30)
	c.awaitLead(testRange) // they lost it together
	for _, node := range c.nodes {
		if n > 1 && node.clocks.off.Load() || !node.clock.Anchored() {
			t.Fatalf("store %s: its clock is not confirmed", node.id)
		}
	}
	return c
}

// sane fails the test if a timestamp is far from what most clocks say.
func (c *testCluster) sane(what string, ts hlc.Timestamp, of *testNode) {
	c.t.Helper()
	if d := ts.Time().Sub(of.wall); d.Abs() > hlc.DefaultMaxOffset {
		c.t.Fatalf("%s: %s is %s from the time of day", what, ts, d)
	}
}

// Rule C4: a leader's wall clock jumps by an hour. It evaluates nothing from that moment on, gives up its lead, and follows;
// none of its timestamps is an hour ahead; once its clock is right it may lead again.
func TestC4AStoreWhoseClockJumpsLeadsNothing(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, -time.Hour, 300 * time.Millisecond} {
		t.Run(jump.String(), func(t *testing.T) {
			c := newSteadyCluster(t, 3)
			c.ok(testRange, put("x", "0"))
			old := c.leaseholder(testRange)
			other := c.node(old.id%3 + 1)
			before := old.Collect().EvaluatedBatches
			old.wall = old.wall.Add(jump)
			p := c.do(old, testRange, put("x", "1"))
			want[*api.NotLeaseholderError](t, "a write in the moment of the jump", p.err())
			if r := old.replica(testRange).snapshot(); r.isLeader && !r.leaseVoid {
				t.Fatal("it leads, with a lease")
			}
			c.sane("the hint", old.clock.Hint(), other)
			c.awaitLead(testRange)
			c.tick(15)
			if lead := c.leaseholder(testRange); lead == old {
				t.Fatal("it leads still")
			}
			if st := old.ClockState(); !st.Off || (st.Ahead-jump).Abs() > 50*time.Millisecond {
				t.Fatalf("it says of its clock: %+v", st)
			}
			w := c.ok(testRange, put("x", "2"))
			c.sane("a write", w.ts(), other)
			c.tick(1)
			c.equal(testRange) // it follows
			if after := old.Collect().EvaluatedBatches; after != before {
				t.Fatalf("it evaluated %d batches", after-before)
			}
			c.sane("its clock", old.clock.Now(), other)

			old.wall = old.wall.Add(-jump)
			c.tick(3)
			if st := old.ClockState(); st.Off {
				t.Fatal("it is off though its clock is right")
			}
			c.elect(testRange, old.id)
			c.sane("its next write", c.ok(testRange, put("x", "3")).ts(), other)
			c.healthy()
		})
	}
}

// Rule C4: a store that starts with a wrong clock neither campaigns nor tells anybody its time, and takes over no lead that
// it is handed; the leader tries another.
func TestC4AStoreThatStartsWithAWrongClock(t *testing.T) {
	c := newSteadyCluster(t, 3)
	lead := c.leaseholder(testRange)
	wrong := c.node(lead.id%3 + 1)
	wrong.crash(true)
	wrong.wall = wrong.wall.Add(time.Hour)
	wrong.start()
	if h := wrong.clock.Hint(); h != 0 {
		t.Fatalf("unconfirmed, it says %s", h)
	}
	if now := wrong.clock.Now(); now.Time().After(lead.wall) {
		t.Fatalf("unconfirmed, it gives %s", now)
	}
	if !wrong.clocks.off.Load() {
		t.Fatal("unconfirmed, it would lead")
	}
	c.tick(15)
	if !wrong.ClockState().Off {
		t.Fatal("it takes its clock for right")
	}
	c.sane("the hint", wrong.clock.Hint(), lead)
	// Its leader is gone for longer than an election takes.
	third := c.node(wrong.id%3 + 1)
	c.cut(lead.id)
	term := c.info(testRange, third.id).Term
	c.tick(40, wrong.id)
	if got := c.info(testRange, third.id).Term; got != term {
		t.Fatalf("it campaigned: from term %d to %d", term, got)
	}
	c.tick(40)
	if got := c.leaseholder(testRange); got != third {
		t.Fatalf("store %s leads, not %s", got.id, third.id)
	}
	c.heal()
	c.tick(20)
	term = c.info(testRange, third.id).Term
	_, op := c.operator(testRange)
	op.Step = &locuspb.Operator_Transfer{Transfer: &locuspb.TransferLease{StoreId: uint64(wrong.id)}}
	c.must(c.operate(third, op))
	c.tick(20)
	if got := c.info(testRange, third.id).Term; got != term {
		t.Fatalf("it took the lead that it was handed: from term %d to %d", term, got)
	}
	c.ok(testRange, put("x", "1"))

	// Two clocks are wrong in their own ways, the leader's and that of whom it would hand its lead to first.
	wrong.wall, lead.wall = wrong.wall.Add(-time.Hour), lead.wall.Add(time.Hour)
	c.tick(15)
	third.wall = third.wall.Add(-time.Hour)
	c.tick(60)
	if got := c.leaseholder(testRange); got != wrong {
		t.Fatalf("store %s leads, not the only one whose clock is right", got.id)
	}
	c.sane("a write", c.ok(testRange, put("x", "2")).ts(), wrong)
	c.healthy()
}

// Rule C4: a store whose clock is off and whom nobody relieves of its lead gives nobody its time, and sends everybody away;
// but for the ranges that nobody else could lead.
func TestC4ALeaderWhomNobodyRelieves(t *testing.T) {
	c := newSteadyCluster(t, 3)
	if c.leaseholder(testRange).id != 1 {
		c.elect(testRange, 1)
	}
	n := c.node(1)
	c.lose = func(l letter) bool { return l.env.Probe == nil && messageType(t, l) == "MsgTimeoutNow" }
	n.wall = n.wall.Add(time.Hour)
	for range 15 {
		p := c.do(n, testRange, put("x", "1"))
		want[*api.NotLeaseholderError](t, "a write", p.err())
		if e := want[*api.NotLeaseholderError](t, "a write", p.err()); e.Leaseholder != 0 {
			t.Fatalf("it sends to store %s", e.Leaseholder)
		}
		clock := &locuspb.Request{Op: &locuspb.Request_ClockAt{ClockAt: &locuspb.ClockRequest{}}}
		want[*api.NotLeaseholderError](t, "its clock", c.do(n, testRange, clock).err())
		if p = c.do(n, TailRange, clock); p.err() != nil {
			t.Fatalf("a range with no other voter: %v", p.err())
		}
		c.sane("its clock", p.ts(), c.node(2))
		c.tick(1)
	}
	if i := c.info(testRange, n.id); !i.Leaseholder || i.LeaseUntil != 0 {
		t.Fatalf("it does not lead, or has a lease: %+v", i)
	}
	c.lose = nil
	c.tick(15)
	if c.leaseholder(testRange) == n {
		t.Fatal("it leads still")
	}
	c.ok(testRange, put("x", "2"))
	c.healthy()
}

// Rule C4: with one other heard nothing can be concluded against a clock that was confirmed: two of three stores go on
// although one of them, or the other, is wrong. But whoever sees its own wall clock step knows that it may be the one.
func TestC4TwoOfThree(t *testing.T) {
	c := newSteadyCluster(t, 3)
	lead := c.leaseholder(testRange)
	other, gone := c.node(lead.id%3+1), c.node((lead.id+1)%3+1)
	gone.crash(true)
	c.tick(15)
	other.wall = other.wall.Add(time.Hour)
	c.tick(30)
	if got := c.leaseholder(testRange); got != lead || lead.ClockState().Off {
		t.Fatalf("store %s leads; store %s, whose clock is right, is off: %v", got.id, lead.id, lead.ClockState().Off)
	}
	if !other.ClockState().Off {
		t.Fatal("who stepped does not doubt itself")
	}
	c.ok(testRange, put("x", "1"))
	// Confirmed anew by the one that is left.
	other.wall = other.wall.Add(-time.Hour + 300*time.Millisecond)
	c.tick(15)
	if other.ClockState().Off {
		t.Fatal("it is off though the other confirms it")
	}
	c.elect(testRange, other.id)
	c.healthy()
}

// Rule C4: the only store follows its wall clock as ever, at once.
func TestC4TheOnlyStoreFollowsItsClock(t *testing.T) {
	c := newSteadyCluster(t, 1)
	n := c.node(1)
	n.wall = n.wall.Add(time.Hour)
	if w := c.ok(testRange, put("x", "1")); w.ts().Time().Sub(n.wall).Abs() > time.Second {
		t.Fatalf("wrote at %s, the clock shows %s", w.ts(), n.wall)
	}
	if n.ClockState().Off {
		t.Fatal("there is nobody to compare with")
	}
}

// Rule C4: from the moment on at which it has another voter its clock is one of several, also if it jumps before it has
// asked anybody.
func TestC4WhoIsNotAloneAnyMore(t *testing.T) {
	c := newSteadyCluster(t, 2)
	n := c.node(1)
	if c.leaseholder(testRange) != n {
		c.elect(testRange, n.id)
	}
	c.removeOn(testRange, 2)
	c.tick(30)
	if !n.clocks.mu.alone || len(n.clocks.mu.peers) > 0 {
		t.Fatal("it is not alone")
	}
	for _, id := range []ids.RangeID{1, testRange, 3} {
		c.addVoter(id, 2)
	}
	n.wall = n.wall.Add(time.Hour)
	p := c.do(n, testRange, put("x", "1"))
	if err := p.err(); err == nil {
		c.sane("a write", p.ts(), c.node(2))
	} else {
		want[*api.NotLeaseholderError](t, "a write in the moment of the jump", err)
	}
	if n.clock.Now().Time().Sub(c.node(2).wall) > time.Minute {
		t.Fatal("it believed its clock")
	}
}

// Rule C4: a store that has just started does not know the time of day yet, also where it is the only voter: what it wrote
// by a clock that stands where the log ends would have expired before its time.
func TestC4NothingIsWrittenBeforeTheTimeIsKnown(t *testing.T) {
	c := newSteadyCluster(t, 1)
	n := c.node(1)
	c.ok(testRange, put("x", "1"))
	n.crash(false) // what has to be applied again hides whether there are other voters
	c.elapse(time.Hour)
	n.start()
	lives := put("y", "1")
	lives.GetWrite().Mutations[0].TtlMs = time.Minute.Milliseconds()
	var w *pending
	for range 30 {
		if w == nil || w.answered() && w.err() != nil {
			w = n.send(testRange, lives)
		}
		c.tick(1)
	}
	c.must(w.err())
	if d := n.wall.Sub(w.ts().Time()); d > 10*time.Second {
		t.Fatalf("what was written after the start is %s old", d)
	}
	if v := c.ok(testRange, get("y")).value(); v != "1" {
		t.Fatalf("a write that lives a minute reads %q", v)
	}
}

// Answers that come late say little, and answers to another process nothing.
func TestLateProbes(t *testing.T) {
	c := newSteadyCluster(t, 3)
	n, from := c.node(1), ids.StoreID(2)
	before := n.clocks.mu.samples[from]
	wall := n.wall.Add(time.Hour).UnixNano()
	for name, p := range map[string]*locuspb.ClockProbe{
		"from the future":   {Incarnation: n.incarnation, Asked: int64(n.mono + time.Second), Wall: wall},
		"another process's": {Incarnation: n.incarnation + 2, Asked: int64(n.mono), Wall: wall},
		"before the start":  {Incarnation: n.incarnation, Asked: int64(n.started - 1), Wall: wall},
	} {
		n.heardProbe(from, p)
		if got := n.clocks.mu.samples[from]; got != before {
			t.Errorf("%s: %+v", name, got)
		}
	}
	n.heardProbe(77, &locuspb.ClockProbe{Incarnation: n.incarnation, Asked: int64(n.mono), Wall: wall})
	if _, ok := n.clocks.mu.samples[77]; ok {
		t.Error("a store without a range in common counts")
	}
	// Ten seconds on its way: its doubt makes it worthless.
	n.heardProbe(from, &locuspb.ClockProbe{Incarnation: n.incarnation, Asked: int64(n.mono - 10*time.Second), Wall: wall})
	if n.ClockState().Off || c.leaseholder(testRange) == nil {
		t.Error("a late answer counts")
	}
}
