package codecache

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// directory has files of ten bytes each, from the oldest to the newest.
func directory(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i, name := range names {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, make([]byte, 10), 0o600))
		require.NoError(t, os.Chtimes(path, time.Time{}, time.Unix(int64(100+i), 0)))
	}
	return dir
}

func requireOnly(t *testing.T, dir string, names ...string) {
	t.Helper()
	var got []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(dir, path)
			got = append(got, filepath.ToSlash(name))
		}
		return err
	}))
	require.ElementsMatch(t, names, got)
}

// What else is in the directory belongs to somebody, and is neither counted nor deleted.
func TestTrim(t *testing.T) {
	dir := directory(t, "letters", "photos/summer", "wazero-1/old", "wazero-2/middle", "wazero-2/new")
	other := directory(t, "wazero-1/oldest")
	Trim(40, dir, other)
	requireOnly(t, other, "wazero-1/oldest")
	Trim(39, dir, other)
	requireOnly(t, dir, "letters", "photos/summer", "wazero-2/middle", "wazero-2/new", "wazero-1/old")
	requireOnly(t, other)
	Trim(15, dir, other)
	requireOnly(t, dir, "letters", "photos/summer", "wazero-2/new")
	Trim(0, filepath.Join(dir, "nothing"))
}

func TestDrop(t *testing.T) {
	dir := directory(t, "letters", "photos/summer", "wazero-1/old", "wazero-1/new.tmp")
	Drop(dir)
	requireOnly(t, dir, "letters", "photos/summer", "wazero-1/new.tmp")
	Drop(filepath.Join(dir, "nothing"))
}
