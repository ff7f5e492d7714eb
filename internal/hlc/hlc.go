package hlc

import (
	"fmt"
	"sync"
	"time"
)

// Timestamp is a hybrid logical time: 48 bits of milliseconds since the Unix epoch, then 16 bits of
// counter. Comparing two as integers compares them as times. 0 means "none".
type Timestamp uint64

// counterBits is the width of the logical part.
const counterBits = 16

// Make builds a timestamp from milliseconds and a counter. A counter past 16 bits carries into the
// milliseconds: it never wraps.
func Make(ms int64, counter uint32) Timestamp {
	return Timestamp(uint64(ms)<<counterBits + uint64(counter))
}

// FromTime is the earliest timestamp of t's millisecond.
func FromTime(t time.Time) Timestamp { return Make(t.UnixMilli(), 0) }

// Millis is the physical part, in milliseconds since the Unix epoch.
func (t Timestamp) Millis() int64 { return int64(t >> counterBits) }

// Counter is the logical part.
func (t Timestamp) Counter() uint16 { return uint16(t) }

// Time is the physical part as wall time.
func (t Timestamp) Time() time.Time { return time.UnixMilli(t.Millis()) }

// Next is the smallest timestamp above t.
func (t Timestamp) Next() Timestamp { return t + 1 }

// Add moves t by d, rounded down to milliseconds; it never goes below 0.
func (t Timestamp) Add(d time.Duration) Timestamp {
	delta := d.Milliseconds() << counterBits
	if delta < 0 && uint64(-delta) > uint64(t) {
		return 0
	}
	return Timestamp(int64(t) + delta)
}

// Sub is the physical distance from u to t.
func (t Timestamp) Sub(u Timestamp) time.Duration {
	return time.Duration(t.Millis()-u.Millis()) * time.Millisecond
}

// String prints milliseconds.counter.
func (t Timestamp) String() string { return fmt.Sprintf("%d.%05d", t.Millis(), t.Counter()) }

// OffsetError says that a remote timestamp is further ahead of the local wall clock than allowed.
type OffsetError struct {
	Remote Timestamp
	Wall   Timestamp
	Max    time.Duration
}

func (e *OffsetError) Error() string {
	return fmt.Sprintf("hlc: remote timestamp %s is %s ahead of this node's clock, more than the maximum offset %s",
		e.Remote, e.Remote.Sub(e.Wall), e.Max)
}

// DefaultMaxOffset is the largest distance by which another node's clock may lead this one's.
const DefaultMaxOffset = 500 * time.Millisecond

// Clock is a hybrid logical clock, safe for concurrent use.
type Clock struct {
	wall      func() time.Time
	maxOffset time.Duration

	mu struct {
		sync.Mutex
		last Timestamp
	}
}

// NewClock makes a clock over a wall clock (time.Now in production). A maxOffset of 0 means
// DefaultMaxOffset.
func NewClock(wall func() time.Time, maxOffset time.Duration) *Clock {
	if maxOffset == 0 {
		maxOffset = DefaultMaxOffset
	}
	return &Clock{wall: wall, maxOffset: maxOffset}
}

// Now returns a timestamp above every one this clock has returned or been advanced to.
func (c *Clock) Now() Timestamp {
	w := FromTime(c.wall())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.last = max(w, c.mu.last.Next())
	return c.mu.last
}

// Last is the highest timestamp that the clock has returned or been advanced to.
func (c *Clock) Last() Timestamp {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.last
}

// Wall is the wall clock's reading as a timestamp; it does not move the clock.
func (c *Clock) Wall() Timestamp { return FromTime(c.wall()) }

// MaxOffset is the bound that Update enforces.
func (c *Clock) MaxOffset() time.Duration { return c.maxOffset }

// Update advances the clock to a timestamp received from another node. One too far ahead of the wall
// clock is refused with *OffsetError and does not move the clock .
func (c *Clock) Update(remote Timestamp) error {
	w := FromTime(c.wall())
	if remote > w && remote.Sub(w) > c.maxOffset {
		return &OffsetError{Remote: remote, Wall: w, Max: c.maxOffset}
	}
	c.Advance(remote)
	return nil
}

// Advance moves the clock to at least t without judging it: for timestamps that a log already holds
// , which are facts and not opinions.
func (c *Clock) Advance(t Timestamp) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.last = max(c.mu.last, t)
}
