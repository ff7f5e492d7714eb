package vfs

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// TestCrashKeepsWhatWasSynced crashes often and checks the two bounds: synced bytes are there, and each sector is
// one that was written.
func TestCrashKeepsWhatWasSynced(t *testing.T) {
	m := NewMemory()
	f, err := m.Create("f")
	require.NoError(t, err)
	require.NoError(t, m.SyncDir("."))
	write := func(b byte, off, n int) {
		_, err := f.WriteAt(bytes.Repeat([]byte{b}, n), int64(off))
		require.NoError(t, err)
	}
	write('a', 0, 4*SectorSize)
	require.NoError(t, f.Sync())
	write('b', SectorSize, 2*SectorSize)
	write('c', 2*SectorSize, 3*SectorSize)

	seen := map[string]bool{}
	for seed := range uint64(500) {
		after := m.Clone().Crash(seeded(seed))
		content, err := ReadFile(after, "f")
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(content), 4*SectorSize)
		require.LessOrEqual(t, len(content), 5*SectorSize)
		var sectors string
		for lo := 0; lo < len(content); lo += SectorSize {
			s := content[lo:min(len(content), lo+SectorSize)]
			require.Equal(t, bytes.Repeat(s[:1], len(s)), s, "a sector is written whole")
			sectors += string(max(s[0], '0'))
		}
		require.Regexp(t, "^a[ab][abc][ac][0c]?$", sectors)
		seen[sectors] = true
	}
	for _, want := range []string{"aaaa", "abccc", "aabc0", "abac", "aacac"} {
		require.True(t, seen[want], "%s never happened in %v", want, seen)
	}
}

func TestCrashOfNames(t *testing.T) {
	m := NewMemory()
	for _, name := range []string{"kept", "gone", "moved"} {
		require.NoError(t, WriteFile(m, name, []byte(name)))
	}
	_, err := m.Create("new")
	require.NoError(t, err)
	require.NoError(t, m.Remove("gone"))
	require.NoError(t, m.Rename("moved", "there"))

	counts := map[string]int{}
	for seed := range uint64(300) {
		after := m.Clone().Crash(seeded(seed))
		names, err := after.List(".")
		require.NoError(t, err)
		for _, n := range names {
			counts[n]++
		}
		require.Contains(t, names, "kept")
		moved, _ := Exists(after, "moved")
		there, _ := Exists(after, "there")
		require.True(t, moved != there, "a rename leaves one of its two names: %v", names)
	}
	for _, name := range []string{"gone", "moved", "there", "new"} {
		require.Greater(t, counts[name], 50, name)
		require.Less(t, counts[name], 250, name)
	}

	require.NoError(t, m.SyncDir("."))
	names, err := m.Crash(seeded(1)).List(".")
	require.NoError(t, err)
	require.Equal(t, []string{"kept", "new", "there"}, names)
}

func TestCrashIsDeterministic(t *testing.T) {
	run := func(seed uint64) string {
		m := NewMemory()
		rng := seeded(seed)
		for i := range 50 {
			name := fmt.Sprint("f", rng.IntN(4))
			f, err := m.Create(name)
			require.NoError(t, err)
			_, err = f.WriteAt(bytes.Repeat([]byte{byte(i)}, rng.IntN(3000)), rng.Int64N(3000))
			require.NoError(t, err)
			if rng.IntN(4) == 0 {
				require.NoError(t, f.Sync())
			}
			if rng.IntN(4) == 0 {
				require.NoError(t, m.SyncDir("."))
			}
		}
		after := m.Crash(rng)
		names, err := after.List(".")
		require.NoError(t, err)
		out := ""
		for _, n := range names {
			content, err := ReadFile(after, n)
			require.NoError(t, err)
			out += n + string(content)
		}
		return out
	}
	for seed := range uint64(20) {
		require.Equal(t, run(seed), run(seed))
	}
}

func TestCrashedIsDead(t *testing.T) {
	m := NewMemory()
	f, err := m.Create("f")
	require.NoError(t, err)
	lock, err := m.Lock("LOCK")
	require.NoError(t, err)
	require.NoError(t, m.SyncDir("."))
	_, err = f.WriteAt([]byte("x"), 0)
	require.NoError(t, err)
	after := m.CrashClean()
	content, err := ReadFile(after, "f")
	require.NoError(t, err)
	require.Empty(t, content)

	_, err = f.WriteAt([]byte("x"), 0)
	require.ErrorIs(t, err, ErrCrashed)
	require.ErrorIs(t, f.Sync(), ErrCrashed)
	_, err = m.Create("g")
	require.ErrorIs(t, err, ErrCrashed)
	require.NoError(t, lock.Close())
	_, err = after.Lock("LOCK")
	require.NoError(t, err, "a crash releases locks")
}

func TestFailedSync(t *testing.T) {
	m := NewMemory()
	f, err := m.Create("f")
	require.NoError(t, err)
	require.NoError(t, m.SyncDir("."))
	_, err = f.WriteAt([]byte("lost"), 0)
	require.NoError(t, err)
	m.FailNth(OpSync, 1, syscall.EIO)
	require.ErrorIs(t, f.Sync(), syscall.EIO)
	require.NoError(t, f.Sync(), "the pages are clean now")
	content, err := ReadFile(m.CrashClean(), "f")
	require.NoError(t, err)
	require.Equal(t, make([]byte, 4), content, "and the bytes are not there")
}

func TestFaults(t *testing.T) {
	m := NewMemory()
	f, err := m.Create("f")
	require.NoError(t, err)
	m.FailNth(OpWrite, 2, syscall.ENOSPC)
	_, err = f.WriteAt([]byte("abcd"), 0)
	require.NoError(t, err)
	n, err := f.WriteAt([]byte("efgh"), 4)
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.Equal(t, 2, n)
	content, err := ReadFile(m, "f")
	require.NoError(t, err)
	require.Equal(t, "abcdef", string(content))

	m.SetHook(func(op Op, name string) error {
		if op == OpRead && name == "f" {
			return syscall.EIO
		}
		return nil
	})
	_, err = ReadFile(m, "f")
	require.ErrorIs(t, err, syscall.EIO)
	m.SetHook(nil)

	require.NoError(t, m.FlipBit("f", 0, 1))
	content, err = ReadFile(m, "f")
	require.NoError(t, err)
	require.Equal(t, "cbcdef", string(content))
	require.ErrorIs(t, m.FlipBit("f", 6, 0), fs.ErrInvalid)
	require.ErrorIs(t, m.FlipBit("g", 0, 0), fs.ErrNotExist)
}
