package arrows

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// TestArrows checks the whole repository.
func TestArrows(t *testing.T) {
	tree := os.DirFS("../..")
	mod, err := os.ReadFile("../../go.mod")
	require.NoError(t, err)
	require.Contains(t, string(mod), "module "+strings.TrimSuffix(module, "/")+"\n")

	bad, files, err := check(tree)
	require.NoError(t, err)
	require.Greater(t, files, 30, "the repository was read")
	for _, v := range bad {
		t.Errorf("%s", v)
	}
}

// TestCheckerFindsBadImports: a checker that never failed proves nothing.
func TestCheckerFindsBadImports(t *testing.T) {
	const locus = "github.com/locuskv/locus/"
	for _, tc := range []struct {
		file, imports string
		want          string // part of the reason; empty if the import is allowed
	}{
		// The arrows, each with an import that breaks it.
		{"api/x.go", locus + "raftstore", "api must not know raftstore"},
		{"api/x.go", locus + "internal/clientcore", "api must not know internal/clientcore"},
		{"internal/keys/x.go", locus + "api", "internal must not know api"},
		{"internal/keys/x.go", locus + "internal/clientcore", "internal must not know internal/clientcore"},
		{"internal/fresh/x.go", locus + "server", "internal must not know server"},
		{"internal/clientcore/x.go", locus + "client", "internal/clientcore must not know client"},
		{"internal/clientcore/x.go", "google.golang.org/grpc", "only api, client, server"},
		{"internal/clientcore/x.go", "net", "does no I/O"},
		{"raftstore/x.go", locus + "udf", "raftstore must not know udf"},
		{"raftstore/x.go", locus + "placement", "raftstore must not know placement"},
		{"raftstore/x.go", locus + "server/rpc", "raftstore must not know server"},
		{"raftstore/x.go", "google.golang.org/grpc/status", "only api, client, server"},
		{"raftstore/x.go", "github.com/dgraph-io/badger/v4", "only raftstore/engine may"},
		{"raftstore/raftlog/x.go", "github.com/dgraph-io/badger/v4", "only raftstore/engine may"},
		{"raftstore/x.go", "github.com/hashicorp/serf/serf", "only server may"},
		{"raftstore/x.go", "net/http", "reach it through its interfaces"},
		{"raftstore/engine/x.go", locus + "raftstore", "raftstore/engine must not know raftstore"},
		{"raftstore/engine/x.go", locus + "raftstore/raftlog", "raftstore/engine must not know raftstore/raftlog"},
		{"raftstore/raftlog/x.go", locus + "raftstore/engine", "raftstore/raftlog must not know raftstore/engine"},
		{"udf/x.go", locus + "raftstore/engine", "udf must not know raftstore/engine"},
		{"udf/x.go", "github.com/dgraph-io/badger/v4/skl", "only raftstore/engine may"},
		{"udf/x.go", locus + "server", "udf must not know server"},
		{"udf/x.go", locus + "examples/flights", "udf must not know examples"},
		{"udf/guest/x.go", locus + "udf", "udf/guest must not know udf"},
		{"udf/guest/x.go", locus + "api", "udf/guest must not know api"},
		{"udf/guest/x.go", locus + "internal/keys", "udf/guest must not know internal"},
		{"placement/x.go", locus + "raftstore", "placement must not know raftstore"},
		{"placement/x.go", locus + "server", "placement must not know server"},
		{"placement/x.go", "go.etcd.io/raft/v3", "only raftstore may"},
		{"client/x.go", locus + "server", "client must not know server"},
		{"client/x.go", locus + "udf", "client must not know udf"},
		{"client/x.go", locus + "raftstore", "client must not know raftstore"},
		{"client/x_test.go", locus + "raftstore", "client must not know raftstore"},
		{"client/x.go", "github.com/tetratelabs/wazero", "only udf may"},
		{"server/x.go", locus + "cmd/locus", "server must not know cmd"},
		{"server/x.go", locus + "examples/functions", "server must not know examples"},
		{"server/gossip/x.go", "go.etcd.io/raft/v3/raftpb", "only raftstore may"},
		{"cmd/locus/x.go", locus + "raftstore", "cmd must not know raftstore"},
		{"cmd/locus/x.go", locus + "placement", "cmd must not know placement"},
		{"examples/square/x.go", locus + "internal/keys", "examples must not know internal"},
		{"server/x.go", "github.com/spf13/cobra", "only cmd may"},
		{"raftstore/x.go", "github.com/stretchr/testify/require", "only raftstore/engine/enginetest may"},
		{"util/x.go", "fmt", "belongs to no room"},
		{"server/x.go", locus + "util", "belongs to no room"},
		{"raftstorex/x.go", "fmt", "belongs to no room"},

		// What the arrows allow.
		{"api/x.go", locus + "internal/topology", ""},
		{"api/x.go", "google.golang.org/grpc/status", ""},
		{"internal/keys/x.go", locus + "internal/ids", ""},
		{"internal/keys/x_test.go", locus + "internal/keys", ""},
		{"internal/clientcore/x.go", locus + "api/locuspb", ""},
		{"internal/clientcore/x_test.go", "os", ""},
		{"raftstore/x.go", locus + "api", ""},
		{"raftstore/x.go", locus + "raftstore/engine", ""},
		{"raftstore/x.go", locus + "internal/fresh", ""},
		{"raftstore/x.go", "go.etcd.io/raft/v3", ""},
		{"raftstore/sim/x_test.go", locus + "internal/clientcore", ""},
		{"raftstore/x_test.go", "github.com/anishathalye/porcupine", ""},
		{"raftstore/engine/x.go", "github.com/dgraph-io/badger/v4", ""},
		{"raftstore/engine/enginetest/x.go", locus + "raftstore/engine", ""},
		{"raftstore/engine/enginetest/x.go", "github.com/stretchr/testify/require", ""},
		{"udf/x.go", "github.com/tetratelabs/wazero/api", ""},
		{"udf/wasm/x_test.go", locus + "examples/flights", ""},
		{"udf/guest/bare/x.go", locus + "udf/internal/shape", ""},
		{"udf/guest/x.go", locus + "internal/packed", ""},
		{"client/x.go", locus + "internal/clientcore", ""},
		{"client/example_test.go", locus + "server", ""},
		{"server/x.go", locus + "raftstore/engine", ""},
		{"server/x.go", "github.com/hashicorp/serf/serf", ""},
		{"cmd/locus/x.go", locus + "server", ""},
		{"cmd/locus/internal/demo/x.go", locus + "cmd/locus/internal/output", ""},
		{"examples/square/main.go", locus + "client", ""},
		{"examples/flights/guest/x.go", locus + "examples/flights/delays", ""},
	} {
		t.Run(tc.file+" "+tc.imports, func(t *testing.T) {
			source := "//go:build never\n\npackage x\n\nimport (\n\t\"fmt\"\n\t_ \"" + tc.imports + "\"\n)\n"
			bad, files, err := check(fstest.MapFS{tc.file: {Data: []byte(source)}})
			require.NoError(t, err)
			require.Equal(t, 1, files)
			if tc.want == "" {
				require.Empty(t, bad)
				return
			}
			require.NotEmpty(t, bad)
			last := bad[len(bad)-1].String()
			require.True(t, strings.HasPrefix(last, tc.file+":7 imports \""+tc.imports+"\": "), last)
			require.Contains(t, last, tc.want)
		})
	}
}

