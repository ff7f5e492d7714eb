package vfs

import (
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
)

// SectorSize is the unit in which a disk writes: a crash leaves each sector as it was after some number of the
// writes to it, independently of its neighbours.
const SectorSize = 512

// Crash takes the machine's power away: it returns what is on the disk afterwards, and every later operation on m,
// on its files and locks, fails with ErrCrashed. All chance comes from rng, in an order that depends on the history
// of m alone.
//
// Of what was not synced, either nothing survives, or everything, or any part of it, one case as likely as another.
func (m *Memory) Crash(rng *rand.Rand) *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.crashed = true

	survive := chance(rng)
	names := maps.Clone(m.durable)
	for _, op := range m.ops {
		if survive() {
			op.applyTo(names)
		}
	}
	after := NewMemory()
	after.dirs = maps.Clone(m.dirs)
	copies := map[*inode]*inode{} // a half-done rename can't leave two names, but two lost ones can share an inode
	for _, name := range slices.Sorted(maps.Keys(names)) {
		node := names[name]
		if copies[node] == nil {
			copies[node] = node.crash(rng)
		}
		after.files[name] = copies[node]
		after.durable[name] = copies[node]
	}
	return after
}

// CrashClean is a crash that loses everything that was not synced and nothing else: the strictest disk.
func (m *Memory) CrashClean() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.crashed = true
	after := NewMemory()
	after.dirs = maps.Clone(m.dirs)
	for name, node := range m.durable {
		kept := newInode(node.durable)
		after.files[name] = kept
		after.durable[name] = kept
	}
	return after
}

func newInode(content []byte) *inode {
	return &inode{data: slices.Clone(content), durable: slices.Clone(content)}
}

// chance returns a coin: it always falls on one side, or on the other, or is fair.
func chance(rng *rand.Rand) func() bool {
	switch rng.IntN(3) {
	case 0:
		return func() bool { return false }
	case 1:
		return func() bool { return true }
	default:
		return func() bool { return rng.IntN(2) == 0 }
	}
}

// crash returns the file as the disk may hold it.
func (n *inode) crash(rng *rand.Rand) *inode {
	if len(n.pending) == 0 && len(n.sizes) == 0 {
		return newInode(n.durable)
	}
	mode := rng.IntN(3) // 0: all lost, 1: all kept, 2: in parts
	if mode == 0 {
		return newInode(n.durable)
	}
	size := int64(len(n.data))
	image := resized(slices.Clone(n.durable), max(size, int64(len(n.durable))))
	for _, w := range n.pending { // sizes in between may have been larger
		image = resized(image, max(int64(len(image)), w.off+w.size))
	}
	writes := n.writesBySector()
	for _, sector := range slices.Sorted(maps.Keys(writes)) {
		keep := len(writes[sector])
		if mode == 2 {
			keep = rng.IntN(keep + 1)
		}
		for _, w := range writes[sector][:keep] {
			w.applyTo(image, sector*SectorSize, (sector+1)*SectorSize)
		}
	}
	if mode == 2 && len(n.sizes) > 0 {
		sizes := append([]int64{int64(len(n.durable))}, n.sizes...)
		size = sizes[rng.IntN(len(sizes))]
	}
	return newInode(resized(image, size))
}

// writesBySector lists what was written to each sector since the last Sync, oldest first.
func (n *inode) writesBySector() map[int64][]pendingWrite {
	writes := map[int64][]pendingWrite{}
	for _, w := range n.pending {
		for s := w.off / SectorSize; s*SectorSize < w.off+w.size; s++ {
			writes[s] = append(writes[s], w)
		}
	}
	return writes
}

// FlipBit flips one bit (0 to 7) of the byte at offset, on the disk and in what callers read: silent corruption.
func (m *Memory) FlipBit(name string, offset int64, bit uint) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = filepath.Clean(name)
	node := m.files[name]
	if node == nil {
		return pathErr("flip", name, fs.ErrNotExist)
	}
	if offset < 0 || offset >= int64(len(node.data)) || bit > 7 {
		return pathErr("flip", name, fs.ErrInvalid)
	}
	node.data[offset] ^= 1 << bit
	for _, w := range node.pending {
		if w.data != nil && offset >= w.off && offset < w.off+w.size {
			w.data[offset-w.off] ^= 1 << bit
		}
	}
	if offset < int64(len(node.durable)) {
		node.durable[offset] ^= 1 << bit
	}
	return nil
}

// Clone returns an independent copy with the same synced and unsynced content, names and no locks or faults: for
// tests that try many ends of one beginning.
func (m *Memory) Clone() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	copies := map[*inode]*inode{nil: nil}
	clone := func(n *inode) *inode {
		if c, ok := copies[n]; ok {
			return c
		}
		c := &inode{data: slices.Clone(n.data), durable: slices.Clone(n.durable), sizes: slices.Clone(n.sizes)}
		for _, w := range n.pending {
			w.data = slices.Clone(w.data)
			c.pending = append(c.pending, w)
		}
		copies[n] = c
		return c
	}
	after := NewMemory()
	after.dirs = maps.Clone(m.dirs)
	for name, node := range m.files {
		after.files[name] = clone(node)
	}
	for name, node := range m.durable {
		after.durable[name] = clone(node)
	}
	for _, op := range m.ops {
		op.node = clone(op.node)
		after.ops = append(after.ops, op)
	}
	return after
}
