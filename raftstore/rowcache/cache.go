package rowcache

import (
	"math/bits"
	"math/rand/v2"
	"unsafe"

	"github.com/cespare/xxhash/v2"

	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/invariant"
)

const (
	// maxShards bounds how finely the locks are cut.
	maxShards = 256
	// minShardBytes: a small cache has fewer shards, so that rows of some size fit into one. A shard takes rows up to an
	// eighth of its ring.
	minShardBytes = 64 << 10
	// minBytes is the least that a cache is worth.
	minBytes = 1 << 10
)

// Row is what is known of a key.
type Row struct {
	Found     bool   // false: there is no such key, and the rest is empty
	Value     []byte // never a part of the cache's memory
	Timestamp hlc.Timestamp
	Expires   hlc.Timestamp // 0: never
}

// Stats are sums over the shards since New; Bytes and Rows are of now.
type Stats struct {
	Hits, Misses int64
	Fills        int64 // rows kept of reads
	Written      int64 // rows kept of writes, where there was none
	Refused      int64 // of reads that a write overtook
	Evictions    int64
	Bytes        int64 // allocated, never above New's bound but while a shard grows
	Rows         int64
}

// Cache is safe for concurrent use. A nil one keeps nothing.
type Cache struct {
	seed   uint64
	shards []shard // a power of two
}

// New makes a cache of at most maxBytes; one of less than 1 KiB keeps nothing. from is the store's last applied sequence:
// nothing above it has been applied yet.
func New(maxBytes int64, from ids.Seq) *Cache { return NewSeeded(maxBytes, from, rand.Uint64()) }

// NewSeeded is New with the seed of the hash, which decides what is evicted: a simulation needs it to be repeatable.
// Where clients choose keys it must not be known.
func NewSeeded(maxBytes int64, from ids.Seq, seed uint64) *Cache {
	n := int64(1) << (63 - bits.LeadingZeros64(uint64(min(max(maxBytes/minShardBytes, 1), maxShards))))
	return newCache(maxBytes, from, seed, n)
}

func newCache(maxBytes int64, from ids.Seq, seed uint64, shards int64) *Cache {
	c := &Cache{seed: seed}
	if maxBytes < minBytes {
		return c
	}
	c.shards = make([]shard, shards)
	for i := range c.shards {
		c.shards[i].init(maxBytes/shards-int64(unsafe.Sizeof(shard{})), from)
	}
	return c
}

// Get returns the newest row of key if it is there, of this gen, and not newer than at. The value is a copy.
func (c *Cache) Get(key []byte, gen uint64, at ids.Seq) (Row, bool) {
	return c.Append(nil, key, gen, at)
}

// Append is Get with the value appended to dst. Where the answer is false, or no key is found, dst is left alone.
func (c *Cache) Append(dst, key []byte, gen uint64, at ids.Seq) (Row, bool) {
	s, tag := c.locate(key)
	if s == nil {
		return Row{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, r := s.find(tag, key)
	if r == nil || r.gen() != gen || r.version() > at {
		s.stats.Misses++
		return Row{}, false
	}
	s.stats.Hits++
	r.set(flagReferenced, true)
	return r.row(dst), true
}

// Fill offers what a read of the engine at the sequence read found. It is kept unless a write to the key's shard has been
// applied since, or it is too large. version is the row's, and at or below read; for an absent key read is taken.
func (c *Cache) Fill(key []byte, gen uint64, read ids.Seq, row Row, version ids.Seq) {
	s, tag := c.locate(key)
	if s == nil {
		return
	}
	if !row.Found {
		version = read
	}
	if version > read {
		invariant.Fail("D4: a read at %d found version %d of %x", read, version, key)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if read < s.touched {
		s.stats.Refused++
		return
	}
	// NB: what is there already, of whatever gen, is not newer than this: it would have touched the shard.
	if s.put(tag, key, gen, version, &row) {
		s.stats.Fills++
	}
}

// Apply says that the entry at seq writes row to key, or deletes the key if the row is not found. A row that is there is
// replaced. One that is not is kept under the gen keep, which is the range's at seq; with keep 0, or where nothing was
// written, it is not.
//
// REQUIRES: the engine has committed seq, no reader is at seq yet, and calls for one key come in the order of their
// sequences.
func (c *Cache) Apply(seq ids.Seq, key []byte, row Row, keep uint64) {
	s, tag := c.locate(key)
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.touched = max(s.touched, seq)
	if _, r := s.find(tag, key); r != nil {
		if r.version() >= seq {
			invariant.Fail("D4: sequence %d is applied to %x, whose row has %d", seq, key, r.version())
		}
		// A row of a dead gen is of use again under the one that lives.
		gen := r.gen()
		if keep != 0 {
			gen = keep
		}
		s.put(tag, key, gen, seq, &row)
	} else if keep != 0 && row.Found && s.put(tag, key, keep, seq, &row) {
		s.stats.Written++
	}
}

// Stats adds up the shards, one after another.
func (c *Cache) Stats() Stats {
	var sum Stats
	if c == nil {
		return sum
	}
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		st := s.stats
		st.Rows = int64(s.index.rows)
		st.Bytes = int64(unsafe.Sizeof(*s)) + s.bytes()
		s.mu.Unlock()
		sum.Hits += st.Hits
		sum.Misses += st.Misses
		sum.Fills += st.Fills
		sum.Written += st.Written
		sum.Refused += st.Refused
		sum.Evictions += st.Evictions
		sum.Bytes += st.Bytes
		sum.Rows += st.Rows
	}
	return sum
}

// locate finds the shard of a key, and its tag there: low bits of the hash choose the one, its upper half is the other.
func (c *Cache) locate(key []byte) (*shard, uint32) {
	if c == nil || len(c.shards) == 0 {
		return nil, 0
	}
	var d xxhash.Digest
	d.ResetWithSeed(c.seed)
	_, _ = d.Write(key) // never fails
	h := d.Sum64()
	return &c.shards[h&uint64(len(c.shards)-1)], uint32(h >> 32)
}
