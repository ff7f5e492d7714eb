package sim

import "time"

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
	held   []heldStep // what came due meanwhile, in order
}

type heldStep struct {
	label string
	run   func()
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
func (l *Life) End() { l.ended, l.held = true, nil }

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
	for i, h := range held {
		l.w.push(time.Duration(i)*time.Microsecond, h.label, l, h.run)
	}
}

// After runs f after d, if the process still lives.
func (l *Life) After(d time.Duration, label string, f func()) { l.w.push(d, label, l, f) }

// Deliver runs f in the process: now, or, if it stands still, when it goes on.
func (l *Life) Deliver(label string, f func()) { l.run(label, f) }

func (l *Life) run(label string, f func()) {
	switch {
	case l.ended:
	case l.paused:
		l.held = append(l.held, heldStep{label, f})
	default:
		l.step(f)
		if l.Stepped != nil && !l.ended {
			l.Stepped(label)
		}
	}
}

func (l *Life) step(f func()) {
	if l.Panicked != nil {
		defer func() {
			if p := recover(); p != nil && !l.Panicked(p) {
				panic(p)
			}
		}()
	}
	f()
}

// Queue runs steps one after another in the order they were posted.
type Queue struct {
	l      *Life
	kind   string
	steps  []func()
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
	q.steps = append(q.steps, step)
	if !q.active {
		q.active = true
		q.schedule()
	}
}

func (q *Queue) schedule() { q.l.After(q.l.Delay(q.kind), q.kind, q.next) }

func (q *Queue) runNext() {
	step := q.steps[0]
	q.steps[0] = nil
	q.steps = q.steps[1:]
	step()
	if len(q.steps) > 0 {
		q.schedule()
		return
	}
	q.active = false
}
