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
