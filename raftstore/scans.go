package raftstore

import (
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/raftstore/engine"
)

// commit writes batches to the engine. Everything that is written after the store is open goes through here, so that the scan cache
// hears of it before anybody can see it (rule D5).
func (s *Store) commit(batches ...engine.Batch) error {
	if err := s.engine.Apply(batches); err != nil {
		return err
	}
	s.yield()
	s.scans.Applied(batches)
	return nil
}

// Batch is what a view shows at once.
type Batch struct {
	// Packed are the records: the callee's for the call only, and not to be changed.
	Packed  []byte
	Records int // how many
	// Expires: none of them expires before; 0: none does.
	Expires hlc.Timestamp
	// Cached: they come from the scan cache, some hundred times as quickly as from the engine.
	Cached bool
}

// batches hands out the records of a span of engine keys without the first strip bytes of the keys: from the scan cache where it knows
// them, and otherwise from the engine, for the cache to keep.
func (v *reading) batches(span keys.Span, strip int, f func(Batch) bool) error {
	for buf := []byte(nil); !span.Empty(); {
		part, next, ok := v.r.store.scans.Find(span, v.seq, v.at, strip)
		if ok {
			if len(part.Batch) > 0 && !f(Batch{Packed: part.Batch, Records: part.Records, Expires: part.Expires, Cached: true}) {
				return nil
			}
			span.Start = next
			continue
		}
		if buf == nil {
			buf = make([]byte, 0, packedBytes) // one for all batches
		}
		more, err := v.fill(keys.Span{Start: span.Start, End: next}, strip, buf, f)
		if err != nil || !more {
			return err
		}
		span.Start = next
	}
	return nil
}

// fill is batches without the cache, which it fills. False: f has had enough.
func (v *reading) fill(span keys.Span, strip int, buf []byte, f func(Batch) bool) (more bool, err error) {
	s := v.r.store
	fill := s.scans.Begin(span)
	defer fill.End()
	s.yield()
	more = true
	_, err = v.packed(engine.ScanOptions{
		Span: span, Strip: strip, Buffer: func() []byte { return buf[:0] },
		Blocks: func(b engine.Block) bool {
			s.yield()
			fill.Add(&b, v.seq, s.holds.discarded(), strip)
			more = len(b.Batch) == 0 || f(Batch{Packed: b.Batch, Records: b.Records, Expires: b.MinExpiryAfter})
			return more
		},
	})
	return more, err
}
