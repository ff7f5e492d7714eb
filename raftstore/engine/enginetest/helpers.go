package enginetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/raftstore/engine"
)

func put(key, value string) engine.Op { return engine.Op{Key: []byte(key), Value: []byte(value)} }
func del(key string) engine.Op        { return engine.Op{Key: []byte(key), Delete: true} }

func apply(t *testing.T, e engine.Engine, seq ids.Seq, ops ...engine.Op) {
	t.Helper()
	require.NoError(t, e.Apply([]engine.Batch{{Seq: seq, Ops: ops}}))
}

// get prints value@version, gone@version for a tombstone, or none.
func get(t *testing.T, e engine.Engine, key string, seq ids.Seq) string {
	t.Helper()
	v, version, found, err := e.Get([]byte(key), seq)
	require.NoError(t, err)
	switch {
	case found:
		return fmt.Sprintf("%s@%d", v, version)
	case version != 0:
		require.Nil(t, v)
		return fmt.Sprintf("gone@%d", version)
	}
	return "none"
}

func scan(t *testing.T, e engine.Engine, o engine.IterOptions) []string {
	t.Helper()
	out, err := tryScan(e, o)
	require.NoError(t, err)
	return out
}

// tryScan lists key=value@version, or key-@version for a tombstone.
func tryScan(e engine.Engine, o engine.IterOptions) ([]string, error) {
	it := e.NewIterator(o)
	defer it.Close()
	var out []string
	for ; it.Valid(); it.Next() {
		if it.Deleted() {
			out = append(out, fmt.Sprintf("%s-@%d", it.Key(), it.Version()))
		} else {
			out = append(out, fmt.Sprintf("%s=%s@%d", it.Key(), it.Value(), it.Version()))
		}
	}
	return out, it.Err()
}

// contents leaves the versions out of a scan.
func contents(records []string) []string {
	out := make([]string, len(records))
	for i, r := range records {
		out[i] = r[:strings.LastIndexByte(r, '@')]
	}
	return out
}

func reversed(records []string) []string {
	out := slices.Clone(records)
	slices.Reverse(out)
	return out
}
