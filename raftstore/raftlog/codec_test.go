package raftlog

import (
	"bytes"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/vfs"
)

// oneOfEach are records of every kind.
func oneOfEach() []record {
	h := head{before: Position{3, 1}, last: 9, lastTerm: 2, term: 4, vote: 5, commit: 6}
	return []record{
		{kind: recordCreate, group: 1, pos: Position{2, 3}, data: []byte("meta")},
		{kind: recordReset, group: 2, pos: Position{4, 5}, data: []byte{}},
		{kind: recordEntry, entryType: 1, group: 3, pos: Position{6, 7}, data: []byte("data of an entry")},
		{kind: recordEntry, group: 3, pos: Position{7, 7}, data: []byte{}},
		{kind: recordMoved, entryType: 2, group: 4, pos: Position{8, 9}, data: []byte("moved")},
		{kind: recordHardState, group: 5, pos: Position{Term: 10}, vote: 11, commit: 12, data: []byte{}},
		{kind: recordCommit, group: 6, commit: 13, data: []byte{}},
		{kind: recordTruncate, group: 7, pos: Position{14, 15}, data: []byte{}},
		{kind: recordMeta, group: 8, data: []byte("m")},
		{kind: recordDestroy, group: 9, data: []byte{}},
		{kind: recordStore, storeKind: 16, group: 17, data: []byte("value of the store")},
		{kind: recordGroup, group: 10, head: h, data: []byte("meta of a group")},
	}
}

func encodeAll(records []record) []byte {
	var payload []byte
	for i := range records {
		payload = appendRecord(payload, 0, &records[i])
	}
	return payload
}

func TestRecordsRoundTrip(t *testing.T) {
	want := oneOfEach()
	payload := encodeAll(want)
	require.Equal(t, encodedSize(want), int64(frameHeaderSize+len(payload)))
	got, err := decodeRecords(nil, payload)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestBadRecords(t *testing.T) {
	entry := func(change func(b []byte)) []byte {
		b := encodeAll([]record{{kind: recordEntry, group: 3, pos: Position{6, 7}, data: []byte("data")}})
		change(b)
		return b
	}
	cases := map[string]struct {
		payload []byte
		want    error
	}{
		"short header":      {entry(func([]byte) {})[:8], errRecordShort},
		"short body":        {entry(func([]byte) {})[:40], errRecordShort},
		"huge length":       {entry(func(b []byte) { le.PutUint32(b[4:], 1<<32-1) }), errRecordShort},
		"unknown kind":      {entry(func(b []byte) { b[0] = 12 }), errRecordKind},
		"kind zero":         {make([]byte, 16), errRecordKind},
		"reserved":          {entry(func(b []byte) { b[2] = 1 }), errRecordZero},
		"padding":           {entry(func(b []byte) { b[45] = 1 }), errRecordZero},
		"data":              {entry(func(b []byte) { b[41] ^= 1 }), errRecordSum},
		"group":             {entry(func(b []byte) { b[8] ^= 1 }), errRecordSum},
		"too short":         {entry(func(b []byte) { b[0] = byte(recordGroup) }), errRecordSize},
		"too long":          {entry(func(b []byte) { b[0] = byte(recordCommit) }), errRecordSize},
		"type of non-entry": {entry(func(b []byte) { b[0], b[1] = byte(recordMeta), 1 }), errRecordZero},
		"store's reserved":  {entry(func(b []byte) { b[0], b[17] = byte(recordStore), 1 }), errRecordZero},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := decodeRecords(nil, c.payload)
			require.ErrorIs(t, err, c.want)
		})
	}
}

func sealed(payload []byte, kind frameKind, seq uint64, synced, at position) []byte {
	buf := append(make([]byte, frameHeaderSize), payload...)
	sealFrame(buf, kind, seq, synced, at)
	return buf
}

// TestFrameIsBoundToItsPlace: a frame copied to another offset or segment is none.
func TestFrameIsBoundToItsPlace(t *testing.T) {
	here := position{3, 800}
	buf := sealed(encodeAll(oneOfEach()), frameBatch, 7, position{3, 64}, here)
	f, ok := decodeFrame(buf, here)
	require.True(t, ok)
	require.Equal(t, uint64(7), f.seq)
	require.Equal(t, position{3, 64}, f.synced)
	for _, elsewhere := range []position{{3, 808}, {4, 800}, {2, 800}} {
		_, ok = decodeFrame(buf, elsewhere)
		require.False(t, ok)
	}
	for n := range buf {
		_, ok = decodeFrame(buf[:n], here)
		require.False(t, ok, "cut at %d", n)
	}
}

// TestFrameInsideAnEntry: an entry's data that holds a copied frame does not prove anything about a torn tail.
func TestFrameInsideAnEntry(t *testing.T) {
	m, off, end, durable, _ := story(t)
	copied := contentOf(t, m, firstSegment)[off:end]
	l := open(t, m.Clone(), minSegmentSize)
	disk := l.o.FS.(*vfs.Memory)
	before, torn := dump(t, l), l.off
	le.PutUint64(copied[32:], uint64(torn)+8) // "synced beyond the torn frame"
	le.PutUint32(copied, frameSum(copied, position{1, off}))
	write(t, l, Write{Group: 1, Entries: []*raftpb.Entry{entry(8, 2, string(copied)+"123456789")}})
	require.NoError(t, disk.FlipBit(firstSegment, torn+1, 0))
	require.Equal(t, before, dump(t, open(t, disk.Clone(), minSegmentSize)))
	require.NotEqual(t, durable, before)
}

