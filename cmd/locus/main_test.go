package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/examples/functions"
	"github.com/locuskv/locus/internal/testflag"
	"github.com/locuskv/locus/server"
	"github.com/locuskv/locus/udf"
	"github.com/locuskv/locus/udf/guestcache"
)

// asLocus makes the test binary behave as locus, so that tests can run it as a process: a node to be
// killed, a demo to be interrupted. Its children inherit it.
const asLocus = "LOCUS_TEST_AS_LOCUS"

func TestMain(m *testing.M) {
	if os.Getenv(asLocus) != "" {
		main()
		return
	}
	guestcache.Share()
	testflag.Parallel(4)
	os.Exit(m.Run())
}

// answer is what a command line answered.
type answer struct {
	out, err string
	code     int
}

// cli runs a command line in this process.
func cli(t *testing.T, env map[string]string, args ...string) answer {
	t.Helper()
	return cliWith(t, "", env, args...)
}

// cliWith runs a command line with a standard input.
func cliWith(t *testing.T, in string, env map[string]string, args ...string) answer {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(t.Context(), args, streams{
		in: strings.NewReader(in), out: &out, err: &errs, getenv: func(k string) string {
			if v, ok := env[k]; ok || k != compiledDirVariable {
				return v
			}
			return os.Getenv(k)
		},
	})
	return answer{out.String(), errs.String(), code}
}

// node runs a node in this process until the test ends, and returns the environment that finds it.
func node(t *testing.T) map[string]string {
	t.Helper()
	registry, err := udf.NewRegistry(functions.All()...)
	require.NoError(t, err)
	n, err := server.Start(t.Context(), server.Options{
		Data: t.TempDir(), Listen: "127.0.0.1:0", Insecure: true, Functions: registry, Logger: slog.New(slog.DiscardHandler),
		CompiledDir: os.Getenv(guestcache.Variable),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Stop(context.Background())) })
	return map[string]string{"LOCUS_ADDR": n.Addr()}
}

// fails checks that a command line failed with one line on the error stream, nothing on the other, and
// status 1.
func (a answer) fails(t *testing.T, want string) {
	t.Helper()
	require.Equal(t, 1, a.code, "exit status")
	require.Empty(t, a.out)
	require.Equal(t, 1, strings.Count(a.err, "\n"), "one line: %q", a.err)
	require.Contains(t, a.err, want)
}

// is checks that a command line succeeded with an answer and without a word on the error stream.
func (a answer) is(t *testing.T, want string) {
	t.Helper()
	require.Empty(t, a.err)
	require.Zero(t, a.code, "exit status")
	require.Equal(t, want, a.out)
}
