package scancache

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/packed"
	"github.com/locuskv/locus/raftstore/engine"
)

// store is an engine with a cache before it, as raftstore uses the two.
type store struct {
	t     *testing.T
	e     *engine.Memory
	c     *Cache
	seq   ids.Seq
	batch int
	// between is called where others may come in between.
	between func()
}

func newStore(t *testing.T, maxBytes int64) *store {
	return &store{t: t, e: engine.NewMemory(engine.Limits{}), c: New(maxBytes, 'd', 1), batch: 300, between: func() {}}
}

func (s *store) apply(ops ...engine.Op) {
	s.seq++
	b := engine.Batch{Seq: s.seq, Ops: ops}
	require.NoError(s.t, s.e.Apply([]engine.Batch{b}))
	s.c.Applied([]engine.Batch{b})
}

func put(key, value string, expires hlc.Timestamp) engine.Op {
	return engine.Op{Key: []byte(key), Value: engine.AppendValue(nil, []byte(value), 1, expires)}
}

func del(key string) engine.Op { return engine.Op{Key: []byte(key), Delete: true} }

func span(start, end string) keys.Span { return keys.Span{Start: []byte(start), End: []byte(end)} }

// scan reads a span through the cache, and says how many blocks came from there.
func (s *store) scan(sp keys.Span, seq ids.Seq, at hlc.Timestamp, strip int) (got []byte, hits int) {
	for !sp.Empty() {
		part, next, ok := s.c.Find(sp, seq, at, strip)
		s.between()
		if !ok {
			gap := keys.Span{Start: sp.Start, End: next}
			require.False(s.t, gap.Empty())
			f := s.c.Begin(gap)
			s.between()
			_, err := engine.ScanPacked(s.e, engine.ScanOptions{Span: gap, Seq: seq, At: at, Strip: strip, BatchBytes: s.batch, Blocks: func(b engine.Block) bool {
				s.between()
				f.Add(&b, seq, 0, strip)
				got = append(got, b.Batch...)
				return true
			}})
			require.NoError(s.t, err)
			f.End()
		} else {
			got = append(got, part.Batch...)
			hits++
			require.Equal(s.t, packed.Len(part.Batch), part.Records)
			for r := packed.NewReader(part.Batch); r.Next(); {
				if e := r.Expires(); e != 0 {
					require.NotZero(s.t, part.Expires)
					require.LessOrEqual(s.t, part.Expires, e)
				}
			}
		}
		require.Positive(s.t, bytes.Compare(next, sp.Start))
		sp.Start = next
	}
	return got, hits
}

// direct reads a span past the cache.
func (s *store) direct(sp keys.Span, seq ids.Seq, at hlc.Timestamp, strip int) (got []byte) {
	_, err := engine.ScanPacked(s.e, engine.ScanOptions{Span: sp, Seq: seq, At: at, Strip: strip, Yield: func(batch []byte) bool {
		got = append(got, batch...)
		return true
	}})
	require.NoError(s.t, err)
	return got
}

func (s *store) check(sp keys.Span, seq ids.Seq, at hlc.Timestamp, strip int) (hits int) {
	s.t.Helper()
	got, hits := s.scan(sp, seq, at, strip)
	require.Equal(s.t, string(s.direct(sp, seq, at, strip)), string(got), "%s at sequence %d, time %d", sp, seq, at)
	return hits
}

// TestModel: whatever is written, also in the middle of scans, and whoever reads at whatever sequence and time, the cache shows
// what the engine shows.
func TestModel(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 5))
		s := newStore(t, minBytes<<rng.IntN(3))
		s.batch = 40 + rng.IntN(600)
		prefixes := 1 + rng.IntN(12) // what is stripped, of keys in one block
		key := func() string { return fmt.Sprintf("d%02d/%02d", rng.IntN(prefixes), rng.IntN(300/prefixes)) }
		write := func() {
			ops := map[string]engine.Op{}
			for range 1 + rng.IntN(3) {
				k := key()
				if rng.IntN(3) == 0 {
					ops[k] = del(k)
				} else {
					var expires hlc.Timestamp
					if rng.IntN(4) == 0 {
						expires = hlc.Timestamp(50 + rng.IntN(100))
					}
					ops[k] = put(k, fmt.Sprint(s.seq), expires)
				}
			}
			var list []engine.Op
			for _, op := range ops {
				list = append(list, op)
			}
			s.apply(list...)
		}
		s.between = func() {
			if rng.IntN(4) == 0 {
				write()
			}
		}
		hits := 0
		for range 150 {
			for range rng.IntN(3) {
				write()
			}
			sp := span(key(), key())
			if rng.IntN(2) == 0 {
				sp = span("d", "e")
			}
			if sp.Empty() {
				continue
			}
			seq := s.seq - ids.Seq(rng.IntN(int(min(s.seq, 20))+1))
			at := hlc.Timestamp(40 + rng.IntN(120))
			if rng.IntN(2) == 0 {
				at = 100
			}
			hits += s.check(sp, seq, at, 4)
			s.consistent()
		}
		require.Positive(t, hits, "seed %d: the cache was of no use", seed)
		require.Positive(t, s.c.Stats().Ended, "seed %d", seed)
		require.Empty(t, s.c.mu.fills)
	}
}

