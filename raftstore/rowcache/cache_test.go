package rowcache

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/ids"
)

func found(value string) Row { return Row{Found: true, Value: []byte(value), Timestamp: 7, Expires: 9} }

// TestD4FillsThatAWriteOvertook plays rule D4 by hand: the read has been done, its result is not kept.
func TestD4FillsThatAWriteOvertook(t *testing.T) {
	key, absent := []byte("k"), []byte("absent")
	c := newCache(1<<20, 10, 1, 1)

	// A reader at 10 has read "old" from the engine. Before it offers that, 11 is applied: to its key, which is in no
	// cache yet, then to another one of the shard, which is as good.
	for _, written := range []string{"k", "other"} {
		c = newCache(1<<20, 10, 1, 1)
		c.Apply(11, []byte(written), found("new"), 0)
		c.Fill(key, 1, 10, found("old"), 5)
		c.Fill(absent, 1, 10, Row{}, 0)
		for _, k := range [][]byte{key, absent} {
			_, ok := c.Get(k, 1, 11)
			require.False(t, ok, "filled by a read at 10 after 11 was applied to %q", written)
		}
	}
	require.Equal(t, int64(2), c.Stats().Refused)

	// A read at 11 is kept. A reader at 10 that has not ended does not see the row, and one at 11 does.
	c.Fill(key, 1, 11, found("new"), 11)
	_, ok := c.Get(key, 1, 10)
	require.False(t, ok, "a reader at 10 saw version 11")
	row, ok := c.Get(key, 1, 11)
	require.True(t, ok)
	require.Equal(t, found("new"), row)

	// Applied, not visible yet: readers at 11 must go to the engine.
	c.Apply(12, key, found("newer"), 0)
	_, ok = c.Get(key, 1, 11)
	require.False(t, ok, "a reader at 11 saw version 12, or was told 11 for newest")
	row, ok = c.Get(key, 1, 12)
	require.True(t, ok)
	require.Equal(t, found("newer"), row)
	c.Apply(13, key, Row{}, 0)
	row, ok = c.Get(key, 1, 13)
	require.True(t, ok)
	require.Equal(t, Row{}, row)
}

// TestFromIsTouched: an engine that was opened at 10 may hold anything up to there.
func TestFromIsTouched(t *testing.T) {
	c := newCache(1<<20, 10, 1, 1)
	c.Fill([]byte("k"), 1, 9, found("v"), 3)
	require.Equal(t, int64(1), c.Stats().Refused)
	c.Fill([]byte("k"), 1, 10, found("v"), 3)
	require.Equal(t, int64(1), c.Stats().Fills)
}

// TestAbsentKeysAreNewAsTheirRead: what was there before the read that found nothing is not known.
func TestAbsentKeysAreNewAsTheirRead(t *testing.T) {
	c := newCache(1<<20, 10, 1, 1)
	c.Fill([]byte("k"), 1, 20, Row{}, 0)
	_, ok := c.Get([]byte("k"), 1, 19)
	require.False(t, ok)
	row, ok := c.Get([]byte("k"), 1, 20)
	require.True(t, ok)
	require.False(t, row.Found)
}

// TestDeadLineages: a row is found under the gen that it was filled under, and no other; writes do not revive it.
func TestDeadLineages(t *testing.T) {
	c := newCache(1<<20, 10, 1, 1)
	key := []byte("k")
	c.Fill(key, 1, 10, found("before"), 5)
	_, ok := c.Get(key, 2, 30)
	require.False(t, ok)
	c.Apply(31, key, found("written"), 0)
	_, ok = c.Get(key, 2, 31)
	require.False(t, ok)
	c.Fill(key, 2, 31, found("after"), 20)
	row, ok := c.Get(key, 2, 31)
	require.True(t, ok)
	require.Equal(t, "after", string(row.Value))
	_, ok = c.Get(key, 1, 31)
	require.False(t, ok)
}

// TestWritesAreKept: where the caller says so, a row that is written is there for the next reader, at its sequence and
// under its gen, and a row of a dead gen lives again with what was written to it. A deletion is not kept for itself.
func TestWritesAreKept(t *testing.T) {
	c := newCache(1<<20, 10, 1, 1)
	key := []byte("k")
	c.Apply(11, key, found("first"), 3)
	_, ok := c.Get(key, 3, 10)
	require.False(t, ok, "a reader at 10 saw version 11")
	_, ok = c.Get(key, 2, 11)
	require.False(t, ok)
	row, ok := c.Get(key, 3, 11)
	require.True(t, ok)
	require.Equal(t, found("first"), row)

	c.Apply(12, key, found("of another lineage"), 4)
	_, ok = c.Get(key, 3, 12)
	require.False(t, ok)
	row, ok = c.Get(key, 4, 12)
	require.True(t, ok)
	require.Equal(t, found("of another lineage"), row)

	c.Apply(13, []byte("deleted"), Row{}, 4)
	_, ok = c.Get([]byte("deleted"), 4, 13)
	require.False(t, ok)
	st := c.Stats()
	require.Equal(t, int64(1), st.Written)
	require.Equal(t, int64(1), st.Rows)
	c.check(t)
}

func TestNothingIsKept(t *testing.T) {
	for _, c := range []*Cache{nil, New(0, 0), New(-5, 0), New(minBytes-1, 0)} {
		c.Fill([]byte("k"), 1, 10, found("v"), 5)
		c.Apply(11, []byte("k"), found("w"), 0)
		_, ok := c.Get([]byte("k"), 1, 11)
		require.False(t, ok)
		require.Equal(t, Stats{}, c.Stats())
	}
}

