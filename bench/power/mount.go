package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/locuskv/locus/bench/power/disk"
)

// mounted is a disk that programs see.
type mounted struct{ server *fuse.Server }

func mount(d *disk.Disk, at string) (*mounted, error) {
	// Nothing changes but through this mount, so the kernel may keep what it knows, and never has to look whether its
	// cached pages are still right.
	forever := time.Hour
	server, err := fs.Mount(at, &node{d: d, i: d.Root()}, &fs.Options{
		EntryTimeout: &forever, AttrTimeout: &forever,
		MountOptions: fuse.MountOptions{
			DirectMountStrict: true, DisableXAttrs: true, MaxWrite: 1 << 20, FsName: "power", Name: "power",
			ExplicitDataCacheControl: true,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("power: mount at %s: %w", at, err)
	}
	return &mounted{server}, nil
}

// unmount waits for the end of the last request.
func (m *mounted) unmount() error {
	if err := m.server.Unmount(); err != nil {
		return fmt.Errorf("power: unmount: %w", err)
	}
	m.server.Wait()
	return nil
}

// detach takes the mount out of everybody's sight, although somebody has it open.
func detach(at string) error { return syscall.Unmount(at, syscall.MNT_DETACH) }

// node is an inode of the disk to the FUSE library.
type node struct {
	fs.Inode
	d *disk.Disk
	i *disk.Inode
}

// handle is an open file. Writes to one that was opened with O_SYNC or O_DSYNC are syncs.
type handle struct{ synced bool }

var (
	_ fs.NodeLookuper  = (*node)(nil)
	_ fs.NodeReaddirer = (*node)(nil)
	_ fs.NodeCreater   = (*node)(nil)
	_ fs.NodeMkdirer   = (*node)(nil)
	_ fs.NodeUnlinker  = (*node)(nil)
	_ fs.NodeRmdirer   = (*node)(nil)
	_ fs.NodeRenamer   = (*node)(nil)
	_ fs.NodeGetattrer = (*node)(nil)
	_ fs.NodeSetattrer = (*node)(nil)
	_ fs.NodeOpener    = (*node)(nil)
	_ fs.NodeReader    = (*node)(nil)
	_ fs.NodeWriter    = (*node)(nil)
	_ fs.NodeFsyncer   = (*node)(nil)
	_ fs.NodeFlusher   = (*node)(nil)
	_ fs.NodeAllocater = (*node)(nil)
	_ fs.NodeStatfser  = (*node)(nil)
)

func modeOf(i *disk.Inode) uint32 {
	if i.Dir {
		return syscall.S_IFDIR
	}
	return syscall.S_IFREG
}

// child is the FUSE library's node of an inode.
func (n *node) child(ctx context.Context, i *disk.Inode, out *fuse.EntryOut) *fs.Inode {
	n.fill(i, &out.Attr)
	return n.NewInode(ctx, &node{d: n.d, i: i}, fs.StableAttr{Mode: modeOf(i), Ino: i.Ino})
}

func (n *node) fill(i *disk.Inode, out *fuse.Attr) {
	a := n.d.Attr(i)
	out.Ino, out.Mode, out.Nlink = i.Ino, modeOf(i)|a.Mode, uint32(a.Links)
	out.Size, out.Blocks, out.Blksize = uint64(a.Size), uint64(a.Blocks), disk.PageSize
	out.SetTimes(&a.Mtime, &a.Mtime, &a.Mtime)
}

func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	i, errno := n.d.Lookup(n.i, name)
	if errno != 0 {
		return nil, errno
	}
	return n.child(ctx, i, out), 0
}

func (n *node) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	var list []fuse.DirEntry
	for _, e := range n.d.List(n.i) {
		list = append(list, fuse.DirEntry{Name: e.Name, Ino: e.Inode.Ino, Mode: modeOf(e.Inode)})
	}
	return fs.NewListDirStream(list), 0
}

func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	i, errno := n.d.Create(n.i, name, false, mode)
	if errno != 0 {
		return nil, nil, 0, errno
	}
	return n.child(ctx, i, out), newHandle(flags), fuse.FOPEN_KEEP_CACHE, 0
}

func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	i, errno := n.d.Create(n.i, name, true, mode)
	if errno != 0 {
		return nil, errno
	}
	return n.child(ctx, i, out), 0
}

func (n *node) Unlink(_ context.Context, name string) syscall.Errno {
	return n.d.Remove(n.i, name, false)
}

func (n *node) Rmdir(_ context.Context, name string) syscall.Errno {
	return n.d.Remove(n.i, name, true)
}

func (n *node) Rename(_ context.Context, name string, parent fs.InodeEmbedder, as string, flags uint32) syscall.Errno {
	if flags != 0 {
		return syscall.EINVAL
	}
	return n.d.Rename(n.i, name, parent.(*node).i, as)
}

func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.fill(n.i, &out.Attr)
	return 0
}

func (n *node) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok {
		n.d.Truncate(n.i, int64(size))
	}
	if mode, ok := in.GetMode(); ok {
		n.d.SetMode(n.i, mode)
	}
	if t, ok := in.GetMTime(); ok {
		n.d.SetMtime(n.i, t)
	}
	n.fill(n.i, &out.Attr)
	return 0
}

func newHandle(flags uint32) *handle {
	return &handle{synced: flags&(syscall.O_SYNC|syscall.O_DSYNC) != 0}
}

func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return newHandle(flags), fuse.FOPEN_KEEP_CACHE, 0
}

func (n *node) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	return fuse.ReadResultData(dest[:n.d.Read(n.i, dest, off)]), 0
}

func (n *node) Write(_ context.Context, f fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	written, errno := n.d.Write(n.i, data, off)
	if h, ok := f.(*handle); ok && h.synced && errno == 0 {
		errno = n.d.Datasync(n.i)
	}
	return uint32(written), errno
}

func (n *node) Fsync(_ context.Context, _ fs.FileHandle, flags uint32) syscall.Errno {
	const dataOnly = 1 // FUSE_FSYNC_FDATASYNC
	if flags&dataOnly != 0 {
		return n.d.Datasync(n.i)
	}
	return n.d.Sync(n.i)
}

// Flush is what close(2) does: nothing that would be durable.
func (n *node) Flush(context.Context, fs.FileHandle) syscall.Errno { return 0 }

func (n *node) Allocate(_ context.Context, _ fs.FileHandle, off, size uint64, mode uint32) syscall.Errno {
	const keepSize = 1 // FALLOC_FL_KEEP_SIZE
	if mode&^keepSize != 0 {
		return syscall.EOPNOTSUPP
	}
	return n.d.Allocate(n.i, int64(off), int64(size), mode == 0)
}

func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	capacity, free := n.d.Space()
	out.Bsize, out.Frsize, out.NameLen = disk.PageSize, disk.PageSize, 255
	out.Blocks, out.Bfree, out.Bavail = uint64(capacity)/disk.PageSize, uint64(free)/disk.PageSize, uint64(free)/disk.PageSize
	out.Files, out.Ffree = 1<<20, 1<<19
	return 0
}
