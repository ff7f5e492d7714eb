package engine

import (
	"fmt"
	"math/rand"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/packed"
)

// scanAll follows Resume to the end and lists the records.
func scanAll(t *testing.T, e Engine, o ScanOptions) (records []string, pages int) {
	t.Helper()
	for {
		o.Yield = func(batch []byte) bool {
			require.NotEmpty(t, batch)
			r := packed.NewReader(batch)
			for r.Next() {
				records = append(records, fmt.Sprintf("%s=%s@%d/%d", r.Key(), r.Value(), r.Timestamp(), r.Expires()))
			}
			require.NoError(t, r.Err())
			if o.BatchBytes > 0 && packed.Len(batch) > 1 {
				require.LessOrEqual(t, len(batch), o.BatchBytes)
			}
			return true
		}
		res, err := ScanPacked(e, o)
		require.NoError(t, err)
		pages++
		if res.Resume == nil {
			return records, pages
		}
		require.Less(t, pages, 10_000)
		if o.Reverse {
			o.Span.End = res.Resume
		} else {
			o.Span.Start = res.Resume
		}
	}
}

// Whatever the bounds of a page and of a batch, the pages together are the whole.
func TestScanPagesMakeTheWhole(t *testing.T) {
	m := NewMemory(Limits{})
	var forward []string
	for i := range 200 {
		var expires hlc.Timestamp
		ops := []Op{}
		key := fmt.Sprintf("p/%03d", i)
		switch {
		case i%7 == 0:
			ops = append(ops, del(key))
		case i%5 == 0:
			expires = hlc.Timestamp(1000 + i)
			fallthrough
		default:
			value := fmt.Sprint("v", i)
			ops = append(ops, Op{Key: []byte(key), Value: AppendValue(nil, []byte(value), hlc.Timestamp(i), expires)})
			if expires == 0 || expires > 1100 {
				forward = append(forward, fmt.Sprintf("%s=%s@%d/%d", key[2:], value, i, expires))
			}
		}
		apply(t, m, ids.Seq(i+1), ops...)
	}
	base := ScanOptions{Span: keys.PrefixSpan([]byte("p/")), Seq: 300, At: 1100, Strip: 2}
	rng := rand.New(rand.NewSource(1))
	for range 300 {
		o := base
		o.Reverse = rng.Intn(2) == 0
		o.Limit = int64(rng.Intn(30))
		o.MaxBytes = int64(rng.Intn(600))
		o.MaxVisits = int64(rng.Intn(40))
		o.BatchBytes = rng.Intn(300)
		got, pages := scanAll(t, m, o)
		want := append([]string{}, forward...)
		if o.Reverse {
			for i, j := 0, len(want)-1; i < j; i, j = i+1, j-1 {
				want[i], want[j] = want[j], want[i]
			}
		}
		require.Equal(t, want, got, "%+v", o)
		if o.Limit > 0 {
			require.GreaterOrEqual(t, pages, len(want)/int(o.Limit))
		}
	}
}

func TestScanTellsWhatACacheMustKnow(t *testing.T) {
	m := NewMemory(Limits{})
	store := func(key string, ts, expires hlc.Timestamp) Op {
		return Op{Key: []byte(key), Value: AppendValue(nil, []byte("value"), ts, expires)}
	}
	apply(t, m, 1, store("a", 10, 0), store("b", 11, 50), store("c", 12, 60), store("d", 13, 100), store("e", 14, 120))
	apply(t, m, 4, del("f"))
	apply(t, m, 9, store("z", 20, 0))
	var batches [][]byte
	o := ScanOptions{Span: keys.Span{End: []byte("y")}, Seq: 9, At: 60, KeysOnly: true, Yield: func(b []byte) bool {
		batches = append(batches, b)
		return true
	}}
	res, err := ScanPacked(m, o)
	require.NoError(t, err)
	require.Equal(t, ScanResult{
		Records: 3, Bytes: int64(len(batches[0])), MaxTimestamp: 14, Facts: Facts{MaxVersion: 4, MinExpiryAfter: 100, MaxExpiryUpTo: 60},
	}, res)
	require.Len(t, batches, 1)
	r := packed.NewReader(batches[0])
	for r.Next() {
		require.Empty(t, r.Value())
	}

	// What is left to the next page is not seen in this one.
	o.Limit, batches = 1, nil
	res, err = ScanPacked(m, o)
	require.NoError(t, err)
	require.Equal(t, "d", string(res.Resume))
	require.EqualValues(t, 12, res.MaxTimestamp)
	require.Zero(t, res.MinExpiryAfter)
}

func TestScanStopsWhenYieldDoes(t *testing.T) {
	m := NewMemory(Limits{})
	for i := range 10 {
		apply(t, m, ids.Seq(i+1), Op{Key: fmt.Appendf(nil, "k%d", i), Value: AppendValue(nil, make([]byte, 100), 1, 0)})
	}
	calls := 0
	o := ScanOptions{Seq: 10, BatchBytes: 300, Yield: func([]byte) bool { calls++; return false }}
	res, err := ScanPacked(m, o)
	require.NoError(t, err)
	require.Equal(t, 1, calls)
	require.Equal(t, "k2", string(res.Resume))
	require.EqualValues(t, 2, res.Records)
}

func TestScanRefusals(t *testing.T) {
	m := NewMemory(Limits{})
	apply(t, m, 1, put("a", "not a value"))
	yield := func([]byte) bool { return true }
	var ve *ValueError
	_, err := ScanPacked(m, ScanOptions{Seq: 1, Yield: yield})
	require.ErrorAs(t, err, &ve)
	require.Equal(t, "a", string(ve.Key))
	apply(t, m, 2, Op{Key: []byte("a"), Value: AppendValue(nil, nil, 1, 0)})
	var ke *KeyError
	_, err = ScanPacked(m, ScanOptions{Seq: 2, Strip: 2, Yield: yield})
	require.ErrorAs(t, err, &ke)
	m.SetDiscard(2)
	var de *DiscardedError
	_, err = ScanPacked(m, ScanOptions{Seq: 1, Yield: yield})
	require.ErrorAs(t, err, &de)
}

func TestScanAllocatesPerBatch(t *testing.T) {
	m := NewMemory(Limits{})
	var ops []Op
	for i := range 5000 {
		ops = append(ops, Op{Key: fmt.Appendf(nil, "k%06d", i), Value: AppendValue(nil, make([]byte, 100), 1, 0)})
	}
	apply(t, m, 1, ops...)
	buf := make([]byte, 0, DefaultBatchBytes)
	o := ScanOptions{Seq: 1, Yield: func([]byte) bool { return true }, Buffer: func() []byte { return buf[:0] }}
	allocs := testing.AllocsPerRun(5, func() {
		res, err := ScanPacked(m, o)
		require.NoError(t, err)
		require.EqualValues(t, 5000, res.Records)
	})
	require.Less(t, allocs, 100.0)
}
