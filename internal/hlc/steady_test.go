package hlc

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// machine has both clocks.
type machine struct {
	wall time.Time
	mono time.Duration
}

func (m *machine) pass(d time.Duration) { m.wall, m.mono = m.wall.Add(d), m.mono+d }

func (m *machine) ahead() time.Duration { return time.Duration(m.wall.UnixNano()) - m.mono }

func newMachine() (*machine, *Clock) {
	m := &machine{wall: time.UnixMilli(1_700_000_000_000), mono: time.Hour}
	return m, NewSteadyClock(func() time.Time { return m.wall }, func() time.Duration { return m.mono }, 500*time.Millisecond)
}

// A clock that was never anchored believes its wall clock nothing.
func TestSteadyClockBeginsWithoutItsWall(t *testing.T) {
	m, c := newMachine()
	c.Advance(Make(1000, 7))
	require.Equal(t, Make(1000, 8), c.Now())
	require.Zero(t, c.Hint(), "what a log held may be hours old")
	require.False(t, c.Anchored())
	require.False(t, c.Stepped())
	require.Equal(t, FromTime(m.wall), c.Wall(), "there is nothing better to compare others with")
	others := FromTime(m.wall.Add(-time.Minute))
	require.NoError(t, c.Update(others))
	require.Equal(t, others, c.Hint(), "what others said is not")
	c.Anchor(m.ahead())
	require.True(t, c.Anchored())
	require.Equal(t, FromTime(m.wall), c.Now())
}

// A step beyond the tolerance gets into no timestamp, and is over when the wall clock comes back or is confirmed.
func TestSteadyClockLeavesOutSteps(t *testing.T) {
	for _, step := range []time.Duration{time.Hour, -time.Hour, 251 * time.Millisecond} {
		m, c := newMachine()
		c.Anchor(m.ahead())
		right := m.wall
		m.wall = m.wall.Add(step)
		require.True(t, c.Stepped(), "%s", step)
		m.pass(time.Second)
		right = right.Add(time.Second)
		require.Equal(t, FromTime(right), c.Wall(), "%s", step)
		require.Equal(t, FromTime(right), c.Hint(), "%s", step)
		require.Equal(t, FromTime(right), c.Now(), "%s", step)
		require.NoError(t, c.Update(FromTime(right.Add(400*time.Millisecond))), "others are judged by the time that is held on to")
		m.wall = right
		require.False(t, c.Stepped(), "%s: it came back", step)

		m.wall = right.Add(step)
		c.Anchor(m.ahead())
		require.False(t, c.Stepped(), "%s: it was confirmed", step)
		require.Equal(t, FromTime(m.wall), c.Wall(), "%s", step)
	}
}

// What a time service does in small steps is followed, however far it goes.
func TestSteadyClockFollowsSmallSteps(t *testing.T) {
	m, c := newMachine()
	c.Anchor(m.ahead())
	for range 100 {
		m.pass(time.Second)
		m.wall = m.wall.Add(200 * time.Millisecond)
		require.False(t, c.Stepped())
		require.Equal(t, FromTime(m.wall), c.Now())
	}
}

// A hint tells what the clock knows and does not move it.
func TestHint(t *testing.T) {
	m, c := newManual(5000)
	require.Equal(t, Make(5000, 0), c.Hint())
	require.Zero(t, c.Last())
	c.Advance(Make(6000, 3))
	require.Equal(t, Make(6000, 3), c.Hint())
	m.set(7000)
	require.Equal(t, Make(7000, 0), c.Hint())
}
