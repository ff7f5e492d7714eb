package sim

import (
	"slices"
	"testing"
	"time"
)

// A queue keeps its steps in order, whatever the others do meanwhile, and queues do interleave.
func TestQueuesKeepTheirOrderAndInterleave(t *testing.T) {
	w := NewWorld(1)
	l := w.NewLife(nil)
	var ran []int
	a, b := l.NewQueue("a"), l.NewQueue("b")
	for i := range 100 {
		a.Post(func() { ran = append(ran, i) })
		b.Post(func() { ran = append(ran, 1000+i) })
	}
	w.RunUntil(time.Hour, nil)
	var as, bs []int
	switches := 0
	for i, x := range ran {
		if x < 1000 {
			as = append(as, x)
		} else {
			bs = append(bs, x)
		}
		if i > 0 && (x < 1000) != (ran[i-1] < 1000) {
			switches++
		}
	}
	if !slices.IsSorted(as) || !slices.IsSorted(bs) || len(as) != 100 || len(bs) != 100 {
		t.Fatalf("steps ran out of order: %v", ran)
	}
	if switches < 20 {
		t.Fatalf("two queues of 100 steps took turns only %d times", switches)
	}
}

// A step that posts to its own queue is not run before what was posted earlier.
func TestPostFromAStep(t *testing.T) {
	w := NewWorld(2)
	q := w.NewLife(nil).NewQueue("q")
	var ran []string
	q.Post(func() {
		ran = append(ran, "first")
		q.Post(func() { ran = append(ran, "third") })
	})
	q.Post(func() { ran = append(ran, "second") })
	w.RunUntil(time.Hour, nil)
	if !slices.Equal(ran, []string{"first", "second", "third"}) {
		t.Fatalf("ran %v", ran)
	}
}

// Nothing of a life that ended runs any more, timers included.
func TestEndedLifeIsSilent(t *testing.T) {
	w := NewWorld(3)
	l := w.NewLife(nil)
	q := l.NewQueue("q")
	ran := 0
	q.Post(func() { ran++; l.End(); q.Post(func() { ran++ }) })
	l.After(time.Second, "timer", func() { ran++ })
	w.RunUntil(time.Hour, nil)
	if ran != 1 {
		t.Fatalf("%d steps of an ended life ran", ran-1)
	}
}

// Equal seeds give equal runs, other seeds other ones.
func TestHashIdentifiesARun(t *testing.T) {
	run := func(seed uint64) (uint64, time.Duration) {
		w := NewWorld(seed)
		l := w.NewLife(nil)
		for range 3 {
			q := l.NewQueue("q")
			for range 50 {
				q.Post(func() { l.After(w.Between(0, time.Millisecond), "x", func() {}) })
			}
		}
		var last time.Duration
		for w.Step() {
			last = w.Now()
		}
		return w.Hash(), last
	}
	h1, t1 := run(7)
	h2, t2 := run(7)
	h3, _ := run(8)
	if h1 != h2 || t1 != t2 || h1 == h3 {
		t.Fatalf("hashes %x %x %x, ends %s %s", h1, h2, h3, t1, t2)
	}
}
