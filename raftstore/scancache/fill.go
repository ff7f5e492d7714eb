package scancache

import (
	"bytes"
	"slices"

	"github.com/tidwall/btree"

	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/invariant"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/packed"
	"github.com/locuskv/locus/raftstore/engine"
)

// Fill is a scan of the engine whose blocks are worth keeping. A nil one keeps nothing.
type Fill struct {
	c *Cache
	// span is what is worth keeping of what has not been added yet.
	span keys.Span
	// notes are the first writes, since the fill began, to keys of span; nil: there were none.
	notes *btree.BTreeG[note]
}

type note struct {
	key []byte
	seq ids.Seq
}

// Begin is called before the scan of a span. End must follow.
func (c *Cache) Begin(span keys.Span) *Fill {
	if c == nil {
		return nil
	}
	f := &Fill{c: c, span: span}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.fills = append(c.mu.fills, f)
	return f
}

// End is called after the scan, whatever became of it.
func (f *Fill) End() {
	if f == nil {
		return
	}
	c := f.c
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.fills = slices.DeleteFunc(c.mu.fills, func(g *Fill) bool { return g == f })
}

// note takes down a write. Where there are too many, the far end of the span is given up. REQUIRES: the cache's lock.
func (f *Fill) note(key []byte, seq ids.Seq) {
	if !f.span.Contains(key) {
		return
	}
	if f.notes == nil {
		f.notes = btree.NewBTreeGOptions(func(a, b note) bool { return bytes.Compare(a.key, b.key) < 0 }, btree.Options{NoLocks: true})
	}
	n := note{key, seq}
	if _, known := f.notes.Get(n); known {
		return // sequences rise
	}
	n.key = bytes.Clone(key)
	f.notes.Set(n)
	if f.notes.Len() > maxNotes {
		last, _ := f.notes.PopMax()
		f.span.End = last.key
	}
}

// pass forgets the notes below a key and returns the lowest of their sequences; 0: there are none. REQUIRES: the cache's lock.
func (f *Fill) pass(end []byte) (lowest ids.Seq) {
	for f.notes != nil {
		n, ok := f.notes.Min()
		if !ok || bytes.Compare(n.key, end) >= 0 {
			break
		}
		f.notes.PopMin()
		if lowest == 0 || n.seq < lowest {
			lowest = n.seq
		}
	}
	return lowest
}

// Add offers a block that was found at a sequence; discard is the engine's discard sequence. The block stays the caller's.
func (f *Fill) Add(eb *engine.Block, seq, discard ids.Seq, strip int) {
	if f == nil {
		return
	}
	if eb.MaxVersion > seq || eb.Later != 0 && eb.Later <= seq {
		invariant.Fail("D5: a scan at %d found version %d, and %d later, in %s", seq, eb.MaxVersion, eb.Later, eb.Span)
	}
	b := &block{
		span: eb.Span, batch: bytes.Clone(eb.Batch), records: eb.Records, prefixes: slices.Clone(eb.Prefixes), strip: strip,
		from: max(eb.MaxVersion, discard), to: eb.Later, expired: eb.MaxExpiryUpTo, expires: eb.MinExpiryAfter,
	}
	c := f.c
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := f.span.ContainsSpan(b.span)
	f.span.Start = b.span.End
	if seq := f.pass(b.span.End); seq != 0 && (b.to == 0 || seq < b.to) {
		b.to = seq
	}
	if !kept {
		return
	}
	if b.size() > c.maxBytes/largest {
		return
	}
	if b.to == 0 && !c.replace(b) {
		return
	}
	c.makeRoom(b.size())
	c.mu.born++
	b.born = c.mu.born
	c.keep(b)
	c.mu.stats.Added++
}

// replace makes place for a block without an end: those that it overlaps go. False: one of them says all that it does.
func (c *Cache) replace(b *block) bool {
	var overlapped []*block
	take := func(o *block) bool {
		if o.span.Intersect(b.span).Empty() {
			return false
		}
		overlapped = append(overlapped, o)
		return true
	}
	if o := c.holder(b.span.Start); o != nil {
		if o.span.ContainsSpan(b.span) && o.strip == b.strip && o.from <= b.from && o.expired == b.expired && o.expires == b.expires {
			return false
		}
		if bytes.Compare(o.span.Start, b.span.Start) < 0 {
			take(o)
		}
	}
	c.mu.open.Ascend(b, take)
	for _, o := range overlapped {
		c.drop(o)
	}
	return true
}

// overhead is about what a block takes besides its bytes: itself, its places in trees and lists, headers of slices.
const overhead = 256

func (b *block) size() int64 {
	n := overhead + len(b.batch) + len(b.span.Start) + len(b.span.End)
	for _, p := range b.prefixes {
		n += len(p.Bytes) + 32
	}
	return int64(n)
}

// within is the part of the block that lies in a span, whose start lies in the block, and where that part ends.
func (b *block) within(span keys.Span) (part Part, next []byte) {
	from, to, next := 0, len(b.batch), b.span.End
	if !bytes.Equal(span.Start, b.span.Start) {
		from = b.offset(span.Start)
	}
	if bytes.Compare(span.End, next) < 0 {
		to, next = b.offset(span.End), span.End
	}
	part = Part{Batch: b.batch[from:to:to], Records: b.records, Expires: b.expires}
	if len(part.Batch) < len(b.batch) {
		part.Records = packed.Len(part.Batch)
	}
	return part, next
}

// offset is where the first record at or above a key stands.
func (b *block) offset(key []byte) int {
	at, p := 0, 0
	for r := packed.NewReader(b.batch); r.Next(); {
		for p+1 < len(b.prefixes) && b.prefixes[p+1].Offset <= at {
			p++
		}
		if !before(b.prefixes[p].Bytes, r.Key(), key) {
			return at
		}
		at += packed.Size(len(r.Key()), len(r.Value()), r.Expires())
	}
	return at
}

// before says whether prefix and rest, put together, are below a key.
func before(prefix, rest, key []byte) bool {
	n := min(len(prefix), len(key))
	if c := bytes.Compare(prefix[:n], key[:n]); c != 0 {
		return c < 0
	}
	return len(key) > len(prefix) && bytes.Compare(rest, key[len(prefix):]) < 0
}
