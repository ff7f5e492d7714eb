package disk

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
)

// sectorSize is what a disk writes whole.
const sectorSize = 512

// Lost counts what a cut took away.
type Lost struct {
	Syncs       uint64 // of files and directories, since the disk was made
	Changes     int    // of names
	KeptChanges int
	Files       int // that lost something
	Pages       int
	Torn        int
	KeptPages   int
}

func (l Lost) String() string {
	return fmt.Sprintf("%d of %d unsynced pages (and %d torn) in %d files, %d of %d changes of names",
		l.Pages, l.Pages+l.Torn+l.KeptPages, l.Torn, l.Files, l.Changes, l.Changes+l.KeptChanges)
}

// Freeze makes now the moment of the next Cut: what is written and synced from now on will not have been. Programs that
// can't be killed go on, and are stopped before the Cut.
func (d *Disk) Freeze() {
	d.mu.Lock()
	defer d.mu.Unlock()
	copies := map[*Inode]*Inode{}
	var copied func(*Inode) *Inode
	entries := func(from map[string]*Inode) map[string]*Inode {
		out := map[string]*Inode{}
		for name, i := range from {
			out[name] = copied(i)
		}
		return out
	}
	copied = func(i *Inode) *Inode {
		if i == nil || copies[i] != nil {
			return copies[i]
		}
		c := &Inode{Ino: i.Ino, Dir: i.Dir, dirty: maps.Clone(i.dirty), mode: i.mode, mtime: i.mtime, created: i.created, named: i.named, links: i.links}
		copies[i] = c
		c.seen, c.durable = i.seen, i.durable
		c.seen.pages, c.durable.pages = maps.Clone(i.seen.pages), maps.Clone(i.durable.pages)
		for n := range c.dirty { // the others are never written in place
			if p := c.seen.pages[n]; p != nil {
				c.seen.pages[n] = new(*p)
			}
		}
		if i.Dir {
			c.seen.entries, c.durable.entries = entries(i.seen.entries), entries(i.durable.entries)
		}
		return c
	}
	f := &Disk{root: copied(d.root), journaled: d.journaled, syncs: d.syncs}
	for _, c := range d.journal {
		f.journal = append(f.journal, change{copied(c.inode), copied(c.from), copied(c.to), c.old, c.new})
	}
	d.frozen = f
}

// Cut takes the power away: what programs see is what was durable, now or at the last Freeze. Without an rng nothing else
// survives; with one, any part of the rest may. No program has the disk open.
func (d *Disk) Cut(rng *rand.Rand) Lost {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.frozen; f != nil {
		d.root, d.journal, d.journaled, d.syncs, d.frozen = f.root, f.journal, f.journaled, f.syncs, nil
	}
	l := Lost{Syncs: d.syncs}
	if rng != nil {
		l.KeptChanges = survivors(rng, len(d.journal))
		d.commit(d.journaled + uint64(l.KeptChanges))
	}
	l.Changes = len(d.journal)
	d.journaled += uint64(len(d.journal))
	d.journal = nil

	cut := map[*Inode]bool{}
	var visit func(*Inode)
	visit = func(i *Inode) {
		if cut[i] {
			return
		}
		cut[i] = true
		i.cut(rng, &l)
		for _, name := range slices.Sorted(maps.Keys(i.durable.entries)) {
			visit(i.durable.entries[name])
		}
		if i.Dir {
			i.seen.entries = maps.Clone(i.durable.entries)
		}
		i.links = 1
	}
	visit(d.root)
	d.used = 0
	walk(d.root, func(i *Inode) { d.used += int64(len(i.seen.pages)) })
	return l
}

// survivors draws how many of n changes outlive a cut: often none or all of them.
func survivors(rng *rand.Rand, n int) int {
	switch rng.IntN(4) {
	case 0:
		return 0
	case 1:
		return n
	default:
		return rng.IntN(n + 1)
	}
}

// cut draws the content and size of a file.
func (i *Inode) cut(rng *rand.Rand, l *Lost) {
	before := *l
	odds := 100 // of losing a page
	if rng != nil {
		odds = [...]int{0, 5, 50, 95, 100}[rng.IntN(5)]
	}
	size := i.durable.size
	if rng != nil && rng.IntN(2) == 0 {
		size = i.seen.size
	}
	for _, n := range slices.Sorted(maps.Keys(i.dirty)) {
		was, now := i.durable.pages[n], i.seen.pages[n]
		switch {
		case rng == nil || rng.IntN(100) < odds:
			l.Pages++
		case now == nil: // truncated
			delete(i.durable.pages, n)
			l.KeptPages++
		case rng.IntN(4) == 0:
			i.durable.pages[n] = tear(rng, was, now)
			l.Torn++
		default:
			i.durable.pages[n] = now
			l.KeptPages++
		}
	}
	// No more than the size is there, and nothing shows up behind it when the file grows again.
	for n, p := range i.durable.pages {
		switch from := n * PageSize; {
		case from >= size:
			delete(i.durable.pages, n)
		case from+PageSize > size:
			p = new(*p)
			clear(p[size-from:])
			i.durable.pages[n] = p
		}
	}
	if i.durable.size = size; size != i.seen.size || l.Pages > before.Pages || l.Torn > before.Torn {
		l.Files++
	}
	i.seen.pages, i.seen.size = maps.Clone(i.durable.pages), size
	clear(i.dirty)
}

// tear takes each sector from one of two states of a page; before it was written it was zeros.
func tear(rng *rand.Rand, was, now *page) *page {
	if was == nil {
		was = new(page)
	}
	out := new(*now)
	for at := 0; at < PageSize; at += sectorSize {
		if rng.IntN(2) == 0 {
			copy(out[at:at+sectorSize], was[at:])
		}
	}
	return out
}
