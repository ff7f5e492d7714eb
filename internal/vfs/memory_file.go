package vfs

import (
	"io"
	"io/fs"
	"slices"
)

// inode is a file's bytes: those that callers see, those on disk, and the writes between the two.
type inode struct {
	data    []byte
	durable []byte
	// pending are the writes since the last Sync, oldest first; it is as long as its caller goes without Sync.
	pending []pendingWrite
	// sizes are the file's sizes since the last Sync, oldest first; a crash may leave any of them.
	sizes []int64
}

type pendingWrite struct {
	off  int64
	data []byte // nil: size zeros
	size int64
	lost bool // a Sync of it failed: no later Sync makes it durable
}

func (n *inode) resize(size int64) {
	old := int64(len(n.data))
	n.data = slices.Grow(n.data[:min(old, size)], int(max(0, size-old)))[:size]
	if size > old {
		clear(n.data[old:])
	}
	n.sizes = append(n.sizes, size)
}

func (n *inode) truncate(size int64) {
	old := int64(len(n.data))
	if size == old {
		return
	}
	if size < old {
		n.pending = append(n.pending, pendingWrite{off: size, size: old - size})
	}
	n.resize(size)
}

func (n *inode) writeAt(p []byte, off int64) {
	if end := off + int64(len(p)); end > int64(len(n.data)) {
		n.resize(end)
	}
	copy(n.data[off:], p)
	n.pending = append(n.pending, pendingWrite{off: off, data: slices.Clone(p), size: int64(len(p))})
}

// applyTo writes the part of w that lies in [lo, hi) into image, as far as image reaches.
func (w pendingWrite) applyTo(image []byte, lo, hi int64) {
	lo, hi = max(lo, w.off), min(hi, w.off+w.size, int64(len(image)))
	if lo >= hi {
		return
	}
	if w.data == nil {
		clear(image[lo:hi])
		return
	}
	copy(image[lo:hi], w.data[lo-w.off:hi-w.off])
}

func (n *inode) sync() {
	size := int64(len(n.data))
	n.durable = resized(n.durable, max(size, int64(len(n.durable))))
	for _, w := range n.pending {
		if !w.lost {
			w.applyTo(n.durable, 0, size)
		}
	}
	n.durable = n.durable[:size]
	n.pending, n.sizes = nil, nil
}

// syncFailed leaves the pending writes to chance, for ever.
func (n *inode) syncFailed() {
	for i := range n.pending {
		n.pending[i].lost = true
	}
}

func resized(b []byte, size int64) []byte {
	old := int64(len(b))
	if size <= old {
		return b[:size]
	}
	b = slices.Grow(b, int(size-old))[:size]
	clear(b[old:])
	return b
}

// memFile is an open file of a Memory.
type memFile struct {
	fs       *Memory
	node     *inode
	name     string
	writable bool
	closed   bool
}

func (f *memFile) begin(op Op) error {
	err := f.fs.begin(op, f.name)
	if err == nil && f.closed {
		err = fs.ErrClosed
	}
	if err == nil && !f.writable && (op == OpWrite || op == OpTruncate) {
		err = fs.ErrPermission
	}
	return err
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	err := f.begin(OpRead)
	defer f.fs.mu.Unlock()
	switch {
	case err != nil:
		return 0, pathErr("read", f.name, err)
	case off < 0:
		return 0, pathErr("read", f.name, fs.ErrInvalid)
	case off >= int64(len(f.node.data)):
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	n := copy(p, f.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt, when a fault is injected, leaves the first half of the bytes in the file, as a full disk does.
func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.begin(OpWrite)
	defer f.fs.mu.Unlock()
	if off < 0 && err == nil {
		err = fs.ErrInvalid
	}
	if err != nil {
		n := 0
		if off >= 0 && f.writable && !f.closed && !f.fs.crashed && len(p) > 1 {
			n = len(p) / 2
			f.node.writeAt(p[:n], off)
		}
		return n, pathErr("write", f.name, err)
	}
	if len(p) > 0 {
		f.node.writeAt(p, off)
	}
	return len(p), nil
}

func (f *memFile) Truncate(size int64) error {
	err := f.begin(OpTruncate)
	defer f.fs.mu.Unlock()
	if err == nil && size < 0 {
		err = fs.ErrInvalid
	}
	if err != nil {
		return pathErr("truncate", f.name, err)
	}
	f.node.truncate(size)
	return nil
}

func (f *memFile) Preallocate(size int64) error {
	err := f.begin(OpTruncate)
	defer f.fs.mu.Unlock()
	if err != nil {
		return pathErr("preallocate", f.name, err)
	}
	if size > int64(len(f.node.data)) {
		f.node.truncate(size)
	}
	return nil
}

func (f *memFile) Sync() error {
	err := f.begin(OpSync)
	defer f.fs.mu.Unlock()
	if err != nil {
		if !f.fs.crashed {
			f.node.syncFailed()
		}
		return pathErr("sync", f.name, err)
	}
	f.node.sync()
	return nil
}

func (f *memFile) Size() (int64, error) {
	err := f.begin(OpStat)
	defer f.fs.mu.Unlock()
	if err != nil {
		return 0, pathErr("size", f.name, err)
	}
	return int64(len(f.node.data)), nil
}

func (f *memFile) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return pathErr("close", f.name, fs.ErrClosed)
	}
	f.closed = true
	return nil
}
