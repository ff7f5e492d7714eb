package functions

import (
	"context"
	"fmt"
	"time"

	"github.com/locuskv/locus/client"
)

// contender is one way to do a thing, at work.
type contender struct {
	state, name, unit string
	db                *client.DB // whose bytes are counted; nil: nobody's
	// turn does it once, and returns the number that is compared: a time or a rate.
	turn func(ctx context.Context) (float64, error)

	samples, received []float64
}

// timed is a turn whose number is how many milliseconds it took.
func timed(f func(ctx context.Context) error) func(context.Context) (float64, error) {
	return func(ctx context.Context) (float64, error) {
		begun := time.Now()
		err := f(ctx)
		return milliseconds(time.Since(begun)), err
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// interleave gives every contender so many turns, one after another, beginning with another one each round, and adds them to the row.
func interleave(ctx context.Context, row *Row, rounds int, contenders ...*contender) error {
	for round := range rounds {
		for i := range contenders {
			c := contenders[(i+round)%len(contenders)]
			if err := c.measure(ctx); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	for _, c := range contenders {
		row.Contenders = append(row.Contenders, Contender{
			State: c.state, Name: c.name, Unit: c.unit, Series: seriesOf(c.samples), Received: median(c.received),
		})
	}
	return nil
}

func (c *contender) measure(ctx context.Context) error {
	var before uint64
	if c.db != nil {
		before = c.db.Stats().BytesReceived
	}
	value, err := c.turn(ctx)
	if err != nil {
		return err
	}
	c.samples = append(c.samples, value)
	if c.db != nil {
		c.received = append(c.received, float64(c.db.Stats().BytesReceived-before))
	}
	return nil
}

func (c *contender) median() float64 { return median(c.samples) }