// consistent checks what the cache says of itself.
func (s *store) consistent() {
	c := s.c
	size, past := int64(0), int64(0)
	var last []byte
	c.mu.open.Scan(func(b *block) bool {
		require.Zero(s.t, b.to)
		require.GreaterOrEqual(s.t, bytes.Compare(b.span.Start, last), 0, "blocks without an end overlap")
		last = b.span.End
		size += b.size()
		require.Same(s.t, b, c.mu.live[b.at])
		return true
	})
	c.mu.past.Scan(func(b *block) bool {
		require.Greater(s.t, b.to, b.from)
		past += b.size()
		require.Same(s.t, b, c.mu.ended[b.at])
		return true
	})
	st := c.Stats()
	require.Equal(s.t, size+past, st.Bytes)
	require.Equal(s.t, past, c.mu.endedBytes)
	require.LessOrEqual(s.t, past, c.maxBytes/ended)
	require.LessOrEqual(s.t, st.Bytes, c.maxBytes)
	require.EqualValues(s.t, len(c.mu.live)+len(c.mu.ended), st.Blocks)
	require.Equal(s.t, c.mu.open.Len(), len(c.mu.live))
	require.Equal(s.t, c.mu.past.Len(), len(c.mu.ended))
}

// TestD5ADeletedKeyStaysForThoseBefore plays the rule's execution: b is deleted at 2, the block is made at 3 without it, and must
// not be shown to a reader at 1.
func TestD5ADeletedKeyStaysForThoseBefore(t *testing.T) {
	s := newStore(t, minBytes)
	s.apply(put("da", "1", 0), put("db", "1", 0))
	s.apply(del("db"))
	s.apply(put("e", "1", 0))
	s.check(span("d", "e"), 3, 0, 1)
	require.Zero(t, s.check(span("d", "e"), 1, 0, 1), "from the cache")
	require.Equal(t, 1, s.check(span("d", "e"), 2, 0, 1), "the tombstone's own sequence sees what later ones see")
}

// TestD5AWriteEndsItsBlockAlone: others, and readers of before, keep theirs.
func TestD5AWriteEndsItsBlockAlone(t *testing.T) {
	s := newStore(t, minBytes<<4)
	for i := range 100 {
		s.apply(put(fmt.Sprintf("d%02d", i), "0123456789", 0))
	}
	s.check(span("d", "e"), s.seq, 0, 1)
	blocks := int(s.c.Stats().Blocks)
	require.Greater(t, blocks, 5)
	before := s.seq
	s.apply(put("d50", "new", 0))
	require.Equal(t, blocks, s.check(span("d", "e"), before, 0, 1))
	require.Equal(t, blocks-1, s.check(span("d", "e"), s.seq, 0, 1))
	require.GreaterOrEqual(t, s.check(span("d", "e"), s.seq, 0, 1), blocks)
}

// TestD5AWriteDuringTheScan: it ends the block that is being made, whether the scan has seen it or not.
func TestD5AWriteDuringTheScan(t *testing.T) {
	for _, when := range []int{1, 2, 3} { // after Find, after Begin, before Add
		s := newStore(t, minBytes)
		s.apply(put("da", "old", 0))
		seq, n := s.seq, 0
		s.between = func() {
			if n++; n == when {
				s.apply(put("db", "new", 0))
			}
		}
		s.check(span("d", "e"), seq, 0, 1)
		require.Equal(t, 1, s.check(span("d", "e"), seq, 0, 1), "the reader of before finds it again")
		require.Zero(t, s.check(span("d", "e"), s.seq, 0, 1), "%d: a later reader finds it", when)
	}
}

// TestManyWritesDuringAScan: they cost the blocks that they fall into, and where they are too many to be noted, what lies behind the
// first of them; never what is found.
func TestManyWritesDuringAScan(t *testing.T) {
	for _, tc := range []struct {
		name       string
		key        func(i int) string
		open, lost int // blocks without an end, at least; blocks that are not kept, at most
	}{
		{"one key", func(int) string { return "d99" }, 9, 0},
		{"at the end", func(i int) string { return fmt.Sprintf("d99/%05d", i) }, 9, 1},
		{"at the end, downwards", func(i int) string { return fmt.Sprintf("d99/%05d", maxNotes*4-i) }, 9, 1},
		{"behind the scan", func(i int) string { return fmt.Sprintf("d10/%05d", i) }, 9, 0},
		{"everywhere", func(i int) string { return fmt.Sprintf("d%02d/%05d", i*37%100, i) }, 0, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStore(t, minBytes<<4)
			for i := range 100 {
				s.apply(put(fmt.Sprintf("d%02d", i), "0123456789", 0))
			}
			seq, n := s.seq, 0
			s.between = func() {
				if n++; n == 8 {
					for i := range 4 * maxNotes {
						s.apply(put(tc.key(i), "x", 0))
					}
				}
			}
			s.check(span("d", "e"), seq, 0, 1)
			s.consistent()
			require.GreaterOrEqual(t, len(s.c.mu.live), tc.open)
			require.GreaterOrEqual(t, int(s.c.Stats().Added), n-2-tc.lost)
			s.between = func() {}
			s.check(span("d", "e"), seq, 0, 1)
			s.check(span("d", "e"), s.seq, 0, 1)
			s.consistent()
		})
	}
}

