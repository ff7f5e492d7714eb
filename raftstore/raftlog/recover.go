package raftlog

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/locuskv/locus/internal/ids"
)

// recovery reads the segments from the oldest to the newest and rebuilds the index.
type recovery struct {
	l   *log
	buf []byte
	// state is the scratch buffer for the groups' state.
	state []byte
	prev  *segment // the segment before, and where its frames ended
	end   int64
	last  frameKind // of the newest frame
	// synced is the highest position up to which a frame says that the log was synced.
	synced position
}

// recover opens what is in the directory. Afterwards everything that was found is durable and marked as such: the
// files may hold frames that only a killed process, and not yet the disk, knew of.
func (l *log) recover() error {
	found, err := l.listSegments()
	if err != nil {
		return err
	}
	if len(found) == 0 {
		l.seq = 1
		if err := l.createSegment(1, 0); err != nil {
			return fmt.Errorf("raftlog: open: %w", err)
		}
		return nil
	}
	r := recovery{l: l}
	for i, id := range found {
		if err := r.segment(id, i == 0, i == len(found)-1); err != nil {
			return err
		}
	}
	if err := r.checkComplete(); err != nil {
		return err
	}
	l.active, l.off, l.zeroed = r.prev, r.end, r.end
	if err := r.makeDurable(); err != nil {
		return fmt.Errorf("raftlog: open: %w", err)
	}
	l.synced = position{l.active.id, l.off}
	l.marked = r.last != frameBatch
	return l.MarkEnd()
}

// makeDurable writes the frames that no other one calls synced once more before it syncs. NB: a sync alone would not
// do. If an earlier process died of a failed sync, the kernel may hold those pages as clean although they never
// reached the disk.
func (r *recovery) makeDurable() error {
	l := r.l
	from := int64(segmentHeaderSize)
	if r.synced.segment == l.active.id {
		from = r.synced.offset
	}
	if _, err := l.active.file.WriteAt(r.buf[from:r.end], from); err != nil {
		return err
	}
	if err := l.active.file.Sync(); err != nil {
		return err
	}
	return l.o.FS.SyncDir(l.o.Dir)
}

// listSegments returns the ids of the segments, ascending and without a gap, and removes what a crash left of one
// that was being made.
func (l *log) listSegments() ([]uint64, error) {
	names, err := l.o.FS.List(l.o.Dir)
	if err != nil {
		return nil, fmt.Errorf("raftlog: open: %w", err)
	}
	var found []uint64
	for _, name := range names {
		if name == tmpName {
			if err := l.o.FS.Remove(filepath.Join(l.o.Dir, name)); err != nil {
				return nil, fmt.Errorf("raftlog: open: %w", err)
			}
		}
		if id, ok := parseSegmentName(name); ok {
			found = append(found, id)
		}
	}
	slices.Sort(found)
	for i := 1; i < len(found); i++ {
		if missing := found[i-1] + 1; found[i] != missing {
			return nil, &CorruptionError{File: segmentName(l.o.Dir, missing), Reason: "the segment is missing"}
		}
	}
	return found, nil
}

// segment reads one file.
func (r *recovery) segment(id uint64, first, last bool) error {
	s, err := r.load(id)
	if err != nil {
		return err
	}
	l := r.l
	l.mu.segments = append(l.mu.segments, s)
	h, err := checkHeader(s, r.buf)
	if err != nil {
		return err
	}
	if first {
		l.seq = h.firstSeq
	}
	if h.firstSeq != l.seq {
		return r.prev.corruption(r.end, fmt.Sprintf("frame %d is damaged or missing; the next segment goes on at frame %d",
			l.seq, h.firstSeq))
	}
	off, err := r.stateFrame(s, first)
	for err == nil {
		f, ok := decodeFrame(r.buf[off:], position{id, off})
		if !ok {
			break
		}
		if err = r.frame(s, &f, off); err == nil {
			off += f.size()
		}
	}
	r.prev, r.end = s, off
	if err == nil && last {
		err = r.tail(s, off)
	}
	return err
}

func (r *recovery) load(id uint64) (*segment, error) {
	name := segmentName(r.l.o.Dir, id)
	file, err := r.l.o.FS.OpenReadWrite(name)
	if err != nil {
		return nil, fmt.Errorf("raftlog: open: %w", err)
	}
	size, err := file.Size()
	if err == nil && size > 1<<32 {
		err = &CorruptionError{File: name, Reason: fmt.Sprintf("a segment can't have %d bytes", size)}
	}
	if err == nil {
		r.buf = slices.Grow(r.buf[:0], int(size))[:size]
		var n int
		if n, err = file.ReadAt(r.buf, 0); errors.Is(err, io.EOF) && n == len(r.buf) {
			err = nil
		}
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("raftlog: open: %w", err)
	}
	return newSegment(id, name, file, size), nil
}

