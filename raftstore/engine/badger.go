package engine

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/locuskv/locus/internal/ids"
)

// Badger is the Engine of production. See doc.go for how Badger is used, and where it is not trusted.
type Badger struct {
	db     *badger.DB
	dir    string
	lock   *dirLock
	log    *badgerLogger
	limits Limits

	maxSeq     atomic.Uint64
	iterators  atomic.Int64
	discarding sync.Mutex // makes Badger's discard sequence follow ours
	discard    atomic.Uint64
}

var _ Engine = (*Badger)(nil)

// Apply implements Engine: one transaction per batch, committed at the batch's sequence. All are sent
// before the first is waited for, so that Badger's writer takes them in one go; it keeps their order.
//
// Never a WriteBatch: it splits what is too large, and drops the marks that make a torn write visible as
// a whole or not at all.
func (b *Badger) Apply(batches []Batch) error {
	if err := b.log.failure(); err != nil {
		return err
	}
	if err := checkBatches(batches, b.limits, b.MaxSeq()); err != nil {
		return err
	}
	var commits commits
	for i := range batches {
		if err := b.send(&batches[i], &commits); err != nil {
			commits.fail(err)
			break
		}
	}
	if err := commits.wait(); err != nil {
		return fmt.Errorf("engine: apply: %w", err)
	}
	if n := len(batches); n > 0 {
		b.maxSeq.Store(uint64(batches[n-1].Seq))
	}
	return nil
}

// send hands a batch to Badger. Badger refers to keys and values until the commit is done.
func (b *Badger) send(batch *Batch, c *commits) error {
	txn := b.db.NewTransactionAt(math.MaxUint64, true)
	defer txn.Discard()
	for i := range batch.Ops {
		op := &batch.Ops[i]
		var err error
		if op.Delete {
			err = txn.Delete(op.Key)
		} else {
			err = txn.Set(op.Key, op.Value)
		}
		if err != nil {
			return fmt.Errorf("sequence %d, key %q: %w", batch.Seq, op.Key, err)
		}
	}
	c.wg.Add(1)
	return txn.CommitAt(uint64(batch.Seq), c.done)
}

// commits waits for transactions that were sent, and keeps the first error.
type commits struct {
	wg sync.WaitGroup
	mu struct {
		sync.Mutex
		err error
	}
}

func (c *commits) done(err error) {
	c.fail(err)
	c.wg.Done()
}

func (c *commits) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.err == nil {
		c.mu.err = err
	}
}

func (c *commits) wait() error {
	c.wg.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.err
}

// Get implements Engine.
func (b *Badger) Get(key []byte, seq ids.Seq) ([]byte, ids.Seq, bool, error) {
	if err := b.readable(seq); err != nil {
		return nil, 0, false, err
	}
	if len(key) == 0 {
		return nil, 0, false, nil
	}
	txn := b.db.NewTransactionAt(uint64(seq), false)
	defer txn.Discard()
	p, err := lookup(txn, key)
	if err != nil {
		return nil, 0, false, fmt.Errorf("engine: get %q at sequence %d: %w", key, seq, err)
	}
	return p.value, p.version, p.version != 0 && !p.deleted, nil
}

// point is one version of a key; version 0 is none.
type point struct {
	value   []byte
	version ids.Seq
	deleted bool
}

