package raftlog

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/vfs"
)

// TestCompactDropsAndRewrites: one cold group holds the oldest segment, a hot one fills and truncates many. The log
// stays small, and nothing is lost, at every step and over every reopening.
func TestCompactDropsAndRewrites(t *testing.T) {
	m := vfs.NewMemory()
	l := open(t, m, minSegmentSize)
	require.NoError(t, l.Append(&Batch{
		Groups: []Write{
			create(1), {Group: 1, Entries: entries(1, 6, 1), HardState: hardState(1, 3, 2), Meta: []byte("cold")},
			create(2), create(3),
		},
		Store: []StoreRecord{{Kind: 1, Key: 1, Value: []byte("tombstone")}},
	}))
	for i := ids.Index(1); i < 2000; i += 5 {
		write(t, l, Write{Group: 2, Entries: entries(i, i+5, 1), Commit: i})
		if i > 20 && i%25 == 1 {
			write(t, l, Write{Group: 2, Truncate: at(i-10, 1)})
			before := dump(t, l)
			require.NoError(t, l.Compact())
			require.Equal(t, before, dump(t, l))
			require.LessOrEqual(t, l.Size(), int64(4*minSegmentSize))
		}
	}
	require.Greater(t, l.mu.segments[0].id, uint64(20), "old segments are gone")
	want := dump(t, l)
	require.Contains(t, want, `r1: term 1 vote 3 commit 2 before 0/0 last 5 meta "cold"`)
	require.Contains(t, want, `5/1 EntryNormal "entry 5 of term 1"`)
	require.NoError(t, l.Close())
	names, err := m.List(testDir)
	require.NoError(t, err)
	require.LessOrEqual(t, len(names), 5)
	l = open(t, m, minSegmentSize)
	require.Equal(t, want, dump(t, l))
	require.Equal(t, want, dump(t, open(t, m.CrashClean(), minSegmentSize)))
}

// TestCompactCrashes takes the power away after each operation of a compaction.
func TestCompactCrashes(t *testing.T) {
	prepare := func() (*vfs.Memory, *log) {
		m := vfs.NewMemory()
		l := open(t, m, minSegmentSize)
		write(t, l, create(1), create(2), Write{Group: 1, Entries: entries(1, 20, 1)})
		for i := ids.Index(1); len(l.mu.segments) < 5; i += 5 {
			write(t, l, Write{Group: 2, Entries: entries(i, i+5, 1)})
		}
		require.NoError(t, l.Sync())
		write(t, l, Write{Group: 2, Truncate: at(l.mu.index.groups[2].last, 1)}) // not synced
		return m, l
	}
	for stop := 0; ; stop++ {
		for seed := range uint64(6) {
			m, l := prepare()
			want := dump(t, l)
			ops := 0
			m.SetHook(func(op vfs.Op, _ string) error {
				if op != vfs.OpRead {
					if ops++; ops > stop {
						return syscall.EIO
					}
				}
				return nil
			})
			err := l.Compact()
			m.SetHook(nil)
			after := open(t, m.Crash(rng(seed)), minSegmentSize)
			got := dump(t, after)
			if err == nil {
				require.Equal(t, want, got)
				require.Less(t, len(after.mu.segments), 5)
				return
			}
			require.Contains(t, got, `19/1 EntryNormal "entry 19 of term 1"`, "stop %d seed %d", stop, seed)
			if got != want { // then the truncation was lost, and all that it would have dropped is there
				write(t, after, Write{Group: 2, Truncate: at(after.mu.index.groups[2].last, 1)})
				require.Equal(t, want, dump(t, after), "stop %d seed %d", stop, seed)
			}
		}
		require.Less(t, stop, 100)
	}
}