func checkHeader(s *segment, buf []byte) (segmentHeader, error) {
	h, version, reason := decodeSegmentHeader(buf)
	switch {
	case reason != "":
		return h, s.corruption(0, reason)
	case version != formatVersion:
		return h, &FormatError{File: s.name, Version: version, Known: formatVersion}
	case h.id != s.id:
		return h, s.corruption(0, fmt.Sprintf("this is segment %016x", h.id))
	case h.capacity != s.capacity:
		return h, s.corruption(min(h.capacity, s.capacity), fmt.Sprintf("the file has %d bytes and was made with %d",
			s.capacity, h.capacity))
	}
	return h, nil
}

// stateFrame reads a segment's first frame, which was durable before the segment had its name. The oldest segment's
// is where the groups begin; any other one must equal what the segments before add up to.
func (r *recovery) stateFrame(s *segment, first bool) (next int64, err error) {
	const off = segmentHeaderSize
	f, ok := decodeFrame(r.buf[off:], position{s.id, off})
	if !ok {
		return off, s.corruption(off, "the frame of the groups' state is damaged")
	}
	if f.version != formatVersion {
		return off, &FormatError{File: s.name, Version: uint32(f.version), Known: formatVersion}
	}
	if f.kind != frameState || f.seq != r.l.seq {
		return off, s.corruption(off, fmt.Sprintf("frame %d of kind %d, not %d with the groups' state", f.seq, f.kind, r.l.seq))
	}
	x := r.l.mu.index
	if first {
		records, err := decodeRecords(nil, f.payload)
		if err == nil {
			err = x.loadState(records)
		}
		if err != nil {
			return off, s.corruption(off, "the groups' state: "+err.Error())
		}
	}
	r.state = x.appendState(r.state[:0])
	if string(r.state) != string(f.payload) {
		return off, s.corruption(off, "the groups' state is not what the frames before add up to")
	}
	r.l.seq++
	r.last = frameState
	return off + f.size(), nil
}

// frame applies a whole, undamaged frame.
func (r *recovery) frame(s *segment, f *frame, off int64) error {
	l := r.l
	at := position{s.id, off}
	switch {
	case f.version != formatVersion:
		return &FormatError{File: s.name, Version: uint32(f.version), Known: formatVersion}
	case f.seq != l.seq:
		return s.corruption(off, fmt.Sprintf("frame %d stands where frame %d should", f.seq, l.seq))
	case at.less(f.synced):
		return s.corruption(off, "the frame claims that what follows it was synced")
	case f.kind == frameMark && len(f.payload) == 0:
	case f.kind == frameBatch:
		if err := r.batch(s, f, off); err != nil {
			return s.corruption(off, err.Error())
		}
	default:
		return s.corruption(off, fmt.Sprintf("a frame of kind %d with %d bytes does not belong here", f.kind, len(f.payload)))
	}
	if r.synced.less(f.synced) {
		r.synced = f.synced
	}
	l.seq++
	r.last = f.kind
	return nil
}

func (r *recovery) batch(s *segment, f *frame, off int64) error {
	l := r.l
	records, err := decodeRecords(l.records[:0], f.payload)
	l.records = records
	if err != nil {
		return err
	}
	l.staging.reset()
	if records, err = l.mu.index.stage(&l.staging, records); err != nil {
		return err
	}
	l.mu.index.apply(&l.staging, records, s, off+frameHeaderSize)
	return nil
}

// tail judges what follows the last whole frame of the last segment (rule E6, docs/invariants.md). If any frame
// behind it knows that the log was synced beyond off, what stands at off was durable once and is damaged. Otherwise
// it may be what a crash left of frames that nobody was told of, and is cut off; zeros take its place, durably, so
// that its bytes are never taken for frames later.
func (r *recovery) tail(s *segment, off int64) error {
	rest := r.buf[off:]
	if allZero(rest) {
		return nil
	}
	for p := int64(alignment); p+frameHeaderSize <= int64(len(rest)); p += alignment {
		b := rest[p:]
		synced := le.Uint64(b[32:])
		if le.Uint64(b[24:]) != s.id || synced <= uint64(off) || synced > uint64(off+p) {
			continue
		}
		if f, ok := decodeFrame(b, position{s.id, off + p}); ok {
			return s.corruption(off, fmt.Sprintf("frame %d is damaged; frame %d at offset %d says that it was synced",
				r.l.seq, f.seq, off+p))
		}
	}
	n := int64(len(rest))
	for rest[n-1] == 0 {
		n--
	}
	r.l.o.Logger.Warn("raftlog: cutting off a torn tail", "file", s.name, "offset", off, "bytes", n)
	for from := off; from < off+n; from += zeroChunk {
		if _, err := s.file.WriteAt(zeros[:min(zeroChunk, off+n-from)], from); err != nil {
			return fmt.Errorf("raftlog: open: %w", err)
		}
	}
	return nil // recover syncs
}

// checkComplete looks for entries that no segment holds.
func (r *recovery) checkComplete() error {
	x := r.l.mu.index
	for _, id := range x.sortedGroups() {
		g := x.groups[id]
		for i := range g.slots {
			if g.slots[i].seg == nil {
				return &CorruptionError{File: r.l.mu.segments[0].name, Group: id,
					Reason: fmt.Sprintf("entry %d is in no segment", g.before.Index+1+ids.Index(i))}
			}
		}
	}
	return nil
}
