package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// FormatVersion is the version of the engine's format (docs/format.md). It stands in Badger's MANIFEST as
// the application's magic number; a directory with another one is refused.
const FormatVersion = 1

// badgerFormat is the version of Badger's own format that the release in go.mod reads.
const badgerFormat = 8

// OpenBadger opens or makes the engine in a directory. What Badger finds wrong with it is an *OpenError.
//
// The discard sequence begins at 0, and nothing is dropped until SetDiscard is called.
func OpenBadger(o BadgerOptions) (*Badger, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, err
	}
	b, err := openLocked(o, lock)
	if err != nil {
		return nil, errors.Join(err, lock.release())
	}
	return b, nil
}

func openLocked(o BadgerOptions, lock *dirLock) (*Badger, error) {
	if err := checkManifest(o.Dir); err != nil {
		return nil, err
	}
	if err := removeEmptyLogs(o.Dir); err != nil {
		return nil, err
	}
	if !o.SkipVerify {
		if err := verifyTables(o.Dir); err != nil {
			return nil, err
		}
	}
	log := newBadgerLogger(o.Logger)
	db, err := badger.OpenManaged(badgerOptions(o, log))
	if err != nil {
		return nil, &OpenError{Dir: o.Dir, Err: err}
	}
	b := &Badger{db: db, dir: o.Dir, lock: lock, log: log}
	if err := b.check(o); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	b.maxSeq.Store(db.MaxVersion())
	return b, nil
}

// removeEmptyLogs deletes memtable and value logs of no length. Crash: Badger makes such a file and gives it a length
// in two steps; a process killed in between leaves one that holds nothing, and that Badger refuses to open.
func removeEmptyLogs(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &OpenError{Dir: dir, Detail: err.Error(), Err: ErrUnusable}
	}
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext != ".mem" && ext != ".vlog" {
			continue
		}
		info, err := e.Info()
		if err == nil && info.Size() == 0 {
			err = os.Remove(filepath.Join(dir, e.Name()))
		}
		if err != nil {
			return &OpenError{Dir: dir, Detail: err.Error(), Err: ErrUnusable}
		}
	}
	return nil
}

// check judges an open database before anyone uses it.
func (b *Badger) check(o BadgerOptions) error {
	// Badger opens without a table that it cannot read, and only says so: that would be data lost in silence.
	if err := b.log.failure(); err != nil {
		return &OpenError{Dir: o.Dir, Detail: err.Error(), Err: ErrCorrupt}
	}
	b.limits = batchLimits(b.db.MaxBatchSize(), b.db.MaxBatchCount())
	if b.limits.MaxBatchBytes < o.MinBatchBytes {
		return fmt.Errorf("engine: the largest batch with MemTableBytes %d is %d bytes, and must be at least %d",
			o.MemTableBytes, b.limits.MaxBatchBytes, o.MinBatchBytes)
	}
	return nil
}

// batchLimits stays a 64th below Badger's own limits, for what it adds to each transaction. An operation
// costs there at most 12 bytes beside key and value, OpOverhead counts 16.
func batchLimits(bytes, count int64) Limits {
	return Limits{MaxBatchBytes: bytes - bytes/64, MaxBatchOps: count - count/64}
}

// badgerOptions are chosen with reasons; those that are Badger's defaults are left out.
func badgerOptions(o BadgerOptions, log badger.Logger) badger.Options {
	const (
		maxThreshold   = 1 << 20 // Badger's bound of ValueThreshold
		batchShare     = 15      // percent of a memtable that one transaction may fill, in Badger
		minVlogBytes   = 1 << 20 // it stays empty; Badger maps twice this
		numGoroutines  = 2       // used only by streams, which are not
		fewestCompacts = 2       // one is refused; two cores are to serve more than compactions
	)
	b := badger.DefaultOptions(o.Dir).WithLogger(log)

	// The Raft log is what makes writes durable (see Sync).
	b.SyncWrites = false
	// Order is the caller's; there is nobody to conflict with.
	b.DetectConflicts = false
	b.NumVersionsToKeep = 1 // at and below the discard sequence

	b.MemTableSize = o.MemTableBytes
	b.NumMemtables = o.MemTables
	b.NumCompactors = fewestCompacts
	b.NumGoroutines = numGoroutines
	// No value goes to the value log: its garbage collection has lost and resurrected data before.
	b.ValueThreshold = min(maxThreshold, o.MemTableBytes*batchShare/100)
	b.ValueLogFileSize = minVlogBytes
	b.CompactL0OnClose = false

	// Blocks are checked each time they are read. Tables are checked whole by verifyTables, at open: Badger's own check
	// panics on what it finds.
	b.ChecksumVerificationMode = options.OnBlockRead
	b.VerifyValueChecksum = true
	b.Compression = options.None
	// No block cache: a block of an uncompressed table is a part of the mapped file, and Badger 4.9.6 counts it with all of
	// the file behind it (the capacity of a slice), some megabytes for 4 KiB. A cache of 64 MiB held ten blocks at a time.
	b.BlockCacheSize = 0
	b.MetricsEnabled = false

	b.ExternalMagicVersion = FormatVersion
	b.BypassLockGuard = true // dirLock holds the same lock, with a clearer error
	return b
}

// checkManifest refuses a directory of another format before Badger touches it.
func checkManifest(dir string) error {
	f, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &OpenError{Dir: dir, Detail: err.Error(), Err: ErrUnusable}
	}
	defer func() { _ = f.Close() }()

	var head [8]byte // "Bdgr", u16 ours, u16 Badger's; big endian
	if _, err := io.ReadFull(f, head[:]); err != nil || string(head[:4]) != "Bdgr" {
		return &OpenError{Dir: dir, Detail: "MANIFEST does not begin as one", Err: ErrCorrupt}
	}
	ours, theirs := binary.BigEndian.Uint16(head[4:]), binary.BigEndian.Uint16(head[6:])
	if ours != FormatVersion || theirs != badgerFormat {
		return &OpenError{Dir: dir, Err: ErrNewerFormat, Detail: fmt.Sprintf(
			"engine format %d over Badger format %d, this release reads %d over %d", ours, theirs, FormatVersion, badgerFormat)}
	}
	return nil
}
