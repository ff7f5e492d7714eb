package sim

import (
	"slices"
	"testing"
	"time"
)

func TestClockRunsAtItsOwnRate(t *testing.T) {
	w := NewWorld(1)
	c := w.NewClock(time.Second)
	advance := func(d time.Duration) { w.RunUntil(w.Now()+d, nil) }
	check := func(mono, wall time.Duration) {
		t.Helper()
		if c.Monotonic() != mono || c.Wall() != wall {
			t.Fatalf("monotonic %s, wall %s; want %s and %s", c.Monotonic(), c.Wall(), mono, wall)
		}
	}
	advance(10 * time.Second)
	check(10*time.Second, 11*time.Second)
	c.SetRate(50_000)
	advance(100 * time.Second)
	check(115*time.Second, 116*time.Second)
	c.SetRate(-100_000)
	advance(10 * time.Second)
	check(124*time.Second, 125*time.Second)
	c.Jump(-time.Hour)
	check(124*time.Second, 125*time.Second-time.Hour)
	c.Discipline(time.Millisecond)
	check(124*time.Second, w.Now()-time.Millisecond)
	for _, ppm := range []int64{0, 1, 333_333, -333_333} {
		c.SetRate(ppm)
		before := c.Monotonic()
		advance(c.Real(100 * time.Millisecond))
		if got := c.Monotonic() - before; got < 100*time.Millisecond || got > 100*time.Millisecond+2 {
			t.Fatalf("at %d ppm the clock advanced by %s", ppm, got)
		}
	}
}

// What comes due in a pause runs after it, in order, and messages with it; the dead stay silent.
func TestPausedLifeWaits(t *testing.T) {
	w := NewWorld(2)
	l := w.NewLife(nil)
	var ran []int
	l.After(time.Second, "first", func() { ran = append(ran, 1) })
	q := l.NewQueue("q")
	l.Pause()
	q.Post(func() { ran = append(ran, 0); q.Post(func() { ran = append(ran, 3) }) })
	w.After(2*time.Second, "message", func() { l.Deliver("message", func() { ran = append(ran, 2) }) })
	w.RunUntil(time.Minute, nil)
	if len(ran) != 0 {
		t.Fatalf("%v ran in a pause", ran)
	}
	l.Resume()
	w.RunUntil(2*time.Minute, nil)
	if !slices.Equal(ran, []int{0, 1, 2, 3}) && !slices.Equal(ran, []int{0, 3, 1, 2}) && !slices.Equal(ran, []int{0, 1, 3, 2}) {
		t.Fatalf("ran %v", ran)
	}
	l.Pause()
	l.Deliver("message", func() { ran = nil })
	l.End()
	l.Resume()
	w.RunUntil(3*time.Minute, nil)
	if len(ran) != 4 {
		t.Fatal("an ended life ran")
	}
}

// A step that yields lets others run, not those behind it in its queue; one that is ended there goes no further, and
// its deferred calls are made.
func TestYield(t *testing.T) {
	w := NewWorld(4)
	defer w.Close()
	l := w.NewLife(func(string) time.Duration { return time.Millisecond })
	var ran []string
	note := func(s string) { ran = append(ran, s) }
	q := l.NewQueue("q")
	q.Post(func() { note("a1"); l.Yield(); note("a2"); l.Yield(); note("a3") })
	q.Post(func() { note("b") })
	l.After(1500*time.Microsecond, "other", func() { note("other") })
	w.RunUntil(time.Second, nil)
	if want := []string{"a1", "other", "a2", "a3", "b"}; !slices.Equal(ran, want) || l.Busy("q") {
		t.Fatalf("ran %v, want %v", ran, want)
	}
	ran = nil
	q.Post(func() { defer note("deferred"); l.Yield(); note("never") })
	l.After(1500*time.Microsecond, "kill", func() {
		if !l.Busy("q") {
			t.Error("nothing is suspended")
		}
		l.End()
	})
	w.RunUntil(2*time.Second, nil)
	if want := []string{"deferred"}; !slices.Equal(ran, want) {
		t.Fatalf("ran %v, want %v", ran, want)
	}
	ran = nil
	m := w.NewLife(nil)
	m.Deliver("suicide", func() { defer note("deferred"); m.End(); m.Yield(); note("never") })
	w.After(0, "nobody's", m.Yield)
	w.RunUntil(3*time.Second, nil)
	if want := []string{"deferred"}; !slices.Equal(ran, want) {
		t.Fatalf("ran %v, want %v", ran, want)
	}
}

// A step that is suspended when a run ends goes on in a later one, which is asked once for each event that it runs.
func TestYieldAcrossRuns(t *testing.T) {
	w := NewWorld(6)
	defer w.Close()
	l := w.NewLife(func(string) time.Duration { return time.Millisecond })
	var ran []string
	after := func(what string) { l.Stepped = func(string) { ran = append(ran, what) } }
	l.After(0, "step", func() {
		ran = append(ran, "a1")
		l.Yield()
		ran = append(ran, "a2")
		l.Yield()
		ran = append(ran, "a3")
	})
	for i := range 3 {
		w.After(time.Duration(i)*time.Millisecond, "other", func() { ran = append(ran, "other") })
	}
	after("first run")
	w.RunUntil(time.Hour, func() bool { return len(ran) >= 2 })
	if want := []string{"a1", "first run"}; !slices.Equal(ran, want) {
		t.Fatalf("ran %v, want %v", ran, want)
	}
	after("second run")
	asked := 0
	w.RunUntil(time.Hour, func() bool { asked++; return false })
	want := []string{"a1", "first run", "other", "other", "a2", "second run", "other", "a3", "second run"}
	if !slices.Equal(ran, want) || asked != 5 {
		t.Fatalf("asked %d times, ran %v, want %v", asked, ran, want)
	}
	w.After(0, "nested", func() { w.RunUntil(time.Hour, nil) })
	var p any
	func() {
		defer func() { p = recover() }()
		w.Step()
	}()
	if p == nil {
		t.Fatal("an event ran its own world")
	}
}

// A panic in a step comes out where the world is stepped, or where it is caught.
func TestPanicInAStep(t *testing.T) {
	w := NewWorld(5)
	defer w.Close()
	l := w.NewLife(nil)
	var caught []any
	l.Panicked = func(p any) bool { caught = append(caught, p); return p == "mine" }
	l.Deliver("step", func() { l.Yield(); panic("mine") })
	w.RunUntil(time.Second, nil)
	func() {
		defer func() { caught = append(caught, recover()) }()
		l.Deliver("step", func() { panic("other") })
	}()
	if !slices.Equal(caught, []any{"mine", "other", "other"}) {
		t.Fatalf("caught %v", caught)
	}
}
