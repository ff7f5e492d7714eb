package gateway

import (
	"context"
	"math/rand/v2"
	"time"
)

// Pauses between attempts, doubled each time and jittered by half.
const (
	firstPause   = 10 * time.Millisecond
	longestPause = 500 * time.Millisecond
)

// patience says how long to go on trying, and paces the attempts.
type patience struct {
	until time.Time
	pause time.Duration
}

func newPatience(d time.Duration) patience {
	return patience{until: time.Now().Add(d), pause: firstPause}
}

// next is how long to wait before the next attempt; false if there is to be none.
func (p *patience) next() (time.Duration, bool) {
	if time.Now().After(p.until) {
		return 0, false
	}
	d := p.pause/2 + rand.N(p.pause/2)
	p.pause = min(2*p.pause, longestPause)
	return d, true
}

// wait waits for the next attempt; false if there is to be none.
func (p *patience) wait(ctx context.Context) bool {
	d, ok := p.next()
	if !ok || ctx.Err() != nil {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
