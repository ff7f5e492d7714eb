package server

import (
	"log/slog"
	"sync"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/raftstore"
)

// measurePause is how long a range is left alone after it could not be measured.
const measurePause = 10 * time.Second

// splitter finds out which of the ranges that this store leads are too large, or too busy (see loads), and where they
// should be split: the reporter tells the placement driver, which makes an operator of it. What a store counts as a range's size drifts
// upwards with overwrites, so a range is measured before anything is wanted of it, one range at a time, and again
// only when its count has grown by a tenth since.
//
// A range is split at a group's boundary near its middle. One that holds a single group stays as it is.
type splitter struct {
	store splittable
	// layout of a keyspace that lives.
	layout func(ids.KeyspaceID) (keys.Layout, bool)
	limit  uint64 // bytes of user keys and values
	loads  *loads
	// found is called when there is something new to tell.
	found func()
	log   *slog.Logger

	mu struct {
		sync.Mutex
		ranges    map[ids.RangeID]*watched // those above the limit that are led here
		measuring bool
		measures  uint64
	}
}

// splittable is what the splitter needs of the store.
type splittable interface {
	Ranges() []raftstore.RangeInfo
	Do(req *locuspb.Request, done func(*locuspb.Response))
	MeasureRange(id ids.RangeID, boundsEpoch uint64, done func(raftstore.Measure, error))
}

// watched is a range whose count is above the limit.
type watched struct {
	bounds uint64             // the epoch that all of this is about
	next   uint64             // counted bytes at which it is measured again
	after  time.Time          // and not before
	wish   *locuspb.SplitWish // nil: none
	// indivisible: too large, and one group.
	indivisible bool
}

func newSplitter(s splittable, layout func(ids.KeyspaceID) (keys.Layout, bool), limit uint64, l *loads, found func(), log *slog.Logger) *splitter {
	out := &splitter{store: s, layout: layout, limit: limit, loads: l, found: found, log: log}
	out.mu.ranges = make(map[ids.RangeID]*watched)
	return out
}

// look begins to measure a range if that is due, and then the next.
func (s *splitter) look() { s.lookAt(s.store.Ranges()) }

func (s *splitter) lookAt(ranges []raftstore.RangeInfo) {
	if i, ok := s.due(ranges); ok {
		s.store.MeasureRange(i.Descriptor.ID, i.Descriptor.Epoch.Bounds, func(m raftstore.Measure, err error) {
			s.measured(i, m, err)
		})
	}
}

// due forgets what is no longer too large or no longer led here, and picks a range to measure.
func (s *splitter) due(ranges []raftstore.RangeInfo) (pick raftstore.RangeInfo, found bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := make(map[ids.RangeID]*watched)
	for _, i := range ranges {
		if !i.Leaseholder || i.Bytes <= s.limit {
			continue
		}
		if _, ok := s.divisible(i); !ok {
			continue
		}
		w := s.mu.ranges[i.Descriptor.ID]
		if w == nil || w.bounds != i.Descriptor.Epoch.Bounds {
			w = &watched{bounds: i.Descriptor.Epoch.Bounds}
		}
		kept[i.Descriptor.ID] = w
		if !found && !s.mu.measuring && w.wish == nil && i.Bytes >= w.next && !time.Now().Before(w.after) {
			pick, found = i, true
		}
	}
	s.mu.ranges = kept
	if found {
		s.mu.measuring = true
		s.mu.measures++
	}
	return pick, found
}

// divisible says whether a range may be split at all, the system range never, others once they lie in a keyspace; and by
// which layout.
func (s *splitter) divisible(i raftstore.RangeInfo) (keys.Layout, bool) {
	id, ok := keys.KeyspaceOf(i.Descriptor.Span.Start)
	if !ok || i.Descriptor.ID == ids.SystemRange || !keys.KeyspaceSpan(id).ContainsSpan(i.Descriptor.Span) {
		return keys.Layout{}, false
	}
	return s.layout(id)
}

