package raftlog

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/locuskv/locus/internal/ids"
)

// Group implements Log.
func (l *log) Group(id ids.RangeID) (GroupState, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	g := l.mu.index.groups[id]
	if g == nil {
		return GroupState{HardState: &raftpb.HardState{}}, false
	}
	hs := &raftpb.HardState{Term: new(uint64(g.term)), Vote: new(g.vote), Commit: new(uint64(g.commit))}
	return GroupState{HardState: hs, Before: g.before, Last: g.last, Meta: g.meta}, true
}

// Bounds implements Log.
func (l *log) Bounds(id ids.RangeID) (before, last ids.Index) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if g := l.mu.index.groups[id]; g != nil {
		return g.before.Index, g.last
	}
	return 0, 0
}

// Groups implements Log.
func (l *log) Groups() []ids.RangeID {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mu.index.sortedGroups()
}

// StoreRecords implements Log.
func (l *log) StoreRecords(kind byte) []StoreRecord {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var out []StoreRecord
	for k, v := range l.mu.index.store {
		if k.kind == kind {
			out = append(out, StoreRecord{Kind: kind, Key: k.key, Value: v})
		}
	}
	slices.SortFunc(out, func(a, b StoreRecord) int {
		if a.Key < b.Key {
			return -1
		}
		return 1
	})
	return out
}

// Term implements Log.
func (l *log) Term(id ids.RangeID, i ids.Index) (ids.Term, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	g := l.mu.index.groups[id]
	switch {
	case l.mu.closed:
		return 0, ErrClosed
	case g == nil:
		return 0, ErrNoGroup
	case i < g.before.Index:
		return 0, raft.ErrCompacted
	case i == g.before.Index:
		return g.before.Term, nil
	case i > g.last:
		return 0, raft.ErrUnavailable
	}
	return g.slot(i).term, nil
}

// Entries implements Log.
func (l *log) Entries(id ids.RangeID, lo, hi ids.Index, maxBytes uint64) ([]*raftpb.Entry, error) {
	entries, runs, err := l.planRead(id, lo, hi, maxBytes)
	if err != nil {
		return nil, err
	}
	for i, r := range runs {
		if err == nil {
			err = r.read(id, entries)
		}
		runs[i].seg.release()
	}
	if err != nil {
		return nil, err
	}
	return entries, nil
}

// readRun is a piece of a segment that holds the records of consecutive entries and nothing else.
type readRun struct {
	seg   *segment
	first int // of slots, in the result
	index ids.Index
	slots []slot
}

// maxRun bounds the buffer of one read.
const maxRun = 1 << 20

func (r *readRun) end() int64 {
	last := r.slots[len(r.slots)-1]
	return int64(last.off) + int64(last.size)
}

func (r *readRun) extends(s *slot) bool {
	return r.seg == s.seg && align(r.end()) == int64(s.off) && int64(s.off)+int64(s.size)-int64(r.slots[0].off) <= maxRun
}

// planRead takes from the cache what is there, and lists what must be read from files. The places stay true after
// the lock is gone: frames are never overwritten, and the segments are held.
func (l *log) planRead(id ids.RangeID, lo, hi ids.Index, maxBytes uint64) ([]*raftpb.Entry, []readRun, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	g := l.mu.index.groups[id]
	switch {
	case l.mu.closed:
		return nil, nil, ErrClosed
	case g == nil:
		return nil, nil, ErrNoGroup
	case lo <= g.before.Index:
		return nil, nil, raft.ErrCompacted
	case hi > g.last+1:
		return nil, nil, raft.ErrUnavailable
	case lo >= hi:
		return nil, nil, nil
	}
	var runs []readRun
	var entries []*raftpb.Entry
	var bytes uint64
	for i := lo; i < hi; i++ {
		s := g.slot(i)
		// A record is larger than its entry on Raft's wire, so the caller's limit holds for that too.
		if bytes += uint64(s.size); bytes > maxBytes && len(entries) > 0 {
			break
		}
		entries = append(entries, s.e)
		if s.e != nil {
			continue
		}
		if n := len(runs); n > 0 && runs[n-1].index+ids.Index(len(runs[n-1].slots)) == i && runs[n-1].extends(s) {
			runs[n-1].slots = append(runs[n-1].slots, *s)
		} else {
			runs = append(runs, readRun{seg: s.seg.acquire(), first: len(entries) - 1, index: i, slots: []slot{*s}})
		}
	}
	return entries, runs, nil
}

// read fills in the run's entries.
func (r *readRun) read(id ids.RangeID, entries []*raftpb.Entry) error {
	base := int64(r.slots[0].off)
	buf := make([]byte, align(r.end())-base)
	if _, err := r.seg.file.ReadAt(buf, base); errors.Is(err, io.EOF) {
		return &CorruptionError{File: r.seg.name, Offset: base, Group: id, Reason: "the file ends before the entry"}
	} else if err != nil {
		return fmt.Errorf("raftlog: range %v, entry %d: %w", id, r.index, err)
	}
	for i := range r.slots {
		s := &r.slots[i]
		index := r.index + ids.Index(i)
		rec, _, err := decodeRecord(buf, int(int64(s.off)-base))
		if err == nil && (rec.kind != recordEntry && rec.kind != recordMoved || rec.id() != id ||
			rec.pos != Position{Index: index, Term: s.term} || rec.size != s.size) {
			err = errWrongEntry
		}
		if err != nil {
			return &CorruptionError{File: r.seg.name, Offset: int64(s.off), Group: id,
				Reason: fmt.Sprintf("entry %d of term %d: %v", index, s.term, err)}
		}
		entries[r.first+i] = newEntry(&rec)
	}
	return nil
}

var errWrongEntry = errors.New("there is something else in its place")
