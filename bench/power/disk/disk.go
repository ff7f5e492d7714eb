package disk

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"
)

// PageSize is the unit of what is written and lost.
const PageSize = 4096

// Names says which syncs make names durable.
type Names int

const (
	ByFilesToo        Names = iota // what journaling file systems do
	InDirectoriesOnly              // what POSIX promises
)

// Disk is the file system. Errors of its methods are syscall.Errno, 0 for none.
type Disk struct {
	mu    sync.Mutex
	names Names
	next  uint64
	root  *Inode
	// journal holds the changes of names that are not durable; the first of them is number journaled.
	journal   []change
	journaled uint64
	syncs     uint64
	frozen    *Disk // what Freeze saw
	// capacity in pages; what programs see takes used of them, whether it is synced or not. A file without a name takes
	// none.
	capacity, used int64
	failSyncs      bool
}

// DefaultCapacity of a disk, in bytes.
const DefaultCapacity = 64 << 30

// Inode is a file or a directory. Its fields are guarded by the disk's lock, but for those that never change.
type Inode struct {
	Ino uint64
	Dir bool

	seen, durable state
	dirty         map[int64]struct{} // pages that may differ
	mode          uint32
	mtime         time.Time
	created       uint64 // one above the change that made it
	named         uint64 // one above the last change that names it, or that is in it
	links         int    // names that programs see
}

// state of an inode. Pages that are in two states are shared and never written; absent ones are zeros.
type state struct {
	pages   map[int64]*page
	size    int64
	entries map[string]*Inode // of a directory
}

type page [PageSize]byte

// zeros is every page that was allocated and not written to. It is shared, and never written.
var zeros = new(page)

// change of names: inode gets a name, or loses one, or both; what had the name loses it.
type change struct {
	inode    *Inode
	from, to *Inode // directories; nil: none
	old, new string
}

// New makes an empty disk.
func New(names Names) *Disk {
	d := &Disk{names: names, capacity: DefaultCapacity / PageSize}
	d.root = d.newInode(true, 0o755)
	d.root.links = 1
	return d
}

func (d *Disk) newInode(dir bool, mode uint32) *Inode {
	d.next++
	i := &Inode{Ino: d.next, Dir: dir, mode: mode & 0o7777, mtime: time.Now(), dirty: map[int64]struct{}{}}
	i.seen.pages, i.durable.pages = map[int64]*page{}, map[int64]*page{}
	if dir {
		i.seen.entries, i.durable.entries = map[string]*Inode{}, map[string]*Inode{}
	}
	return i
}

// Root is the root directory.
func (d *Disk) Root() *Inode { return d.root }

// Attr is what stat shows.
type Attr struct {
	Size, Blocks int64
	Mode         uint32
	Links        int
	Mtime        time.Time
}

// Attr of an inode.
func (d *Disk) Attr(i *Inode) Attr {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Attr{Size: i.seen.size, Blocks: int64(len(i.seen.pages)) * (PageSize / 512), Mode: i.mode, Links: i.links, Mtime: i.mtime}
}

// SetMode sets the permissions. They are always durable.
func (d *Disk) SetMode(i *Inode, mode uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i.mode = mode & 0o7777
}

// SetMtime sets the time of change. It is always durable.
func (d *Disk) SetMtime(i *Inode, t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i.mtime = t
}

// Lookup finds a name.
func (d *Disk) Lookup(dir *Inode, name string) (*Inode, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := dir.seen.entries[name]
	if i == nil {
		return nil, syscall.ENOENT
	}
	return i, 0
}

// Entry is a name in a directory.
type Entry struct {
	Name  string
	Inode *Inode
}

