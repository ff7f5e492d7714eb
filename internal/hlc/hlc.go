package hlc

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/locuskv/locus/internal/invariant"
)

// Timestamp is a hybrid logical time: 48 bits of milliseconds since the Unix epoch, then 16 bits of
// counter. Comparing two as integers compares them as times. 0 means "none".
type Timestamp uint64

// Max is the highest timestamp, in the year 10889. Arithmetic stops there and at 0; it never wraps.
const Max Timestamp = math.MaxUint64

// counterBits is the width of the logical part.
const counterBits = 16

// maxMillis is the highest physical part.
const maxMillis = 1<<(64-counterBits) - 1

// Make builds a timestamp from milliseconds and a counter. A counter past 16 bits carries into the
// milliseconds: it never wraps. Milliseconds before the epoch count as the epoch.
func Make(ms int64, counter uint32) Timestamp {
	ms = max(ms, 0)
	if ms > maxMillis {
		return Max
	}
	return satAdd(Timestamp(ms)<<counterBits, uint64(counter))
}

// FromTime is the earliest timestamp of t's millisecond.
func FromTime(t time.Time) Timestamp { return Make(t.UnixMilli(), 0) }

// Millis is the physical part, in milliseconds since the Unix epoch.
func (t Timestamp) Millis() int64 { return int64(t >> counterBits) }

// Counter is the logical part.
func (t Timestamp) Counter() uint16 { return uint16(t) }

// Time is the physical part as wall time.
func (t Timestamp) Time() time.Time { return time.UnixMilli(t.Millis()) }

// Next is the smallest timestamp above t; of Max it is Max.
func (t Timestamp) Next() Timestamp { return satAdd(t, 1) }

// Prev is the highest timestamp below t; of 0 it is 0.
func (t Timestamp) Prev() Timestamp { return t - min(t, 1) }

// Add moves t by d, which counts in whole milliseconds: what is left of it is dropped. It stops at 0 and
// at Max.
func (t Timestamp) Add(d time.Duration) Timestamp { return t.AddMillis(d.Milliseconds()) }

// AddMillis is Add for distances that a time.Duration can't hold, such as a time to live of the wire.
func (t Timestamp) AddMillis(ms int64) Timestamp {
	switch {
	case ms >= 0 && ms > maxMillis:
		return Max
	case ms >= 0:
		return satAdd(t, uint64(ms)<<counterBits)
	case ms < -maxMillis:
		return 0
	}
	return t - min(t, Timestamp(-ms)<<counterBits)
}

// Sub is the physical distance from u to t, or the nearest that a time.Duration can hold (292 years).
func (t Timestamp) Sub(u Timestamp) time.Duration {
	const most = int64(math.MaxInt64 / time.Millisecond)
	return time.Duration(min(max(t.Millis()-u.Millis(), -most), most)) * time.Millisecond
}

func satAdd(t Timestamp, d uint64) Timestamp {
	if d > uint64(Max-t) {
		return Max
	}
	return t + Timestamp(d)
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

// Clock is a hybrid logical clock, safe for concurrent use. Make it with NewClock.
type Clock struct {
	wall      func() time.Time
	maxOffset time.Duration
	// monotonic, unless nil, makes the clock a steady one (see NewSteadyClock).
	monotonic func() time.Duration

	mu struct {
		sync.Mutex
		last Timestamp
		steady
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

// Now returns a timestamp above every one this clock has returned or been advanced to. A wall clock that
// stands still or goes backwards is outrun by the counter.
func (c *Clock) Now() Timestamp {
	c.mu.Lock()
	defer c.mu.Unlock()
	w, _ := c.readLocked()
	if c.mu.last == Max {
		// Nothing that Update lets pass comes near it; a log that holds it is corrupt.
		invariant.Fail("I4: the clock was advanced to %s and can give no timestamp above it", c.mu.last)
	}
	c.mu.last = max(w, c.mu.last.Next())
	return c.mu.last
}

// Last is the highest timestamp that the clock has returned or been advanced to.
func (c *Clock) Last() Timestamp {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.last
}

// Hint is what a message tells others of this clock: at least everything that it has given or heard of. Unlike Now it does
// not move the clock. A clock that is not anchored says what it has heard of others since it was made, and before that 0,
// which says nothing.
func (c *Clock) Hint() Timestamp {
	c.mu.Lock()
	defer c.mu.Unlock()
	w, ok := c.readLocked()
	if !ok && !c.mu.heard {
		return 0
	}
	return max(w, c.mu.last)
}

// Wall is the time of day as a timestamp; it does not move the clock. A steady clock's leaves out a step of the wall
// clock that nobody has confirmed.
func (c *Clock) Wall() Timestamp {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wallLocked()
}

func (c *Clock) wallLocked() Timestamp {
	if w, ok := c.readLocked(); ok {
		return w
	}
	return FromTime(c.wall())
}

// MaxOffset is the bound that Update enforces.
func (c *Clock) MaxOffset() time.Duration { return c.maxOffset }

// Update advances the clock to a timestamp received from another node. One that is more than the maximum
// offset ahead of the wall clock is refused with *OffsetError and does not move the clock.
func (c *Clock) Update(remote Timestamp) error {
	if c.known(remote) {
		return nil // most are: the wall clock, which takes system calls to read, is not asked
	}
	w := c.Wall()
	if remote.Sub(w) > c.maxOffset {
		return &OffsetError{Remote: remote, Wall: w, Max: c.maxOffset}
	}
	c.mu.Lock()
	c.mu.last = max(c.mu.last, remote)
	c.mu.heard = c.mu.heard || remote != 0
	c.mu.Unlock()
	return nil
}

// known says whether the clock is at or above a timestamp of another node.
func (c *Clock) known(remote Timestamp) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := remote <= c.mu.last
	c.mu.heard = c.mu.heard || known && remote != 0
	return known
}

// Advance moves the clock to at least t without judging it: for timestamps that a log already holds,
// which are facts and not opinions.
func (c *Clock) Advance(t Timestamp) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.last = max(c.mu.last, t)
}
