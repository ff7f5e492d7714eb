package raftstore

import (
	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/raftstore/engine"
)

// What a range holds is counted as its entries are applied, and only roughly: an entry does not know whether it writes a
// new key or an old one, and a split does not know what it gave away. Who is to decide something by the size of a range
// measures it first. From then on this replica counts from what was measured.

// Measure is what a range really holds, at one sequence.
type Measure struct {
	Bytes   uint64 // of user keys and values
	Records uint64
	// Middle is a key with about half of the bytes below it; nil if the range has fewer than two records.
	Middle []byte
}

const (
	// measureStep is how many records one step looks at.
	measureStep = 4096
	// measureGrain is the distance in bytes of the keys among which the middle is chosen, while these are few; it
	// doubles when there are measureKeys of them.
	measureGrain = 16 << 10
	measureKeys  = 1024
)

// measured is a replica's last measure.
type measured struct {
	bytes, records uint64
	// counted are what the applied state said then.
	countedBytes, countedRecords uint64
}

// size is what the range holds as far as is known.
func (s *replicaState) size() (bytes, records uint64) {
	m := &s.measured
	return m.bytes + s.applied.Bytes - min(s.applied.Bytes, m.countedBytes), m.records + s.applied.Records - min(s.applied.Records, m.countedRecords)
}

// measuring is one measure under way.
type measuring struct {
	r     *Replica
	v     *reading
	done  func(Measure, error)
	span  keys.Span // in the engine, what is left
	found Measure
	grain uint64
	marks []measureMark
	// counted by the applied state at the measured sequence.
	countedBytes, countedRecords uint64
}

type measureMark struct {
	below uint64 // bytes
	key   []byte
}

// MeasureRange looks at every record of a range on this store, in steps beside other work. done gets the result, or the
// error: *api.RangeNotFoundError, or *api.EpochMismatchError if the range has other bounds.
func (s *Store) MeasureRange(id ids.RangeID, boundsEpoch uint64, done func(Measure, error)) {
	r := s.replica(id)
	if r == nil || s.stopped() {
		done(Measure{}, &api.RangeNotFoundError{Range: id})
		return
	}
	counted := r.snapshot().applied // before the reading: what comes between is counted twice, and not forgotten
	v, err := r.take(boundsEpoch, 0)
	if err != nil {
		done(Measure{}, err)
		return
	}
	m := &measuring{
		r: r, v: v, done: done, span: dataSpan(v.desc.Span), grain: measureGrain,
		countedBytes: counted.Bytes, countedRecords: counted.Records,
	}
	s.exec.Go(QueueDisk, m.step)
}

func (m *measuring) step() {
	s := m.r.store
	if s.stopped() {
		m.v.release()
		m.done(Measure{}, errStopped)
		return
	}
	it := s.engine.NewIterator(engine.IterOptions{Span: m.span, Seq: m.v.seq})
	var err error
	for n := 0; it.Valid() && n < measureStep && err == nil; n++ {
		var val engine.Value
		if val, err = engine.ParseValue(it.Value()); err == nil {
			m.add(it.Key()[1:], len(val.Data))
			it.Next()
		}
	}
	more := it.Valid()
	if more {
		m.span.Start = append([]byte(nil), it.Key()...)
	}
	if err == nil {
		err = it.Err()
	}
	it.Close()
	switch {
	case err != nil:
		m.v.release()
		s.fatal(err)
		m.done(Measure{}, err)
	case more:
		s.exec.Go(QueueDisk, m.step)
	default:
		m.finish()
	}
}

func (m *measuring) add(key []byte, value int) {
	if m.found.Records > 0 && (len(m.marks) == 0 || m.found.Bytes-m.marks[len(m.marks)-1].below >= m.grain) {
		if len(m.marks) == measureKeys { // keep every other
			kept := m.marks[:0]
			for i := 1; i < len(m.marks); i += 2 {
				kept = append(kept, m.marks[i])
			}
			m.marks, m.grain = kept, 2*m.grain
		}
		m.marks = append(m.marks, measureMark{below: m.found.Bytes, key: append([]byte(nil), key...)})
	}
	m.found.Records++
	m.found.Bytes += uint64(len(key) + value)
}

func (m *measuring) finish() {
	m.v.release()
	half := m.found.Bytes / 2
	best := uint64(1) << 63
	for _, k := range m.marks {
		if d := max(k.below, half) - min(k.below, half); d < best {
			best, m.found.Middle = d, k.key
		}
	}
	m.r.update(func(s *replicaState) {
		if s.desc != nil && s.desc.Epoch.Bounds == m.v.desc.Epoch.Bounds {
			s.measured = measured{
				bytes: m.found.Bytes, records: m.found.Records, countedBytes: m.countedBytes, countedRecords: m.countedRecords,
			}
		}
	})
	m.done(m.found, nil)
}
