package main

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestMain makes the test binary the command, when a test starts it as that: who maps a file of a mount must not be the
// process that serves it.
func TestMain(m *testing.M) {
	if os.Getenv("POWER_COMMAND") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// start mounts a disk and returns its directory and a function that cuts the power.
func start(t *testing.T, args ...string) (dir string, cut func()) {
	t.Helper()
	dir, command := startCommand(t, args...)
	return dir, func() { t.Helper(); command("cut") }
}

// startCommand mounts a disk and returns its directory and a function that does a command.
func startCommand(t *testing.T, args ...string) (dir string, command func(string)) {
	t.Helper()
	dir = t.TempDir()
	cmd := exec.Command(os.Args[0], append(args, dir)...)
	cmd.Env = append(os.Environ(), "POWER_COMMAND=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	if err != nil || line != "ok\n" {
		_ = cmd.Wait()
		t.Skipf("FUSE does not work here: %q, %v", line, err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	return dir, func(what string) {
		t.Helper()
		if _, err := io.WriteString(in, what+"\n"); err != nil {
			t.Fatal(err)
		}
		line, err := lines.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "ok") {
			t.Fatalf("%q, %v", line, err)
		}
	}
}

func write(t *testing.T, name, data string, flags int, sync bool) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|flags, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(data); err != nil {
		t.Fatal(err)
	}
	if sync {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return "no such file"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestMountedWrites: by write(2), synced, not synced, and synced by how the file was opened.
func TestMountedWrites(t *testing.T) {
	dir, cut := start(t)
	name := filepath.Join(dir, "f")
	write(t, name, "synced", 0, true)
	write(t, filepath.Join(dir, "g"), "not synced", 0, false)
	write(t, name, "SYNCED, not all of it", 0, false)
	if got := read(t, name); got != "SYNCED, not all of it" {
		t.Fatal(got)
	}
	cut()
	if got := read(t, name); got != "synced" {
		t.Fatal(got)
	}
	if got := read(t, filepath.Join(dir, "g")); got != "no such file" {
		t.Fatal(got)
	}
	write(t, name, "dsync!", syscall.O_DSYNC, false)
	cut()
	if got := read(t, name); got != "dsync!" {
		t.Fatal(got)
	}
	write(t, filepath.Join(dir, "new"), "new", 0, true)
	if err := os.Rename(filepath.Join(dir, "new"), name); err != nil {
		t.Fatal(err)
	}
	cut()
	if got := read(t, name) + read(t, filepath.Join(dir, "new")); got != "dsync!new" {
		t.Fatal(got)
	}
}

// TestMountedMappings: pages of a shared mapping are lost unless they were synced.
func TestMountedMappings(t *testing.T) {
	dir, cut := start(t)
	name := filepath.Join(dir, "f")
	write(t, name, "", 0, false)
	if err := os.Truncate(name, 1<<20); err != nil {
		t.Fatal(err)
	}
	store := func(at int, what string, sync bool) {
		t.Helper()
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		m, err := syscall.Mmap(int(f.Fd()), 0, 1<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		copy(m[at:], what)
		if sync {
			err = f.Sync()
		}
		if err := errors.Join(err, syscall.Munmap(m), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	store(5000, "synced", true)
	store(5000, "SYNCED", false)
	store(9000, "lost", false)
	if got := read(t, name); got[5000:5006] != "SYNCED" || got[9000:9004] != "lost" {
		t.Fatalf("%q %q", got[5000:5006], got[9000:9004])
	}
	cut()
	if got := read(t, name); len(got) != 1<<20 || got[5000:5006] != "synced" || got[9000:9004] != "\x00\x00\x00\x00" {
		t.Fatalf("%d bytes, %q %q", len(got), got[5000:5006], got[9000:9004])
	}
}

// TestMountedCapacity: a full disk is one to statfs(2), write(2) and fallocate(2), and to the sync of a mapping. Raised, it
// no longer is.
func TestMountedCapacity(t *testing.T) {
	dir, command := startCommand(t, "-capacity", "1048576")
	free := func() int64 {
		t.Helper()
		var s syscall.Statfs_t
		if err := syscall.Statfs(dir, &s); err != nil {
			t.Fatal(err)
		}
		if s.Blocks*uint64(s.Bsize) > 2<<20 {
			t.Fatalf("statfs tells of %d blocks", s.Blocks)
		}
		return int64(s.Bavail) * s.Bsize
	}
	if free() != 1<<20 {
		t.Fatal(free())
	}
	name := filepath.Join(dir, "f")
	write(t, name, strings.Repeat("x", 1<<20-4096), 0, true)
	if free() != 4096 {
		t.Fatal(free())
	}
	f, err := os.OpenFile(filepath.Join(dir, "g"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 8192)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, 1<<20); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	m, err := syscall.Mmap(int(f.Fd()), 0, 1<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	copy(m[1<<19:], "does not fit")
	if err := f.Sync(); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	command("capacity 2097152")
	copy(m[1<<19:], "fits")
	if err := errors.Join(f.Sync(), syscall.Munmap(m)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if free() < 1<<20 {
		t.Fatal(free())
	}
}

// TestMountedSyncsFail: fsync(2) says so.
func TestMountedSyncsFail(t *testing.T) {
	dir, command := startCommand(t)
	f, err := os.Create(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	command("fail-syncs")
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	command("heal-syncs")
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}
