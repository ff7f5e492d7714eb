package raftlog

import (
	"go.etcd.io/raft/v3/raftpb"

	"github.com/locuskv/locus/internal/ids"
)

// cache bounds the memory of the entries that slots hold: the newest of all groups, by the order in which they were
// appended. An entry that its group has dropped still counts until its turn comes.
type cache struct {
	limit int64
	bytes int64
	queue []cached // oldest at head
	head  int
}

type cached struct {
	g     *group
	index ids.Index
	e     *raftpb.Entry
}

// cachedOverhead is about what an entry costs in memory besides its data: entry, slot, queue.
const cachedOverhead = 200

func (c *cached) size() int64 { return int64(len(c.e.Data)) + cachedOverhead }

// add caches the entry of a slot. The entry is shared with the caller of Append; it is never changed.
func (c *cache) add(g *group, i ids.Index, e *raftpb.Entry) {
	if e == nil || c.limit <= 0 {
		return
	}
	item := cached{g: g, index: i, e: e}
	g.slot(i).e = e
	c.queue = append(c.queue, item)
	c.bytes += item.size()
	for c.bytes > c.limit && c.head < len(c.queue) {
		c.evict()
	}
}

func (c *cache) evict() {
	item := &c.queue[c.head]
	c.bytes -= item.size()
	if g := item.g; item.index > g.before.Index && item.index <= g.before.Index+ids.Index(len(g.slots)) {
		if s := g.slot(item.index); s.e == item.e {
			s.e = nil
		}
	}
	*item = cached{}
	c.head++
	if c.head > len(c.queue)/2 && c.head > 64 {
		n := copy(c.queue, c.queue[c.head:])
		clear(c.queue[n:])
		c.queue, c.head = c.queue[:n], 0
	}
}
