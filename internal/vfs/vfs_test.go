package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestConformance holds both file systems to the same behaviour.
func TestConformance(t *testing.T) {
	systems := map[string]func(t *testing.T) (FS, string){
		"os":     func(t *testing.T) (FS, string) { return OS(), t.TempDir() },
		"memory": func(t *testing.T) (FS, string) { return NewMemory(), "" },
	}
	cases := map[string]func(t *testing.T, fsys FS, dir string){
		"read and write": testReadWrite,
		"sizes":          testSizes,
		"names":          testNames,
		"missing":        testMissing,
		"lock":           testLock,
		"whole files":    testWholeFiles,
		"unlinked":       testUnlinked,
	}
	for system, open := range systems {
		for name, test := range cases {
			t.Run(system+"/"+name, func(t *testing.T) {
				fsys, root := open(t)
				dir := filepath.Join(root, "a", "b")
				require.NoError(t, fsys.MkdirAll(dir))
				require.NoError(t, fsys.MkdirAll(dir), "making it again is fine")
				test(t, fsys, dir)
			})
		}
	}
}

func testReadWrite(t *testing.T, fsys FS, dir string) {
	name := filepath.Join(dir, "f")
	f, err := fsys.Create(name)
	require.NoError(t, err)
	n, err := f.WriteAt([]byte("hello"), 3)
	require.NoError(t, err)
	require.Equal(t, 5, n)
	require.NoError(t, f.Sync())

	buf := make([]byte, 8)
	n, err = f.ReadAt(buf, 0)
	require.NoError(t, err)
	require.Equal(t, "\x00\x00\x00hello", string(buf[:n]))
	n, err = f.ReadAt(buf, 4)
	require.ErrorIs(t, err, io.EOF)
	require.Equal(t, "ello", string(buf[:n]))
	_, err = f.ReadAt(buf, 100)
	require.ErrorIs(t, err, io.EOF)
	_, err = f.ReadAt(buf, -1)
	require.Error(t, err)
	_, err = f.WriteAt(buf, -1)
	require.Error(t, err)
	require.NoError(t, f.Close())
	require.ErrorIs(t, f.Close(), fs.ErrClosed)
	_, err = f.ReadAt(buf, 0)
	require.ErrorIs(t, err, fs.ErrClosed)

	r, err := fsys.Open(name)
	require.NoError(t, err)
	defer r.Close()
	_, err = r.WriteAt(buf, 0)
	require.Error(t, err, "opened for reading")

	w, err := fsys.OpenReadWrite(name)
	require.NoError(t, err)
	defer w.Close()
	_, err = w.WriteAt([]byte("J"), 3)
	require.NoError(t, err)
	_, err = r.ReadAt(buf[:1], 3)
	require.NoError(t, err)
	require.Equal(t, byte('J'), buf[0], "handles share the file")
}