// TestEntryOfAnotherPlaceIsNotReturned: a slot that points at a neighbour of the same size is found out.
func TestEntryOfAnotherPlaceIsNotReturned(t *testing.T) {
	lg, err := Open(Options{FS: vfs.NewMemory(), Dir: testDir, CacheBytes: -1, SegmentSize: minSegmentSize})
	require.NoError(t, err)
	write(t, lg, create(1), Write{Group: 1, Entries: entries(1, 5, 1)})
	g := lg.(*log).mu.index.groups[1]
	g.slot(2).off = g.slot(3).off
	_, err = lg.Entries(1, 2, 3, 1<<20)
	var corruption *CorruptionError
	require.ErrorAs(t, err, &corruption)
	require.ErrorContains(t, err, "there is something else in its place")
}

// TestLongTornTail: a tail far longer than what is zeroed ahead leaves nothing behind either.
func TestLongTornTail(t *testing.T) {
	m := vfs.NewMemory()
	l := open(t, m, 8<<20)
	write(t, l, create(1))
	require.NoError(t, l.MarkEnd())
	off := l.off
	require.NoError(t, l.Append(&Batch{Store: []StoreRecord{{Kind: 1, Value: bytes.Repeat([]byte("x"), 5<<20)}}}))
	require.NoError(t, m.FlipBit(firstSegment, off+3<<20, 0))
	m = m.Clone()
	open(t, m, 8<<20)
	require.True(t, allZero(contentOf(t, m.CrashClean(), firstSegment)[off+frameHeaderSize:]))
}

// FuzzDecodeFrame: no bytes make the decoders panic, and what they accept is what they would write.
func FuzzDecodeFrame(f *testing.F) {
	payload := encodeAll(oneOfEach())
	f.Add(sealed(payload, frameBatch, 1, position{1, 64}, position{1, 800}), uint64(1), int64(800))
	f.Add(sealed(nil, frameMark, 2, position{9, 640}, position{9, 640}), uint64(9), int64(640))
	f.Fuzz(func(t *testing.T, b []byte, segment uint64, offset int64) {
		p := position{segment, offset}
		if fr, ok := decodeFrame(b, p); ok {
			again := sealed(fr.payload, fr.kind, fr.seq, fr.synced, p)
			if fr.version == formatVersion && le.Uint32(b[12:]) == 0 && le.Uint16(b[10:]) == 0 {
				require.Equal(t, b[:fr.size()], again)
			}
		}
		decodeSegmentHeader(b)
		if records, err := decodeRecords(nil, b); err == nil {
			require.Equal(t, len(b), len(encodeAll(records)))
			require.True(t, bytes.Equal(b, encodeAll(records)))
		}
	})
}

// FuzzRecover puts any records, rightly sealed, behind a good beginning: opening refuses them with a typed error, or
// takes them and gives the same on every later opening.
func FuzzRecover(f *testing.F) {
	f.Add(encodeAll(oneOfEach()[:1]))
	f.Add(encodeAll(oneOfEach()[1:3]))
	f.Add(encodeAll([]record{
		{kind: recordCreate, group: 1}, {kind: recordEntry, group: 1, pos: Position{1, 1}},
		{kind: recordEntry, group: 1, pos: Position{2, 1}, data: []byte("x")}, {kind: recordCommit, group: 1, commit: 1},
		{kind: recordTruncate, group: 1, pos: Position{1, 1}}, {kind: recordMoved, group: 1, pos: Position{2, 1}},
		{kind: recordStore, storeKind: 1, group: 2, data: []byte("v")}, {kind: recordDestroy, group: 1},
	}))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) > 3000 {
			return
		}
		payload = payload[:len(payload)&^(alignment-1)]
		m := vfs.NewMemory()
		l := open(t, m, minSegmentSize)
		frame := sealed(payload, frameBatch, l.seq, l.synced, position{1, l.off})
		_, err := l.active.file.WriteAt(frame, l.off)
		require.NoError(t, err)
		m = m.Clone()
		lg, err := Open(Options{FS: m, Dir: testDir, SegmentSize: minSegmentSize})
		if err != nil {
			var corruption *CorruptionError
			require.True(t, errors.As(err, &corruption), "%v", err)
			return
		}
		want := dump(t, lg)
		require.NoError(t, lg.Append(&Batch{Store: []StoreRecord{{Kind: 9, Value: make([]byte, minSegmentSize)}}}))
		require.NoError(t, lg.Append(&Batch{Store: []StoreRecord{{Kind: 9}}}))
		require.NoError(t, lg.Close())
		require.Equal(t, want, dump(t, open(t, m, minSegmentSize)))
	})
}

func TestSegmentNames(t *testing.T) {
	for _, id := range []uint64{1, 255, 1 << 60} {
		got, ok := parseSegmentName(segmentName("", id))
		require.True(t, ok)
		require.Equal(t, id, got)
	}
	for _, bad := range []string{"", "1.log", "0000000000000000.log", "000000000000000g.log", tmpName, lockName} {
		_, ok := parseSegmentName(bad)
		require.False(t, ok, bad)
	}
	require.Equal(t, ids.RangeID(3), (&record{group: 3}).id())
}
