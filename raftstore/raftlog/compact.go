package raftlog

import (
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/locuskv/locus/internal/ids"
)

// Segments are dropped from the oldest on only, so that a missing one is always damage. The oldest may hold little
// that is alive and yet be followed by much that is dead: one idle group is enough. So Compact looks for the shortest
// run of oldest segments of which at most half is alive, writes that half again at the end, and drops the run. Each
// byte written again frees at least two, and the log without its active segment stays below twice what is alive.

// Compact implements Log.
//
// Crash: the copies, and whatever made the rest dead, are synced before a file is removed; and each removal is synced
// before the next, so that a crash can't undo one in the middle.
func (l *log) Compact() error {
	if l.err != nil {
		return l.err
	}
	victims := l.chooseVictims()
	if victims == 0 {
		return nil
	}
	limit := l.mu.segments[victims-1].id
	if err := l.moveEntries(limit); err != nil {
		return err
	}
	if err := l.syncActive(); err != nil {
		return err
	}
	for l.mu.segments[0].id <= limit && l.mu.segments[0].live == 0 {
		if err := l.dropOldest(); err != nil {
			return l.fail(err)
		}
	}
	return nil
}

// chooseVictims returns how many of the oldest segments to drop.
func (l *log) chooseVictims() int {
	var live, size int64
	victims := 0
	for i, s := range l.mu.segments[:len(l.mu.segments)-1] {
		if victims > 0 && s.live > 0 {
			break
		}
		live += s.live
		size += s.capacity
		if 2*live <= size {
			victims = i + 1
		}
	}
	return victims
}

// dropOldest removes a segment of which nothing is alive. Reads under way keep the file open.
func (l *log) dropOldest() error {
	s := l.mu.segments[0]
	l.mu.Lock()
	l.mu.segments = append([]*segment(nil), l.mu.segments[1:]...)
	l.mu.Unlock()
	if err := l.o.FS.Remove(s.name); err != nil {
		return fmt.Errorf("dropping a segment: %w", err)
	}
	if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
		return fmt.Errorf("dropping a segment: %w", err)
	}
	l.o.Logger.Debug("raftlog: dropped a segment", "file", s.name)
	return s.release()
}

// moveEntries writes entries of the segments up to limit again: as many as one call of Compact may.
func (l *log) moveEntries(limit uint64) error {
	budget := max(l.o.SegmentSize/4, minSegmentSize)
	for _, id := range l.mu.index.sortedGroups() {
		g := l.mu.index.groups[id]
		for i := g.before.Index + 1; i <= g.last && budget > 0; {
			if g.slot(i).seg.id > limit {
				i++
				continue
			}
			end := g.runEnd(i, limit, min(budget, maxRun))
			n, err := l.moveRun(id, i, end)
			if err != nil {
				return err
			}
			budget -= n
			i = end
		}
	}
	return nil
}

// runEnd is the end of a run of entries from i on that all lie in segments up to limit, of about maxBytes.
func (g *group) runEnd(i ids.Index, limit uint64, maxBytes int64) ids.Index {
	for bytes := int64(0); i <= g.last && g.slot(i).seg.id <= limit && bytes < maxBytes; i++ {
		bytes += int64(g.slot(i).size)
	}
	return i
}

// moveRun writes the entries [lo, hi) again, in one frame, and returns its bytes. It reads them with their checksums:
// damage is not carried along.
func (l *log) moveRun(id ids.RangeID, lo, hi ids.Index) (int64, error) {
	const all = ^uint64(0)
	entries, err := l.Entries(id, lo, hi, all)
	if err != nil {
		return 0, err
	}
	l.records = movedRecords(l.records[:0], id, entries)
	size := encodedSize(l.records)
	return size, l.appendRecords()
}

func movedRecords(dst []record, id ids.RangeID, entries []*raftpb.Entry) []record {
	for _, e := range entries {
		r := entryRecord(recordMoved, e)
		r.group = uint64(id)
		dst = append(dst, r)
	}
	return dst
}
