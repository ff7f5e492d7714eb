package scancache

import (
	"bytes"
	"math"
	"math/rand/v2"
	"sync"

	"github.com/tidwall/btree"

	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/raftstore/engine"
)

const (
	// maxSteps bounds how many blocks of the past are looked at for one that suits, and how many of the present are passed for
	// the end of a gap. Missing one costs time, never truth.
	maxSteps = 8
	// maxNotes bounds the keys that are noted as written while a span is scanned. Where there are more, what lies behind the first so many
	// is not kept.
	maxNotes = 4096
	// minBytes is the least that a cache is worth.
	minBytes = 64 << 10
	// largest is the part of the cache that one block may take, and ended the part of all blocks that have ended.
	largest, ended = 8, 4
)

// Stats are sums since New; Bytes and Blocks are of now.
type Stats struct {
	Hits, Misses int64 // of Find: blocks handed out, and gaps
	Added        int64
	Ended        int64 // blocks that a write has ended
	Evicted      int64
	Bytes        int64
	Blocks       int64
}

// Cache is safe for concurrent use. A nil one keeps nothing.
type Cache struct {
	maxBytes int64
	data     byte // the first byte of engine keys that blocks are of

	mu struct {
		sync.Mutex
		rand  *rand.Rand
		open  *btree.BTreeG[*block] // without an end; disjoint
		past  *btree.BTreeG[*block] // by start, then by age
		live  []*block              // those of open
		ended []*block              // those of past
		// endedBytes are those of ended.
		endedBytes int64
		born       uint64
		fills      []*Fill
		probe      block // to seek with
		stats      Stats
	}
}

// block is what the cache keeps of an engine.Block.
type block struct {
	span     keys.Span
	batch    []byte
	records  int
	prefixes []engine.Prefix
	strip    int
	from, to ids.Seq // [from, to); to 0: no end yet
	// expired and expires bound the timestamps of readers: [expired, expires), 0 is no bound.
	expired, expires hlc.Timestamp
	born             uint64
	at               int // in live or ended
}

// New makes a cache of at most maxBytes of the keys whose engine keys begin with data; of less than 64 KiB it keeps nothing. The seed
// decides what is evicted.
func New(maxBytes int64, data byte, seed uint64) *Cache {
	if maxBytes < minBytes {
		return nil
	}
	c := &Cache{maxBytes: maxBytes, data: data}
	c.mu.rand = rand.New(rand.NewPCG(seed, seed>>1))
	c.mu.open = newTree(func(a, b *block) bool { return bytes.Compare(a.span.Start, b.span.Start) < 0 })
	c.mu.past = newTree(func(a, b *block) bool {
		if n := bytes.Compare(a.span.Start, b.span.Start); n != 0 {
			return n < 0
		}
		return a.born < b.born
	})
	return c
}

func newTree(less func(a, b *block) bool) *btree.BTreeG[*block] {
	return btree.NewBTreeGOptions(less, btree.Options{NoLocks: true})
}

// Part is what a block holds of a span.
type Part struct {
	Batch   []byte // shared, and not to be changed; it may be empty
	Records int
	Expires hlc.Timestamp // no record expires before; 0: none does
}

// Find returns the records at the begin of a span that a reader at a sequence, and a timestamp by which it judges expiry, finds
// there, and where what it has not told begins: the end of the span, or before it. False: it knows nothing of the span before
// next. strip is how many bytes of the engine keys batches leave out.
func (c *Cache) Find(span keys.Span, seq ids.Seq, at hlc.Timestamp, strip int) (part Part, next []byte, ok bool) {
	if c == nil {
		return Part{}, span.End, false
	}
	c.mu.Lock()
	b, gap := c.find(span, seq, at, strip)
	if b != nil {
		c.mu.stats.Hits++
	} else {
		c.mu.stats.Misses++
	}
	c.mu.Unlock()
	if b == nil {
		return Part{}, gap, false
	}
	part, next = b.within(span)
	return part, next, true
}

