package sim

import (
	"slices"
	"time"
)

// Life is what a process lives in: when it ends, nothing that was posted in it runs any more, and while it is paused
// all of it waits.
type Life struct {
	w     *World
	ended bool
	// Delay draws how long a step of a kind waits before it runs.
	Delay func(kind string) time.Duration
	// Stepped, if not nil, is called after each step, with its label.
	Stepped func(label string)
	// Panicked, if not nil, is told of a panic in a step; false lets it go on.
	Panicked func(p any) bool

	paused bool
	held   []step // what came due meanwhile, in order
	// suspended are the steps that are under way, by their coroutines.
	suspended []step
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

// End kills the process. Steps that are under way end where they are.
func (l *Life) End() {
	l.ended, l.held = true, nil
	for _, s := range l.suspended {
		s.suspended.stop()
	}
	l.suspended = nil
}

// Ended says whether it was killed.
func (l *Life) Ended() bool { return l.ended }

// Pause lets the process stand still: what comes due waits for Resume. The world, and the process's clock, go on.
func (l *Life) Pause() { l.paused = true }

// Paused says whether it stands still.
func (l *Life) Paused() bool { return l.paused }

// Resume ends a pause. What waited runs now, in the order in which it came due.
func (l *Life) Resume() {
	held := l.held
	l.paused, l.held = false, nil
	for i, s := range held {
		l.w.push(time.Duration(i)*time.Microsecond, l, s)
	}
}

// After runs f after d, if the process still lives.
func (l *Life) After(d time.Duration, label string, f func()) {
	l.w.push(d, l, step{label: label, run: f})
}

// Deliver runs f in the process: now, or, if it stands still, when it goes on. An event that calls it does nothing after it.
func (l *Life) Deliver(label string, f func()) {
	s := step{label: label, run: f}
	if l.w.current == nil { // no event does
		l.w.conduct(func() bool { return false }, l.w.take(func() { l.do(s) }))
		return
	}
	l.do(s)
}

func (l *Life) do(s step) {
	switch {
	case l.ended:
	case l.paused:
		l.held = append(l.held, s)
	case s.suspended != nil:
		l.suspended = slices.DeleteFunc(l.suspended, func(o step) bool { return o.suspended == s.suspended })
		l.w.turn = s.suspended
		l.w.current.suspend()
	default:
		l.play(s)
		l.stepped(s.label)
	}
}

func (l *Life) stepped(label string) {
	if l.Stepped != nil && !l.ended {
		l.Stepped(label)
	}
}

// play runs a step up to its end, however often it is suspended.
func (l *Life) play(s step) {
	c := l.w.current
	if c.life != nil {
		panic("sim: a step within a step")
	}
	// NB: a body that is ended unwinds to its coroutine, which is not used again.
	c.life, c.label = l, s.label
	if l.Panicked != nil {
		defer func() {
			p := recover()
			c.life = nil
			if _, end := p.(ended); end || p != nil && !l.Panicked(p) {
				panic(p)
			}
		}()
	}
	s.run()
	c.life = nil
}

// suspend keeps a step that yielded for its turn.
func (l *Life) suspend(c *coroutine) {
	if l.ended { // by this very step, before it yielded
		c.stop()
		return
	}
	rest := step{label: c.label, suspended: c}
	l.suspended = append(l.suspended, rest)
	l.w.push(l.Delay(c.label), l, rest)
	l.stepped(c.label)
}

// Yield suspends the step of a life that is under way, as long as a step of its kind may wait for its turn; other steps
// run meanwhile, those behind it in its queue excepted. Outside of a life's step it does nothing. REQUIRES: the step
// holds no lock.
func (l *Life) Yield() {
	if c := l.w.current; c != nil && c.life != nil {
		c.suspend()
	}
}

// Busy says whether a step of a label is suspended.
func (l *Life) Busy(label string) bool {
	return slices.ContainsFunc(l.suspended, func(s step) bool { return s.label == label })
}

// Queue runs steps one after another in the order they were posted.
type Queue struct {
	l      *Life
	kind   string
	steps  []func()
	first  int // of steps that wait
	next   func()
	active bool
}

// NewQueue makes a queue of a kind.
func (l *Life) NewQueue(kind string) *Queue {
	q := &Queue{l: l, kind: kind}
	q.next = q.runNext
	return q
}

// Post adds a step.
func (q *Queue) Post(step func()) {
	if q.first > 0 && len(q.steps) == cap(q.steps) { // a queue that is never empty
		n := copy(q.steps, q.steps[q.first:])
		clear(q.steps[n:])
		q.steps, q.first = q.steps[:n], 0
	}
	q.steps = append(q.steps, step)
	if !q.active {
		q.active = true
		q.schedule()
	}
}

func (q *Queue) schedule() { q.l.After(q.l.Delay(q.kind), q.kind, q.next) }

func (q *Queue) runNext() {
	step := q.steps[q.first]
	q.steps[q.first] = nil
	if q.first++; q.first == len(q.steps) { // the space is used again
		q.steps, q.first = q.steps[:0], 0
	}
	step()
	if len(q.steps) > q.first {
		q.schedule()
		return
	}
	q.active = false
}