// lookup finds the newest version of a key at or below the transaction's sequence. Badger's Get hides
// tombstones; their version is fetched by an iterator over the key alone, which the tables' Bloom filters
// keep short for keys that never were.
func lookup(txn *badger.Txn, key []byte) (point, error) {
	item, err := txn.Get(key)
	if err == nil {
		value, err := item.ValueCopy(nil)
		return point{value: nonNil(value), version: ids.Seq(item.Version())}, err
	}
	if !errors.Is(err, badger.ErrKeyNotFound) {
		return point{}, err
	}
	it := txn.NewKeyIterator(key, badger.IteratorOptions{})
	defer it.Close()
	if it.Rewind(); !it.Valid() {
		return point{}, nil
	}
	item = it.Item()
	if item.IsDeletedOrExpired() {
		return point{version: ids.Seq(item.Version()), deleted: true}, nil
	}
	value, err := item.ValueCopy(nil)
	return point{value: nonNil(value), version: ids.Seq(item.Version())}, err
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func (b *Badger) readable(seq ids.Seq) error {
	if d := ids.Seq(b.discard.Load()); seq < d {
		return &DiscardedError{Seq: seq, Discard: d}
	}
	return nil
}

// Sync implements Engine.
//
// Badger's own Sync covers only the log of the active memtable. A batch that Apply returned for is in one
// of three places, and each is made durable here or is so already (read in Badger 4.9.6):
//
//   - in the log (*.mem) of the active memtable or of one that waits to be flushed. Rotating to a new
//     memtable does not sync the old one's log, so all of them are synced here. They are mapped files; on
//     Linux fsync writes back what was stored through a shared mapping.
//   - in a table (*.sst). The flush syncs the table's contents (msync), then writes and fsyncs its
//     MANIFEST record, and only then removes the memtable's log. Compactions do the same, and sync the
//     directory. So a log that is gone when we come to it needs no sync: what it held is in a table.
//   - in the value log (*.vlog): never, values are smaller than its threshold. Synced all the same, so that
//     the files exist that Badger expects.
//
// What is written while this runs is covered or not; the caller counts only what Apply returned for
// before. A log created meanwhile holds only such batches.
//
// Crash: a flush does not sync the directory between making its table and removing the log. It relies on
// the file system to make a new file's name durable with the file's fsync or msync, and to keep the order of a
// later removal, as ext4, XFS and Btrfs do. Where that is not so the store does not open, and says which table is
// missing.
func (b *Badger) Sync() error {
	if err := b.log.failure(); err != nil {
		return err
	}
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return fmt.Errorf("engine: sync: %w", err)
	}
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".mem") || strings.HasSuffix(name, ".vlog") {
			if err := fsync(filepath.Join(b.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("engine: sync: %w", err)
			}
		}
	}
	if err := fsync(b.dir); err != nil {
		return fmt.Errorf("engine: sync: %w", err)
	}
	return b.log.failure()
}

func fsync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // read only: nothing is written by closing it
	return f.Sync()
}

// Undo implements Engine.
func (b *Badger) Undo(seq ids.Seq) (ids.Seq, error) { return Undo(b, seq) }

// MaxSeq implements Engine. It is counted here: asking Badger beside a writer is a data race.
func (b *Badger) MaxSeq() ids.Seq { return ids.Seq(b.maxSeq.Load()) }

// SetDiscard implements Engine.
func (b *Badger) SetDiscard(seq ids.Seq) {
	b.discarding.Lock()
	defer b.discarding.Unlock()
	if uint64(seq) <= b.discard.Load() {
		return
	}
	b.discard.Store(uint64(seq)) // first, so that no reader is let in below what Badger drops
	b.db.SetDiscardTs(uint64(seq))
}

// Reclaim implements Engine. What is still in a memtable stays: Badger flushes one when it is full, or at Close.
func (b *Badger) Reclaim() error {
	if err := b.log.failure(); err != nil {
		return err
	}
	if err := b.db.Flatten(1); err != nil {
		return fmt.Errorf("engine: reclaim: %w", err)
	}
	return b.log.failure()
}

// Limits implements Engine.
func (b *Badger) Limits() Limits { return b.limits }

// Size implements Engine: the blocks that the files occupy; memtable logs are sparse.
func (b *Badger) Size() int64 {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return 0
	}
	const blockBytes = 512 // of st_blocks, whatever the file system's are
	total := int64(0)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue // removed meanwhile
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			total += st.Blocks * blockBytes
		} else {
			total += info.Size()
		}
	}
	return total
}

// flushGrace is how long Close waits for Badger once something has failed in the background.
const flushGrace = 2 * time.Second

// Close implements Engine. It flushes the memtables into tables, so that the next open replays nothing. A flush that fails
// Badger tries again for ever: then Close returns without it, with the failure, and leaves the directory locked until the
// process ends.
func (b *Badger) Close() error {
	if b.iterators.Load() > 0 {
		return ErrOpenIterators
	}
	if b.db.IsClosed() {
		return nil
	}
	closed := make(chan error, 1)
	go func() { closed <- b.db.Close() }()
	var err error
	select {
	case err = <-closed:
	case <-b.log.failed:
		select {
		case err = <-closed:
		case <-time.After(flushGrace):
			return fmt.Errorf("engine: close: %w", b.log.failure())
		}
	}
	if failed := b.log.failure(); failed != nil {
		err = failed
	}
	if released := b.lock.release(); err == nil {
		err = released
	}
	if err != nil {
		return fmt.Errorf("engine: close: %w", err)
	}
	return nil
}
