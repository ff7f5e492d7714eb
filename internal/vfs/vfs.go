package vfs

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
)

// FS is a file system. Names are paths in the host's form. Errors for missing and existing names satisfy
// errors.Is with fs.ErrNotExist and fs.ErrExist. All methods may be called by several goroutines.
type FS interface {
	// Create makes an empty file, or empties the one that exists, and opens it for reading and writing.
	Create(name string) (File, error)
	// Open opens a file for reading.
	Open(name string) (File, error)
	// OpenReadWrite opens an existing file for reading and writing.
	OpenReadWrite(name string) (File, error)
	// Remove removes a file. Open handles stay usable.
	Remove(name string) error
	// Rename moves a file, replacing what had the new name; a crash leaves it at one of the two names.
	Rename(oldName, newName string) error
	// List returns the base names of the files and directories in dir, ascending.
	List(dir string) ([]string, error)
	// MkdirAll makes a directory and its parents, durably.
	MkdirAll(dir string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
	// Stat returns a file's size in bytes.
	Stat(name string) (size int64, err error)
	// Lock takes the exclusive lock of a file, which it creates, until it is closed or the process ends. It
	// does not wait: ErrLocked if another process or another caller has it.
	Lock(name string) (io.Closer, error)
}

// File is an open file. ReadAt and WriteAt may run beside each other and beside Sync; io.NewSectionReader and
// io.NewOffsetWriter make streams of them.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Truncate sets the size; bytes that this adds are zero.
	Truncate(size int64) error
	// Preallocate grows the file to at least size bytes and reserves their place on disk where the file system
	// can, so that writing them won't fail for want of space. Added bytes read as zero. NB: on most Linux file
	// systems the first write to a reserved block still costs a journal commit at the next Sync; who wants
	// cheap syncs also writes the zeros.
	Preallocate(size int64) error
	// Sync makes the file's bytes and size durable.
	Sync() error
	// Size is the file's size in bytes.
	Size() (int64, error)
}

// ErrLocked is returned by FS.Lock when somebody else holds the lock.
var ErrLocked = errors.New("vfs: locked by another process")

// ReadFile returns the whole content of a file.
func ReadFile(fsys FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	buf := make([]byte, size)
	if n, err := f.ReadAt(buf, 0); err != nil && !(errors.Is(err, io.EOF) && n == len(buf)) {
		return nil, err
	}
	return buf, nil
}

// WriteFile replaces a file's content durably and at once: after a crash the file holds the old content or
// the new. It uses name + ".tmp" on the way.
func WriteFile(fsys FS, name string, content []byte) error {
	tmp := name + ".tmp"
	f, err := fsys.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(content, 0)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := fsys.Rename(tmp, name); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(name))
}

// Exists tells whether a file exists.
func Exists(fsys FS, name string) (bool, error) {
	_, err := fsys.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
