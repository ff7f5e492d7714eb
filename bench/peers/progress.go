package main

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// counter counts what is written, and tells it once a second.
type counter struct {
	written atomic.Int64
	quit    chan struct{}
	wg      sync.WaitGroup
}

func newCounter(live bool, all int) *counter {
	c := &counter{quit: make(chan struct{})}
	if live {
		c.wg.Go(func() { c.tell(all) })
	}
	return c
}

func (c *counter) add(n int) { c.written.Add(int64(n)) }

func (c *counter) tell(all int) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-c.quit:
			return
		case <-tick.C:
			fmt.Fprintf(os.Stderr, "loaded %d of %d keys\n", c.written.Load(), all)
		}
	}
}

func (c *counter) stop() {
	close(c.quit)
	c.wg.Wait()
}
