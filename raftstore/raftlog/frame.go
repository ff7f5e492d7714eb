package raftlog

import (
	"encoding/binary"
	"hash/crc32"
)

// The layout of files is described byte by byte in docs/format.md, "Raft log".

const (
	formatVersion     = 1
	segmentHeaderSize = 64
	frameHeaderSize   = 40
	alignment         = 8 // of frames and records
	// maxFrame bounds a frame, so that offsets within a segment fit 32 bits.
	maxFrame = 1 << 30
)

var segmentMagic = [8]byte{'l', 'o', 'c', 'u', 's', 'l', 'o', 'g'}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var le = binary.LittleEndian

func align(n int64) int64 { return (n + alignment - 1) &^ (alignment - 1) }

// position is a place in the log's files.
type position struct {
	segment uint64
	offset  int64
}

func (p position) less(q position) bool {
	return p.segment < q.segment || p.segment == q.segment && p.offset < q.offset
}

// segmentHeader begins a segment file.
type segmentHeader struct {
	id       uint64
	capacity int64  // the file's size
	firstSeq uint64 // the sequence number of its first frame
}

func (h segmentHeader) encode(dst []byte) {
	clear(dst[:segmentHeaderSize])
	copy(dst, segmentMagic[:])
	le.PutUint32(dst[8:], formatVersion)
	le.PutUint64(dst[16:], h.id)
	le.PutUint64(dst[24:], uint64(h.capacity))
	le.PutUint64(dst[32:], h.firstSeq)
	le.PutUint32(dst[12:], headerSum(dst))
}

func headerSum(b []byte) uint32 {
	sum := crc32.Update(0, castagnoli, b[:12])
	return crc32.Update(sum, castagnoli, b[16:segmentHeaderSize])
}

// decodeSegmentHeader returns why the bytes are no header, or "". A version other than ours is the caller's to
// judge first.
func decodeSegmentHeader(b []byte) (h segmentHeader, version uint32, reason string) {
	if len(b) < segmentHeaderSize {
		return h, formatVersion, "the file is shorter than a segment's header"
	}
	if [8]byte(b) != segmentMagic {
		return h, formatVersion, "this is no segment of a Raft log"
	}
	version = le.Uint32(b[8:])
	sum := le.Uint32(b[12:])
	ours := [segmentHeaderSize]byte(b)
	le.PutUint32(ours[8:], formatVersion)
	switch {
	case version == formatVersion && sum != headerSum(b):
		return h, version, "the segment's header has a wrong checksum"
	case version != formatVersion && sum == headerSum(ours[:]):
		return h, version, "the version in the segment's header is damaged" // all else is ours, the checksum too
	}
	h.id = le.Uint64(b[16:])
	h.capacity = int64(le.Uint64(b[24:]))
	h.firstSeq = le.Uint64(b[32:])
	return h, version, ""
}

// frameKind says what a frame's records are.
type frameKind byte

const (
	frameBatch frameKind = 1 // a Batch, or entries that Compact has moved
	frameState frameKind = 2 // all small state; the first frame of every segment, and only there
	frameMark  frameKind = 3 // nothing: what comes before was synced
)

// frame is a decoded frame header and the bytes that follow it.
type frame struct {
	kind    frameKind
	version byte
	seq     uint64
	synced  position // up to where the log was synced when the frame was written
	payload []byte
}

func (f *frame) size() int64 { return frameHeaderSize + int64(len(f.payload)) }

// sealFrame fills in the header of a frame whose payload begins at buf[frameHeaderSize] and ends with buf. at is
// where the frame will stand: it is part of the checksum, so that a frame found elsewhere is none.
func sealFrame(buf []byte, kind frameKind, seq uint64, synced, at position) {
	le.PutUint32(buf[4:], uint32(len(buf)-frameHeaderSize))
	buf[8] = formatVersion
	buf[9] = byte(kind)
	le.PutUint16(buf[10:], 0)
	le.PutUint32(buf[12:], 0)
	le.PutUint64(buf[16:], seq)
	le.PutUint64(buf[24:], synced.segment)
	le.PutUint64(buf[32:], uint64(synced.offset))
	le.PutUint32(buf[0:], frameSum(buf, at))
}

func frameSum(buf []byte, at position) uint32 {
	var place [16]byte
	le.PutUint64(place[0:], at.segment)
	le.PutUint64(place[8:], uint64(at.offset))
	sum := crc32.Update(0, castagnoli, place[:])
	return crc32.Update(sum, castagnoli, buf[4:])
}

// decodeFrame reads the frame that stands at position at; b runs from there to the end of the segment. ok is false
// where there is no whole, undamaged frame. NB: of a frame of a newer version only header and checksum are known.
func decodeFrame(b []byte, at position) (f frame, ok bool) {
	if len(b) < frameHeaderSize || !plausibleFrame(b) {
		return frame{}, false
	}
	n := frameHeaderSize + int(le.Uint32(b[4:]))
	if le.Uint32(b) != frameSum(b[:n], at) {
		return frame{}, false
	}
	return frame{
		version: b[8],
		kind:    frameKind(b[9]),
		seq:     le.Uint64(b[16:]),
		synced:  position{segment: le.Uint64(b[24:]), offset: int64(le.Uint64(b[32:]))},
		payload: b[frameHeaderSize:n:n],
	}, true
}

// plausibleFrame is the cheap part of the check: the search for frames behind a damaged one asks it at every
// eighth byte of a segment.
func plausibleFrame(b []byte) bool {
	length := int64(le.Uint32(b[4:]))
	return b[8] != 0 && b[9] != 0 && length%alignment == 0 && length <= int64(len(b))-frameHeaderSize
}

func allZero(b []byte) bool {
	for len(b) >= 8 {
		if le.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