// List is the names of a directory, in order.
func (d *Disk) List(dir *Inode) []Entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []Entry
	for name, i := range dir.seen.entries {
		out = append(out, Entry{name, i})
	}
	slices.SortFunc(out, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Create makes a file or a directory.
func (d *Disk) Create(parent *Inode, name string, dir bool, mode uint32) (*Inode, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if parent.seen.entries[name] != nil {
		return nil, syscall.EEXIST
	}
	i := d.newInode(dir, mode)
	d.change(change{inode: i, to: parent, new: name})
	i.created = i.named
	return i, 0
}

// Remove takes away a name, of a file or of an empty directory.
func (d *Disk) Remove(parent *Inode, name string, dir bool) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := parent.seen.entries[name]
	switch {
	case i == nil:
		return syscall.ENOENT
	case dir && !i.Dir:
		return syscall.ENOTDIR
	case !dir && i.Dir:
		return syscall.EISDIR
	case len(i.seen.entries) > 0:
		return syscall.ENOTEMPTY
	}
	d.change(change{inode: i, from: parent, old: name})
	return 0
}

// Rename moves a name over another.
func (d *Disk) Rename(from *Inode, name string, to *Inode, as string) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	i, over := from.seen.entries[name], to.seen.entries[as]
	switch {
	case i == nil:
		return syscall.ENOENT
	case over == i:
		return 0
	case over != nil && over.Dir != i.Dir:
		return syscall.EINVAL
	case over != nil && len(over.seen.entries) > 0:
		return syscall.ENOTEMPTY
	}
	d.change(change{inode: i, from: from, old: name, to: to, new: as})
	return 0
}

// change makes a change seen and writes it to the journal.
func (d *Disk) change(c change) {
	apply := func(dir *Inode, f func()) {
		if dir != nil {
			f()
			dir.mtime = time.Now()
		}
	}
	unlink := func(i *Inode) {
		if i.links--; i.links == 0 {
			d.used -= int64(len(i.seen.pages))
		}
	}
	apply(c.to, func() {
		if over := c.to.seen.entries[c.new]; over != nil {
			unlink(over)
		}
		c.inode.links++
		c.to.seen.entries[c.new] = c.inode
	})
	apply(c.from, func() { unlink(c.inode); delete(c.from.seen.entries, c.old) })
	d.journal = append(d.journal, c)
	end := d.journaled + uint64(len(d.journal))
	for _, i := range []*Inode{c.inode, c.from, c.to} {
		if i != nil {
			i.named = end
		}
	}
}

// commit makes the journal durable up to a position.
func (d *Disk) commit(to uint64) {
	for d.journaled < to && len(d.journal) > 0 {
		c := &d.journal[0]
		if c.from != nil {
			delete(c.from.durable.entries, c.old)
		}
		if c.to != nil {
			c.to.durable.entries[c.new] = c.inode
		}
		d.journal[0] = change{}
		d.journal = d.journal[1:]
		d.journaled++
	}
}

// Read fills dst from an offset and says how much there was.
func (d *Disk) Read(i *Inode, dst []byte, off int64) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := max(0, min(int64(len(dst)), i.seen.size-off))
	for done := int64(0); done < n; {
		at := (off + done) % PageSize
		part := dst[done:min(n, done+PageSize-at)]
		if p := i.seen.pages[(off+done)/PageSize]; p != nil {
			copy(part, p[at:])
		} else {
			clear(part)
		}
		done += int64(len(part))
	}
	return int(n)
}

// Write puts data at an offset, and says how much of it: less than all when the disk is full, with ENOSPC if nothing.
func (d *Disk) Write(i *Inode, data []byte, off int64) (written int, errno syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i.mtime = time.Now()
	for len(data) > 0 {
		n, at := off/PageSize, off%PageSize
		if !d.take(i, n) {
			break
		}
		done := copy(i.page(n)[at:], data)
		data, off, written = data[done:], off+int64(done), written+done
		i.seen.size = max(i.seen.size, off)
	}
	if len(data) > 0 && written == 0 {
		return 0, syscall.ENOSPC
	}
	return written, 0
}

