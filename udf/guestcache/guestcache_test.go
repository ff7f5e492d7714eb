package guestcache

import (
	"os"
	"path/filepath"
	"testing"

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