// measured takes a measure, and looks for the group boundary if the range is too large in truth.
func (s *splitter) measured(i raftstore.RangeInfo, m raftstore.Measure, err error) {
	l, ok := s.divisible(i)
	switch {
	case err == nil && !ok:
		s.settle(i, m, nil, errNotDivisible)
	case err != nil || m.Bytes <= s.limit || m.Middle == nil:
		s.settle(i, m, nil, err)
	default:
		// The middle's own group may be all there is on one side of it.
		group := l.GroupSpanOf(m.Middle)
		s.boundary(i, m, []candidate{
			{group.Start, keys.Span{Start: i.Descriptor.Span.Start, End: group.Start}},
			{group.End, keys.Span{Start: group.End, End: i.Descriptor.Span.End}},
		})
	}
}

// errNotDivisible: the keyspace was dropped meanwhile.
var errNotDivisible = &api.InvalidArgumentError{Reason: "the range lies in no keyspace any more"}

// candidate is a key where a range could be split, and the part of the range that is cut off, which must hold something.
type candidate struct {
	key []byte
	off keys.Span
}

// boundary settles on the first candidate that cuts off at least one record.
func (s *splitter) boundary(i raftstore.RangeInfo, m raftstore.Measure, rest []candidate) {
	for len(rest) > 0 && (rest[0].key == nil || rest[0].off.Empty() || !i.Descriptor.Span.ContainsSpan(rest[0].off)) {
		rest = rest[1:]
	}
	if len(rest) == 0 {
		s.settle(i, m, nil, nil)
		return
	}
	req := &locuspb.Request{
		RangeId: uint64(i.Descriptor.ID), BoundsEpoch: i.Descriptor.Epoch.Bounds,
		Op: &locuspb.Request_Scan{Scan: &locuspb.ScanRequest{Span: api.SpanToProto(rest[0].off), Limit: 1, KeysOnly: true}},
	}
	s.store.Do(req, func(resp *locuspb.Response) {
		switch {
		case resp.Error != nil:
			s.settle(i, m, nil, api.FromProto(resp.Error))
		case resp.GetScan().GetRecords() > 0:
			s.settle(i, m, rest[0].key, nil)
		default:
			s.boundary(i, m, rest[1:])
		}
	})
}

// settle ends a measure: with a key to split at, without one, or with an error.
func (s *splitter) settle(i raftstore.RangeInfo, m raftstore.Measure, key []byte, err error) {
	defer s.look()
	id := i.Descriptor.ID
	s.mu.Lock()
	s.mu.measuring = false
	w := s.mu.ranges[id]
	if w == nil || w.bounds != i.Descriptor.Epoch.Bounds {
		s.mu.Unlock()
		return
	}
	news := false
	switch {
	case err != nil:
		w.after = time.Now().Add(measurePause)
	case key != nil:
		w.wish = &locuspb.SplitWish{Key: key, Reason: "larger than " + uitoa(s.limit) + " bytes"}
	default:
		w.next = m.Bytes + m.Bytes/10
		one := m.Bytes > s.limit
		news, w.indivisible = one && !w.indivisible, one
	}
	s.mu.Unlock()
	switch {
	case err != nil:
		s.log.Debug("range could not be measured", "range", id, "error", err)
	case key != nil:
		s.log.Debug("range is too large", "range", id, "bytes", m.Bytes, "limit", s.limit)
		s.found()
	case news:
		s.log.Warn("range is too large and holds a single group, which is never split", "range", id, "bytes", m.Bytes, "limit", s.limit)
	}
}

// calm says that no range has a wish: none is too large, and none has had a request of late.
func (s *splitter) calm() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mu.ranges) == 0 && s.loads.calm()
}

// wish is where a range that is led here should be split; nil: nowhere.
func (s *splitter) wish(i raftstore.RangeInfo) *locuspb.SplitWish {
	l, ok := s.divisible(i)
	if !ok {
		return nil
	}
	load := s.loads.wish(i.Descriptor, l)
	if size := s.tooLarge(i); size != nil {
		return size
	}
	return load
}

// tooLarge is the wish of a range for its size.
func (s *splitter) tooLarge(i raftstore.RangeInfo) *locuspb.SplitWish {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.mu.ranges[i.Descriptor.ID]; w != nil && w.bounds == i.Descriptor.Epoch.Bounds {
		return w.wish
	}
	return nil
}

// splitterStats are for the metrics.
type splitterStats struct {
	measures    uint64
	indivisible int // ranges led here that are too large and one group
}

func (s *splitter) stats() splitterStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := splitterStats{measures: s.mu.measures}
	for _, w := range s.mu.ranges {
		if w.indivisible {
			out.indivisible++
		}
	}
	return out
}
