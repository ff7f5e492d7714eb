package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/ristretto/v2/z"
)

// Verify reads every table and checks the checksum of each of its blocks; damage is an *OpenError with
// ErrCorrupt that names the file. It reads the whole store: run it now and then, in the background.
func (b *Badger) Verify() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &OpenError{Dir: b.dir, Detail: damage(r), Err: ErrCorrupt}
		}
	}()
	if err := b.db.VerifyChecksum(); err != nil {
		return &OpenError{Dir: b.dir, Detail: firstLine(err.Error()), Err: ErrCorrupt}
	}
	return nil
}

// verifyTables checks the tables of a directory that is not open: Badger empties the files that it
// removes, which must not happen under a mapping.
func verifyTables(dir string) error {
	compressions, err := tableCompressions(dir)
	if err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil {
		return &OpenError{Dir: dir, Detail: err.Error(), Err: ErrUnusable}
	}
	for _, name := range names {
		id, ok := table.ParseFileID(filepath.Base(name))
		compression, listed := compressions[id]
		if !ok || !listed {
			continue // not a table of the store: a flush or compaction that did not come to its end
		}
		if err := verifyTable(name, compression); err != nil {
			return &OpenError{Dir: dir, Detail: fmt.Sprintf("table %s: %v", filepath.Base(name), err), Err: ErrCorrupt}
		}
	}
	return nil
}

// tableCompressions lists the tables that the MANIFEST names, with their compression.
func tableCompressions(dir string) (map[uint64]options.CompressionType, error) {
	f, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &OpenError{Dir: dir, Detail: err.Error(), Err: ErrUnusable}
	}
	defer func() { _ = f.Close() }() // read only
	log := newBadgerLogger(BadgerOptions{}.withDefaults().Logger)
	manifest, _, err := badger.ReplayManifestFile(f, FormatVersion, badger.DefaultOptions(dir).WithLogger(log))
	if err != nil {
		return nil, &OpenError{Dir: dir, Detail: "MANIFEST: " + err.Error(), Err: ErrCorrupt}
	}
	out := make(map[uint64]options.CompressionType, len(manifest.Tables))
	for id, t := range manifest.Tables {
		out[id] = t.Compression
	}
	return out, nil
}

// verifyTable checks one file. Badger panics on some kinds of damage, here and when it opens a table.
func verifyTable(name string, compression options.CompressionType) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errors.New(damage(r))
		}
	}()
	f, err := z.OpenMmapFile(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	t, err := table.OpenTable(f, table.Options{
		ReadOnly:    true,
		Compression: compression,
		BlockSize:   badger.DefaultOptions("").BlockSize,
		ChkMode:     options.OnBlockRead,
	})
	if err != nil {
		return err
	}
	err = t.VerifyChecksum()
	return errors.Join(err, t.Close(-1))
}

func damage(panicked any) string {
	return fmt.Sprintf("a block does not match its checksum, or an index is damaged (%s)", firstLine(fmt.Sprint(panicked)))
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
