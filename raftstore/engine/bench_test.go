package engine_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/raftstore/engine"
)

// both runs a benchmark on an empty engine of each kind.
func both(b *testing.B, run func(b *testing.B, e engine.Engine)) {
	b.Run("memory", func(b *testing.B) { run(b, engine.NewMemory(engine.Limits{})) })
	b.Run("badger", func(b *testing.B) {
		e, err := engine.OpenBadger(engine.BadgerOptions{Dir: b.TempDir()})
		require.NoError(b, err)
		run(b, e)
		require.NoError(b, e.Close())
	})
}

const benchKeys = 100_000

// fill writes benchKeys keys of 128-byte values, four versions each.
func fill(b *testing.B, e engine.Engine) ids.Seq {
	b.Helper()
	seq := e.MaxSeq()
	for range 4 {
		for i := 0; i < benchKeys; i += 1000 {
			batch := engine.Batch{Seq: seq + 1}
			for j := range 1000 {
				batch.Ops = append(batch.Ops, engine.Op{Key: benchKey(i + j), Value: engine.AppendValue(nil, make([]byte, 128), 1, 0)})
			}
			require.NoError(b, e.Apply([]engine.Batch{batch}))
			seq++
		}
	}
	e.SetDiscard(seq - 1)
	return seq
}

func benchKey(i int) []byte { return fmt.Appendf(nil, "key/%010d", i) }

// One round of the apply worker: 100 entries of one small write each.
func BenchmarkApply100Batches(b *testing.B) {
	both(b, func(b *testing.B, e engine.Engine) {
		value := engine.AppendValue(nil, make([]byte, 128), 1, 0)
		b.SetBytes(100 * 128)
		b.ReportAllocs()
		seq := ids.Seq(0)
		batches := make([]engine.Batch, 100)
		for b.Loop() {
			for i := range batches {
				seq++
				batches[i] = engine.Batch{Seq: seq, Ops: []engine.Op{
					{Key: benchKey(int(seq*7919) % benchKeys), Value: value},
					{Key: []byte("applied"), Value: value[:16]},
				}}
			}
			if err := e.Apply(batches); err != nil {
				b.Fatal(err)
			}
			e.SetDiscard(seq - 50)
		}
	})
}

func BenchmarkGet(b *testing.B) {
	both(b, func(b *testing.B, e engine.Engine) {
		seq := fill(b, e)
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			i += 7919
			if _, _, found, err := e.Get(benchKey(i%benchKeys), seq); err != nil || !found {
				b.Fatal(found, err)
			}
		}
	})
}

// tables is a store that is larger than its memtables: most keys lie in tables.
func tables(b *testing.B, keys int, value []byte) (e *engine.Badger, seq ids.Seq) {
	b.Helper()
	e, err := engine.OpenBadger(engine.BadgerOptions{Dir: b.TempDir(), MemTableBytes: 4 << 20, MinBatchBytes: 512 << 10})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, e.Close()) })
	value = engine.AppendValue(nil, value, 1, 0)
	for i := 0; i < keys; i += 100 {
		seq++
		batch := engine.Batch{Seq: seq}
		for j := range 100 {
			batch.Ops = append(batch.Ops, engine.Op{Key: benchKey((i + j) * 7919 % keys), Value: value})
		}
		require.NoError(b, e.Apply([]engine.Batch{batch}))
	}
	return e, seq
}

func BenchmarkGetFromTables(b *testing.B) {
	const keys = 300_000
	e, seq := tables(b, keys, make([]byte, 128))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i += 104729
		if _, _, found, err := e.Get(benchKey(i%keys), seq); err != nil || !found {
			b.Fatal(found, err)
		}
	}
}

// BenchmarkScanFromTables compares a scan with the least that Badger's iterator takes for it, in turns.
func BenchmarkScanFromTables(b *testing.B) {
	const records = 500_000
	e, seq := tables(b, records, make([]byte, 16))
	span := keys.Span{End: []byte{0xff}}
	buf := make([]byte, 0, engine.DefaultBatchBytes+1<<10)
	packed := engine.ScanOptions{Span: span, Seq: seq, Buffer: func() []byte { return buf[:0] }, Yield: func([]byte) bool { return true }}
	var raw, scan []time.Duration
	for b.Loop() {
		began := time.Now()
		n, _, err := e.CountRaw(span)
		require.NoError(b, err)
		require.Equal(b, int64(records), n)
		raw, began = append(raw, time.Since(began)), time.Now()
		res, err := engine.ScanPacked(e, packed)
		require.NoError(b, err)
		require.Equal(b, int64(records), res.Records)
		scan = append(scan, time.Since(began))
	}
	slices.Sort(raw)
	slices.Sort(scan)
	b.ReportMetric(float64(raw[0].Nanoseconds())/records, "least-raw-ns/record")
	b.ReportMetric(float64(scan[0].Nanoseconds())/records, "least-scan-ns/record")
	b.ReportMetric(float64(raw[len(raw)/2])/float64(scan[len(scan)/2]), "raw/scan")
}

func BenchmarkGetMissing(b *testing.B) {
	both(b, func(b *testing.B, e engine.Engine) {
		seq := fill(b, e)
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			i += 7919
			if _, _, found, err := e.Get(append(benchKey(i%benchKeys), 'x'), seq); err != nil || found {
				b.Fatal(found, err)
			}
		}
	})
}

// The time of an operation is that of a record.
func BenchmarkScanRecord(b *testing.B) {
	for _, reverse := range []bool{false, true} {
		b.Run(fmt.Sprintf("reverse=%v", reverse), func(b *testing.B) {
			both(b, func(b *testing.B, e engine.Engine) {
				o := engine.ScanOptions{Seq: fill(b, e), Reverse: reverse, Yield: func([]byte) bool { return true }}
				b.ReportAllocs()
				left := int64(0)
				for b.Loop() {
					if left--; left > 0 {
						continue
					}
					res, err := engine.ScanPacked(e, o)
					if err != nil || res.Records != benchKeys {
						b.Fatal(res, err)
					}
					left = res.Records
				}
			})
		})
	}
}

// A key with many versions, passed on the way to the next, from old and new sequences.
func BenchmarkScanPastHotKey(b *testing.B) {
	const versions = 60_000
	both(b, func(b *testing.B, e engine.Engine) {
		for seq := ids.Seq(1); seq <= versions; seq += 100 {
			var batches []engine.Batch
			for i := range ids.Seq(100) {
				batches = append(batches, engine.Batch{Seq: seq + i, Ops: []engine.Op{put("hot", "value of a hot key")}})
			}
			require.NoError(b, e.Apply(batches))
		}
		apply(b, e, versions+1, put("a", "x"), put("z", "x"))
		for _, seq := range []ids.Seq{versions / 2, versions + 1} {
			for _, reverse := range []bool{false, true} {
				b.Run(fmt.Sprintf("seq=%d/reverse=%v", seq, reverse), func(b *testing.B) {
					for b.Loop() {
						it := e.NewIterator(engine.IterOptions{Seq: seq, Reverse: reverse})
						for ; it.Valid(); it.Next() {
							_ = it.Value()
						}
						it.Close()
					}
				})
			}
		}
	})
}

func BenchmarkSync(b *testing.B) {
	both(b, func(b *testing.B, e engine.Engine) {
		value := make([]byte, 1000)
		seq := ids.Seq(0)
		for b.Loop() {
			seq++
			apply(b, e, seq, engine.Op{Key: benchKey(int(seq)), Value: value})
			if err := e.Sync(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
