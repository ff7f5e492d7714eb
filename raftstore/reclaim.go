package raftstore

import (
	"sync/atomic"

	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/raftstore/raftlog"
)

// The engine frees the space of what was deleted when it compacts, and it compacts because of what is written. A store that is
// left alone after a large range has moved away, or a keyspace was dropped, would keep all of it: nothing is written, nothing
// takes a checkpoint, and the discard sequence, which no checkpoint moves, stands below the deletions. So a store that has
// deleted much and has little to do takes that checkpoint, once the retention window lets go of what was deleted, and has
// the engine compact.

const (
	// reclaimIdleRounds of housekeeping in a row must have applied next to nothing: the engine compacts nothing else meanwhile.
	reclaimIdleRounds = 60
	reclaimIdleBytes  = 64 << 10
)

// reclaimer knows how much was deleted since the engine last reclaimed space.
type reclaimer struct {
	keys    atomic.Int64
	last    atomic.Uint64 // sequence of the last deletion
	lastAt  atomic.Uint64 // the store's time at it
	running atomic.Bool

	// The ticker's own.

	applied uint64 // bytes, by the last round
	idle    int    // rounds
	cutAt   hlc.Timestamp
}

// deleted is told of deletions. REQUIRES: the apply queue.
func (c *reclaimer) deleted(keys int, seq ids.Seq, now hlc.Timestamp) {
	c.keys.Add(int64(keys))
	c.last.Store(uint64(seq))
	c.lastAt.Store(uint64(now))
}

// reclaimDue has the engine reclaim space if it is time. REQUIRES: the ticker.
func (s *Store) reclaimDue(discard ids.Seq) {
	c := &s.reclaim
	applied := s.metrics.appliedBytes()
	if c.idle++; applied-c.applied > reclaimIdleBytes {
		c.idle = 0
	}
	c.applied = applied
	if s.opts.ReclaimKeys < 0 || c.keys.Load() < s.opts.ReclaimKeys || c.idle < reclaimIdleRounds || c.running.Load() {
		return
	}
	if discard < ids.Seq(c.last.Load()) {
		// Not again for a while: somebody may hold a timestamp below it.
		if now := s.clock.Wall(); min(now.Sub(hlc.Timestamp(c.lastAt.Load())), now.Sub(c.cutAt)) > s.opts.Retention {
			c.cutAt = now
			s.checkpoint(raftlog.Batch{}, nil)
		}
		return
	}
	c.keys.Store(0)
	c.running.Store(true)
	s.exec.Go(QueueDisk, func() {
		defer c.running.Store(false)
		if s.stopped() {
			return
		}
		if err := s.engine.Reclaim(); err != nil {
			s.fatal(err)
		}
	})
}
