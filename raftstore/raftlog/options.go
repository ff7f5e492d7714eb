package raftlog

import (
	"fmt"
	"log/slog"

	"github.com/locuskv/locus/internal/vfs"
)

// Options of a log. FS and Dir are required; the zero value of the rest is the default.
type Options struct {
	FS  vfs.FS
	Dir string
	// SegmentSize is a segment file's size in bytes: space is given back in such pieces, and each begins with a
	// copy of all groups' small state. Default 64 MiB; at least 4 KiB, at most 1 GiB. Batches that don't fit get
	// a larger segment of their own.
	SegmentSize int64
	// CacheBytes bounds the memory of the newest entries, which are read without touching a file. Default
	// 32 MiB; negative for none.
	CacheBytes int64
	// Logger is told of tails cut off and segments dropped. Default: nobody.
	Logger *slog.Logger
}

const (
	defaultSegmentSize = 64 << 20
	minSegmentSize     = 4 << 10
	maxSegmentSize     = 1 << 30
	defaultCacheBytes  = 32 << 20
)

// Validate fills in the defaults, or says what is wrong.
func (o *Options) Validate() error {
	if o.FS == nil || o.Dir == "" {
		return fmt.Errorf("raftlog: options need a file system and a directory")
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = defaultSegmentSize
	}
	if o.SegmentSize < minSegmentSize || o.SegmentSize > maxSegmentSize {
		return fmt.Errorf("raftlog: segment size %d is not within [%d, %d]", o.SegmentSize, minSegmentSize, maxSegmentSize)
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = defaultCacheBytes
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}