// TestCompactReportsDamage: a damaged entry is not carried along, and its segment stays.
func TestCompactReportsDamage(t *testing.T) {
	m := vfs.NewMemory()
	lg, err := Open(Options{FS: m, Dir: testDir, SegmentSize: minSegmentSize, CacheBytes: -1})
	require.NoError(t, err)
	l := lg.(*log)
	write(t, l, create(1), create(2), Write{Group: 1, Entries: entries(1, 3, 1)})
	for i := ids.Index(1); len(l.mu.segments) < 3; i += 5 {
		write(t, l, Write{Group: 2, Entries: entries(i, i+5, 1)})
	}
	last := l.mu.index.groups[2].last
	write(t, l, Write{Group: 2, Truncate: at(last, 1)})
	require.NoError(t, m.FlipBit(firstSegment, int64(l.mu.index.groups[1].slot(2).off)+50, 1))
	var corruption *CorruptionError
	require.ErrorAs(t, l.Compact(), &corruption)
	require.Equal(t, ids.RangeID(1), corruption.Group)
	require.Equal(t, uint64(1), l.mu.segments[0].id)
	write(t, l, Write{Group: 2, Entries: entries(last+1, last+2, 1)})
}

// TestReadsHoldSegments: a read that has begun ends well though its segment is dropped meanwhile.
func TestReadsHoldSegments(t *testing.T) {
	m := vfs.NewMemory()
	lg, err := Open(Options{FS: m, Dir: testDir, SegmentSize: minSegmentSize, CacheBytes: -1})
	require.NoError(t, err)
	l := lg.(*log)
	write(t, l, create(1), Write{Group: 1, Entries: entries(1, 6, 1)})
	es, runs, err := l.planRead(1, 1, 6, 1<<20)
	require.NoError(t, err)
	require.Len(t, runs, 1)
	write(t, l, Write{Group: 1, Truncate: at(5, 1)})
	require.NoError(t, l.Append(&Batch{Store: []StoreRecord{{Kind: 1, Value: make([]byte, minSegmentSize)}}}))
	require.NoError(t, l.Compact())
	require.Equal(t, uint64(2), l.mu.segments[0].id)
	require.NoError(t, runs[0].read(1, es))
	require.Equal(t, "entry 5 of term 1", string(es[4].GetData()))
	require.NoError(t, runs[0].seg.release())
	require.Error(t, runs[0].read(1, es), "the last one has closed it")
}

// TestConcurrentReads runs readers beside the writer; the race detector and the entries' content judge.
func TestConcurrentReads(t *testing.T) {
	lg, err := Open(Options{FS: vfs.NewMemory(), Dir: testDir, SegmentSize: minSegmentSize, CacheBytes: 4000})
	require.NoError(t, err)
	write(t, lg, create(1), create(2))
	stop, failed := make(chan struct{}), make(chan error, 4)
	for range 4 {
		go func() {
			for {
				select {
				case <-stop:
					failed <- nil
					return
				default:
				}
				g, _ := lg.Group(1)
				es, err := lg.Entries(1, g.Before.Index+1, g.Last+1, 2000)
				for _, e := range es {
					if want := fmt.Sprintf("entry %d of term %d", e.GetIndex(), e.GetTerm()); string(e.GetData()) != want {
						err = fmt.Errorf("got %q, want %q", e.GetData(), want)
						failed <- err
						return
					}
				}
				if _, bad := err.(*CorruptionError); bad {
					failed <- err
					return
				}
			}
		}()
	}
	for i := ids.Index(1); i < 1500; i += 3 {
		write(t, lg, Write{Group: 1, Entries: entries(i, i+5, ids.Term(i))}, Write{Group: 2, Meta: []byte{1}})
		require.NoError(t, lg.Sync())
		if i%30 == 1 && i > 20 {
			term, err := lg.Term(1, i-20)
			require.NoError(t, err)
			write(t, lg, Write{Group: 1, Truncate: at(i-20, term)})
			require.NoError(t, lg.Compact())
		}
	}
	close(stop)
	for range 4 {
		require.NoError(t, <-failed)
	}
}
