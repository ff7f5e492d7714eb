package raftlog

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/vfs"
)

const benchEntry = 200 // bytes

// BenchmarkAppendSync is one group commit of n entries of 200 bytes: append and fdatasync on the real disk.
func BenchmarkAppendSync(b *testing.B) {
	for _, n := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			benchmarkAppend(b, Options{FS: vfs.OS(), Dir: filepath.Join(b.TempDir(), "log")}, n, true)
		})
	}
}

// BenchmarkAppend is the same without the sync: what the log itself costs.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			benchmarkAppend(b, Options{FS: vfs.OS(), Dir: filepath.Join(b.TempDir(), "log")}, n, false)
		})
	}
}

func benchmarkAppend(b *testing.B, o Options, n int, sync bool) {
	l, err := Open(o)
	require.NoError(b, err)
	write(b, l, create(1))
	data := make([]byte, benchEntry)
	next := ids.Index(1)
	b.ReportAllocs()
	b.SetBytes(int64(n * benchEntry))
	for b.Loop() {
		es := make([]*raftpb.Entry, n)
		for i := range es {
			es[i] = newEntry(&record{pos: Position{next + ids.Index(i), 1}})
			es[i].Data = data
		}
		next += ids.Index(n)
		w := Write{Group: 1, Entries: es, Commit: next - 1}
		if next > 20000 && next%1000 < ids.Index(n) {
			w.Truncate = at(next-10000, 1)
			require.NoError(b, l.Compact())
		}
		if err := l.Append(&Batch{Groups: []Write{w}}); err != nil {
			b.Fatal(err)
		}
		if sync {
			if err := l.Sync(); err != nil {
				b.Fatal(err)
			}
		}
	}
	require.NoError(b, l.Close())
}

// BenchmarkRecovery opens a log of one full segment of 64 MiB: 100 groups, frames of 16 entries of 200 bytes.
func BenchmarkRecovery(b *testing.B) {
	o := Options{FS: vfs.OS(), Dir: filepath.Join(b.TempDir(), "log")}
	lg, err := Open(o)
	require.NoError(b, err)
	l := lg.(*log)
	const groups = 100
	for id := ids.RangeID(1); id <= groups; id++ {
		write(b, l, create(id))
	}
	data := string(make([]byte, benchEntry))
	for n := 0; l.off < l.active.capacity-(8<<10); n++ {
		w := Write{Group: 1 + ids.RangeID(n%groups)}
		for range 16 {
			w.Entries = append(w.Entries, entry(ids.Index(n/groups*16+len(w.Entries)+1), 1, data))
		}
		write(b, l, w)
	}
	require.NoError(b, l.Close())
	b.ReportAllocs()
	b.SetBytes(l.o.SegmentSize)
	for b.Loop() {
		l, err := Open(o)
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEntries reads 64 entries of 200 bytes.
func BenchmarkEntries(b *testing.B) {
	for name, cache := range map[string]int64{"cached": 0, "from-file": -1} {
		b.Run(name, func(b *testing.B) {
			l, err := Open(Options{FS: vfs.OS(), Dir: filepath.Join(b.TempDir(), "log"), CacheBytes: cache, SegmentSize: 1 << 20})
			require.NoError(b, err)
			defer l.Close()
			write(b, l, create(1))
			data := string(make([]byte, benchEntry))
			for i := ids.Index(1); i <= 64; i++ {
				write(b, l, Write{Group: 1, Entries: []*raftpb.Entry{entry(i, 1, data)}})
			}
			b.ReportAllocs()
			b.SetBytes(64 * benchEntry)
			for b.Loop() {
				if _, err := l.Entries(1, 1, 65, 1<<20); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
