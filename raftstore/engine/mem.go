package engine

import (
	"bytes"
	"fmt"
	"sort"
	"sync"

	"github.com/tidwall/btree"

	"github.com/locuskv/locus/internal/ids"
)

// Memory is an Engine without a disk: deterministic, quick to copy, and able to crash. It is for
// simulation and tests, where it stands for Badger; it is stricter than Badger where a caller's mistake
// would show only sometimes there (a key twice in a batch, a read below the discard sequence).
//
// A version lives in an ascending slice beside its key. Iterators work on a copy-on-write copy of the
// tree, and slices only grow or are replaced: what an iterator sees never changes.
type Memory struct {
	limits Limits

	mu struct {
		sync.Mutex
		tree      *btree.BTreeG[memKey]
		maxSeq    ids.Seq
		synced    ids.Seq // highest sequence of what Sync made durable
		unsynced  []Batch // since the last Sync, in order; failed ones included
		discard   ids.Seq
		bytes     int64
		faults    map[Fault]memFault
		iterators int
	}
}

var _ Engine = (*Memory)(nil)

// Fault names an operation that FailNext can let fail.
type Fault int

// The operations that can fail.
const (
	// FaultApply: the call's batches become visible to nobody, but may survive a crash.
	FaultApply Fault = iota
	// FaultSync: nothing became durable.
	FaultSync
)

type memFault struct {
	skip int
	err  error
}

type memKey struct {
	key      []byte
	versions []memVersion // ascending
}

type memVersion struct {
	seq     ids.Seq
	value   []byte
	deleted bool
}

// DefaultMemoryLimits are about Badger's with a 64 MiB memtable.
var DefaultMemoryLimits = Limits{MaxBatchBytes: 9 << 20, MaxBatchOps: 100_000}

// NewMemory makes an empty engine. Limits that are 0 become DefaultMemoryLimits.
func NewMemory(limits Limits) *Memory {
	if limits.MaxBatchBytes == 0 {
		limits.MaxBatchBytes = DefaultMemoryLimits.MaxBatchBytes
	}
	if limits.MaxBatchOps == 0 {
		limits.MaxBatchOps = DefaultMemoryLimits.MaxBatchOps
	}
	m := &Memory{limits: limits}
	m.mu.tree = newMemTree()
	m.mu.faults = map[Fault]memFault{}
	return m
}

func newMemTree() *btree.BTreeG[memKey] {
	less := func(a, b memKey) bool { return bytes.Compare(a.key, b.key) < 0 }
	// Small nodes: a write that follows an iterator copies those on its path.
	return btree.NewBTreeGOptions(less, btree.Options{NoLocks: true, Degree: 8})
}

// FailNext lets the next op return err once; nil takes that back.
func (m *Memory) FailNext(op Fault, err error) { m.FailAfter(op, 0, err) }

// FailAfter lets op return err once, after n calls that succeed.
func (m *Memory) FailAfter(op Fault, n int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.faults[op] = memFault{skip: n, err: err}
}

// fault takes the error that op is to return now. REQUIRES: mu.
func (m *Memory) fault(op Fault) error {
	f := m.mu.faults[op]
	if f.err == nil {
		return nil
	}
	if f.skip > 0 {
		m.mu.faults[op] = memFault{skip: f.skip - 1, err: f.err}
		return nil
	}
	delete(m.mu.faults, op)
	return f.err
}

// Apply implements Engine.
func (m *Memory) Apply(batches []Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := checkBatches(batches, m.limits, m.mu.maxSeq); err != nil {
		return err
	}
	failed := m.fault(FaultApply)
	for i := range batches {
		b := cloneBatch(&batches[i])
		m.mu.unsynced = append(m.mu.unsynced, b)
		if failed == nil {
			m.write(&b)
		}
	}
	return failed
}

func cloneBatch(b *Batch) Batch {
	out := Batch{Seq: b.Seq, Ops: make([]Op, len(b.Ops))}
	size := 0
	for i := range b.Ops {
		size += len(b.Ops[i].Key) + len(b.Ops[i].Value)
	}
	space := make([]byte, 0, size)
	clone := func(b []byte) []byte {
		n := len(space)
		space = append(space, b...)
		return space[n:len(space):len(space)]
	}
	for i, o := range b.Ops {
		out.Ops[i] = Op{Key: clone(o.Key), Delete: o.Delete}
		if !o.Delete {
			out.Ops[i].Value = clone(o.Value)
		}
	}
	return out
}

