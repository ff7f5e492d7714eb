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
}

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

// change of names: inode gets a name, or loses one, or both; what had the name loses it.
type change struct {
	inode    *Inode
	from, to *Inode // directories; nil: none
	old, new string
}

// New makes an empty disk.
func New(names Names) *Disk {
	d := &Disk{names: names}
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
	apply(c.from, func() { c.inode.links--; delete(c.from.seen.entries, c.old) })
	apply(c.to, func() {
		if over := c.to.seen.entries[c.new]; over != nil {
			over.links--
		}
		c.inode.links++
		c.to.seen.entries[c.new] = c.inode
	})
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

// Write puts data at an offset.
func (d *Disk) Write(i *Inode, data []byte, off int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i.seen.size = max(i.seen.size, off+int64(len(data)))
	i.mtime = time.Now()
	for len(data) > 0 {
		n, at := off/PageSize, off%PageSize
		done := copy(i.page(n)[at:], data)
		data, off = data[done:], off+int64(done)
	}
}

// page is a page to write to.
func (i *Inode) page(n int64) *page {
	p := i.seen.pages[n]
	if p == nil {
		p = new(page)
	} else if p == i.durable.pages[n] {
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
			}
		}
		if at := size % PageSize; at != 0 && i.seen.pages[size/PageSize] != nil {
			clear(i.page(size / PageSize)[at:])
		}
	}
	i.seen.size = size
}

// Sync makes an inode durable: its content and size, and of names what the package's comment says.
func (d *Disk) Sync(i *Inode) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncs++
	i.sync()
	if i.Dir || d.names == ByFilesToo {
		d.commit(i.named)
	}
}

// Datasync makes content and size durable, and of names what the package's comment says. It is what fdatasync and msync do.
func (d *Disk) Datasync(i *Inode) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncs++
	i.sync()
	switch {
	case i.Dir:
		d.commit(i.named)
	case d.names == ByFilesToo:
		d.commit(i.created)
	}
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

// Size adds up the content that is seen.
func (d *Disk) Size() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	total := int64(0)
	walk(d.root, func(i *Inode) { total += int64(len(i.seen.pages)) * PageSize })
	return total
}

// walk visits what programs see, each inode in a fixed order.
func walk(i *Inode, f func(*Inode)) {
	f(i)
	for _, name := range slices.Sorted(maps.Keys(i.seen.entries)) {
		walk(i.seen.entries[name], f)
	}
}
