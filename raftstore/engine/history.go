package engine

import (
	"fmt"
	"slices"
	"sort"

	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
)

// Interval is the sequences in (After, Last] that an Undo took back: see Engine.Undo. No reader may read at
// one of them. What is there at Last and until the next write is what was there at After.
type Interval struct {
	After, Last ids.Seq
}

func (i Interval) contains(seq ids.Seq) bool { return seq > i.After && seq <= i.Last }

// History maps timestamps of a range to sequences of this store. The range's applied-state key is written
// by every entry, with the entry's timestamp in it, so its versions are the range's history here, and
// timestamps rise with them.
type History struct {
	// Get reads the newest version of the applied-state key at or below a sequence: the timestamp in it,
	// and where it was written. ok is false if there is none.
	Get func(seq ids.Seq) (ts hlc.Timestamp, version ids.Seq, ok bool, err error)
	// Floor is the lowest sequence that can be read: the engine's discard sequence.
	Floor ids.Seq
	// Undone intervals, in any order.
	Undone []Interval
}

// SeqAt is the sequence to read at for a timestamp: the version of the last entry in (lo, hi] with ts <= t.
// ok is false if there is none, or if its state can't be read any more.
//
// Where that version is below Floor, which keeps it as the newest at or below itself, the answer is Floor:
// the range did not change in between. Sequences in undone intervals are never probed and never answered.
// lo is the replica's own beginning on this store, or a bound from a Sample.
func (h *History) SeqAt(lo, hi ids.Seq, t hlc.Timestamp) (seq ids.Seq, ok bool, err error) {
	floor := max(lo+1, h.Floor)
	low, high := floor, hi // what is not yet known to be too low or too high
	for probe := hi; low <= high; probe = low + (high-low+1)/2 {
		x := h.settled(probe)
		if x < floor {
			low = probe + 1
			continue
		}
		ts, version, found, err := h.Get(x)
		switch {
		case err != nil:
			return 0, false, fmt.Errorf("engine: history at sequence %d: %w", x, err)
		case !found || h.settled(version) <= lo:
			// Nothing, or what stood before lo, perhaps as an undo wrote it back.
			low = probe + 1
		case ts <= t:
			seq, ok = max(h.settled(version), floor), true
			low = probe + 1
		default:
			high = version - 1
		}
	}
	return seq, ok, nil
}

// settled is the newest sequence at or below seq outside all undone intervals.
func (h *History) settled(seq ids.Seq) ids.Seq {
	for {
		i := slices.IndexFunc(h.Undone, func(i Interval) bool { return i.contains(seq) })
		if i < 0 {
			return seq
		}
		seq = h.Undone[i].After
	}
}

// Sample remembers where some of a range's entries were applied, to begin a search nearby. It starts empty
// after a restart and needs no copy on disk. Not safe for concurrent use.
type Sample struct {
	entries []sampled // ascending in both
	stride  int       // one entry of so many is kept
	skipped int       // since the last that was
	newest  sampled
}

type sampled struct {
	ts  hlc.Timestamp
	seq ids.Seq
}

const (
	sampleStride = 64
	// maxSamples bounds the memory of one range to 64 KiB; when they are used up every other one goes.
	maxSamples = 4096
)

// Add is called for every entry, in order.
func (s *Sample) Add(ts hlc.Timestamp, seq ids.Seq) {
	if s.stride == 0 {
		s.stride = sampleStride
		s.skipped = s.stride - 1 // the first is kept
	}
	s.newest = sampled{ts, seq}
	if s.skipped++; s.skipped < s.stride {
		return
	}
	s.skipped = 0
	if len(s.entries) == maxSamples {
		s.thin()
	}
	s.entries = append(s.entries, s.newest)
}

func (s *Sample) thin() {
	for i := range len(s.entries) / 2 {
		s.entries[i] = s.entries[2*i]
	}
	s.entries = s.entries[:len(s.entries)/2]
	s.stride *= 2
}

// Trim forgets the entries below a sequence, but the last of them.
func (s *Sample) Trim(seq ids.Seq) {
	n := sort.Search(len(s.entries), func(i int) bool { return s.entries[i].seq > seq })
	if n > 1 {
		s.entries = slices.Delete(s.entries, 0, n-1)
	}
}

// Reset forgets everything: the range was ingested or taken back.
func (s *Sample) Reset() { *s = Sample{entries: s.entries[:0]} }

// Bounds are the lo and hi of a search for t among (lo, hi]: the answer lies between, if there is one. They
// are given in the search's own bounds and narrow them.
func (s *Sample) Bounds(t hlc.Timestamp, lo, hi ids.Seq) (ids.Seq, ids.Seq) {
	n := sort.Search(len(s.entries), func(i int) bool { return s.entries[i].ts > t })
	if n > 0 {
		lo = max(lo, s.entries[n-1].seq-1)
	}
	if n < len(s.entries) {
		hi = min(hi, s.entries[n].seq-1)
	}
	if n == len(s.entries) && s.newest.seq != 0 && s.newest.ts <= t {
		lo = max(lo, s.newest.seq-1)
	}
	return lo, hi
}
