package engine

import (
	"bytes"
	"fmt"

	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/packed"
)

// DefaultBatchBytes is the size up to which ScanPacked fills a batch.
const DefaultBatchBytes = 64 << 10

// ScanOptions say what ScanPacked reads, and where it stops. Bounds that are 0 don't bound.
type ScanOptions struct {
	Span    keys.Span // engine keys of user records: their values have headers
	Seq     ids.Seq
	Reverse bool
	// At is the timestamp by which expiry is judged. Expired records are left out.
	At hlc.Timestamp

	Limit     int64 // records
	MaxBytes  int64 // of all batches; the first record always fits
	MaxVisits int64 // keys looked at, tombstones and expired records included

	KeysOnly bool // records have empty values
	Strip    int  // bytes of the engine key that the batch leaves out
	// BatchBytes bounds a batch, unless a single record is larger. Default DefaultBatchBytes.
	BatchBytes int

	// Yield takes the batches, in order. A batch is its own from then on. False ends the scan.
	Yield func(batch []byte) bool
	// Blocks takes them instead, with what a cache of them has to know. The blocks of a scan that is not ended make up its
	// span. REQUIRES: forward, no Limit, MaxBytes, MaxVisits or KeysOnly.
	Blocks func(b Block) bool
	// Buffer returns an empty buffer for a batch. Default: a new one of BatchBytes.
	Buffer func() []byte
}

// Block is all that a reader finds in a span.
type Block struct {
	Span    keys.Span // of engine keys
	Batch   []byte    // empty: there are no records
	Records int
	// Prefixes are what the batch leaves out of the keys: each of the records from its offset on, to the next one's. They are
	// the callee's for the call only.
	Prefixes []Prefix
	Facts
}

// Prefix is the beginning of the keys of a stretch of a batch.
type Prefix struct {
	Offset int
	Bytes  []byte
}

// Facts say to which readers of a span the same records show.
type Facts struct {
	// MaxVersion is the newest version seen, tombstones included. From it on, and until a later write in
	// the span, readers find these same records, as far as expiry lets them:
	MaxVersion ids.Seq
	// MinExpiryAfter is the first expiry after At, MaxExpiryUpTo the last one at or before it; 0: none.
	// Reads at timestamps in [MaxExpiryUpTo, MinExpiryAfter) find the same records alive.
	MinExpiryAfter hlc.Timestamp
	MaxExpiryUpTo  hlc.Timestamp
	// Later is the first version above Seq, or one lower; 0: none had been applied when the scan began.
	Later ids.Seq
}

// ScanResult is what a scan found, and what a cache of its batches has to know.
type ScanResult struct {
	Records int64
	Bytes   int64 // of all batches
	// Resume is nil at the end of the span. Otherwise it is where to go on: the Start of the next forward
	// scan, the End of the next reverse one.
	Resume []byte
	// MaxTimestamp is the highest of the records read, expired ones included.
	MaxTimestamp hlc.Timestamp
	Facts        // of the whole scan
}

// ScanPacked reads the records of a span into packed batches. It allocates per batch, not per record. A
// stored value that cannot be read is a *ValueError, and the batches yielded before it stand.
func ScanPacked(e Engine, o ScanOptions) (ScanResult, error) {
	if o.BatchBytes == 0 {
		o.BatchBytes = DefaultBatchBytes
	}
	it := e.NewIterator(IterOptions{Span: o.Span, Seq: o.Seq, Reverse: o.Reverse, Tombstones: true})
	defer it.Close()
	s := scan{o: o, start: o.Span.Start}
	if err := s.run(it); err != nil {
		return s.result, err
	}
	if err := it.Err(); err != nil {
		return s.result, fmt.Errorf("engine: scan of %s: %w", o.Span, err)
	}
	if !s.stopped {
		s.result.Later = lower(s.result.Later, s.pass(it))
		s.flush(o.Span.End)
	}
	return s.result, nil
}

// scan is the state of one ScanPacked.
type scan struct {
	o       ScanOptions
	result  ScanResult
	batch   []byte
	visits  int64
	stopped bool // nobody wants more

	// Of the block that is being made:
	start    []byte
	records  int
	prefixes []Prefix
	facts    Facts
	later    ids.Seq // what the iterator came past on its way to where it stands: before the block's end, or after it
}

