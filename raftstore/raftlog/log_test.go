package raftlog

import (
	"errors"
	"math"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"

	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/vfs"
)

func TestReopenEquality(t *testing.T) {
	for name, fs := range map[string]vfs.FS{"memory": vfs.NewMemory(), "os": nil} {
		t.Run(name, func(t *testing.T) {
			dir := testDir
			if fs == nil {
				fs, dir = vfs.OS(), filepath.Join(t.TempDir(), "a", "b")
			}
			o := Options{FS: fs, Dir: dir, SegmentSize: 16 << 10}
			l, err := Open(o)
			require.NoError(t, err)
			_, err = Open(o)
			require.ErrorIs(t, err, vfs.ErrLocked)

			write(t, l, Write{Group: 1, Create: &Create{Position: Position{10, 5}, Meta: []byte("from a split")}})
			for i := ids.Index(11); i < 400; i += 10 {
				write(t, l,
					Write{Group: 1, Entries: entries(i, i+10, 6), HardState: hardState(6, 2, 10), Commit: i},
					Write{Group: 2, Reset: at(i, 3), Meta: []byte{byte(i)}})
				require.NoError(t, l.Sync())
			}
			require.NoError(t, l.Append(&Batch{Store: []StoreRecord{{Kind: 1, Key: 2, Value: []byte("x")}}}))
			require.Greater(t, l.Size(), int64(16<<10), "several segments")
			before := dump(t, l)
			require.Contains(t, before, `r1: term 6 vote 2 commit 391 before 10/5 last 400 meta "from a split"`)
			require.Contains(t, before, `r2: term 3 vote 0 commit 391 before 391/3 last 391`)
			require.NoError(t, l.Close())
			require.ErrorIs(t, l.Close(), ErrClosed)
			require.ErrorIs(t, l.Append(&Batch{}), ErrClosed)
			_, err = l.Entries(1, 11, 12, 1)
			require.ErrorIs(t, err, ErrClosed)

			for range 3 {
				l, err = Open(o)
				require.NoError(t, err)
				require.Equal(t, before, dump(t, l))
				require.NoError(t, l.Close())
			}
		})
	}
}

func TestReadBounds(t *testing.T) {
	for name, cache := range map[string]int64{"cached": 0, "from files": -1, "half": 5 * (cachedOverhead + 20)} {
		t.Run(name, func(t *testing.T) {
			l, err := Open(Options{FS: vfs.NewMemory(), Dir: testDir, SegmentSize: minSegmentSize, CacheBytes: cache})
			require.NoError(t, err)
			write(t, l, Write{Group: 7, Create: &Create{Position: Position{5, 1}}, Entries: entries(6, 16, 2)})

			_, err = l.Entries(7, 5, 8, math.MaxUint64)
			require.Equal(t, raft.ErrCompacted, err)
			_, err = l.Entries(7, 6, 17, math.MaxUint64)
			require.Equal(t, raft.ErrUnavailable, err)
			_, err = l.Entries(8, 6, 7, math.MaxUint64)
			require.ErrorIs(t, err, ErrNoGroup)
			es, err := l.Entries(7, 9, 9, math.MaxUint64)
			require.NoError(t, err)
			require.Empty(t, es)

			es, err = l.Entries(7, 6, 16, 0)
			require.NoError(t, err)
			require.Len(t, es, 1, "at least one")
			require.Equal(t, "entry 6 of term 2", string(es[0].GetData()))
			es, err = l.Entries(7, 6, 16, 3*(entryHeaderSize+17))
			require.NoError(t, err)
			require.Len(t, es, 3)
			es, err = l.Entries(7, 6, 16, math.MaxUint64)
			require.NoError(t, err)
			require.Len(t, es, 10)
			for i, e := range es {
				require.True(t, strings.HasPrefix(string(e.GetData()), "entry "))
				require.Equal(t, uint64(6+i), e.GetIndex())
			}

			for i, want := range map[ids.Index]error{4: raft.ErrCompacted, 5: nil, 6: nil, 15: nil, 16: raft.ErrUnavailable} {
				term, err := l.Term(7, i)
				require.Equal(t, want, err)
				if err == nil {
					require.Equal(t, map[ids.Index]ids.Term{5: 1, 6: 2, 15: 2}[i], term)
				}
			}
			_, err = l.Term(8, 1)
			require.ErrorIs(t, err, ErrNoGroup)
			g, ok := l.Group(8)
			require.False(t, ok)
			require.NotNil(t, g.HardState)
		})
	}
}

