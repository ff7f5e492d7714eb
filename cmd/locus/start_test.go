package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/cmd/locus/internal/readiness"
)

// process is this test binary, run as locus.
type process struct {
	*exec.Cmd
	out io.Reader
	err bytes.Buffer
}

// spawn runs locus as a process; it is killed when the test ends, if it still runs.
func spawn(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	bin, err := os.Executable()
	require.NoError(t, err)
	p := &process{Cmd: exec.Command(bin, args...)}
	p.Env = append(append(os.Environ(), asLocus+"=1"), env...)
	p.Stderr = &p.err
	p.out, err = p.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.Start())
	t.Cleanup(func() {
		if p.ProcessState == nil {
			_ = p.Process.Kill()
			_ = p.Wait()
		}
	})
	return p
}

// spawnNode runs a node as a process, and returns it once it serves.
func spawnNode(t *testing.T, args ...string) (*process, readiness.Block) {
	t.Helper()
	p := spawn(t, nil, append([]string{"start", "--insecure", "--output", "json", "--listen", "127.0.0.1:0"}, args...)...)
	b, err := readiness.Read(p.out)
	if err != nil {
		_ = p.Wait() // what it said on its error stream is complete then
		t.Fatalf("the node did not start: %s", p.err.String())
	}
	return p, b
}

// ends waits for a process and returns its exit status.
func (p *process) ends(t *testing.T) int {
	t.Helper()
	_, err := io.Copy(io.Discard, p.out)
	require.NoError(t, err)
	err = p.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return p.ProcessState.ExitCode()
}

// TestNodeEndsOnSignals: a node serves, ends in order on SIGTERM and SIGINT with status 0, and the next
// start on the same directory has everything; after SIGKILL too.
func TestNodeEndsOnSignals(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	cluster := ""
	for i, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt, os.Kill, syscall.SIGTERM} {
		p, b := spawnNode(t, "--data", dir)
		require.Equal(t, dir, b.Data)
		require.Equal(t, p.Process.Pid, b.PID)
		if cluster == "" {
			cluster = b.ClusterID
		}
		require.Equal(t, cluster, b.ClusterID)
		env := map[string]string{"LOCUS_ADDR": b.Address}
		if i > 0 {
			cli(t, env, "get", "key").is(t, strings.Repeat("x", i)+"\n")
		}
		cli(t, env, "put", "key", strings.Repeat("x", i+1)).is(t, "")
		require.NoError(t, p.Process.Signal(sig))
		code := p.ends(t)
		if sig == os.Kill {
			require.Equal(t, -1, code)
			continue
		}
		require.Zero(t, code, p.err.String())
		require.Empty(t, p.err.String())
	}
}

func TestNodePrintsItsAddresses(t *testing.T) {
	t.Parallel()
	p := spawn(t, nil, "start", "--insecure", "--listen", "127.0.0.1:0", "--data", t.TempDir())
	text := make([]byte, 4096)
	n, err := io.ReadAtLeast(p.out, text, 200)
	require.NoError(t, err)
	for _, want := range []string{" is ready: store 1 of cluster ", "\n  clients   127.0.0.1:", "\n  gossip    127.0.0.1:", "\n  http      http://127.0.0.1:"} {
		require.Contains(t, string(text[:n]), want)
	}
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	require.Zero(t, p.ends(t))
}

