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
// The driver gives trust to those only that use it, since it has to look first whether it is still in office (office.heartbeat): a
// cluster in which nothing happens would never fall quiet.
type trust struct {
	clock   func() time.Duration // monotonic, also while the machine sleeps; nil: always trusting, for tests
	refresh func()               // asks for a report soon
	used    atomic.Bool          // since the last report

	mu struct {
		sync.Mutex
		until   time.Duration // by clock; 0: never heard
		renewed chan struct{} // closed with the next answer; nil: nobody waits
	}
}

// forever is a trust without a limit.
const forever = time.Duration(1<<63 - 1)

// renew takes an answer to a report that was sent at began.
func (t *trust) renew(began, duration time.Duration) {
	until := forever
	if duration > 0 {
		until = began + duration
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.until = max(t.mu.until, until)
	if duration > 0 && t.mu.until == forever { // the driver of another release has been replaced
		t.mu.until = until
	}
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
	now := t.clock()
	t.mu.Lock()
	defer t.mu.Unlock()
	return now < t.mu.until
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