func (s *scan) run(it Iterator) error {
	for ; it.Valid(); it.Next() {
		s.later = s.pass(it)
		s.result.Later = lower(s.result.Later, s.later)
		if s.o.MaxVisits > 0 && s.visits == s.o.MaxVisits {
			s.resumeAt(it.Key())
			return nil
		}
		s.visits++
		r := it.Record()
		if r.Deleted {
			s.result.MaxVersion = max(s.result.MaxVersion, r.Version)
			s.facts.MaxVersion = max(s.facts.MaxVersion, r.Version)
			continue
		}
		more, err := s.record(&r)
		if err != nil && it.Err() != nil {
			return nil // there was no value to read
		}
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// pass notes what the iterator has come past.
func (s *scan) pass(it Iterator) ids.Seq {
	later := it.Later()
	s.facts.Later = lower(s.facts.Later, later)
	return later
}

// record takes a record in, or sets Resume to it and says that there is no more.
func (s *scan) record(r *Record) (more bool, err error) {
	key := r.Key
	v, err := ParseValue(r.Value)
	if err != nil {
		if ve, ok := err.(*ValueError); ok {
			ve.Key = bytes.Clone(key)
		}
		return false, err
	}
	if len(key) < s.o.Strip {
		return false, &KeyError{Key: bytes.Clone(key), Reason: fmt.Sprintf("is shorter than the %d bytes to strip", s.o.Strip)}
	}
	if v.Expired(s.o.At) {
		s.see(r.Version, v)
		return true, nil
	}
	if s.o.KeysOnly {
		v.Data = nil
	}
	size := packed.Size(len(key)-s.o.Strip, len(v.Data), v.Expires)
	if !s.room(key, size) {
		s.resumeAt(key)
		return false, nil
	}
	s.see(r.Version, v)
	if s.batch == nil {
		s.batch = s.buffer(size)
	}
	if s.o.Blocks != nil {
		s.note(key[:s.o.Strip])
	}
	s.batch = packed.Append(s.batch, key[s.o.Strip:], v.Data, v.Timestamp, v.Expires)
	s.records++
	s.result.Records++
	s.result.Bytes += int64(size)
	return true, nil
}

// room says whether a record of size belongs into this scan, and makes room for it in the batch.
func (s *scan) room(key []byte, size int) bool {
	switch {
	case s.o.Limit > 0 && s.result.Records == s.o.Limit:
		return false
	case s.o.MaxBytes > 0 && s.result.Records > 0 && s.result.Bytes+int64(size) > s.o.MaxBytes:
		return false
	case len(s.batch) > 0 && len(s.batch)+size > s.o.BatchBytes:
		return s.flush(key)
	}
	return true
}

// note takes down the beginning of a record's key, if it is another one.
func (s *scan) note(prefix []byte) {
	if n := len(s.prefixes); n == 0 || !bytes.Equal(s.prefixes[n-1].Bytes, prefix) {
		s.prefixes = append(s.prefixes, Prefix{Offset: len(s.batch), Bytes: bytes.Clone(prefix)})
	}
}

// flush hands out the batch; end is where the next one begins.
func (s *scan) flush(end []byte) bool {
	switch {
	case s.o.Blocks != nil:
		end = bytes.Clone(end)
		s.stopped = !s.o.Blocks(Block{
			Span: keys.Span{Start: s.start, End: end}, Batch: s.batch, Records: s.records, Prefixes: s.prefixes, Facts: s.facts,
		})
		s.start, s.records, s.prefixes, s.facts = end, 0, s.prefixes[:0], Facts{Later: s.later}
	case len(s.batch) > 0:
		s.stopped = !s.o.Yield(s.batch)
	}
	s.batch = nil
	return !s.stopped
}

func (s *scan) buffer(size int) []byte {
	if s.o.Buffer != nil {
		return s.o.Buffer()
	}
	return make([]byte, 0, max(s.o.BatchBytes, size))
}

func (s *scan) see(version ids.Seq, v Value) {
	s.result.MaxTimestamp = max(s.result.MaxTimestamp, v.Timestamp)
	s.result.see(version, v.Expires, s.o.At)
	s.facts.see(version, v.Expires, s.o.At)
}

func (f *Facts) see(version ids.Seq, expires, at hlc.Timestamp) {
	f.MaxVersion = max(f.MaxVersion, version)
	switch {
	case expires == 0:
	case expires <= at:
		f.MaxExpiryUpTo = max(f.MaxExpiryUpTo, expires)
	case f.MinExpiryAfter == 0 || expires < f.MinExpiryAfter:
		f.MinExpiryAfter = expires
	}
}

// resumeAt leaves key to the next scan.
func (s *scan) resumeAt(key []byte) {
	if s.o.Reverse {
		s.result.Resume = keys.Next(key) // an End is exclusive
		return
	}
	s.result.Resume = bytes.Clone(key)
}
