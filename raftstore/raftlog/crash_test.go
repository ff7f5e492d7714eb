package raftlog

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/vfs"
)

var firstSegment = segmentName(testDir, 1)

// contentOf returns a segment's bytes.
func contentOf(t testing.TB, m *vfs.Memory, name string) []byte {
	t.Helper()
	b, err := vfs.ReadFile(m, name)
	require.NoError(t, err)
	return b
}

// diskWith returns a disk on which all is durable and the file has the given content.
func diskWith(t testing.TB, name string, content []byte) *vfs.Memory {
	t.Helper()
	m := vfs.NewMemory()
	require.NoError(t, m.MkdirAll(filepath.Dir(name)))
	require.NoError(t, vfs.WriteFile(m, name, content))
	return m
}

// story is a log with two synced frames and one that is not, as a process that was killed leaves it.
func story(t testing.TB) (m *vfs.Memory, off, end int64, durable, all string) {
	m = vfs.NewMemory()
	l := open(t, m, minSegmentSize)
	write(t, l, create(1), Write{Group: 1, Entries: entries(1, 4, 1), HardState: hardState(1, 1, 0)})
	write(t, l, create(2), Write{Group: 1, Entries: entries(4, 6, 1), Commit: 3})
	require.NoError(t, l.Sync())
	durable, off = dump(t, l), l.off
	require.NoError(t, l.Append(&Batch{
		Groups: []Write{{Group: 1, Entries: entries(6, 8, 2)}, {Group: 2, Entries: entries(1, 2, 1)}},
		Store:  []StoreRecord{{Kind: 3, Key: 4, Value: []byte("five and some more")}},
	}))
	return m, off, l.off, durable, dump(t, l)
}

// TestTornTail cuts the last, unsynced frame at every byte: it is there whole or not at all, and what is written
// afterwards is read afterwards.
func TestTornTail(t *testing.T) {
	m, off, end, durable, all := story(t)
	content := contentOf(t, m, firstSegment)
	for cut := off; cut <= end; cut++ {
		torn := bytes.Clone(content)
		clear(torn[cut:])
		want := durable
		if bytes.Equal(torn, content) { // the last bytes are zeros anyway
			want = all
		}
		disk := diskWith(t, firstSegment, torn)
		l := open(t, disk, minSegmentSize)
		require.Equal(t, want, dump(t, l), "cut at %d of [%d, %d)", cut, off, end)
		if want == durable {
			require.True(t, allZero(contentOf(t, disk, firstSegment)[off+frameHeaderSize:]), "the tail is zeroed behind the mark")
		}
		write(t, l, Write{Group: 2, Meta: []byte("after")})
		want = dump(t, l)
		require.NoError(t, l.Sync())
		require.Equal(t, want, dump(t, open(t, disk.CrashClean(), minSegmentSize)))
	}
}

// TestTornInTheMiddle zeroes each sector-like piece of the unsynced frame.
func TestTornInTheMiddle(t *testing.T) {
	m, off, end, durable, all := story(t)
	content := contentOf(t, m, firstSegment)
	for lo := off; lo < end; lo += 8 {
		torn := bytes.Clone(content)
		clear(torn[lo:min(lo+32, end)])
		want := durable
		if bytes.Equal(torn, content) {
			want = all
		}
		require.Equal(t, want, dump(t, open(t, diskWith(t, firstSegment, torn), minSegmentSize)))
	}
}

// TestFlippedBitInTail: frames that nobody was told of may be cut off.
func TestFlippedBitInTail(t *testing.T) {
	m, off, end, durable, all := story(t)
	for p := off; p < end+64; p++ {
		disk := m.Clone()
		require.NoError(t, disk.FlipBit(firstSegment, p, uint(p%8)))
		want := durable
		if p >= end {
			want = all
		}
		require.Equal(t, want, dump(t, open(t, disk, minSegmentSize)), "bit of byte %d", p)
	}
}

// TestFlippedBitInSynced: damage to anything that was marked as synced is refused, with file and offset.
func TestFlippedBitInSynced(t *testing.T) {
	m, _, _, _, all := story(t)
	l := open(t, m.Clone(), minSegmentSize) // marks the end
	disk, end := l.o.FS.(*vfs.Memory), l.off
	require.NoError(t, l.Close())
	for p := int64(0); p < end; p++ {
		for bit := range uint(8) {
			if p >= 2*segmentHeaderSize && bit != uint(p%8) {
				continue // all bits of the headers, one of each byte of the rest
			}
			damaged := disk.Clone()
			require.NoError(t, damaged.FlipBit(firstSegment, p, bit))
			l, err := Open(Options{FS: damaged, Dir: testDir, SegmentSize: minSegmentSize})
			if p >= end-frameHeaderSize { // the mark itself: nothing is lost with it
				require.NoError(t, err)
				require.Equal(t, all, dump(t, l))
				continue
			}
			requireDamage(t, err, firstSegment, p)
		}
	}
}

