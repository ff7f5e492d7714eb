package sim

import "time"

// Clock is one machine's time: a monotonic side that runs at a rate of its own and is never set, and a wall side on
// top of it that is.
type Clock struct {
	w   *World
	ppm int64 // parts per million that it runs too fast
	// since and base: at the world's since, the monotonic side showed base.
	since, base time.Duration
	offset      time.Duration // of the wall from the monotonic side
}

// NewClock makes a clock that begins with the world and shows what it shows, plus offset.
func (w *World) NewClock(offset time.Duration) *Clock {
	return &Clock{w: w, base: w.now, since: w.now, offset: offset}
}

const million = 1_000_000

// SetRate lets the clock run fast by so many parts per million, or slow, from now on. REQUIRES: ppm > -1,000,000.
func (c *Clock) SetRate(ppm int64) {
	c.base, c.since = c.Monotonic(), c.w.now
	c.ppm = ppm
}

// Monotonic never falls.
func (c *Clock) Monotonic() time.Duration {
	d := int64(c.w.now - c.since)
	return c.base + time.Duration(d+d/million*c.ppm+d%million*c.ppm/million)
}

// Wall is the time of day, since the beginning of the world's.
func (c *Clock) Wall() time.Duration { return c.Monotonic() + c.offset }

// Jump sets the wall side forward, or back.
func (c *Clock) Jump(d time.Duration) { c.offset += d }

// Error is how far the wall side is ahead of the world.
func (c *Clock) Error() time.Duration { return c.Wall() - c.w.now }

// Discipline sets the wall side to within bound of the world, as a time service does.
func (c *Clock) Discipline(bound time.Duration) {
	e := c.Error()
	c.Jump(min(max(e, -bound), bound) - e)
}

// Real is the world's duration in which the clock advances by d, or the least more that does.
func (c *Clock) Real(d time.Duration) time.Duration {
	return time.Duration((int64(d)*million + million + c.ppm - 1) / (million + c.ppm))
}
