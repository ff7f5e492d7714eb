package raftlog

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"

	"github.com/locuskv/locus/internal/ids"
)

// log implements Log. The fields before mu belong to the one goroutine that writes; it alone changes what mu guards,
// so it reads that without the lock. No lock is held while a file is touched.
type log struct {
	o    Options
	lock io.Closer

	active *segment
	off    int64    // where the next frame goes in active
	zeroed int64    // up to where active was written, if only with zeros
	seq    uint64   // of the next frame
	synced position // up to here everything is durable
	marked bool     // the last frame is a durable mark of the end
	err    error    // the first failure; final

	staging staging
	records []record
	buf     []byte

	mu struct {
		sync.RWMutex
		index    *index
		segments []*segment // oldest first; the last one is active
		closed   bool
	}
}

var _ Log = (*log)(nil)

// Open opens the log in a directory, or begins one. A torn tail is cut off; anything else that is not as it was
// written is a *CorruptionError, and a newer format a *FormatError. One directory can be open once (vfs.ErrLocked).
func Open(o Options) (Log, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if err := o.FS.MkdirAll(o.Dir); err != nil {
		return nil, fmt.Errorf("raftlog: open: %w", err)
	}
	lock, err := o.FS.Lock(filepath.Join(o.Dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("raftlog: open: %w", err)
	}
	l := &log{o: o, lock: lock}
	l.mu.index = newIndex(o.CacheBytes)
	if err := l.recover(); err != nil {
		return nil, errors.Join(err, l.closeFiles())
	}
	return l, nil
}

// keptBuffer bounds the memory that a large batch leaves behind.
const keptBuffer = 4 << 20

// Append implements Log.
func (l *log) Append(b *Batch) error {
	if l.err != nil {
		return l.err
	}
	l.records = l.records[:0]
	for i := range b.Groups {
		l.records = recordsOf(l.records, &b.Groups[i])
	}
	for _, s := range b.Store {
		l.records = append(l.records, record{kind: recordStore, storeKind: s.Kind, group: s.Key, data: s.Value})
	}
	return l.appendRecords()
}

// appendRecords checks, writes and applies l.records: in this order, so that what is written can be applied, and
// reads see only what is written.
func (l *log) appendRecords() error {
	defer func() { clear(l.records) }()
	if size := encodedSize(l.records); size > maxFrame {
		return fmt.Errorf("raftlog: a batch of %d bytes is larger than %d", size, maxFrame)
	}
	l.staging.reset()
	records, err := l.mu.index.stage(&l.staging, l.records)
	if err != nil || len(records) == 0 {
		return err
	}
	buf := append(l.buf[:0], make([]byte, frameHeaderSize)...)
	for i := range records {
		buf = appendRecord(buf, frameHeaderSize, &records[i])
	}
	if cap(buf) <= keptBuffer {
		l.buf = buf
	}
	at, err := l.writeFrame(frameBatch, buf)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.index.apply(&l.staging, records, l.active, at.offset+frameHeaderSize)
	return nil
}

func encodedSize(records []record) int64 {
	size := int64(frameHeaderSize)
	for i := range records {
		fixed, _, _ := bodySize(records[i].kind)
		size += align(int64(recordHeaderSize + fixed + len(records[i].data)))
	}
	return size
}

// writeFrame seals the frame in buf and writes it to the active segment, or to a new one.
func (l *log) writeFrame(kind frameKind, buf []byte) (at position, err error) {
	if l.off+int64(len(buf)) > l.active.capacity {
		if err := l.rotate(int64(len(buf))); err != nil {
			return at, l.fail(err)
		}
	}
	at = position{segment: l.active.id, offset: l.off}
	sealFrame(buf, kind, l.seq, l.synced, at)
	if _, err := l.active.file.WriteAt(buf, at.offset); err != nil {
		return at, l.fail(err)
	}
	l.off += int64(len(buf))
	l.seq++
	l.marked = false
	if err := l.zeroAhead(); err != nil {
		return at, l.fail(err)
	}
	return at, nil
}

// Sync implements Log.
func (l *log) Sync() error {
	if l.err != nil {
		return l.err
	}
	return l.syncActive()
}

// syncActive suffices: the segments before were synced when they were left.
func (l *log) syncActive() error {
	if l.synced == (position{l.active.id, l.off}) {
		return nil
	}
	if err := l.active.file.Sync(); err != nil {
		return l.fail(err)
	}
	l.synced = position{l.active.id, l.off}
	return nil
}

// MarkEnd implements Log.
func (l *log) MarkEnd() error {
	if l.err != nil || l.marked {
		return l.err
	}
	if err := l.syncActive(); err != nil {
		return err
	}
	if l.off+frameHeaderSize > l.active.capacity {
		if err := l.rotate(0); err != nil { // the new segment's existence is the mark
			return l.fail(err)
		}
		return nil
	}
	var buf [frameHeaderSize]byte
	if _, err := l.writeFrame(frameMark, buf[:]); err != nil {
		return err
	}
	if err := l.syncActive(); err != nil {
		return err
	}
	l.marked = true
	return nil
}

// fail makes an error final: after a failed write or sync nobody knows what is on the disk, and a second sync that
// succeeds proves nothing.
func (l *log) fail(err error) error {
	if l.err == nil {
		l.err = fmt.Errorf("%w: %w", ErrFailed, err)
	}
	return l.err
}

// Close implements Log.
func (l *log) Close() error {
	l.mu.RLock()
	closed := l.mu.closed
	l.mu.RUnlock()
	if closed {
		return ErrClosed
	}
	var err error
	if l.err == nil {
		err = l.MarkEnd()
	}
	l.err = ErrClosed
	return errors.Join(err, l.closeFiles())
}

func (l *log) closeFiles() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.closed = true
	var errs []error
	for _, s := range l.mu.segments {
		errs = append(errs, s.release())
	}
	l.mu.segments = nil
	return errors.Join(append(errs, l.lock.Close())...)
}

// Size implements Log.
func (l *log) Size() int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var n int64
	for _, s := range l.mu.segments {
		n += s.capacity
	}
	return n
}

// GroupSize implements Log.
func (l *log) GroupSize(id ids.RangeID) int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if g := l.mu.index.groups[id]; g != nil {
		return g.bytes
	}
	return 0
}
