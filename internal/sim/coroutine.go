package sim

import "iter"

// coroutine is what events run on, one after another, for as long as none of them is suspended (Life.Yield). A step that
// is takes its coroutine with it, and another one goes on with the events; once its turn comes, it goes on where it was,
// and then with the events that follow. So only steps that are suspended pay for a switch. At every moment one of a
// world's coroutines runs, or none.
type coroutine struct {
	body func()
	// life and label are those of the step under way; nil: what runs is nobody's.
	life  *Life
	label string

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

// play runs the body; false if it was ended.
func (c *coroutine) play() (whole bool) {
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(ended); !ok {
				panic(p)
			}
		}
	}()
	c.body()
	return true
}

// suspend lets others run, until the coroutine is run again.
func (c *coroutine) suspend() {
	if !c.yield(false) {
		panic(ended{})
	}
}

// run begins a body, or goes on with one, and says whether it is done.
func (w *World) run(c *coroutine) bool {
	w.current = c
	defer func() { w.current = nil }()
	done, _ := c.next()
	return done
}

// Run runs events for as long as more says so, which is asked before each, and there are any.
func (w *World) Run(more func() bool) { w.conduct(more, w.take(w.loop)) }

// conduct runs a coroutine, and then whichever it is the turn of. REQUIRES: nothing of the world runs.
func (w *World) conduct(more func() bool, c *coroutine) {
	if w.current != nil {
		panic("sim: an event runs the world that it is of")
	}
	w.more, w.over = more, false
	for {
		done := w.run(c)
		switch turn := w.turn; {
		case done:
			w.free(c)
			if w.over && len(w.parked) == 0 {
				return
			}
			c = w.runner()
		case turn != nil: // c came to the event that goes on with turn
			w.turn = nil
			w.parked = append(w.parked, c)
			c = turn
		default:
			c.life.suspend(c)
			c = w.runner()
		}
	}
}

// loop runs events, on whichever coroutine it is called.
func (w *World) loop() {
	for !w.over && w.more() && len(w.due) > 0 {
		w.step()
	}
	w.over = true
}

// runner returns a coroutine that goes on with the events.
func (w *World) runner() *coroutine {
	if n := len(w.parked); n > 0 {
		c := w.parked[n-1]
		w.parked = w.parked[:n-1]
		return c
	}
	return w.take(w.loop)
}

// take returns a coroutine that does nothing, for a body.
func (w *World) take(body func()) *coroutine {
	var c *coroutine
	if n := len(w.idle); n > 0 {
		c, w.idle = w.idle[n-1], w.idle[:n-1]
	} else {
		c = w.newCoroutine()
	}
	c.body = body
	return c
}

func (w *World) free(c *coroutine) {
	c.body = nil
	w.idle = append(w.idle, c)
}

// Close ends what is left of a world.
func (w *World) Close() {
	for _, c := range w.idle {
		c.stop()
	}
	for _, c := range w.parked {
		c.stop()
	}
	for i := range w.events {
		if c := w.events[i].suspended; c != nil {
			c.stop()
		}
	}
	w.idle, w.parked, w.due, w.events, w.vacant = nil, nil, nil, nil, nil
}