// find is Find under the lock.
func (c *Cache) find(span keys.Span, seq ids.Seq, at hlc.Timestamp, strip int) (found *block, gap []byte) {
	if b := c.holder(span.Start); b != nil && b.shows(seq, at, strip) {
		return b, nil
	}
	steps := 0
	c.mu.probe = block{span: span, born: math.MaxUint64}
	c.mu.past.Descend(&c.mu.probe, func(b *block) bool {
		if b.span.Contains(span.Start) && b.shows(seq, at, strip) {
			found = b
		}
		steps++
		return found == nil && steps < maxSteps
	})
	if found != nil {
		return found, nil
	}
	gap, steps = span.End, 0
	c.mu.open.Ascend(&c.mu.probe, func(b *block) bool {
		steps++
		switch {
		case !span.Contains(b.span.Start):
			return false
		case !bytes.Equal(b.span.Start, span.Start) && b.shows(seq, at, strip):
			gap = b.span.Start
			return false
		case steps == maxSteps:
			gap = b.span.Start // there may be more behind it
			return false
		}
		return true
	})
	return nil, gap
}

// holder is the block without an end that a key lies in; nil: there is none.
func (c *Cache) holder(key []byte) (found *block) {
	c.mu.probe.span.Start = key
	c.mu.open.Descend(&c.mu.probe, func(b *block) bool {
		if b.span.Contains(key) {
			found = b
		}
		return false
	})
	return found
}

// shows says whether a reader finds in the block's span what the block holds.
func (b *block) shows(seq ids.Seq, at hlc.Timestamp, strip int) bool {
	return b.strip == strip && b.from <= seq && (b.to == 0 || seq < b.to) && b.expired <= at && (b.expires == 0 || at < b.expires)
}

// Applied says what has been committed to the engine. REQUIRES: none of it is visible to any reader yet, and calls come in the
// order of the sequences.
func (c *Cache) Applied(batches []engine.Batch) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.open.Len() == 0 && len(c.mu.fills) == 0 {
		return
	}
	for i := range batches {
		for j := range batches[i].Ops {
			if key := batches[i].Ops[j].Key; len(key) > 0 && key[0] == c.data {
				c.write(key, batches[i].Seq)
			}
		}
	}
}

func (c *Cache) write(key []byte, seq ids.Seq) {
	if b := c.holder(key); b != nil {
		c.drop(b)
		b.to = seq
		c.keep(b)
		c.mu.stats.Ended++
	}
	for _, f := range c.mu.fills {
		f.note(key, seq)
	}
}

// keep takes a block in. Of those that have ended others go for it, each time: a write must not pay for all of them at once.
func (c *Cache) keep(b *block) {
	tree, list := c.mu.open, &c.mu.live
	if b.to != 0 {
		tree, list = c.mu.past, &c.mu.ended
		c.mu.endedBytes += b.size()
	}
	tree.Set(b)
	b.at = len(*list)
	*list = append(*list, b)
	c.mu.stats.Bytes += b.size()
	c.mu.stats.Blocks++
	for c.mu.endedBytes > c.maxBytes/ended {
		c.evict(c.mu.ended)
	}
}

// drop gives a block up.
func (c *Cache) drop(b *block) {
	tree, list := c.mu.open, &c.mu.live
	if b.to != 0 {
		tree, list = c.mu.past, &c.mu.ended
		c.mu.endedBytes -= b.size()
	}
	tree.Delete(b)
	l := *list
	last := l[len(l)-1]
	l[b.at], last.at = last, b.at
	l[len(l)-1] = nil
	*list = l[:len(l)-1]
	c.mu.stats.Bytes -= b.size()
	c.mu.stats.Blocks--
}

// makeRoom evicts until so many bytes fit.
func (c *Cache) makeRoom(size int64) {
	for c.mu.stats.Bytes+size > c.maxBytes {
		if len(c.mu.ended) > 0 {
			c.evict(c.mu.ended)
		} else {
			c.evict(c.mu.live)
		}
	}
}

func (c *Cache) evict(list []*block) {
	c.drop(list[c.mu.rand.IntN(len(list))])
	c.mu.stats.Evicted++
}

// Stats adds up what happened.
func (c *Cache) Stats() Stats {
	if c == nil {
		return Stats{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.stats
}
