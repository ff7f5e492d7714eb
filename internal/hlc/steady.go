package hlc

import "time"

// A wall clock that is set wrong must not get into timestamps: they would be in logs, and with whoever saw them, for as
// long as it was wrong. So a steady clock follows its wall clock only as long as this moves along with the machine's
// monotonic one. A larger step it leaves out, and goes on by the monotonic clock, until its owner, who can ask others,
// says where the wall clock should be (Anchor).

// steady is where a steady clock holds on to.
type steady struct {
	// ahead is how far the wall clock was last believed to be ahead of the monotonic one.
	ahead    time.Duration
	anchored bool
	// heard: another's clock has moved this one.
	heard bool
}

// NewSteadyClock makes a clock over a wall clock and a monotonic clock of the same machine. Before it is anchored it
// believes its wall clock nothing: Now only counts on from what the clock was advanced to.
func NewSteadyClock(wall func() time.Time, monotonic func() time.Duration, maxOffset time.Duration) *Clock {
	c := NewClock(wall, maxOffset)
	c.monotonic = monotonic
	return c
}

// Steady says whether the clock leaves out steps of its wall clock.
func (c *Clock) Steady() bool { return c.monotonic != nil }

// Tolerance is how far a wall clock may be from where it should be: half of the maximum offset, so that two that are right
// are not further from each other than that.
func (c *Clock) Tolerance() time.Duration { return c.maxOffset / 2 }

// Reading is what the wall clock itself says.
func (c *Clock) Reading() time.Time { return c.wall() }

// Anchor says that the right time of day is so far ahead of the monotonic clock from now on. It does nothing to a clock
// that is not steady.
func (c *Clock) Anchor(ahead time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.ahead, c.mu.anchored = ahead, true
}

// Anchored says whether a steady clock was ever anchored; any other always is.
func (c *Clock) Anchored() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.monotonic == nil || c.mu.anchored
}

// Stepped says whether the wall clock is further than Tolerance from where the steady clock holds on to.
func (c *Clock) Stepped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.monotonic == nil || !c.mu.anchored {
		return false
	}
	ahead, _ := c.aheadLocked()
	return !c.follows(ahead)
}

// aheadLocked is how far the wall clock is ahead of the monotonic one, which shows now.
func (c *Clock) aheadLocked() (ahead, now time.Duration) {
	now = c.monotonic()
	return time.Duration(c.wall().UnixNano()) - now, now
}

func (c *Clock) follows(ahead time.Duration) bool { return (ahead - c.mu.ahead).Abs() <= c.Tolerance() }

// readLocked is the time of day, as far as it is believed; false: it is not.
func (c *Clock) readLocked() (Timestamp, bool) {
	if c.monotonic == nil {
		return FromTime(c.wall()), true
	}
	if !c.mu.anchored {
		return 0, false
	}
	ahead, now := c.aheadLocked()
	if c.follows(ahead) {
		c.mu.ahead = ahead
	}
	return FromTime(time.Unix(0, int64(now+c.mu.ahead))), true
}
