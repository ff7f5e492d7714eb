package sim

import "iter"

// coroutine is what a step runs on, so that it can be suspended in its middle (Life.Yield) and others run before it goes
// on. At every moment one of a world's coroutines runs, or none.
type coroutine struct {
	step  func()
	yield func(done bool) bool
	next  func() (done, ok bool)
	stop  func()
}

// ended is what a suspended step panics with when its life has ended.
type ended struct{}

func (w *World) newCoroutine() *coroutine {
	c := &coroutine{}
	c.next, c.stop = iter.Pull(func(yield func(bool) bool) {
		if w.Entered != nil {
			defer w.Entered()()
		}
		c.yield = yield
		for c.play() && yield(true) {
		}
	})
	return c
}

// play runs the step; false if it was ended.
func (c *coroutine) play() (whole bool) {
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(ended); !ok {
				panic(p)
			}
		}
	}()
	c.step()
	return true
}

// run begins a step, or goes on with one, and says whether it is done.
func (w *World) run(c *coroutine) bool {
	outer := w.current
	w.current = c
	defer func() { w.current = outer }()
	done, _ := c.next()
	return done
}

// take returns a coroutine that does nothing, for a step.
func (w *World) take(step func()) *coroutine {
	var c *coroutine
	if n := len(w.idle); n > 0 {
		c, w.idle = w.idle[n-1], w.idle[:n-1]
	} else {
		c = w.newCoroutine()
	}
	c.step = step
	return c
}

func (w *World) free(c *coroutine) {
	c.step = nil
	w.idle = append(w.idle, c)
}

// Close ends what is left of a world.
func (w *World) Close() {
	for _, c := range w.idle {
		c.stop()
	}
	for i := range w.events {
		if c := w.events[i].suspended; c != nil {
			c.stop()
		}
	}
	w.idle, w.due, w.events, w.vacant = nil, nil, nil, nil
}
