package engine

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/dgraph-io/badger/v4/table"
	"github.com/stretchr/testify/require"
)

// ManifestTables lists the names of the tables that a MANIFEST names.
func ManifestTables(t testing.TB, manifest []byte) map[string]bool {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "MANIFEST"), manifest, 0o600))
	tables, err := tableCompressions(dir)
	require.NoError(t, err)
	names := map[string]bool{}
	for id := range tables {
		names[filepath.Base(table.NewFilename(id, dir))] = true
	}
	return names
}
