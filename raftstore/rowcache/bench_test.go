package rowcache

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/locuskv/locus/internal/ids"
)

const benchRows = 100_000

func benchKeys() [][]byte {
	all := make([][]byte, benchRows)
	for i := range all {
		all[i] = fmt.Appendf(nil, "keyspace/%016d", i)
	}
	return all
}

// benchCache holds all rows, each of 128 bytes.
func benchCache(keys [][]byte) *Cache {
	c := New(64<<20, 0)
	row := Row{Found: true, Value: make([]byte, 128), Timestamp: 1}
	for _, key := range keys {
		c.Fill(key, 1, 1, row, 1)
	}
	return c
}

func BenchmarkGetHit(b *testing.B) {
	keys := benchKeys()
	c := benchCache(keys)
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		dst, i := make([]byte, 0, 256), 0
		for b.Loop() {
			i = (i + 7919) % benchRows
			c.Append(dst, keys[i], 1, 1)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		var start atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			dst, i := make([]byte, 0, 256), int(start.Add(31337))
			for pb.Next() {
				i = (i + 7919) % benchRows
				c.Append(dst, keys[i], 1, 1)
			}
		})
	})
	if st := c.Stats(); st.Misses > st.Hits/1000 {
		b.Fatalf("%+v", st)
	}
}

func BenchmarkGetMiss(b *testing.B) {
	keys := benchKeys()
	c := benchCache(keys[:benchRows/2])
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i = (i + 7919) % (benchRows / 2)
		c.Get(keys[benchRows/2+i], 1, 1)
	}
}

// Rows that push others out.
func BenchmarkFill(b *testing.B) {
	keys := benchKeys()
	c := New(4<<20, 0)
	row := Row{Found: true, Value: make([]byte, 128), Timestamp: 1}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i = (i + 7919) % benchRows
		c.Fill(keys[i], 1, 1, row, 1)
	}
}

func BenchmarkApply(b *testing.B) {
	keys := benchKeys()
	row := Row{Found: true, Value: make([]byte, 128), Timestamp: 1}
	run := func(b *testing.B, c *Cache) {
		b.ReportAllocs()
		i, seq := 0, ids.Seq(1)
		for b.Loop() {
			i = (i + 7919) % benchRows
			seq++
			c.Apply(seq, keys[i], row, 0)
		}
	}
	b.Run("empty", func(b *testing.B) { run(b, New(64<<20, 0)) })
	b.Run("absent", func(b *testing.B) {
		c := New(64<<20, 0)
		for i := range 1000 {
			c.Fill(fmt.Appendf(nil, "other/%d", i), 1, 1, row, 1)
		}
		run(b, c)
	})
	b.Run("present", func(b *testing.B) { run(b, benchCache(keys)) })
	b.Run("nil", func(b *testing.B) { run(b, nil) })
}
