// Package sim runs a distributed system in one goroutine, in an order drawn from a seed.
//
// A World is a queue of events in simulated time. What production runs on workers is posted as steps to Queues,
// each step an event a random moment later, so that the steps of different queues interleave at random while those
// of one queue keep their order. Messages are events too. One seed gives one order: the World hashes what it runs,
// and a test that runs a seed twice compares the hashes.
//
// A Life is a process: it ends, it stands still for a while (Pause), and its Clock runs at a rate of its own.
//
// It knows nothing of what it runs.
package sim

import (
	"math/rand/v2"
	"time"
)

// World is simulated time and what happens in it.
type World struct {
	Rand *rand.Rand
	// Entered, if not nil, is called on each goroutine that plays steps; what it returns is called when that ends.
	Entered func() (left func())

	now    time.Duration
	due    []due   // a binary heap, of no pointers: most of what it does is to move them
	events []event // by slot; those that are vacant are zero
	vacant []int
	serial uint64
	hash   uint64
	steps  uint64

	current *coroutine   // that runs
	idle    []*coroutine // without a body
	parked  []*coroutine // that ran events, until it was another's turn
	turn    *coroutine   // whose turn it is (conduct)
	more    func() bool  // whether to run another event
	over    bool         // more said no
}

// NewWorld makes an empty world from a seed.
func NewWorld(seed uint64) *World {
	return &World{Rand: rand.New(rand.NewPCG(seed, 0x10c05)), hash: fnvOffset}
}

// Now is the simulated time since the beginning.
func (w *World) Now() time.Duration { return w.now }

// Steps counts the events that have run; Hash identifies their order and times.
func (w *World) Steps() uint64 { return w.steps }

// Hash is equal for equal runs.
func (w *World) Hash() uint64 { return w.hash }

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// Note mixes something that happened into the hash.
func (w *World) Note(what string) {
	h := uint64(fnvOffset)
	for i := range len(what) {
		h = (h ^ uint64(what[i])) * fnvPrime
	}
	w.mix(h)
}

func (w *World) mix(x uint64) { w.hash = (w.hash ^ x) * fnvPrime }

// After runs f once d has passed. label goes into the hash.
func (w *World) After(d time.Duration, label string, f func()) {
	w.push(d, nil, step{label: label, run: f})
}

func (w *World) push(d time.Duration, l *Life, s step) {
	w.serial++
	slot := len(w.events)
	if n := len(w.vacant); n > 0 {
		slot, w.vacant = w.vacant[n-1], w.vacant[:n-1]
	} else {
		w.events = append(w.events, event{})
	}
	w.events[slot] = event{life: l, step: s}
	w.due = append(w.due, due{at: w.now + max(d, 0), serial: w.serial, slot: slot})
	w.up(len(w.due) - 1)
}

// Step runs the next event; false if there is none.
func (w *World) Step() bool {
	if len(w.due) == 0 {
		return false
	}
	n := 0
	w.Run(func() bool { n++; return n == 1 })
	return true
}

func (w *World) step() {
	next := w.pop()
	e := w.events[next.slot]
	w.events[next.slot] = event{}
	w.vacant = append(w.vacant, next.slot)
	w.now = next.at
	w.steps++
	w.mix(uint64(next.at))
	w.Note(e.label)
	if e.life == nil {
		e.run()
	} else {
		e.life.do(e.step)
	}
}

// RunUntil runs events up to a time, or until stop, which is asked after each, says so.
func (w *World) RunUntil(t time.Duration, stop func() bool) {
	first, stopped := true, false
	w.Run(func() bool {
		if !first && stop != nil && stop() {
			stopped = true
		}
		first = false
		return !stopped && len(w.due) > 0 && w.due[0].at <= t
	})
	if !stopped {
		w.now = max(w.now, t)
	}
}

// Skip lets d pass in which nothing happens: all that is to come comes d later.
func (w *World) Skip(d time.Duration) {
	w.now += d
	for i := range w.due {
		w.due[i].at += d
	}
}

// Between is a random duration in [lo, hi).
func (w *World) Between(lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(w.Rand.Int64N(int64(hi-lo)))
}

// Chance is true with probability p.
func (w *World) Chance(p float64) bool { return w.Rand.Float64() < p }

// event is what happens; due is when.
type event struct {
	life *Life // nil: nobody's
	step
}

type due struct {
	at     time.Duration
	serial uint64
	slot   int // of the event
}

// step is something to do, or to go on with.
type step struct {
	label     string
	run       func()
	suspended *coroutine // it was begun before
}

func (e *due) less(o *due) bool { return e.at < o.at || e.at == o.at && e.serial < o.serial }

// up and pop keep the heap. It is written out: a quarter of a simulation's time went into container/heap.
func (w *World) up(i int) {
	h := w.due
	e := h[i]
	for i > 0 {
		parent := (i - 1) / 2
		if !e.less(&h[parent]) {
			break
		}
		h[i] = h[parent]
		i = parent
	}
	h[i] = e
}

func (w *World) pop() due {
	h := w.due
	top, last := h[0], len(h)-1
	e := h[last]
	h = h[:last]
	w.due = h
	if last == 0 {
		return top
	}
	i := 0
	for {
		child := 2*i + 1
		if child >= last {
			break
		}
		if child+1 < last && h[child+1].less(&h[child]) {
			child++
		}
		if !h[child].less(&e) {
			break
		}
		h[i] = h[child]
		i = child
	}
	h[i] = e
	return top
}
