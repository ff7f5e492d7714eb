package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// trust is for how long this node may go by the active versions that it knows. The answer to a report gives it some time, counted
// from when the report was sent (placement.Driver.AwaitMap says why that is enough): who changes an active version waits until
// each node has heard of it or has no trust left, so that no call that begins after the change runs the old version, on a node that was
// cut off either. Such a node asks first, and serves no call without a version until it has an answer.
//
// The driver looks whether it is still in office for those only that use trust (office.unconfirmed), and gives none where it has not: a
// cluster in which nothing happens would never fall quiet.
type trust struct {
	clock   func() time.Duration // monotonic, also while the machine sleeps; nil: always trusting, for tests
	refresh func()               // asks for a report soon
	used    atomic.Bool          // since the last report
	until   atomic.Int64         // by clock, a time.Duration; 0: never heard. Written by renew alone

	mu struct {
		sync.Mutex
		renewed chan struct{} // closed with the next answer; nil: nobody waits
	}
}

// forever is a trust without a limit.
const forever = time.Duration(1<<63 - 1)

// renew takes an answer to a report that was sent at began. It is called by one goroutine at a time.
func (t *trust) renew(began, duration time.Duration) {
	until := forever
	if duration > 0 {
		until = began + duration
	}
	if last := time.Duration(t.until.Load()); duration <= 0 || last != forever { // else the driver of another release has been replaced
		until = max(last, until)
	}
	t.until.Store(int64(until))
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.renewed != nil {
		close(t.mu.renewed)
		t.mu.renewed = nil
	}
}

// wanted says whether the next report is to ask for more trust: some was used since the last, or is waited for.
func (t *trust) wanted() bool {
	t.mu.Lock()
	waited := t.mu.renewed != nil
	t.mu.Unlock()
	return t.used.Swap(false) || waited
}

// current says whether there is trust, for someone to use.
func (t *trust) current() bool {
	if t.clock == nil {
		return true
	}
	if !t.used.Load() { // to write what is there already would have all cores write to one place
		t.used.Store(true)
	}
	return t.clock() < time.Duration(t.until.Load())
}

// await waits until there is trust.
func (t *trust) await(ctx context.Context) error {
	for !t.current() {
		t.mu.Lock()
		if t.mu.renewed == nil {
			t.mu.renewed = make(chan struct{})
		}
		renewed := t.mu.renewed
		t.mu.Unlock()
		if t.current() {
			return nil
		}
		t.refresh()
		select {
		case <-renewed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