func TestCacheIsBounded(t *testing.T) {
	const limit = 20 * (cachedOverhead + 20)
	l, err := Open(Options{FS: vfs.NewMemory(), Dir: testDir, SegmentSize: minSegmentSize, CacheBytes: limit})
	require.NoError(t, err)
	x := l.(*log).mu.index
	write(t, l, create(1))
	for i := ids.Index(1); i < 1000; i += 3 {
		write(t, l, Write{Group: 1, Entries: entries(i, i+3, 1)})
		if i%100 == 1 {
			write(t, l, Write{Group: 1, Truncate: at(i, 1)})
		}
		require.LessOrEqual(t, x.cache.bytes, int64(limit))
		require.LessOrEqual(t, len(x.cache.queue), 200)
	}
	held := 0
	for _, s := range x.groups[1].slots {
		if s.e != nil {
			held++
		}
	}
	require.Greater(t, held, 10)
	require.NotNil(t, x.groups[1].slot(x.groups[1].last).e, "the newest are held")
}

func TestRefusedWrites(t *testing.T) {
	cases := map[string]struct {
		w    Write
		says string
	}{
		"gap":                {Write{Group: 1, Entries: entries(22, 23, 3)}, "entry 22 leaves a gap"},
		"gap inside":         {Write{Group: 1, Entries: append(entries(21, 22, 3), entries(23, 24, 3)...)}, "entry 23 leaves a gap"},
		"truncated":          {Write{Group: 1, Entries: entries(5, 6, 3)}, "entry 5 lies below the truncated position"},
		"committed":          {Write{Group: 1, Entries: entries(8, 9, 4)}, "entry 8 of term 4 would replace a committed one"},
		"falling term":       {Write{Group: 1, Entries: entries(21, 22, 2)}, "entry 21 has term 2 after one of term 3"},
		"no term":            {Write{Group: 1, Entries: entries(21, 22, 0)}, "entry 21 has term 0"},
		"second vote":        {Write{Group: 1, HardState: hardState(3, 2, 8)}, "a second vote, for 2, in term 3"},
		"vote taken back":    {Write{Group: 1, HardState: hardState(3, 0, 8)}, "a second vote, for 0, in term 3"},
		"hard state's term":  {Write{Group: 1, HardState: hardState(2, 1, 8)}, "the term would fall to 2"},
		"commit":             {Write{Group: 1, Commit: 21}, "commit index 21 lies beyond the log"},
		"hard state's index": {Write{Group: 1, HardState: hardState(3, 1, 21)}, "commit index 21 lies beyond the log"},
		"truncate":           {Write{Group: 1, Truncate: at(21, 3)}, "truncation at 21 lies beyond the log"},
		"truncate's term":    {Write{Group: 1, Truncate: at(10, 2)}, "truncation at 10 names term 2, the entry has 3"},
		"old snapshot":       {Write{Group: 1, Reset: at(7, 3)}, "a snapshot at 7 does not lie beyond the commit index"},
		"snapshot at commit": {Write{Group: 1, Reset: at(8, 3)}, "a snapshot at 8 does not lie beyond the commit index"},
		"no group: entries":  {Write{Group: 2, Entries: entries(1, 2, 3)}, "there is no such group; the log has nothing of it"},
		"no group: vote":     {Write{Group: 2, HardState: hardState(9, 1, 0)}, "there is no such group"},
		"no group: meta":     {Write{Group: 2, Meta: []byte{}}, "there is no such group"},
	}
	m := vfs.NewMemory()
	l := open(t, m, minSegmentSize)
	write(t, l, Write{Group: 1, Create: &Create{Position: Position{5, 2}}, Entries: entries(6, 21, 3), HardState: hardState(3, 1, 8)})
	before := dump(t, l)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			// A good write before it in the same batch must not get through.
			err := l.Append(&Batch{Groups: []Write{create(9), {Group: 1, Meta: []byte("no")}, c.w}})
			var broken *InvariantError
			require.ErrorAs(t, err, &broken)
			require.Contains(t, err.Error(), c.says)
			require.Equal(t, c.w.Group, broken.Group)
			require.Equal(t, before, dump(t, l))
		})
	}
	write(t, l, Write{Group: 1, Meta: []byte("still works")})
	require.NoError(t, l.Close())
	require.Contains(t, dump(t, open(t, m, minSegmentSize)), "still works")
}

