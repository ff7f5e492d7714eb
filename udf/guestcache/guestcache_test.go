package guestcache

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestDir: every version of wazero has a directory of its own; where there is no place for it, there is none.
func TestDir(t *testing.T) {
	base := t.TempDir()
	for _, name := range []string{"HOME", "XDG_CACHE_HOME", "LocalAppData"} {
		t.Setenv(name, base)
	}
	dir := Dir()
	require.DirExists(t, dir)
	require.Regexp(t, `^v\d+\.\d+\.\d+`, filepath.Base(dir))
	require.Contains(t, dir, base)
	t.Setenv(Variable, "")
	Share()
	require.Equal(t, dir, os.Getenv(Variable))

	file := filepath.Join(base, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for _, name := range []string{"HOME", "XDG_CACHE_HOME", "LocalAppData"} {
		t.Setenv(name, file)
	}
	require.Empty(t, Dir())
}

func TestTrim(t *testing.T) {
	dir := t.TempDir()
	for i, name := range []string{"oldest", "old", "new"} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, make([]byte, 10), 0o600))
		at := time.Now().Add(time.Duration(i-3) * time.Hour)
		require.NoError(t, os.Chtimes(path, at, at))
	}
	trim(dir, 30)
	require.FileExists(t, filepath.Join(dir, "oldest"))
	trim(dir, 29)
	require.NoFileExists(t, filepath.Join(dir, "oldest"))
	require.FileExists(t, filepath.Join(dir, "old"))
	trim(dir, 10)
	require.NoFileExists(t, filepath.Join(dir, "old"))
	require.FileExists(t, filepath.Join(dir, "new"))
}
