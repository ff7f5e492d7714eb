package enginetest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/raftstore/engine"
)

// Run checks the rules of the interface on empty engines made by open, which also closes them.
func Run(t *testing.T, open func(t *testing.T) engine.Engine) {
	for _, c := range []struct {
		name string
		test func(*testing.T, engine.Engine)
	}{
		{"Empty", testEmpty},
		{"VersionsAndTombstones", testVersions},
		{"BatchesInOneCall", testBatches},
		{"CallerKeepsItsSlices", testSlices},
		{"Iterators", testIterators},
		{"IteratorIsASnapshot", testSnapshot},
		{"SinceAndTombstones", testSince},
		{"HotKeys", testHotKeys},
		{"Blocks", testBlocks},
		{"NestedKeys", testNestedKeys},
		{"Refusals", testRefusals},
		{"LargestBatch", testLargestBatch},
		{"Discard", testDiscard},
		{"Undo", testUndo},
		{"UndoInterrupted", testUndoInterrupted},
		{"UndoOfNothing", testUndoOfNothing},
		{"CloseWithIterator", testCloseWithIterator},
		{"ReadersBesideTheWriter", testConcurrent},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func testEmpty(t *testing.T, e engine.Engine) {
	require.Zero(t, e.MaxSeq())
	require.Equal(t, "none", get(t, e, "a", 10))
	require.Empty(t, scan(t, e, engine.IterOptions{Seq: 10}))
	require.Empty(t, scan(t, e, engine.IterOptions{Seq: 10, Reverse: true}))
	require.NoError(t, e.Sync())
	require.NoError(t, e.Apply(nil))
}

func testVersions(t *testing.T, e engine.Engine) {
	apply(t, e, 3, put("a", "3"), put("e", ""))
	apply(t, e, 5, del("a"), del("never"))
	apply(t, e, 9, put("a", "9"))
	require.EqualValues(t, 9, e.MaxSeq())
	for _, tc := range []struct {
		key  string
		seq  ids.Seq
		want string
	}{
		{"a", 0, "none"}, {"a", 2, "none"}, {"a", 3, "3@3"}, {"a", 4, "3@3"}, {"a", 5, "gone@5"}, {"a", 8, "gone@5"},
		{"a", 9, "9@9"}, {"a", 1 << 60, "9@9"}, {"e", 3, "@3"}, {"never", 4, "none"}, {"never", 9, "gone@5"}, {"b", 9, "none"}, {"", 9, "none"},
	} {
		require.Equal(t, tc.want, get(t, e, tc.key, tc.seq), "%q at %d", tc.key, tc.seq)
	}
}

func testBatches(t *testing.T, e engine.Engine) {
	var batches []engine.Batch
	for seq := ids.Seq(1); seq <= 100; seq++ {
		batches = append(batches, engine.Batch{Seq: 2 * seq, Ops: []engine.Op{put("k", fmt.Sprint(seq)), put(fmt.Sprint("k", seq), "x")}})
	}
	require.NoError(t, e.Apply(batches))
	require.EqualValues(t, 200, e.MaxSeq())
	for seq := ids.Seq(1); seq <= 100; seq++ {
		require.Equal(t, fmt.Sprintf("%d@%d", seq, 2*seq), get(t, e, "k", 2*seq+1))
	}
	require.Len(t, scan(t, e, engine.IterOptions{Seq: 100}), 51)
	require.NoError(t, e.Apply([]engine.Batch{{Seq: 201}}), "an empty batch")
	require.EqualValues(t, 201, e.MaxSeq())
}

func testSlices(t *testing.T, e engine.Engine) {
	key, value := []byte("key"), []byte("value")
	require.NoError(t, e.Apply([]engine.Batch{{Seq: 1, Ops: []engine.Op{{Key: key, Value: value}}}}))
	key[0], value[0] = 'X', 'X'
	require.Equal(t, "value@1", get(t, e, "key", 1))
	got, _, _, err := e.Get([]byte("key"), 1)
	require.NoError(t, err)
	got[0] = 'Y'
	require.Equal(t, "value@1", get(t, e, "key", 1))
}

func testIterators(t *testing.T, e engine.Engine) {
	apply(t, e, 1, put("a", "1"), put("b", "1"), put("c", "1"), put("d", "1"))
	apply(t, e, 2, del("b"), put("c", "2"), put("bb", "2"))
	span := func(start, end string) keys.Span {
		s := keys.Span{Start: []byte(start)}
		if end != "" {
			s.End = []byte(end)
		}
		return s
	}
	for _, tc := range []struct {
		o    engine.IterOptions
		want []string
	}{
		{engine.IterOptions{Seq: 1}, []string{"a=1@1", "b=1@1", "c=1@1", "d=1@1"}},
		{engine.IterOptions{Seq: 2}, []string{"a=1@1", "bb=2@2", "c=2@2", "d=1@1"}},
		{engine.IterOptions{Seq: 2, Reverse: true}, []string{"d=1@1", "c=2@2", "bb=2@2", "a=1@1"}},
		{engine.IterOptions{Seq: 1, Reverse: true}, []string{"d=1@1", "c=1@1", "b=1@1", "a=1@1"}},
		{engine.IterOptions{Seq: 2, Span: span("b", "d")}, []string{"bb=2@2", "c=2@2"}},
		{engine.IterOptions{Seq: 2, Span: span("b", "d"), Reverse: true}, []string{"c=2@2", "bb=2@2"}},
		{engine.IterOptions{Seq: 2, Span: span("b", "c")}, []string{"bb=2@2"}},
		{engine.IterOptions{Seq: 2, Span: span("b", "c"), Reverse: true}, []string{"bb=2@2"}},
		{engine.IterOptions{Seq: 2, Span: span("c", "")}, []string{"c=2@2", "d=1@1"}},
		{engine.IterOptions{Seq: 2, Span: span("bb", ""), Reverse: true}, []string{"d=1@1", "c=2@2", "bb=2@2"}},
		{engine.IterOptions{Seq: 2, Span: span("c", "c")}, nil},
		{engine.IterOptions{Seq: 2, Span: span("c", "b"), Reverse: true}, nil},
		{engine.IterOptions{Seq: 2, Span: span("x", "y")}, nil},
		{engine.IterOptions{Seq: 2, Span: span("x", "y"), Reverse: true}, nil},
		{engine.IterOptions{Seq: 0}, nil},
	} {
		require.Equal(t, tc.want, scan(t, e, tc.o), "%+v", tc.o)
	}
	testSeeks(t, e)
}

func testSeeks(t *testing.T, e engine.Engine) {
	for _, tc := range []struct {
		reverse    bool
		start, end string
		seek, want string
	}{
		{false, "", "", "b", "bb"}, {false, "", "", "bb", "bb"}, {false, "", "", "bba", "c"}, {false, "", "", "e", "end"}, {false, "", "", "", "a"},
		{false, "b", "d", "a", "bb"}, {false, "b", "d", "d", "end"}, {false, "b", "d", "cc", "end"},
		{true, "", "", "c", "bb"}, {true, "", "", "cc", "c"}, {true, "", "", "a", "end"}, {true, "", "", "zz", "d"}, {true, "", "", "bb", "a"},
		{true, "b", "d", "z", "c"}, {true, "b", "d", "bb", "end"}, {true, "b", "d", "c", "bb"}, {true, "", "", "", "end"},
	} {
		o := engine.IterOptions{Seq: 2, Reverse: tc.reverse, Span: keys.Span{Start: []byte(tc.start)}}
		if tc.end != "" {
			o.Span.End = []byte(tc.end)
		}
		it := e.NewIterator(o)
		it.Seek([]byte(tc.seek))
		got := "end"
		if it.Valid() {
			got = string(it.Key())
		}
		require.Equal(t, tc.want, got, "%+v", tc)
		// A second seek, back to a place before, works too.
		it.Seek([]byte("c"))
		require.True(t, it.Valid(), "%+v", tc)
		require.NoError(t, it.Err())
		it.Close()
		it.Close()
	}
}

func testSnapshot(t *testing.T, e engine.Engine) {
	for i := range 50 {
		apply(t, e, ids.Seq(i+1), put(fmt.Sprintf("k%02d", i), "old"))
	}
	for _, reverse := range []bool{false, true} {
		last := e.MaxSeq()
		it := e.NewIterator(engine.IterOptions{Seq: last, Reverse: reverse})
		n := 0
		for seq := last + 1; it.Valid(); it.Next() {
			require.LessOrEqual(t, it.Version(), last)
			require.Equal(t, "old", string(it.Value()), "a later write is seen")
			apply(t, e, seq, put(fmt.Sprintf("k%02d", n), "new"), put(fmt.Sprintf("l%02d", n), "new"), del(fmt.Sprintf("k%02d", 49-n)))
			seq++
			n++
		}
		require.NoError(t, it.Err())
		it.Close()
		require.Equal(t, 50, n)
		if !reverse {
			// Back to fifty keys for the other direction.
			_, err := e.Undo(50)
			require.NoError(t, err)
		}
	}
}

func testSince(t *testing.T, e engine.Engine) {
	apply(t, e, 1, put("a", "1"), put("b", "1"), put("c", "1"))
	apply(t, e, 5, put("b", "5"), del("c"), del("x"))
	apply(t, e, 7, put("d", "7"), put("x", "7"))
	for _, tc := range []struct {
		since, seq ids.Seq
		tombstones bool
		want       []string
	}{
		{0, 7, true, []string{"a=1@1", "b=5@5", "c-@5", "d=7@7", "x=7@7"}},
		{0, 5, true, []string{"a=1@1", "b=5@5", "c-@5", "x-@5"}},
		{1, 7, true, []string{"b=5@5", "c-@5", "d=7@7", "x=7@7"}},
		{1, 7, false, []string{"b=5@5", "d=7@7", "x=7@7"}},
		{4, 5, true, []string{"b=5@5", "c-@5", "x-@5"}},
		{5, 7, true, []string{"d=7@7", "x=7@7"}},
		{7, 7, true, nil},
		{5, 6, true, nil},
	} {
		o := engine.IterOptions{Seq: tc.seq, Since: tc.since, Tombstones: tc.tombstones}
		require.Equal(t, tc.want, scan(t, e, o), "%+v", tc)
		o.Reverse = true
		require.Equal(t, reversed(tc.want), scan(t, e, o), "%+v", tc)
	}
}

// Keys with many versions, next to keys with few, seen from every age.
func testHotKeys(t *testing.T, e engine.Engine) {
	const last = 200
	for seq := ids.Seq(1); seq <= last; seq++ {
		ops := []engine.Op{put("hot", fmt.Sprint(seq)), put("hot\x00", fmt.Sprint(seq))}
		switch seq {
		case 1:
			ops = append(ops, put("a", "1"), put("hot\x00\x00", "1"), put("z", "1"))
		case 100:
			ops = append(ops, put("hos", "100"), del("z"), put("hot!", "100"))
		}
		if seq%10 == 0 {
			ops[1] = del("hot\x00")
		}
		apply(t, e, seq, ops...)
	}
	for seq := ids.Seq(1); seq <= last; seq++ {
		var want []string
		add := func(on bool, s string, args ...any) {
			if on {
				want = append(want, fmt.Sprintf(s, args...))
			}
		}
		add(true, "a=1@1")
		add(seq >= 100, "hos=100@100")
		add(true, "hot=%d@%d", seq, seq)
		add(seq%10 != 0, "hot\x00=%d@%d", seq, seq)
		add(true, "hot\x00\x00=1@1")
		add(seq >= 100, "hot!=100@100")
		add(seq < 100, "z=1@1")
		require.Equal(t, want, scan(t, e, engine.IterOptions{Seq: seq}), "at %d", seq)
		require.Equal(t, reversed(want), scan(t, e, engine.IterOptions{Seq: seq, Reverse: true}), "backward at %d", seq)
	}
	end := keys.Span{End: []byte("hot")}
	require.Equal(t, []string{"hos=100@100", "a=1@1"}, scan(t, e, engine.IterOptions{Seq: last, Reverse: true, Span: end}))
	require.Equal(t, []string{"hot=150@150"}, scan(t, e, engine.IterOptions{Seq: 150, Since: 149}))
	require.Equal(t, []string{"hot\x00-@150", "hot=150@150"}, scan(t, e, engine.IterOptions{Seq: 150, Since: 149, Reverse: true, Tombstones: true}))
}

// Keys that are prefixes of each other, with the lowest and highest bytes: where seeking goes wrong.
func testNestedKeys(t *testing.T, e engine.Engine) {
	names := []string{"\x00", "\x00\x00", "\x00\xff", "a", "a\x00", "a\x00\x00", "a\x00b", "a\x01", "a\xff", "a\xff\xff", "b", "\xff", "\xff\x00", "\xff\xff",
		"m" + string(bytes.Repeat([]byte{0xff}, engine.MaxKeyLen-1)), "n"}
	var ops []engine.Op
	for _, n := range names {
		ops = append(ops, put(n, "v"))
	}
	apply(t, e, 1, ops...)
	for _, start := range names {
		for _, end := range append(names, "") {
			for _, reverse := range []bool{false, true} {
				o := engine.IterOptions{Seq: 1, Reverse: reverse, Span: keys.Span{Start: []byte(start)}}
				if end != "" {
					o.Span.End = []byte(end)
				}
				want := 0
				for _, n := range names {
					if o.Span.Contains([]byte(n)) {
						want++
					}
				}
				require.Len(t, scan(t, e, o), want, "%q to %q, reverse %v", start, end, reverse)
			}
		}
	}
}

func testRefusals(t *testing.T, e engine.Engine) {
	apply(t, e, 5, put("a", "5"))
	limits := e.Limits()
	big := engine.Batch{Seq: 7}
	for i := int64(0); big.Bytes() <= limits.MaxBatchBytes; i++ {
		big.Ops = append(big.Ops, engine.Op{Key: fmt.Appendf(nil, "k%d", i), Value: make([]byte, 256<<10)})
	}
	many := engine.Batch{Seq: 7}
	for i := int64(0); i <= limits.MaxBatchOps; i++ {
		many.Ops = append(many.Ops, engine.Op{Key: fmt.Appendf(nil, "k%d", i), Delete: true})
	}
	for name, bad := range map[string]engine.Batch{
		"bytes":      big,
		"operations": many,
		"value":      {Seq: 7, Ops: []engine.Op{{Key: []byte("k"), Value: make([]byte, engine.MaxValueLen+1)}}},
		"key":        {Seq: 7, Ops: []engine.Op{{Key: make([]byte, engine.MaxKeyLen+1)}}},
	} {
		var le *engine.LimitError
		require.ErrorAs(t, e.Apply([]engine.Batch{{Seq: 6, Ops: []engine.Op{put("a", "6")}}, bad}), &le, name)
		require.Greater(t, le.Got, le.Limit)
		require.EqualValues(t, 7, le.Seq)
	}
	var ke *engine.KeyError
	require.ErrorAs(t, e.Apply([]engine.Batch{{Seq: 6, Ops: []engine.Op{put("", "6")}}}), &ke)
	require.ErrorAs(t, e.Apply([]engine.Batch{{Seq: 6, Ops: []engine.Op{put("!badger!x", "6")}}}), &ke)
	var se *engine.SequenceError
	require.ErrorAs(t, e.Apply([]engine.Batch{{Seq: 5, Ops: []engine.Op{put("a", "6")}}}), &se)
	require.ErrorAs(t, e.Apply([]engine.Batch{{Seq: 6}, {Seq: 6}}), &se)
	require.EqualValues(t, 5, e.MaxSeq(), "nothing was written")
	require.Equal(t, []string{"a=5@5"}, scan(t, e, engine.IterOptions{Seq: 100}))
	apply(t, e, 6, put("a", "6"))
}

// What the limits allow is accepted: many small operations, and few large ones.
func testLargestBatch(t *testing.T, e engine.Engine) {
	limits := e.Limits()
	large := engine.Batch{Seq: 1}
	value := make([]byte, engine.MaxValueLen)
	for i, room := 0, limits.MaxBatchBytes; room > 64; i++ {
		key := fmt.Appendf(nil, "large%06d", i)
		n := min(int64(len(value)), room-int64(len(key))-engine.OpOverhead)
		if n < 0 {
			break
		}
		op := engine.Op{Key: key, Value: value[:n]}
		large.Ops = append(large.Ops, op)
		room -= op.Bytes()
	}
	many := engine.Batch{Seq: 2}
	for i := int64(0); i < limits.MaxBatchOps; i++ {
		op := engine.Op{Key: fmt.Appendf(nil, "m%07d", i), Delete: true}
		if int64(len(many.Ops)+1)*op.Bytes() > limits.MaxBatchBytes {
			break
		}
		many.Ops = append(many.Ops, op)
	}
	require.NoError(t, e.Apply([]engine.Batch{large, many}))
	require.Len(t, scan(t, e, engine.IterOptions{Seq: 2, Tombstones: true}), len(large.Ops)+len(many.Ops))
}

func testDiscard(t *testing.T, e engine.Engine) {
	for seq := ids.Seq(1); seq <= 20; seq++ {
		apply(t, e, seq, put("k", fmt.Sprint(seq)))
	}
	apply(t, e, 21, put("once", "21"), del("k"))
	e.SetDiscard(10)
	e.SetDiscard(4)
	apply(t, e, 22, put("k", "22"))
	require.Equal(t, "10@10", get(t, e, "k", 10), "the newest version at the discard sequence stays")
	require.Equal(t, "15@15", get(t, e, "k", 15))
	require.Equal(t, "gone@21", get(t, e, "k", 21))
	var de *engine.DiscardedError
	_, _, _, err := e.Get([]byte("k"), 9)
	require.ErrorAs(t, err, &de)
	require.EqualValues(t, 10, de.Discard)
	it := e.NewIterator(engine.IterOptions{Seq: 9})
	require.False(t, it.Valid())
	require.ErrorAs(t, it.Err(), &de)
	it.Seek([]byte("a"))
	it.Next()
	require.False(t, it.Valid())
	it.Close()
}

func testUndo(t *testing.T, e engine.Engine) {
	apply(t, e, 1, put("same", "1"), put("overwritten", "1"), put("deleted", "1"), put("recreated", "1"), put("back", "1"))
	apply(t, e, 2, put("overwritten", "2"), del("tombstone"), put("tombstone2", "x"))
	apply(t, e, 3, del("tombstone2"))
	want := scan(t, e, engine.IterOptions{Seq: 3})
	apply(t, e, 4, put("overwritten", "4"), del("deleted"), del("recreated"), put("created", "4"), put("back", "4"), put("tombstone", "4"))
	apply(t, e, 5, put("recreated", "5"), del("created"), put("back", "1"), put("tombstone2", "5"), del("neither"))

	last, err := e.Undo(3)
	require.NoError(t, err)
	require.Greater(t, last, ids.Seq(5))
	require.Equal(t, last, e.MaxSeq())
	require.Equal(t, want, scan(t, e, engine.IterOptions{Seq: 3}), "what was there stays readable")
	require.Equal(t, contents(want), contents(scan(t, e, engine.IterOptions{Seq: last})))
	again, err := e.Undo(3)
	require.NoError(t, err)
	require.GreaterOrEqual(t, again, last)
	require.Equal(t, contents(want), contents(scan(t, e, engine.IterOptions{Seq: again})))
	apply(t, e, again+1, put("next", "x"))
}

// interrupted is an engine whose Apply stops working after some calls.
type interrupted struct {
	engine.Engine
	left int
}

var errInterrupted = errors.New("interrupted")

func (i *interrupted) Apply(b []engine.Batch) error {
	if i.left--; i.left < 0 {
		return errInterrupted
	}
	return i.Engine.Apply(b)
}

func testUndoInterrupted(t *testing.T, e engine.Engine) {
	value := string(bytes.Repeat([]byte("v"), 100<<10))
	name := func(i int) string { return fmt.Sprintf("k%02d", i) }
	seq := ids.Seq(0)
	for i := range 40 {
		seq++
		apply(t, e, seq, put(name(i), fmt.Sprint("old", i)+value))
	}
	cut := seq
	want := contents(scan(t, e, engine.IterOptions{Seq: cut}))
	for i := range 60 {
		seq++
		if i%3 == 0 {
			apply(t, e, seq, del(name(i)))
		} else {
			apply(t, e, seq, put(name(i), "new"))
		}
	}
	for n := range 3 {
		_, err := engine.Undo(&interrupted{Engine: e, left: n}, cut)
		require.ErrorIs(t, err, errInterrupted)
	}
	last, err := e.Undo(cut)
	require.NoError(t, err)
	require.Equal(t, want, contents(scan(t, e, engine.IterOptions{Seq: last})))
	require.Equal(t, want, contents(scan(t, e, engine.IterOptions{Seq: cut})))
}

func testUndoOfNothing(t *testing.T, e engine.Engine) {
	last, err := e.Undo(7)
	require.NoError(t, err)
	require.EqualValues(t, 7, last, "an engine that lost everything goes on above the cut")
	apply(t, e, 8, put("a", "8"))
	last, err = e.Undo(8)
	require.NoError(t, err)
	require.EqualValues(t, 8, last)
	require.Equal(t, "8@8", get(t, e, "a", 8))
}

func testCloseWithIterator(t *testing.T, e engine.Engine) {
	it := e.NewIterator(engine.IterOptions{})
	require.ErrorIs(t, e.Close(), engine.ErrOpenIterators)
	it.Close()
	require.NoError(t, e.Close())
}

// Every batch writes the same value under all keys: a reader at a published sequence sees one of them.
func testConcurrent(t *testing.T, e engine.Engine) {
	const groupSize, rounds = 8, 300
	var visible, oldest atomic.Uint64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for reader := range 3 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				seq := ids.Seq(visible.Load())
				if seq == 0 {
					continue
				}
				got, err := tryScan(e, engine.IterOptions{Seq: seq, Reverse: (n+reader)%2 == 0})
				var de *engine.DiscardedError
				if errors.As(err, &de) && uint64(seq) < oldest.Load() {
					continue
				}
				if err != nil || len(got) != groupSize {
					t.Errorf("at %d: %v, %v", seq, got, err)
					return
				}
				for _, r := range got {
					if want := fmt.Sprintf("=%d@%d", seq, seq); r[2:] != want {
						t.Errorf("at %d: %v", seq, got)
						return
					}
				}
				if v, version, found, err := e.Get([]byte("k3"), seq); err == nil && (!found || version != seq || string(v) != fmt.Sprint(seq)) {
					t.Errorf("get at %d: %q %d %v", seq, v, version, found)
					return
				}
			}
		}()
	}
	for seq := ids.Seq(1); seq <= rounds; seq++ {
		var ops []engine.Op
		for i := range groupSize {
			ops = append(ops, put(fmt.Sprint("k", i), fmt.Sprint(seq)))
		}
		apply(t, e, seq, ops...)
		visible.Store(uint64(seq))
		if seq%10 == 0 && seq > 100 {
			oldest.Store(uint64(seq - 100))
			e.SetDiscard(seq - 100)
		}
		if seq%50 == 0 {
			require.NoError(t, e.Sync())
		}
		_ = e.Size()
	}
	close(stop)
	wg.Wait()
}