// requireDamage wants an error that names the file, and an offset at or before p.
func requireDamage(t *testing.T, err error, file string, p int64) {
	t.Helper()
	require.Error(t, err)
	var corruption *CorruptionError
	require.ErrorAs(t, err, &corruption)
	require.Equal(t, file, corruption.File)
	require.LessOrEqual(t, corruption.Offset, p)
	require.Contains(t, err.Error(), fmt.Sprintf("%s is damaged at offset %d", file, corruption.Offset))
}

// longLog fills several segments and closes them.
func longLog(t *testing.T) (disk *vfs.Memory, segments []string, want string) {
	m := vfs.NewMemory()
	l := open(t, m, minSegmentSize)
	write(t, l, create(1), create(2))
	for i := ids.Index(1); len(l.mu.segments) < 4; i += 4 {
		write(t, l, Write{Group: 1 + ids.RangeID(i%2), Meta: []byte{1}}, Write{Group: 1, Entries: entries(i, i+4, 1)})
	}
	for _, s := range l.mu.segments {
		segments = append(segments, s.name)
	}
	want = dump(t, l)
	require.NoError(t, l.Close())
	return m, segments, want
}

func TestDamageInOlderSegments(t *testing.T) {
	disk, segments, want := longLog(t)
	for _, name := range segments[:3] {
		content := contentOf(t, disk, name)
		end := int64(len(content))
		for allZero(content[end-1:]) {
			end--
		}
		for p := int64(0); p < end; p += 5 {
			damaged := disk.Clone()
			require.NoError(t, damaged.FlipBit(name, p, uint(p%8)))
			_, err := Open(Options{FS: damaged, Dir: testDir, SegmentSize: minSegmentSize})
			requireDamage(t, err, name, p)
		}
	}
	require.Equal(t, want, dump(t, open(t, disk.Clone(), minSegmentSize)))
}

func TestDamagedDirectory(t *testing.T) {
	disk, segments, _ := longLog(t)
	refuse := func(name, says string, damage func(m *vfs.Memory)) {
		t.Run(name, func(t *testing.T) {
			m := disk.Clone()
			damage(m)
			_, err := Open(Options{FS: m, Dir: testDir, SegmentSize: minSegmentSize})
			require.ErrorContains(t, err, says)
		})
	}
	replace := func(m *vfs.Memory, name string, content []byte) {
		require.NoError(t, vfs.WriteFile(m, name, content))
	}
	refuse("missing segment", segments[1]+" is damaged at offset 0: the segment is missing", func(m *vfs.Memory) {
		require.NoError(t, m.Remove(segments[1]))
	})
	refuse("missing oldest segment", "is in no segment", func(m *vfs.Memory) {
		require.NoError(t, m.Remove(segments[0]))
	})
	refuse("segment under another's name", "this is segment 0000000000000001", func(m *vfs.Memory) {
		replace(m, segments[1], contentOf(t, m, segments[0]))
	})
	refuse("shortened", "the file has 4000 bytes and was made with 4096", func(m *vfs.Memory) {
		replace(m, segments[1], contentOf(t, m, segments[1])[:4000])
	})
	refuse("shorter than a header", "shorter than a segment's header", func(m *vfs.Memory) {
		replace(m, segments[2], []byte("locus"))
	})
	refuse("empty", "shorter than a segment's header", func(m *vfs.Memory) { replace(m, segments[2], nil) })
	refuse("not ours", "this is no segment of a Raft log", func(m *vfs.Memory) {
		replace(m, segments[0], bytes.Repeat([]byte("x"), minSegmentSize))
	})
	refuse("zeroed end of an older segment", "is damaged or missing; the next segment goes on at frame", func(m *vfs.Memory) {
		content := contentOf(t, m, segments[0])
		clear(content[2000:])
		replace(m, segments[0], content)
	})
	refuse("newer format", "has format version 2, and this program knows only version 1", func(m *vfs.Memory) {
		content := contentOf(t, m, segments[3])
		le.PutUint32(content[8:], 2)
		le.PutUint32(content[12:], headerSum(content))
		replace(m, segments[3], content)
	})
	refuse("damaged version", "is damaged at offset 0: the version", func(m *vfs.Memory) {
		content := contentOf(t, m, segments[3])
		le.PutUint32(content[8:], 2)
		replace(m, segments[3], content)
	})
	refuse("newer frame", "has format version 2", func(m *vfs.Memory) {
		content := contentOf(t, m, segments[3])
		reseal(content, 4, func(frame []byte) { frame[8] = 2 })
		replace(m, segments[3], content)
	})
	refuse("frame out of order", "frame 77 stands where frame", func(m *vfs.Memory) {
		content := contentOf(t, m, segments[3])
		off := reseal(content, 4, func([]byte) {})
		reseal(content[:], 4, func([]byte) {})
		le.PutUint64(content[off+16:], 77)
		resum(content, 4, off)
		replace(m, segments[3], content)
	})
}

// reseal changes the frame behind the state frame and gives it a right checksum again.
func reseal(content []byte, id uint64, change func(frame []byte)) (off int64) {
	off = segmentHeaderSize + frameHeaderSize + int64(le.Uint32(content[segmentHeaderSize+4:]))
	change(content[off:])
	resum(content, id, off)
	return off
}

