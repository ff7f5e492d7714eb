package kill

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/bench/cluster"
	"github.com/locuskv/locus/bench/cluster/clustertest"
	"github.com/locuskv/locus/client"
)

// refusal is how a start that failed ended.
type refusal struct {
	status         int
	stdout, stderr string
}

// startRefused runs a start that has to fail soon.
func startRefused(t *testing.T, args ...string) refusal {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	path := *locus
	if path == "" {
		path = clustertest.Binary(t)
	}
	cmd := exec.CommandContext(ctx, path, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	require.NoError(t, ctx.Err(), "it did not end: %v\n%s", args, stderr.String())
	var exit *exec.ExitError
	require.True(t, errors.As(err, &exit), "it ended with %v: %s", err, stdout.String())
	return refusal{exit.ExitCode(), stdout.String(), stderr.String()}
}

// requireOneLine wants status 1 and one line that holds the parts.
func (r refusal) requireOneLine(t *testing.T, parts ...string) {
	t.Helper()
	require.Equal(t, 1, r.status, r.stderr)
	require.Empty(t, r.stdout)
	require.True(t, strings.HasSuffix(r.stderr, "\n") && strings.Count(r.stderr, "\n") == 1, "not one line: %q", r.stderr)
	for _, p := range parts {
		require.Contains(t, r.stderr, p)
	}
}

// fingerprint is the content of all files below a directory, by name.
func fingerprint(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || d.IsDir() {
			out[name] = "directory"
			return err
		}
		text, err := os.ReadFile(path)
		out[name] = fmt.Sprintf("%x", sha256.Sum256(text))
		return err
	}))
	return out
}

// stoppedNode is a node that held a key and was stopped in order.
func stoppedNode(t *testing.T) (*cluster.Cluster, *cluster.Node) {
	t.Helper()
	c := newCluster(t)
	require.NoError(t, c.Start(t.Context(), 1))
	db, err := client.Open(t.Context(), client.Options{Addrs: c.Addrs()})
	require.NoError(t, err)
	_, err = db.Keyspace("default").Put(t.Context(), []byte("k"), []byte("v"))
	require.NoError(t, err)
	require.NoError(t, db.Close())
	n := c.Nodes()[0]
	require.NoError(t, n.Stop(t.Context()))
	return c, n
}

// requireKey starts the node again and finds the key.
func requireKey(t *testing.T, c *cluster.Cluster, n *cluster.Node) {
	t.Helper()
	require.NoError(t, n.Start(t.Context()))
	db, err := client.Open(t.Context(), client.Options{Addrs: c.Addrs(), Timeout: 2 * time.Minute})
	require.NoError(t, err)
	defer db.Close()
	item, err := db.Keyspace("default").Get(t.Context(), []byte("k"))
	require.NoError(t, err)
	require.Equal(t, "v", string(item.Value))
}

const anyPort = "127.0.0.1:0"

// startArgs are a start on any ports.
func startArgs(dir string, more ...string) []string {
	return append([]string{
		"start", "--insecure", "--data", dir, "--listen", anyPort, "--gossip-listen", anyPort, "--http-listen", anyPort,
	}, more...)
}

func TestStartOnUnusableDirectory(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts processes; not with -short")
	}
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte("mine"), 0o600))
	foreign := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(foreign, "thesis.txt"), []byte("mine"), 0o600))
	notLocus := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(notLocus, "LOCUS"), []byte("mine"), 0o600))
	for _, dir := range []string{file, filepath.Join(file, "below"), foreign, notLocus} {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			before := fingerprint(t, filepath.Dir(dir))
			if dir == filepath.Join(file, "below") {
				before = fingerprint(t, file)
			}
			startRefused(t, startArgs(dir)...).requireOneLine(t, "data directory", dir, "can't be used")
			after := fingerprint(t, filepath.Dir(dir))
			if dir == filepath.Join(file, "below") {
				after = fingerprint(t, file)
			}
			require.Equal(t, before, after)
		})
	}
}

