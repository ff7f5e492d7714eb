// Package sim runs a distributed system in one goroutine, in an order drawn from a seed.
//
// A World is a queue of events in simulated time. What production runs on workers is posted as steps to Queues,
// each step an event a random moment later, so that the steps of different queues interleave at random while those
// of one queue keep their order. Messages are events too. One seed gives one order: the World hashes what it runs,
// and a test that runs a seed twice compares the hashes.
//
// It knows nothing of what it runs.
package sim

import (
	"container/heap"
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// World is simulated time and what happens in it.
type World struct {
	Rand *rand.Rand

	now    time.Duration
	events eventHeap
	serial uint64
	hash   uint64
	steps  uint64
}

// NewWorld makes an empty world from a seed.
func NewWorld(seed uint64) *World {
	return &World{Rand: rand.New(rand.NewPCG(seed, 0x10c05)), hash: 14695981039346656037}
}

// Now is the simulated time since the beginning.
func (w *World) Now() time.Duration { return w.now }

// Steps counts the events that have run; Hash identifies their order and times.
func (w *World) Steps() uint64 { return w.steps }

// Hash is equal for equal runs.
func (w *World) Hash() uint64 { return w.hash }

// Note mixes something that happened into the hash.
func (w *World) Note(what string) {
	h := fnv.New64a()
	h.Write([]byte(what))
	w.mix(h.Sum64())
}

func (w *World) mix(x uint64) {
	w.hash ^= x
	w.hash *= 1099511628211
}

// After runs f once d has passed. label goes into the hash.
func (w *World) After(d time.Duration, label string, f func()) {
	w.serial++
	heap.Push(&w.events, &event{at: w.now + max(d, 0), serial: w.serial, label: label, run: f})
}

// Step runs the next event; false if there is none.
func (w *World) Step() bool {
	if len(w.events) == 0 {
		return false
	}
	e := heap.Pop(&w.events).(*event)
	w.now = e.at
	w.steps++
	w.mix(uint64(e.at))
	w.Note(e.label)
	e.run()
	return true
}

// RunUntil runs events up to a time, or until stop says so.
func (w *World) RunUntil(t time.Duration, stop func() bool) {
	for len(w.events) > 0 && w.events[0].at <= t {
		w.Step()
		if stop != nil && stop() {
			return
		}
	}
	w.now = max(w.now, t)
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

type event struct {
	at     time.Duration
	serial uint64
	label  string
	run    func()
}

type eventHeap []*event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	if h[i].at != h[j].at {
		return h[i].at < h[j].at
	}
	return h[i].serial < h[j].serial
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(*event)) }
func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}

// Life is what a process lives in: when it ends, nothing that was posted in it runs any more.
type Life struct {
	w     *World
	ended bool
	// Delay draws how long a step of a kind waits before it runs.
	Delay func(kind string) time.Duration
}

// NewLife begins a process. delay may be nil: then steps wait up to 100 microseconds, and now and then much longer.
func (w *World) NewLife(delay func(kind string) time.Duration) *Life {
	l := &Life{w: w, Delay: delay}
	if delay == nil {
		l.Delay = func(string) time.Duration {
			if w.Chance(0.005) {
				return w.Between(time.Millisecond, 20*time.Millisecond)
			}
			return w.Between(0, 100*time.Microsecond)
		}
	}
	return l
}

// End kills the process.
func (l *Life) End() { l.ended = true }

// Ended says whether it was killed.
func (l *Life) Ended() bool { return l.ended }

// After runs f after d, if the process still lives.
func (l *Life) After(d time.Duration, label string, f func()) {
	l.w.After(d, label, func() {
		if !l.ended {
			f()
		}
	})
}

// Queue runs steps one after another in the order they were posted.
type Queue struct {
	l      *Life
	kind   string
	steps  []func()
	active bool
}

// NewQueue makes a queue of a kind.
func (l *Life) NewQueue(kind string) *Queue { return &Queue{l: l, kind: kind} }

// Post adds a step.
func (q *Queue) Post(step func()) {
	q.steps = append(q.steps, step)
	if !q.active {
		q.active = true
		q.schedule()
	}
}

func (q *Queue) schedule() {
	q.l.After(q.l.Delay(q.kind), q.kind, func() {
		step := q.steps[0]
		q.steps = q.steps[1:]
		step()
		if len(q.steps) > 0 {
			q.schedule()
			return
		}
		q.active = false
	})
}
