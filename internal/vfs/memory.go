package vfs

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
)

// ErrCrashed is what every operation on a crashed Memory returns.
var ErrCrashed = errors.New("vfs: this file system has crashed")

// Memory is a deterministic file system in memory that loses what was not synced when it crashes.
//
// Directories are durable as soon as they are made (as FS.MkdirAll promises); names in them are not.
type Memory struct {
	mu      sync.Mutex
	dirs    map[string]bool
	files   map[string]*inode // what callers see
	durable map[string]*inode // what SyncDir has made sure of
	ops     []nameOp          // changes of names since the last SyncDir of their directory, oldest first
	locks   map[string]bool
	faults  faults
	crashed bool
}

var _ FS = (*Memory)(nil)

// NewMemory returns an empty file system with a root directory and a working directory.
func NewMemory() *Memory {
	return &Memory{
		dirs:    map[string]bool{".": true, string(filepath.Separator): true},
		files:   map[string]*inode{},
		durable: map[string]*inode{},
		locks:   map[string]bool{},
	}
}

// nameOp is one change of a directory. It carries the inode, so that each can be applied or lost by itself.
type nameOp struct {
	kind nameOpKind
	name string
	old  string // of a rename
	node *inode
}

type nameOpKind byte

const (
	opCreate nameOpKind = iota
	opRemove
	opRename
)

// applyTo makes the change in a map of names.
func (op nameOp) applyTo(names map[string]*inode) {
	switch op.kind {
	case opCreate:
		names[op.name] = op.node
	case opRemove:
		if names[op.name] == op.node {
			delete(names, op.name)
		}
	case opRename:
		if names[op.old] == op.node {
			delete(names, op.old)
		}
		names[op.name] = op.node
	}
}

// touches tells whether the change is one of directory dir.
func (op nameOp) touches(dir string) bool {
	return filepath.Dir(op.name) == dir || op.kind == opRename && filepath.Dir(op.old) == dir
}

// change makes a change of names that callers see at once and a crash may undo.
func (m *Memory) change(op nameOp) {
	op.applyTo(m.files)
	m.ops = append(m.ops, op)
}

// begin locks the file system and asks the faults; the caller unlocks in any case.
func (m *Memory) begin(op Op, name string) error {
	m.mu.Lock()
	if m.crashed {
		return ErrCrashed
	}
	return m.faults.check(op, name)
}

