package raftstore

import (
	"fmt"
	"slices"
	"sort"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/raftstore/engine"
)

// history maps a timestamp to the sequence at which this store shows a range as of it (rule C6). The map is
// the versions of applied-state keys: the range's own since it began on this store, and before that those of
// the ranges it was split from.
type history struct {
	// lineage lists where to look, newest first; the first is the range itself.
	lineage []lineageEntry

	mu struct {
		sync.Mutex
		// samples are every sampleEvery-th entry of the range's own interval, to narrow the search.
		samples []sample
		added   int
	}
}

// lineageEntry is an interval of sequences in which a range's applied-state versions count.
type lineageEntry struct {
	source ids.RangeID
	lo     ids.Seq       // exclusive
	hi     ids.Seq       // inclusive; 0 for the range itself: up to now
	oldest hlc.Timestamp // readable in this interval
}

type sample struct {
	ts  hlc.Timestamp
	seq ids.Seq
}

const (
	sampleEvery = 64
	maxSamples  = 4096
	maxLineage  = 32
)

// newHistory begins a range's history on this store after lo; nothing below oldest can be read.
func newHistory(id ids.RangeID, lo ids.Seq, oldest hlc.Timestamp) *history {
	return &history{lineage: []lineageEntry{{source: id, lo: lo, oldest: oldest}}}
}

// child is the history of a range split off at seq: its own from there on, the parent's before.
func (h *history) child(parent, id ids.RangeID, seq ids.Seq) *history {
	c := newHistory(id, seq-1, h.lineage[0].oldest)
	own := h.lineage[0]
	own.source, own.hi = parent, seq-1
	c.lineage = append(c.lineage, own)
	c.lineage = append(c.lineage, h.lineage[1:]...)
	c.lineage = c.lineage[:min(len(c.lineage), maxLineage)]
	return c
}

func (h *history) encode() []byte {
	p := &locuspb.Lineage{}
	for _, e := range h.lineage {
		p.Entries = append(p.Entries, &locuspb.LineageEntry{SourceRange: uint64(e.source), LoSeq: uint64(e.lo), HiSeq: uint64(e.hi), Oldest: uint64(e.oldest)})
	}
	return mustMarshal(p)
}

func decodeHistory(b []byte) (*history, error) {
	var p locuspb.Lineage
	if err := proto.Unmarshal(b, &p); err != nil {
		return nil, fmt.Errorf("raftstore: lineage: %w", err)
	}
	h := &history{}
	for _, e := range p.Entries {
		h.lineage = append(h.lineage, lineageEntry{source: ids.RangeID(e.SourceRange), lo: ids.Seq(e.LoSeq), hi: ids.Seq(e.HiSeq), oldest: hlc.Timestamp(e.Oldest)})
	}
	if len(h.lineage) == 0 {
		return nil, fmt.Errorf("raftstore: lineage without an entry")
	}
	return h, nil
}

// add notes that the range reached ts at seq.
func (h *history) add(ts hlc.Timestamp, seq ids.Seq) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.added++; h.mu.added%sampleEvery != 0 {
		return
	}
	if len(h.mu.samples) == maxSamples {
		h.mu.samples = slices.Delete(h.mu.samples, 0, maxSamples/2)
	}
	h.mu.samples = append(h.mu.samples, sample{ts: ts, seq: seq})
}

// narrow bounds the last sequence with a timestamp at or below t.
func (h *history) narrow(t hlc.Timestamp, lo, hi ids.Seq) (ids.Seq, ids.Seq) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.mu.samples
	i := sort.Search(len(s), func(i int) bool { return s[i].ts > t })
	if i < len(s) {
		hi = min(hi, s[i].seq)
	}
	if i > 0 {
		lo = max(lo, s[i-1].seq-1)
	}
	return lo, hi
}

// oldest is the oldest timestamp that can be read here at all.
func (h *history) oldest() hlc.Timestamp {
	return h.lineage[len(h.lineage)-1].oldest
}

// at finds the largest sequence that shows the range as of t: the last before the next entry, or visible if
// there is none. ok is false when t lies before everything this store knows, or only sequences below oldest show it.
func (h *history) at(e engine.Engine, t hlc.Timestamp, oldest, visible ids.Seq, undone []seqInterval) (seq ids.Seq, ok bool, err error) {
	for i := range h.lineage {
		le := &h.lineage[i]
		if t < le.oldest {
			continue
		}
		lo, hi := le.lo, le.hi
		if i == 0 {
			lo, hi = h.narrow(t, le.lo, visible)
		}
		lo = max(lo, oldest-min(oldest, 1))
		seq, ok, err = lastAtOrBelow(e, le.source, t, le.lo, lo, hi, undone)
		if ok || err != nil {
			return seq, ok, err
		}
	}
	return 0, false, nil
}

// lastAtOrBelow is the largest sequence in (lo, hi] at which the source range's timestamp is at most t; false
// if the range has no state above begin there. A sequence inside an undone interval shows what its lower end
// shows.
func lastAtOrBelow(e engine.Engine, source ids.RangeID, t hlc.Timestamp, begin, lo, hi ids.Seq, undone []seqInterval) (ids.Seq, bool, error) {
	key := localKey(source, suffixApplied)
	var failed error
	state := func(x ids.Seq) (ts hlc.Timestamp, exists bool) {
		raw, version, found, err := e.Get(key, clampUndone(x, undone))
		if err == nil && found && version > begin {
			var st appliedState
			if st, err = decodeApplied(raw); err == nil {
				return st.TS, true
			}
		}
		if err != nil {
			failed = err
		}
		return 0, false
	}
	if hi <= lo {
		return 0, false, nil
	}
	// Not yet past t: true for a while, then false for the rest.
	n := sort.Search(int(hi-lo), func(i int) bool {
		ts, exists := state(lo + 1 + ids.Seq(i))
		return failed == nil && exists && ts > t
	})
	if failed != nil || n == 0 {
		return 0, false, failed
	}
	x := lo + ids.Seq(n)
	if _, exists := state(x); !exists {
		return 0, false, failed
	}
	return x, true, nil
}

// clampUndone moves a sequence out of the inside of an undone interval.
func clampUndone(x ids.Seq, undone []seqInterval) ids.Seq {
	for _, u := range undone {
		if x > u.lo && x < u.hi {
			return u.lo
		}
	}
	return x
}