// take takes the place of a page from what is free, unless it has one.
func (d *Disk) take(i *Inode, n int64) bool {
	switch {
	case i.seen.pages[n] != nil || i.links == 0:
	case d.used >= d.capacity:
		return false
	default:
		d.used++
	}
	return true
}

// Allocate gives all pages of a part of a file their place, as fallocate does, or none of them; what is not written yet
// reads as zeros. With grow the file becomes as long.
func (d *Disk) Allocate(i *Inode, off, size int64, grow bool) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	var missing []int64
	for n := off / PageSize; n*PageSize < off+size; n++ {
		if i.seen.pages[n] == nil {
			missing = append(missing, n)
		}
	}
	if i.links > 0 && d.used+int64(len(missing)) > d.capacity {
		return syscall.ENOSPC
	}
	for _, n := range missing {
		d.take(i, n)
		i.seen.pages[n] = zeros
		i.dirty[n] = struct{}{}
	}
	if grow {
		i.seen.size = max(i.seen.size, off+size)
	}
	return 0
}

// SetCapacity changes how many bytes the disk takes. What it holds already stays, even if it is more.
func (d *Disk) SetCapacity(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.capacity = bytes / PageSize
}

// FailSyncs makes all syncs fail from now on, or no longer. What a sync that fails did not write is not tried again: programs
// go on to see it, and no later sync makes it durable, unless it is written anew. That is what Linux makes of an error (the
// pages are clean, and stay in its cache), and why nobody may trust a file whose sync has failed.
func (d *Disk) FailSyncs(fail bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failSyncs = fail
}

// Space is the capacity and what is free of it, in bytes.
func (d *Disk) Space() (capacity, free int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.capacity * PageSize, max(0, d.capacity-d.used) * PageSize
}

// page is a page to write to.
func (i *Inode) page(n int64) *page {
	p := i.seen.pages[n]
	if p == nil {
		p = new(page)
	} else if p == i.durable.pages[n] || p == zeros {
		p = new(*p)
	}
	i.seen.pages[n] = p
	i.dirty[n] = struct{}{}
	return p
}

// Truncate sets the size.
func (d *Disk) Truncate(i *Inode, size int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i.mtime = time.Now()
	if size < i.seen.size {
		for n := range i.seen.pages {
			if n*PageSize >= size {
				delete(i.seen.pages, n)
				i.dirty[n] = struct{}{}
				if i.links > 0 {
					d.used--
				}
			}
		}
		if at := size % PageSize; at != 0 && i.seen.pages[size/PageSize] != nil {
			clear(i.page(size / PageSize)[at:])
		}
	}
	i.seen.size = size
}

// Sync makes an inode durable: its content and size, and of names what the package's comment says.
func (d *Disk) Sync(i *Inode) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failSyncs {
		clear(i.dirty)
		return syscall.EIO
	}
	d.syncs++
	i.sync()
	if i.Dir || d.names == ByFilesToo {
		d.commit(i.named)
	}
	return 0
}

// Datasync makes content and size durable, and of names what the package's comment says. It is what fdatasync and msync do.
func (d *Disk) Datasync(i *Inode) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failSyncs {
		clear(i.dirty)
		return syscall.EIO
	}
	d.syncs++
	i.sync()
	switch {
	case i.Dir:
		d.commit(i.named)
	case d.names == ByFilesToo:
		d.commit(i.created)
	}
	return 0
}

func (i *Inode) sync() {
	for n := range i.dirty {
		if p := i.seen.pages[n]; p != nil {
			i.durable.pages[n] = p
		} else {
			delete(i.durable.pages, n)
		}
	}
	clear(i.dirty)
	i.durable.size = i.seen.size
}

// walk visits what programs see, each name in a fixed order.
func walk(i *Inode, f func(*Inode)) {
	f(i)
	for _, name := range slices.Sorted(maps.Keys(i.seen.entries)) {
		walk(i.seen.entries[name], f)
	}
}