// TestNodeThatCannotStart: one line that names what is wrong, status 1, and nothing changed.
func TestNodeThatCannotStart(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	parent := t.TempDir()
	file := filepath.Join(parent, "file")
	require.NoError(t, os.WriteFile(file, []byte("mine"), 0o600))
	foreign := filepath.Join(parent, "foreign")
	require.NoError(t, os.Mkdir(foreign, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(foreign, "thesis.txt"), []byte("mine"), 0o600))

	used := filepath.Join(parent, "used")
	p, here := spawnNode(t, "--data", used)
	other := filepath.Join(parent, "other")
	q, _ := spawnNode(t, "--data", other)
	require.NoError(t, q.Process.Signal(syscall.SIGTERM))
	require.Zero(t, q.ends(t))
	newer := filepath.Join(parent, "newer")
	require.NoError(t, os.CopyFS(newer, os.DirFS(other)))
	format := findFormat(t, newer)

	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"a port in use":        {[]string{"--data", filepath.Join(parent, "a"), "--listen", taken.Addr().String()}, "address already in use"},
		"an HTTP port in use":  {[]string{"--data", filepath.Join(parent, "b"), "--http-listen", taken.Addr().String()}, "address already in use"},
		"a file as directory":  {[]string{"--data", file}, file},
		"someone's directory":  {[]string{"--data", foreign}, foreign},
		"a directory in use":   {[]string{"--data", used}, "in use by another process"},
		"another cluster":      {[]string{"--data", other, "--join", here.Address}, here.ClusterID},
		"a newer data format":  {[]string{"--data", newer}, "use a newer release"},
		"no TLS and no excuse": {[]string{"--insecure=false"}, "--tls-ca"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"start", "--insecure", "--listen", "127.0.0.1:0"}, c.args...)
			p := spawn(t, nil, args...)
			require.Equal(t, 1, p.ends(t))
			require.Equal(t, 1, strings.Count(p.err.String(), "\n"), "one line: %q", p.err.String())
			require.Contains(t, p.err.String(), c.want)
		})
	}
	for path, want := range map[string]string{file: "mine", filepath.Join(foreign, "thesis.txt"): "mine", format.path: format.text} {
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, want, string(got), "%s was touched", path)
	}
	require.NoError(t, p.Process.Signal(syscall.SIGTERM))
	require.Zero(t, p.ends(t))
}

// formatFile is the file in which a data directory names its format.
type formatFile struct{ path, text string }

// findFormat makes a data directory one of a format that nobody knows yet.
func findFormat(t *testing.T, dir string) formatFile {
	t.Helper()
	f := formatFile{path: filepath.Join(dir, "LOCUS"), text: "locus data format 999\n"}
	require.FileExists(t, f.path)
	require.NoError(t, os.WriteFile(f.path, []byte(f.text), 0o600))
	return f
}

// TestJoinWaitsForItsCluster: a node with --join begins no cluster, and a signal ends its waiting.
func TestJoinWaitsForItsCluster(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	p := spawn(t, nil, "start", "--insecure", "--listen", "127.0.0.1:0", "--data", dir, "--join", "127.0.0.1:1", "--log-level", "info")
	require.Eventually(t, func() bool { _, err := os.Stat(dir); return err == nil }, time.Minute, time.Millisecond)
	require.NoError(t, p.Process.Signal(os.Interrupt))
	require.Equal(t, 1, p.ends(t))
	require.True(t, strings.HasSuffix(p.err.String(), "interrupted\n"), p.err.String())
	require.NotContains(t, p.err.String(), "a new cluster begins")
}

// TestCompiledDir: what a function was compiled to is kept where the flag says, or else the environment.
func TestCompiledDir(t *testing.T) {
	t.Parallel()
	square := guestModules + "c/square.wasm"
	kept := func(dir string) (n int) {
		_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				n++
			}
			return nil
		})
		return n
	}
	data, shared, own := t.TempDir(), t.TempDir(), t.TempDir()
	_, b := spawnNode(t, "--data", data, "--compiled-dir", shared)
	env := map[string]string{"LOCUS_ADDR": b.Address}
	require.Zero(t, cli(t, env, "fn", "register", "square2", square).code)
	cli(t, env, "fn", "call", "square2", "5").is(t, "25\n")
	require.Positive(t, kept(shared))
	require.Zero(t, kept(filepath.Join(data, "compiled")))

	require.Zero(t, cli(t, map[string]string{compiledDirVariable: own}, "fn", "test", square, "5").code)
	require.Positive(t, kept(own))
}