// TestSizes: shards are many in a large cache and few in a small one, and what is too large for one leaves.
func TestSizes(t *testing.T) {
	for bytes, shards := range map[int64]int{minBytes: 1, 64 << 10: 1, 200 << 10: 2, 1 << 20: 16, 1 << 30: maxShards} {
		require.Len(t, New(bytes, 0).shards, shards)
	}
	c := newCache(8<<10, 0, 1, 1)
	key := []byte("k")
	c.Fill(key, 1, 1, found("small"), 1)
	c.Apply(2, key, found(string(make([]byte, 2<<10))), 0)
	_, ok := c.Get(key, 1, 2)
	require.False(t, ok)
	c.Fill(key, 1, 2, found(string(make([]byte, 2<<10))), 2)
	st := c.Stats()
	require.Equal(t, int64(1), st.Fills)
	require.Zero(t, st.Rows)
	c.check(t)
}

// TestReadRowsStay: of rows that fill a cache many times over, those that are read go on being there.
func TestReadRowsStay(t *testing.T) {
	c := newCache(64<<10, 0, 1, 1)
	hot := func(i int) []byte { return fmt.Appendf(nil, "hot%d", i) }
	for i := range 20 {
		c.Fill(hot(i), 1, 1, found("hot"), 1)
	}
	for i := range 10_000 {
		c.Fill(fmt.Appendf(nil, "cold%d", i), 1, 1, found("cold, and a little longer"), 1)
		_, ok := c.Get(hot(i%20), 1, 1)
		require.True(t, ok, "row %d left after %d others", i%20, i)
	}
	require.Greater(t, c.Stats().Evictions, int64(9000))
	c.check(t)
}

// TestValuesAreCopies: neither what was filled nor what was read is the cache's memory.
func TestValuesAreCopies(t *testing.T) {
	c := newCache(1<<20, 0, 1, 1)
	row := found("value")
	c.Fill([]byte("k"), 1, 1, row, 1)
	row.Value[0] = '!'
	first, _ := c.Get([]byte("k"), 1, 1)
	require.Equal(t, "value", string(first.Value))
	first.Value[0] = '?'
	dst := []byte("dst ")
	second, _ := c.Append(dst, []byte("k"), 1, 1)
	require.Equal(t, "dst value", string(second.Value))
}

// TestReadersAndApplier: every value says which sequence wrote it. Readers take the visible sequence, ask the cache, and
// fill it from a small versioned store; what they are told must be the newest at or below their sequence.
func TestReadersAndApplier(t *testing.T) {
	const keys = 16
	writes := 200_000
	if testing.Short() {
		writes = 20_000
	}
	var (
		c       = newCache(1<<10, 0, 1, 1) // one shard that holds about half of the keys
		history [keys]struct {
			sync.RWMutex
			seqs []ids.Seq
		}
		visible atomic.Uint64
		done    atomic.Bool
		asked   sync.WaitGroup // readers whose first question is answered
		wg      sync.WaitGroup
	)
	key := func(k int) []byte { return []byte{'k', byte(k)} }
	value := func(seq ids.Seq) Row {
		if seq == 0 || seq%5 == 0 { // every fifth write deletes
			return Row{}
		}
		return Row{Found: true, Value: binary.AppendUvarint(make([]byte, seq%3*8), uint64(seq)), Timestamp: 1}
	}
	newest := func(k int, at ids.Seq) ids.Seq {
		h := &history[k]
		h.RLock()
		defer h.RUnlock()
		for i := len(h.seqs) - 1; i >= 0; i-- {
			if h.seqs[i] <= at {
				return h.seqs[i]
			}
		}
		return 0
	}
	const readers = 3
	asked.Add(readers)
	for reader := range readers {
		wg.Go(func() {
			for i := 0; !done.Load(); i++ {
				k := (i*7 + reader) % keys
				at := ids.Seq(visible.Load())
				row, ok := c.Get(key(k), 1, at)
				version := newest(k, at)
				if i == 0 { // however they are scheduled, a write overtakes this
					asked.Done()
					for ids.Seq(visible.Load()) == at && !done.Load() {
						runtime.Gosched()
					}
				}
				if want := value(version); ok && (row.Found != want.Found || string(row.Value) != string(want.Value)) {
					t.Errorf("key %d at %d: %+v, newest is %d", k, at, row, version)
					done.Store(true)
					return
				}
				if !ok {
					c.Fill(key(k), 1, at, value(version), version)
				}
				if i%64 == 0 {
					runtime.Gosched()
				}
			}
		})
	}
	asked.Wait()
	for seq := ids.Seq(1); seq <= ids.Seq(writes) && !done.Load(); seq++ {
		k := int(seq*seq%251) % keys
		h := &history[k]
		h.Lock()
		h.seqs = append(h.seqs, seq)
		h.Unlock()
		c.Apply(seq, key(k), value(seq), 0)
		visible.Store(uint64(seq))
		if seq%16 == 0 {
			runtime.Gosched()
		}
	}
	for limit := time.Now().Add(time.Minute); !done.Load() && time.Now().Before(limit); runtime.Gosched() {
		if st := c.Stats(); st.Hits > 0 && st.Evictions > 0 { // the readers may have slept until now
			break
		}
	}
	done.Store(true)
	wg.Wait()
	st := c.Stats()
	require.NotZero(t, st.Hits)
	require.NotZero(t, st.Refused)
	require.NotZero(t, st.Evictions)
	c.check(t)
	t.Logf("%+v", st)
}