func TestCheckerReadsTheModuleOnly(t *testing.T) {
	bad := []byte("package x\n\nimport _ \"github.com/locuskv/locus/server\"\n")
	found, files, err := check(fstest.MapFS{
		"api/a.go":                {Data: bad},
		"api/deep/er/b.go":        {Data: bad},
		"api/testdata/c.go":       {Data: bad},
		"api/.hidden/d.go":        {Data: bad},
		"examples/alone/go.mod":   {Data: []byte("module alone\n")},
		"examples/alone/e/f/g.go": {Data: bad},
		"api/readme.md":           {Data: bad},
	})
	require.NoError(t, err)
	require.Equal(t, 2, files)
	require.Len(t, found, 2)

	_, _, err = check(fstest.MapFS{"api/a.go": {Data: []byte("not Go")}})
	require.Error(t, err, "a file that can't be read is no file without imports")
}

// TestRulesAreWellFormed: a rule that names no room permits nothing.
func TestRulesAreWellFormed(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rooms {
		require.False(t, seen[r.path], "%s has two rules", r.path)
		seen[r.path] = true
		require.NotEmpty(t, r.because, r.path)
		for _, other := range slices.Concat(r.knows, r.tests) {
			require.NotNil(t, roomOf(other), "%s knows %s, which is no room", r.path, other)
		}
	}
}