func testSizes(t *testing.T, fsys FS, dir string) {
	name := filepath.Join(dir, "f")
	f, err := fsys.Create(name)
	require.NoError(t, err)
	defer f.Close()
	size := func(want int64) {
		t.Helper()
		got, err := f.Size()
		require.NoError(t, err)
		require.Equal(t, want, got)
		got, err = fsys.Stat(name)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err = f.WriteAt(bytes.Repeat([]byte{1}, 100), 0)
	require.NoError(t, err)
	size(100)
	require.NoError(t, f.Truncate(50))
	size(50)
	require.NoError(t, f.Preallocate(2000))
	size(2000)
	require.NoError(t, f.Preallocate(10))
	size(2000)
	require.NoError(t, f.Truncate(3000))
	size(3000)
	content, err := ReadFile(fsys, name)
	require.NoError(t, err)
	require.Equal(t, append(bytes.Repeat([]byte{1}, 50), make([]byte, 2950)...), content)

	again, err := fsys.Create(name)
	require.NoError(t, err)
	defer again.Close()
	size(0)
}

func testNames(t *testing.T, fsys FS, dir string) {
	for _, base := range []string{"c", "a", "b"} {
		require.NoError(t, WriteFile(fsys, filepath.Join(dir, base), []byte(base)))
	}
	list := func(want ...string) {
		t.Helper()
		names, err := fsys.List(dir)
		require.NoError(t, err)
		require.Equal(t, want, names)
	}
	list("a", "b", "c")
	require.NoError(t, fsys.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "c")))
	list("b", "c")
	content, err := ReadFile(fsys, filepath.Join(dir, "c"))
	require.NoError(t, err)
	require.Equal(t, "a", string(content))
	require.NoError(t, fsys.Remove(filepath.Join(dir, "b")))
	require.NoError(t, fsys.MkdirAll(filepath.Join(dir, "b", "sub")))
	list("b", "c")
	_, err = fsys.Create(filepath.Join(dir, "b"))
	require.Error(t, err, "a directory has that name")
	require.Error(t, fsys.Rename(filepath.Join(dir, "c"), filepath.Join(dir, "b")))
	require.Error(t, fsys.MkdirAll(filepath.Join(dir, "c", "sub")), "a file has that name")
	require.NoError(t, fsys.SyncDir(dir))
}

func testMissing(t *testing.T, fsys FS, dir string) {
	name := filepath.Join(dir, "missing")
	_, err := fsys.Open(name)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = fsys.OpenReadWrite(name)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = fsys.Stat(name)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = fsys.List(name)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = fsys.Create(filepath.Join(name, "f"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = ReadFile(fsys, name)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorIs(t, fsys.Remove(name), fs.ErrNotExist)
	require.ErrorIs(t, fsys.Rename(name, name+"2"), fs.ErrNotExist)
	require.ErrorIs(t, fsys.SyncDir(name), fs.ErrNotExist)
	ok, err := Exists(fsys, name)
	require.NoError(t, err)
	require.False(t, ok)
}

func testLock(t *testing.T, fsys FS, dir string) {
	name := filepath.Join(dir, "LOCK")
	lock, err := fsys.Lock(name)
	require.NoError(t, err)
	_, err = fsys.Lock(name)
	require.ErrorIs(t, err, ErrLocked)
	require.NoError(t, lock.Close())
	lock, err = fsys.Lock(name)
	require.NoError(t, err)
	require.NoError(t, lock.Close())
}

func testWholeFiles(t *testing.T, fsys FS, dir string) {
	name := filepath.Join(dir, "f")
	for _, content := range []string{"first", "", "the second"} {
		require.NoError(t, WriteFile(fsys, name, []byte(content)))
		got, err := ReadFile(fsys, name)
		require.NoError(t, err)
		require.Equal(t, content, string(got))
	}
	names, err := fsys.List(dir)
	require.NoError(t, err)
	require.Equal(t, []string{"f"}, names)
	ok, err := Exists(fsys, name)
	require.NoError(t, err)
	require.True(t, ok)
}

func testUnlinked(t *testing.T, fsys FS, dir string) {
	name := filepath.Join(dir, "f")
	require.NoError(t, WriteFile(fsys, name, []byte("old")))
	f, err := fsys.Open(name)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, fsys.Remove(name))
	require.NoError(t, WriteFile(fsys, name, []byte("new")))
	buf := make([]byte, 3)
	_, err = f.ReadAt(buf, 0)
	require.NoError(t, err)
	require.Equal(t, "old", string(buf))
}

func TestWriteFileReportsErrors(t *testing.T) {
	boom := errors.New("boom")
	for _, op := range []Op{OpCreate, OpWrite, OpSync, OpRename, OpSyncDir} {
		m := NewMemory()
		require.NoError(t, WriteFile(m, "f", []byte("old")))
		m.FailNth(op, 1, boom)
		require.ErrorIs(t, WriteFile(m, "f", []byte("new")), boom, op)
	}
}
