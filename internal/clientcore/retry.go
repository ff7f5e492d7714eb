package clientcore

import "time"

// budget is a token bucket that bounds how many retries per second a Core sends. Every success adds to it,
// so that a healthy cluster is never slowed down, while one that fails everything is asked at a steady,
// small rate instead of ever more often. An empty budget delays a retry and never fails it (rule B6): a
// command given up for a budget would be ambiguous without need.
type budget struct {
	tokens float64
	last   Instant
}

const (
	budgetMax        = 1000 // retries that may follow at once
	budgetPerSecond  = 500
	budgetPerSuccess = 0.2
)

func (b *budget) success() { b.tokens = min(b.tokens+budgetPerSuccess, budgetMax) }

// take spends one retry; false if there is none.
func (b *budget) take(now Instant) bool {
	b.tokens = min(b.tokens+budgetPerSecond*(now-b.last).Seconds(), budgetMax)
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// delay is how long an operation waits before its next attempt: twice as long each time, up to a cap, and
// at random in the upper half, so that those who failed together don't return together.
func (c *Core) delay(o *op, atLeast time.Duration) time.Duration {
	d := c.o.RetryMax
	if o.backoffs < 16 {
		d = min(c.o.RetryMin<<o.backoffs, c.o.RetryMax)
	}
	if !c.budget.take(c.now) {
		d = c.o.RetryMax
	}
	if o.backoffs < 255 {
		o.backoffs++
	}
	return max(d/2+time.Duration(c.o.Rand.Int64N(int64(d/2)+1)), atLeast)
}