// TestMoreThanThereIsRoomFor: a span that does not fit, scanned again and again, finds about as much as fits.
func TestMoreThanThereIsRoomFor(t *testing.T) {
	s := newStore(t, minBytes)
	for i := range 2000 {
		s.apply(put(fmt.Sprintf("d%04d", i), "0123456789", 0))
	}
	hits := 0
	for range 5 {
		hits = s.check(span("d", "e"), s.seq, 0, 1)
		s.consistent()
	}
	require.Greater(t, hits, 20)
	require.Positive(t, s.c.Stats().Evicted)
}

// TestBlocksOfThePastHaveTheirPart: they take no more than that, and a write has not to make up for all that came before it.
func TestBlocksOfThePastHaveTheirPart(t *testing.T) {
	s := newStore(t, minBytes<<2)
	for i := range 4000 {
		s.apply(put(fmt.Sprintf("d%04d", i), "0123456789", 0))
	}
	before := s.seq
	for i := range 4000 {
		s.apply(put(fmt.Sprintf("d%04d", i), "9876543210", 0))
	}
	s.check(span("d", "e"), before, 0, 1)
	s.consistent()
	s.check(span("d01", "d02"), s.seq, 0, 1)
	evicted := s.c.Stats().Evicted
	s.apply(put("d0150", "new", 0))
	require.LessOrEqual(t, s.c.Stats().Evicted, evicted+2)
}

// TestALongGap: what lies behind many blocks that do not show is found all the same.
func TestALongGap(t *testing.T) {
	s := newStore(t, minBytes<<4)
	for i := range 400 {
		expires := hlc.Timestamp(0)
		if i < 200 {
			expires = 50
		}
		s.apply(put(fmt.Sprintf("d%03d", i), "0123456789", expires))
	}
	s.check(span("d", "e"), s.seq, 40, 1)
	require.Greater(t, len(s.c.mu.live)/2, 2*maxSteps)
	require.Greater(t, s.check(span("d", "e"), s.seq, 60, 1), 2*maxSteps)
	s.consistent()
}

// TestOfferedTwice: two that scan the same at once leave it there once.
func TestOfferedTwice(t *testing.T) {
	s := newStore(t, minBytes)
	s.apply(put("da", "1", 0))
	first, second := s.c.Begin(span("d", "e")), s.c.Begin(span("d", "e"))
	b := engine.Block{Span: span("d", "e"), Facts: engine.Facts{MaxVersion: 1}}
	first.Add(&b, 1, 0, 1)
	second.Add(&b, 1, 0, 1)
	first.End()
	second.End()
	require.EqualValues(t, 1, s.c.Stats().Blocks)
	s.consistent()
}

// TestNoCache: a nil cache finds nothing and keeps nothing.
func TestNoCache(t *testing.T) {
	c := New(-1, 'd', 1)
	require.Nil(t, c)
	_, next, ok := c.Find(span("d", "e"), 1, 0, 1)
	require.False(t, ok)
	require.Equal(t, "e", string(next))
	f := c.Begin(span("d", "e"))
	f.Add(&engine.Block{}, 1, 0, 1)
	f.End()
	c.Applied([]engine.Batch{{Seq: 1, Ops: []engine.Op{del("d")}}})
	require.Zero(t, c.Stats())
}

// BenchmarkFind is one step of a scan that finds its block; BenchmarkApplied one write into a full cache.
func BenchmarkFind(b *testing.B) {
	c := filled(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		k := fmt.Appendf(nil, "d%08d", i%4000*10)
		if _, _, ok := c.Find(keys.Span{Start: k, End: []byte("e")}, 1, 0, 1); !ok {
			b.Fatal("not there")
		}
	}
}

func BenchmarkApplied(b *testing.B) {
	c := filled(b)
	batch := []engine.Batch{{Seq: 2}}
	for i := range 100 {
		batch[0].Ops = append(batch[0].Ops, del(fmt.Sprintf("c%08d", i)), engine.Op{Key: fmt.Appendf(nil, "d%08d", 50_000+i)})
	}
	b.ReportAllocs()
	for b.Loop() {
		c.Applied(batch)
	}
}

// filled has 4,000 blocks.
func filled(b *testing.B) *Cache {
	c := New(512<<20, 'd', 1)
	f := c.Begin(span("d", "e"))
	for i := range 4000 {
		f.Add(&engine.Block{
			Span:  keys.Span{Start: fmt.Appendf(nil, "d%08d", i*10), End: fmt.Appendf(nil, "d%08d", i*10+10)},
			Facts: engine.Facts{MaxVersion: 1},
		}, 1, 0, 1)
	}
	f.End()
	if n := c.Stats().Blocks; n != 4000 {
		b.Fatal(n)
	}
	return c
}