// TestOneBatchInOrder: writes of one group in one batch see each other.
func TestOneBatchInOrder(t *testing.T) {
	m := vfs.NewMemory()
	l := open(t, m, minSegmentSize)
	write(t, l,
		create(1),
		Write{Group: 1, Entries: entries(1, 10, 1), HardState: hardState(1, 1, 3)},
		Write{Group: 1, Entries: entries(5, 8, 2), Truncate: at(5, 2)},
		Write{Group: 1, Entries: entries(7, 9, 3), Commit: 6},
		create(2),
		Write{Group: 2, Entries: entries(1, 4, 1)},
		Write{Group: 2, Destroy: true},
		Write{Group: 2, Create: &Create{Position: Position{8, 8}}, Entries: entries(9, 11, 9)},
	)
	want := `r1: term 1 vote 1 commit 6 before 5/2 last 8 meta ""
  6/2 EntryNormal "entry 6 of term 2"
  7/3 EntryNormal "entry 7 of term 3"
  8/3 EntryNormal "entry 8 of term 3"
r2: term 8 vote 0 commit 8 before 8/8 last 10 meta ""
  9/9 EntryNormal "entry 9 of term 9"
  10/9 EntryNormal "entry 10 of term 9"
`
	require.Equal(t, want, dump(t, l))
	require.NoError(t, l.Close())
	require.Equal(t, want, dump(t, open(t, m, minSegmentSize)))
}

func TestFailureIsFinal(t *testing.T) {
	for name, c := range map[string]struct {
		op vfs.Op
		do func(l Log) error
	}{
		"append":          {vfs.OpWrite, func(l Log) error { return l.Append(&Batch{Groups: []Write{{Group: 1, Meta: []byte("a")}}}) }},
		"sync":            {vfs.OpSync, func(l Log) error { return l.Sync() }},
		"mark":            {vfs.OpSync, func(l Log) error { return l.MarkEnd() }},
		"rotation create": {vfs.OpCreate, bigAppend},
		"rotation sync":   {vfs.OpSync, bigAppend},
		"rotation rename": {vfs.OpRename, bigAppend},
		"rotation dir":    {vfs.OpSyncDir, bigAppend},
		"rotation space":  {vfs.OpTruncate, bigAppend},
	} {
		t.Run(name, func(t *testing.T) {
			m := vfs.NewMemory()
			l := open(t, m, minSegmentSize)
			write(t, l, create(1))
			require.NoError(t, l.MarkEnd())
			durable := dump(t, l)
			write(t, l, Write{Group: 1, Entries: entries(1, 3, 1)})
			appended := dump(t, l)
			m.FailNth(c.op, 1, syscall.EIO)
			require.ErrorIs(t, c.do(l), syscall.EIO)
			for _, again := range []error{c.do(l), l.Sync(), l.Append(&Batch{}), l.MarkEnd(), l.Compact()} {
				require.ErrorIs(t, again, syscall.EIO)
				require.ErrorIs(t, again, ErrFailed)
			}
			require.Equal(t, appended, dump(t, l), "reads go on")
			require.NoError(t, l.Close())

			// The process starts again on the same kernel, which believes its pages clean: what it finds it must
			// make durable again before it relies on it.
			l = open(t, m, minSegmentSize)
			found := dump(t, l)
			require.True(t, found == appended || found == durable, found)
			require.Equal(t, found, dump(t, open(t, m.CrashClean(), minSegmentSize)))
		})
	}
}

