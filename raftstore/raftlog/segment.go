package raftlog

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/locuskv/locus/internal/vfs"
)

const (
	segmentSuffix = ".log"
	// tmpName is the segment that is being made. It gets its own name once its beginning is durable, so a segment
	// with a name has a header and a state frame, or is damaged.
	tmpName  = "next.tmp"
	lockName = "LOCK"
	// zeroChunk is how far ahead of the frames zeros are written. The first write to a block that is only reserved
	// costs a commit of the file system's journal at the next sync; with this there is one in a mebibyte. All at
	// once would make the log wait for a whole segment.
	zeroChunk = 1 << 20
)

var zeros [zeroChunk]byte

// segment is one file of the log.
type segment struct {
	id       uint64
	name     string // path
	file     vfs.File
	capacity int64
	live     int64 // bytes of the records of entries that the index points at
	// refs counts the log itself and the reads under way: a dropped segment stays open for those.
	refs atomic.Int32
}

func newSegment(id uint64, name string, file vfs.File, capacity int64) *segment {
	s := &segment{id: id, name: name, file: file, capacity: capacity}
	s.refs.Store(1)
	return s
}

// acquire needs the log's lock, so that the log's own reference is still there.
func (s *segment) acquire() *segment { s.refs.Add(1); return s }

func (s *segment) release() error {
	if s.refs.Add(-1) == 0 {
		return s.file.Close()
	}
	return nil
}

func (s *segment) corruption(offset int64, reason string) *CorruptionError {
	return &CorruptionError{File: s.name, Offset: offset, Reason: reason}
}

func segmentName(dir string, id uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016x%s", id, segmentSuffix))
}

// parseSegmentName returns the id of a segment's base name.
func parseSegmentName(base string) (id uint64, ok bool) {
	hex, ok := strings.CutSuffix(base, segmentSuffix)
	if !ok || len(hex) != 16 {
		return 0, false
	}
	id, err := strconv.ParseUint(hex, 16, 64)
	return id, err == nil && id != 0
}

// rotate makes the active segment durable and goes on in a new one with room for a frame of the given size.
//
// Crash: the new segment has its name only after the old one and its own beginning are durable. So where a segment
// follows another, every frame of the other one is provably synced.
func (l *log) rotate(frameSize int64) error {
	if err := l.syncActive(); err != nil {
		return err
	}
	return l.createSegment(l.active.id+1, frameSize)
}

func (l *log) createSegment(id uint64, frameSize int64) error {
	begin := l.mu.index.appendState(make([]byte, segmentHeaderSize+frameHeaderSize))
	capacity, err := l.capacityFor(int64(len(begin)), frameSize)
	if err != nil {
		return err
	}
	segmentHeader{id: id, capacity: capacity, firstSeq: l.seq}.encode(begin)
	sealFrame(begin[segmentHeaderSize:], frameState, l.seq, l.synced, position{id, segmentHeaderSize})

	name := segmentName(l.o.Dir, id)
	file, err := l.makeFile(filepath.Join(l.o.Dir, tmpName), name, begin, capacity)
	if err != nil {
		return fmt.Errorf("making segment %s: %w", name, err)
	}
	l.active = newSegment(id, name, file, capacity)
	l.seq++
	l.off = int64(len(begin))
	l.zeroed = min(capacity, l.off+zeroChunk)
	l.synced = position{id, l.off}
	l.marked = true
	l.mu.Lock()
	l.mu.segments = append(l.mu.segments, l.active)
	l.mu.Unlock()
	return nil
}

// capacityFor keeps the copies of the state below a quarter of the log, however small the segments are asked to be.
func (l *log) capacityFor(begin, frameSize int64) (int64, error) {
	if begin > maxFrame {
		return 0, fmt.Errorf("the groups' small state has %d bytes, more than a frame can hold", begin)
	}
	const page = 4096
	need := max(l.o.SegmentSize, 4*begin, begin+frameSize+frameHeaderSize)
	return min((need+page-1)&^(page-1), 1<<32-page), nil
}

func (l *log) makeFile(tmp, name string, begin []byte, capacity int64) (vfs.File, error) {
	file, err := l.o.FS.Create(tmp)
	if err != nil {
		return nil, err
	}
	err = l.fillFile(file, begin, capacity)
	if err == nil {
		err = l.o.FS.Rename(tmp, name)
	}
	if err == nil {
		err = l.o.FS.SyncDir(l.o.Dir)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

func (l *log) fillFile(file vfs.File, begin []byte, capacity int64) error {
	if err := file.Preallocate(capacity); err != nil {
		return err
	}
	if _, err := file.WriteAt(begin, 0); err != nil {
		return err
	}
	off := int64(len(begin))
	if _, err := file.WriteAt(zeros[:min(capacity-off, zeroChunk)], off); err != nil {
		return err
	}
	return file.Sync()
}

// zeroAhead keeps zeros written beyond the end of the frames.
func (l *log) zeroAhead() error {
	if l.off <= l.zeroed && (l.zeroed-l.off >= zeroChunk/2 || l.zeroed == l.active.capacity) {
		return nil
	}
	from := max(l.off, l.zeroed)
	n := min(l.active.capacity-from, zeroChunk)
	if _, err := l.active.file.WriteAt(zeros[:n], from); err != nil {
		return err
	}
	l.zeroed = from + n
	return nil
}
