package engine

import (
	"fmt"
	"log/slog"
)

// BadgerOptions configure OpenBadger. The zero value of each field is its documented default.
type BadgerOptions struct {
	// Dir holds the engine's files and nothing else. Made if it is missing. Required.
	Dir string
	// MemTableBytes is the size of one in-memory table, of which up to MemTables+1 are held. 15% of it is the
	// largest batch. Larger: fewer, larger flushes, and more memory. Default 64 MiB, at least 4 MiB.
	MemTableBytes int64
	// MemTables is how many full tables may wait to be flushed before Apply blocks. Default 2.
	MemTables int
	// MinBatchBytes is the batch that must fit, or the engine does not open: entries are formed up to
	// it, and one that no replica can apply would stop its range for ever. Default 4 MiB.
	MinBatchBytes int64
	// SkipVerify opens without reading all tables and checking their checksums first. Opening is then
	// quick however large the store is; damage is found by Verify, or not at all (see doc.go).
	SkipVerify bool
	// Logger hears what Badger says. Default: nobody.
	Logger *slog.Logger
}

const (
	defaultMemTableBytes = 64 << 20
	minMemTableBytes     = 4 << 20
	maxMemTableBytes     = 512 << 20
	defaultMemTables     = 2
)

// withDefaults fills what is zero.
func (o BadgerOptions) withDefaults() BadgerOptions {
	if o.MemTableBytes == 0 {
		o.MemTableBytes = defaultMemTableBytes
	}
	if o.MemTables == 0 {
		o.MemTables = defaultMemTables
	}
	if o.MinBatchBytes == 0 {
		o.MinBatchBytes = MinBatchBytes
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Validate names the first field that is out of its bounds.
func (o BadgerOptions) Validate() error {
	d := o.withDefaults()
	switch {
	case d.Dir == "":
		return fmt.Errorf("engine: Dir is required")
	case d.MemTableBytes < minMemTableBytes || d.MemTableBytes > maxMemTableBytes:
		return fmt.Errorf("engine: MemTableBytes %d must be between %d and %d", d.MemTableBytes, minMemTableBytes, maxMemTableBytes)
	case d.MemTables < 1 || d.MemTables > 16:
		return fmt.Errorf("engine: MemTables %d must be between 1 and 16", d.MemTables)
	case d.MinBatchBytes < 0:
		return fmt.Errorf("engine: MinBatchBytes %d must not be negative", d.MinBatchBytes)
	}
	return nil
}
