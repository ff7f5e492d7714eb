package check

import (
	"sync"
	"time"
)

// acks measures how long each prefix went without an acknowledged write of a unique key.
type acks struct {
	mu      sync.Mutex
	last    [prefixes]time.Time
	longest [prefixes]time.Duration // since the last reset
	worst   time.Duration           // of all
	count   int
}

func (a *acks) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.last {
		a.last[i] = time.Now()
	}
}

func (a *acks) add(i int) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.longest[i] = max(a.longest[i], now.Sub(a.last[i]))
	a.worst = max(a.worst, a.longest[i])
	a.last[i] = now
	a.count++
}

// reset forgets the pauses so far.
func (a *acks) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.longest[:])
}

// pauses are the longest pause of any prefix, and the shortest of the prefixes' longest.
func (a *acks) pauses() (most, least time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	least = a.longest[0]
	for _, d := range a.longest {
		most, least = max(most, d), min(least, d)
	}
	return most, least
}

// longestEver is the longest pause of any prefix, resets or not.
func (a *acks) longestEver() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.worst
}

// silent is a prefix without an acknowledgement since t; -1 if there is none.
func (a *acks) silent(t time.Time) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, last := range a.last {
		if last.Before(t) {
			return i
		}
	}
	return -1
}

func (a *acks) total() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count
}