// write makes a batch visible; it keeps the batch's slices. REQUIRES: mu.
func (m *Memory) write(b *Batch) {
	for _, o := range b.Ops {
		k, _ := m.mu.tree.Get(memKey{key: o.Key})
		if n := len(k.versions); n > 0 && k.versions[n-1].seq >= b.Seq {
			panic(fmt.Sprintf("engine: key %q has version %d and is written at %d: twice in a batch?", o.Key, k.versions[n-1].seq, b.Seq))
		}
		if k.key == nil {
			k.key = o.Key
		}
		k.versions = append(m.trim(k), memVersion{seq: b.Seq, value: o.Value, deleted: o.Delete})
		m.mu.tree.Set(k)
		m.mu.bytes += o.Bytes()
	}
	m.mu.maxSeq = b.Seq
}

// trim drops the versions of a key that the discard sequence lets go. REQUIRES: mu.
func (m *Memory) trim(k memKey) []memVersion {
	n := k.upTo(m.mu.discard)
	if n <= 1 {
		return k.versions
	}
	for _, v := range k.versions[:n-1] {
		m.mu.bytes -= int64(len(k.key)+len(v.value)) + OpOverhead
	}
	return append(make([]memVersion, 0, len(k.versions)-n+2), k.versions[n-1:]...)
}

// upTo is the number of versions at or below seq, which most often are all of them.
func (k memKey) upTo(seq ids.Seq) int {
	if n := len(k.versions); n == 0 || k.versions[n-1].seq <= seq {
		return n
	}
	return sort.Search(len(k.versions), func(i int) bool { return k.versions[i].seq > seq })
}

// at is the newest version at or below seq.
func (k memKey) at(seq ids.Seq) (memVersion, bool) {
	n := k.upTo(seq)
	if n == 0 {
		return memVersion{}, false
	}
	return k.versions[n-1], true
}

// Get implements Engine.
func (m *Memory) Get(key []byte, seq ids.Seq) ([]byte, ids.Seq, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if seq < m.mu.discard {
		return nil, 0, false, &DiscardedError{Seq: seq, Discard: m.mu.discard}
	}
	k, _ := m.mu.tree.Get(memKey{key: key})
	v, ok := k.at(seq)
	if !ok || v.deleted {
		return nil, v.seq, false, nil
	}
	return append([]byte{}, v.value...), v.seq, true, nil
}

// NewIterator implements Engine.
func (m *Memory) NewIterator(o IterOptions) Iterator {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.iterators++
	it := &memIterator{engine: m, o: o}
	if o.Seq < m.mu.discard {
		it.err = &DiscardedError{Seq: o.Seq, Discard: m.mu.discard}
		return it
	}
	it.walk = m.mu.tree.Copy().Iter()
	it.rewind()
	return it
}

// Sync implements Engine.
func (m *Memory) Sync() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fault(FaultSync); err != nil {
		return err
	}
	m.mu.unsynced = nil
	m.mu.synced = m.mu.maxSeq
	return nil
}

// Undo implements Engine.
func (m *Memory) Undo(seq ids.Seq) (ids.Seq, error) { return Undo(m, seq) }

// MaxSeq implements Engine.
func (m *Memory) MaxSeq() ids.Seq {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.maxSeq
}

// SetDiscard implements Engine. Versions go when their key is next written.
func (m *Memory) SetDiscard(seq ids.Seq) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.discard = max(m.mu.discard, seq)
}

// Reclaim implements Engine. There are no files.
func (m *Memory) Reclaim() error { return nil }

// Limits implements Engine.
func (m *Memory) Limits() Limits { return m.limits }

// Size implements Engine.
func (m *Memory) Size() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.bytes
}

// Close implements Engine. What was not synced is not lost by it: it is an orderly stop.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.iterators > 0 {
		return ErrOpenIterators
	}
	return nil
}
