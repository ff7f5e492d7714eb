package raftstore

import (
	"time"

	"github.com/locuskv/locus/internal/hlc"
)

// Hold is a timestamp that the cluster keeps readable beyond the retention window, until a deadline (rule C9).
//
// The placement driver keeps the list of holds and tells it to each store with the answers to its heartbeats. A store keeps to
// what it was told by its own clock: without a driver a hold ends at its deadline all the same.
//
// Crash: a store that starts again knows no holds. It has no samples of (clock, sequence) either, so its discard sequence
// stays where the last checkpoint put it until a whole retention window has passed, and long before that it has heard of the
// holds again. One that does not hear from a driver for so long lets go: reads at the timestamp are refused there, and never
// see less than they should.
type Hold struct {
	Timestamp hlc.Timestamp
	Deadline  hlc.Timestamp // by this store's clock
}

// Retain takes the cluster's holds in place of those before and returns the oldest timestamp that the store vouches for from
// here on: what is older may have been let go before. From its return on nothing that a hold at or above that needs is let go
// before the hold's deadline, as long as no later call leaves the hold out. The list is not to be changed afterwards.
func (s *Store) Retain(holds []Hold) (from hlc.Timestamp) {
	start := s.holds.retain(holds)
	if start == 0 {
		return 0
	}
	return start.Add(s.clock.MaxOffset())
}

// Held tells how many timestamps the store keeps beyond the retention window, and how old the oldest of them is. Of those
// that are held as long it knows the oldest only, so there may be more in the cluster.
func (s *Store) Held() (n int, age time.Duration) {
	now := s.clock.Wall()
	n, oldest := s.holds.promises(now)
	if n == 0 {
		return 0, 0
	}
	return n, max(0, now.Sub(oldest))
}

// oldestKept is the start of the retention window, or the oldest timestamp that is held and kept here, if that is older.
func (s *Store) oldestKept() hlc.Timestamp { return s.windowOr(s.holds.oldestPromise) }

// oldestWanted is the start of the retention window, or the oldest timestamp that is held, if that is older, whether this
// store keeps it or not: others may.
func (s *Store) oldestWanted() hlc.Timestamp { return s.windowOr(s.holds.oldestHeld) }

func (s *Store) windowOr(oldest func(now hlc.Timestamp) hlc.Timestamp) hlc.Timestamp {
	now := s.clock.Wall()
	start := now.Add(-s.opts.Retention)
	if t := oldest(now); t != 0 {
		start = min(start, t)
	}
	return start
}