func TestStartOnPortInUse(t *testing.T) {
	t.Parallel()
	c, n := stoppedNode(t)
	taken, err := net.Listen("tcp", anyPort)
	require.NoError(t, err)
	defer taken.Close()
	before := fingerprint(t, n.Dir())
	for _, flag := range []string{"--listen", "--gossip-listen", "--http-listen"} {
		t.Run(flag, func(t *testing.T) {
			addr := taken.Addr().String()
			startRefused(t, startArgs(n.Dir(), flag, addr)...).requireOneLine(t, addr, "address already in use")
			fresh := filepath.Join(t.TempDir(), "fresh")
			startRefused(t, startArgs(fresh, flag, addr)...).requireOneLine(t, addr, "address already in use")
		})
	}
	require.Equal(t, before, fingerprint(t, n.Dir()))
	requireKey(t, c, n)
}

func TestStartOnDirectoryInUse(t *testing.T) {
	t.Parallel()
	c, n := stoppedNode(t)
	requireKey(t, c, n)
	startRefused(t, startArgs(n.Dir())...).requireOneLine(t, n.Dir(), "in use")
	require.True(t, n.Running())
	require.NoError(t, n.Ready(t.Context()))
}

// TestStartOnAnotherClustersData: a directory of one cluster is no node of another, whatever --join says.
func TestStartOnAnotherClustersData(t *testing.T) {
	t.Parallel()
	a, mine := stoppedNode(t)
	b, _ := stoppedNode(t)
	other := b.Nodes()[0]
	requireKey(t, b, other)
	before := fingerprint(t, mine.Dir())
	startRefused(t, startArgs(mine.Dir(), "--join", other.Addr())...).
		requireOneLine(t, "data directory", mine.Dir(), "belongs to cluster", mine.Block().Cluster, other.Block().Cluster)
	require.Equal(t, logOf(before), logOf(fingerprint(t, mine.Dir())))
	requireKey(t, a, mine)
}

// logOf is what belongs to the Raft log: it says who the node is, and is read, not written, by a start that
// ends before the node serves. The engine's files may come and go when it is opened.
func logOf(files map[string]string) map[string]string {
	out := make(map[string]string)
	for name, sum := range files {
		if strings.HasPrefix(name, "raft") {
			out[name] = sum
		}
	}
	return out
}

// TestStartOnNewerFormat: what a newer release wrote is refused, and works again once it is as it was.
// docs/format.md tells where each version stands.
func TestStartOnNewerFormat(t *testing.T) {
	t.Parallel()
	c, n := stoppedNode(t)
	for _, tc := range []struct {
		name string
		file func(dir string) string
		edit func(text []byte) []byte
		says string
	}{
		{"directory", fixed("LOCUS"), func(text []byte) []byte {
			return bytes.Replace(text, []byte("format 1"), []byte("format 2"), 1)
		}, "use a newer release"},
		{"log", oldestSegment, newerSegment, "use a newer release"},
		{"engine", fixed("engine/MANIFEST"), newerManifest, "another format"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := tc.file(n.Dir())
			info, err := os.Stat(path)
			require.NoError(t, err)
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			edited := tc.edit(bytes.Clone(text))
			require.NotEqual(t, text, edited)
			require.NoError(t, os.WriteFile(path, edited, info.Mode()))
			defer func() { require.NoError(t, os.WriteFile(path, text, info.Mode())) }()
			before := fingerprint(t, n.Dir())
			startRefused(t, startArgs(n.Dir())...).requireOneLine(t, n.Dir(), "format 2", tc.says)
			require.Equal(t, before, fingerprint(t, n.Dir()), "something was changed")
		})
	}
	requireKey(t, c, n)
}

func fixed(name string) func(string) string {
	return func(dir string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
}

// oldestSegment is the first segment of the Raft log.
func oldestSegment(dir string) string {
	found, err := filepath.Glob(filepath.Join(dir, "raft", "*.log"))
	if err != nil || len(found) == 0 {
		return filepath.Join(dir, "raft", "no segment")
	}
	return slices.Min(found)
}

// newerSegment sets a segment's version (bytes 8-11) to 2, and its checksum (12-15, of 0-11 and 16-63).
func newerSegment(text []byte) []byte {
	binary.LittleEndian.PutUint32(text[8:], 2)
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(crc32.Checksum(text[:12], castagnoli), castagnoli, text[16:64])
	binary.LittleEndian.PutUint32(text[12:], sum)
	return text
}

// newerManifest sets the application's magic number in Badger's MANIFEST to 2: it is the big endian u16
// after the text "Bdgr".
func newerManifest(text []byte) []byte {
	binary.BigEndian.PutUint16(text[4:], 2)
	return text
}