func bigAppend(l Log) error {
	return l.Append(&Batch{Store: []StoreRecord{{Kind: 1, Value: make([]byte, 2*minSegmentSize)}}})
}

func TestFailedOpen(t *testing.T) {
	for _, op := range []vfs.Op{vfs.OpMkdir, vfs.OpLock, vfs.OpList, vfs.OpOpen, vfs.OpRead, vfs.OpStat, vfs.OpSync, vfs.OpSyncDir, vfs.OpWrite} {
		m := vfs.NewMemory()
		l := open(t, m, minSegmentSize)
		write(t, l, create(1))
		want := dump(t, l)
		m = m.Clone() // as if killed: not closed, so there is something to write at open
		m.FailNth(op, 1, syscall.EIO)
		_, err := Open(Options{FS: m, Dir: testDir, SegmentSize: minSegmentSize})
		require.ErrorIs(t, err, syscall.EIO, op)
		require.Equal(t, want, dump(t, open(t, m, minSegmentSize)), op)
	}
}

func TestLargeFrames(t *testing.T) {
	m := vfs.NewMemory()
	l := open(t, m, minSegmentSize)
	write(t, l, create(1))
	big := strings.Repeat("b", 3*minSegmentSize)
	write(t, l, Write{Group: 1, Entries: append(entries(1, 3, 1), entry(3, 1, big))})
	write(t, l, Write{Group: 1, Entries: entries(4, 6, 1)})
	want := dump(t, l)
	require.NoError(t, l.Close())
	l = open(t, m, minSegmentSize)
	require.Equal(t, want, dump(t, l))
	require.Greater(t, l.GroupSize(1), int64(3*minSegmentSize))
	require.GreaterOrEqual(t, l.Size(), l.GroupSize(1))
}

// TestManyGroupsInSmallSegments: the copies of the state must not eat the log.
func TestManyGroupsInSmallSegments(t *testing.T) {
	m := vfs.NewMemory()
	l := open(t, m, minSegmentSize)
	const groups = 200
	for id := ids.RangeID(1); id <= groups; id++ {
		write(t, l, Write{Group: id, Create: &Create{Meta: []byte("the meta of a group")}})
	}
	for i := ids.Index(1); i <= 20; i++ {
		for id := ids.RangeID(1); id <= groups; id++ {
			write(t, l, Write{Group: id, Entries: entries(i, i+1, 1), Commit: i, Truncate: at(i, 1)})
		}
		require.NoError(t, l.Compact())
	}
	require.Less(t, l.Size(), int64(400<<10))
	want := dump(t, l)
	require.NoError(t, l.Close())
	require.Equal(t, want, dump(t, open(t, m, minSegmentSize)))
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{}, {FS: vfs.NewMemory()}, {Dir: "x"},
		{FS: vfs.NewMemory(), Dir: "x", SegmentSize: 100},
		{FS: vfs.NewMemory(), Dir: "x", SegmentSize: 2 << 30},
	} {
		_, err := Open(o)
		require.Error(t, err)
		require.False(t, errors.Is(err, ErrFailed))
	}
}

func TestTooLargeBatch(t *testing.T) {
	l := open(t, vfs.NewMemory(), minSegmentSize)
	huge := make([]byte, maxFrame/8) // shared: no memory is written
	var store []StoreRecord
	for range 9 {
		store = append(store, StoreRecord{Kind: 1, Value: huge})
	}
	require.ErrorContains(t, l.Append(&Batch{Store: store}), "is larger than")
	write(t, l, create(1))
}