func pathErr(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// Create implements FS.
func (m *Memory) Create(name string) (File, error) {
	name = filepath.Clean(name)
	err := m.begin(OpCreate, name)
	defer m.mu.Unlock()
	switch {
	case err != nil:
		return nil, pathErr("create", name, err)
	case !m.dirs[filepath.Dir(name)]:
		return nil, pathErr("create", name, fs.ErrNotExist)
	case m.dirs[name]:
		return nil, pathErr("create", name, fs.ErrExist)
	}
	node := m.files[name]
	if node == nil {
		node = &inode{}
		m.change(nameOp{kind: opCreate, name: name, node: node})
	} else {
		node.truncate(0)
	}
	return &memFile{fs: m, node: node, name: name, writable: true}, nil
}

// Open implements FS.
func (m *Memory) Open(name string) (File, error) { return m.open(name, false) }

// OpenReadWrite implements FS.
func (m *Memory) OpenReadWrite(name string) (File, error) { return m.open(name, true) }

func (m *Memory) open(name string, writable bool) (File, error) {
	name = filepath.Clean(name)
	err := m.begin(OpOpen, name)
	defer m.mu.Unlock()
	if err != nil {
		return nil, pathErr("open", name, err)
	}
	node := m.files[name]
	if node == nil {
		return nil, pathErr("open", name, fs.ErrNotExist)
	}
	return &memFile{fs: m, node: node, name: name, writable: writable}, nil
}

// Remove implements FS.
func (m *Memory) Remove(name string) error {
	name = filepath.Clean(name)
	err := m.begin(OpRemove, name)
	defer m.mu.Unlock()
	if err != nil {
		return pathErr("remove", name, err)
	}
	node := m.files[name]
	if node == nil {
		return pathErr("remove", name, fs.ErrNotExist)
	}
	m.change(nameOp{kind: opRemove, name: name, node: node})
	return nil
}

// Rename implements FS.
func (m *Memory) Rename(oldName, newName string) error {
	oldName, newName = filepath.Clean(oldName), filepath.Clean(newName)
	err := m.begin(OpRename, oldName)
	defer m.mu.Unlock()
	if err != nil {
		return pathErr("rename", oldName, err)
	}
	node := m.files[oldName]
	if node == nil || !m.dirs[filepath.Dir(newName)] {
		return pathErr("rename", oldName, fs.ErrNotExist)
	}
	if m.dirs[newName] {
		return pathErr("rename", newName, fs.ErrExist)
	}
	if oldName != newName {
		m.change(nameOp{kind: opRename, name: newName, old: oldName, node: node})
	}
	return nil
}

// List implements FS.
func (m *Memory) List(dir string) ([]string, error) {
	dir = filepath.Clean(dir)
	err := m.begin(OpList, dir)
	defer m.mu.Unlock()
	if err == nil && !m.dirs[dir] {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, pathErr("list", dir, err)
	}
	var names []string
	for name := range m.files {
		if filepath.Dir(name) == dir {
			names = append(names, filepath.Base(name))
		}
	}
	for name := range m.dirs {
		if filepath.Dir(name) == dir && name != dir {
			names = append(names, filepath.Base(name))
		}
	}
	slices.Sort(names)
	return names, nil
}

// MkdirAll implements FS.
func (m *Memory) MkdirAll(dir string) error {
	dir = filepath.Clean(dir)
	err := m.begin(OpMkdir, dir)
	defer m.mu.Unlock()
	if err != nil {
		return pathErr("mkdir", dir, err)
	}
	for ; !m.dirs[dir]; dir = filepath.Dir(dir) {
		if m.files[dir] != nil {
			return pathErr("mkdir", dir, fs.ErrExist)
		}
		m.dirs[dir] = true
	}
	return nil
}

// SyncDir implements FS.
func (m *Memory) SyncDir(dir string) error {
	dir = filepath.Clean(dir)
	err := m.begin(OpSyncDir, dir)
	defer m.mu.Unlock()
	if err == nil && !m.dirs[dir] {
		err = fs.ErrNotExist
	}
	if err != nil {
		return pathErr("syncdir", dir, err)
	}
	m.ops = slices.DeleteFunc(m.ops, func(op nameOp) bool {
		if !op.touches(dir) {
			return false
		}
		op.applyTo(m.durable)
		return true
	})
	return nil
}

// Stat implements FS.
func (m *Memory) Stat(name string) (int64, error) {
	name = filepath.Clean(name)
	err := m.begin(OpStat, name)
	defer m.mu.Unlock()
	if err != nil {
		return 0, pathErr("stat", name, err)
	}
	if node := m.files[name]; node != nil {
		return int64(len(node.data)), nil
	}
	if m.dirs[name] {
		return 0, nil
	}
	return 0, pathErr("stat", name, fs.ErrNotExist)
}

// Lock implements FS. A crash releases all locks. NB: the lock's file is not shown; nobody needs its name.
func (m *Memory) Lock(name string) (io.Closer, error) {
	name = filepath.Clean(name)
	err := m.begin(OpLock, name)
	defer m.mu.Unlock()
	switch {
	case err != nil:
		return nil, pathErr("lock", name, err)
	case !m.dirs[filepath.Dir(name)]:
		return nil, pathErr("lock", name, fs.ErrNotExist)
	case m.locks[name]:
		return nil, pathErr("lock", name, ErrLocked)
	}
	m.locks[name] = true
	return &memLock{fs: m, name: name}, nil
}

type memLock struct {
	fs   *Memory
	name string
	once sync.Once
}

func (l *memLock) Close() error {
	l.once.Do(func() {
		l.fs.mu.Lock()
		defer l.fs.mu.Unlock()
		delete(l.fs.locks, l.name)
	})
	return nil
}