func resum(content []byte, id uint64, off int64) {
	end := off + frameHeaderSize + int64(le.Uint32(content[off+4:]))
	le.PutUint32(content[off:], frameSum(content[off:end], position{id, off}))
}

// TestStateIsCompared: what the writer had in memory and what recovery rebuilds are two witnesses.
func TestStateIsCompared(t *testing.T) {
	disk, segments, _ := longLog(t)
	content := contentOf(t, disk, segments[1])
	const off = segmentHeaderSize
	content[off+frameHeaderSize+recordHeaderSize+40]++ // a vote
	resum(content, 2, off)
	require.NoError(t, vfs.WriteFile(disk, segments[1], content))
	_, err := Open(Options{FS: disk, Dir: testDir, SegmentSize: minSegmentSize})
	require.ErrorContains(t, err, "the groups' state is not what the frames before add up to")
}

// TestDamagedEntryIsNotReturned flips each byte of an entry's record under an open log without a cache.
func TestDamagedEntryIsNotReturned(t *testing.T) {
	m := vfs.NewMemory()
	lg, err := Open(Options{FS: m, Dir: testDir, SegmentSize: minSegmentSize, CacheBytes: -1})
	require.NoError(t, err)
	write(t, lg, create(5), Write{Group: 5, Entries: entries(1, 6, 1)})
	s := *lg.(*log).mu.index.groups[5].slot(3)
	for p := int64(s.off); p < int64(s.off)+int64(s.size); p++ {
		require.NoError(t, m.FlipBit(firstSegment, p, uint(p%8)))
		_, err := lg.Entries(5, 1, 6, 1<<20)
		var corruption *CorruptionError
		require.ErrorAs(t, err, &corruption)
		require.Equal(t, CorruptionError{File: firstSegment, Offset: int64(s.off), Group: 5, Reason: corruption.Reason}, *corruption)
		require.Contains(t, err.Error(), "(range r5): entry 3 of term 1")
		_, err = lg.Entries(5, 1, 3, 1<<20)
		require.NoError(t, err, "its neighbours are whole")
		require.NoError(t, m.FlipBit(firstSegment, p, uint(p%8)))
	}
	es, err := lg.Entries(5, 1, 6, 1<<20)
	require.NoError(t, err)
	require.Len(t, es, 5)
}

// TestMarkEnd: a flipped bit in the last synced frame is told from a torn tail only once the end is marked.
func TestMarkEnd(t *testing.T) {
	m := vfs.NewMemory()
	l := open(t, m, minSegmentSize)
	write(t, l, create(1))
	require.NoError(t, l.Sync())
	inFrame := l.off - 4
	unmarked := m.Clone()
	require.NoError(t, unmarked.FlipBit(firstSegment, inFrame, 0))
	require.Empty(t, dump(t, open(t, unmarked, minSegmentSize)), "cut off: nothing tells that it was synced")

	require.NoError(t, l.MarkEnd())
	end := l.off
	require.NoError(t, l.MarkEnd())
	require.Equal(t, end, l.off, "marking twice writes once")
	require.NoError(t, m.FlipBit(firstSegment, inFrame, 0))
	_, err := Open(Options{FS: m.CrashClean(), Dir: testDir, SegmentSize: minSegmentSize})
	requireDamage(t, err, firstSegment, inFrame)
}

// TestMarkEndAtSegmentsEnd: where there is no room for a mark, a new segment is one.
func TestMarkEndAtSegmentsEnd(t *testing.T) {
	m := vfs.NewMemory()
	l := open(t, m, minSegmentSize)
	write(t, l, create(1))
	room := l.active.capacity - l.off - frameHeaderSize - recordHeaderSize
	write(t, l, Write{Group: 1, Meta: bytes.Repeat([]byte("m"), int(room))})
	require.Equal(t, l.active.capacity, l.off, "full to the last byte")
	require.NoError(t, l.MarkEnd())
	require.Len(t, l.mu.segments, 2)
	want := dump(t, l)
	require.NoError(t, m.FlipBit(firstSegment, 1000, 0))
	_, err := Open(Options{FS: m.CrashClean(), Dir: testDir, SegmentSize: minSegmentSize})
	requireDamage(t, err, firstSegment, 1000)
	require.Contains(t, want, "mmm")
}

// TestLeftovers: what a crash leaves of a segment that was being made is removed.
func TestLeftovers(t *testing.T) {
	disk, _, want := longLog(t)
	tmp := filepath.Join(testDir, tmpName)
	require.NoError(t, vfs.WriteFile(disk, tmp, []byte("half a segment")))
	require.NoError(t, vfs.WriteFile(disk, filepath.Join(testDir, "unrelated.txt"), []byte("not ours")))
	require.Equal(t, want, dump(t, open(t, disk, minSegmentSize)))
	ok, err := vfs.Exists(disk, tmp)
	require.NoError(t, err)
	require.False(t, ok)
}
