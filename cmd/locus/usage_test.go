package main

import (
	"context"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// commands lists every command of the tree but cobra's own.
func commands(c *cobra.Command) []*cobra.Command {
	out := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		if sub.Name() != "help" && sub.Name() != "completion" {
			out = append(out, commands(sub)...)
		}
	}
	return out
}

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	all := commands(newRoot(&shell{}))
	require.Greater(t, len(all), 20)
	for _, c := range all {
		t.Run(c.CommandPath(), func(t *testing.T) {
			require.NotEmpty(t, c.Short)
			for line := range strings.SplitSeq(c.Example, "\n") {
				require.Contains(t, line, "locus ")
			}
			path := strings.Fields(c.CommandPath())[1:]
			a := cli(t, nil, append(path, "--help")...)
			require.Zero(t, a.code)
			require.Empty(t, a.err)
			require.Contains(t, a.out, "Examples:\n"+c.Example)
		})
	}
}

// TestWrongUse lists what users get wrong: one line that says what, and status 1. No node runs.
func TestWrongUse(t *testing.T) {
	for line, want := range map[string]string{
		"bogus":                      `unknown command "bogus" for "locus"`,
		"keyspace bogus":             `unknown command "bogus" for "locus keyspace" (see locus keyspace --help)`,
		"fn bogus":                   `unknown command "bogus" for "locus fn"`,
		"get":                        "locus get takes 1 argument, not 0: locus get KEY",
		"get a b":                    "locus get takes 1 argument, not 2: locus get KEY",
		"put a":                      "locus put takes 2 arguments, not 1: locus put KEY VALUE",
		"scan x":                     "locus scan takes no arguments, not 1: locus scan",
		"keyspace create":            "locus keyspace create takes 1 argument, not 0: locus keyspace create NAME",
		"range transfer 1":           "locus range transfer RANGE STORE",
		"get --bogus a":              "locus get: unknown flag: --bogus (see locus get --help)",
		"scan --limit many":          `invalid argument "many" for "--limit"`,
		"scan --limit -1":            "--limit -1 is negative",
		"scan --prefix a --start b":  "--prefix goes with neither --start nor --end",
		"scan --prefix a --end b":    "--prefix goes with neither --start nor --end",
		"scan --start b --end a":     "--start b is not before --end a",
		"fn run f --start b --end b": "--start b is not before --end b",
		"scan --addr 127.0.0.1:70000 --timeout 100ms":        `address "127.0.0.1:70000" is not host:port`,
		"get a --output yaml":                                `--output "yaml" is neither text nor json`,
		"get a --timeout -1s":                                "--timeout -1s is negative",
		"get xyz --hex":                                      `key "xyz" is not hexadecimal`,
		"get a --consistency best":                           `--consistency "best" is none of linearizable, snapshot, snapshot=TIMESTAMP, stale=DURATION and eventual`,
		"scan --consistency stale":                           `--consistency "stale" is none of`,
		"get a --consistency stale=soon":                     `"soon" is not a duration`,
		"get a --consistency stale=-1s":                      `"-1s" is not a duration`,
		"scan --consistency snapshot=yesterday":              `"yesterday" is not a timestamp`,
		"get a --consistency snapshot=1.2":                   `"1.2" is not a timestamp`,
		"get a --consistency snapshot=-1.00000":              `"-1.00000" is not a timestamp`,
		"check --time 0s":                                    "--time must not be 0",
		"check --nodes 2":                                    "--nodes 2 is not between 3 and 9",
		"check --clients 1000":                               "--clients 1000 is not between 1 and 64",
		"check --nemesis flood":                              `--nemesis "flood" is none of [kill pause partition transfer split]`,
		"put a b --ttl -1s":                                  "--ttl -1s is less than a millisecond",
		"put a b --ttl 1us":                                  "--ttl 1µs is less than a millisecond",
		"import f.csv":                                       "--key is required",
		"import f.csv --key a//b":                            `key template "a//b": part "" names no field`,
		"import /nonexistent --key a":                        "/nonexistent: no such file or directory",
		"import . --key a":                                   ". is a directory",
		"fn register f /nonexistent":                         "/nonexistent: no such file or directory",
		"fn new f":                                           "--lang is required: go, rust or c",
		"fn new --lang zig f":                                `language "zig" is none of go, rust, c`,
		"fn new --lang go a/b":                               `the name "a/b" may hold letters, digits, '-' and '_' only`,
		"fn test":                                            "locus fn test takes a file and at most one argument, not 0: locus fn test FILE.wasm [ARG]",
		"fn test /nonexistent.wasm":                          "/nonexistent.wasm: no such file or directory",
		"fn test x.wasm --ranges 0":                          "--ranges 0 is less than 1",
		"fn test x.wasm --key a --group b":                   "--key and --group don't go together",
		"fn call":                                            "locus fn call takes a name and at most one argument, not 0",
		"fn call square five":                                `argument "five" is not JSON`,
		"fn run f 1 2":                                       "locus fn run takes a name and at most one argument, not 3",
		"query extra":                                        "locus query takes no arguments, not 1: locus query",
		"query --select key --agg count()":                   "--select and --agg don't go together",
		"query --select key --top 3":                         "--select and --top don't go together",
		"query --limit 5":                                    "--limit goes with --select",
		"query --key-order":                                  "--key-order goes with --select",
		"query --select key --limit -1":                      "--limit -1 is negative",
		"query --top -1":                                     "--top -1 is negative",
		"query --delimiter ::":                               `--delimiter "::" is not one byte`,
		"query --prefix a --start b":                         "--prefix goes with neither --start nor --end",
		"range split":                                        "takes either the number of a range or --at KEY",
		"range split 7 --at a":                               "takes either the number of a range or --at KEY",
		"range split zero":                                   `"zero" is not the number of a range`,
		"range transfer 1 0":                                 `"0" is not the number of a store`,
		"keyspace create a --partition x":                    `--partition "x" is neither range nor hash`,
		"keyspace create a --group-delim / --group-depth 0":  "--group-delim needs a --group-depth of at least 1, not 0",
		"keyspace create a --group-delim ab --group-depth 1": `--group-delim "ab" is not one byte`,
		"keyspace create a --group-delim /":                  "--group-delim needs a --group-depth of at least 1, not 0",
		"keyspace create a --group-depth 1":                  "--group-depth needs --group-delim",
		"keyspace create a --group-delim / --group-depth 1 --group-len 2": "--group-len goes with neither --group-delim nor --group-depth",
		"keyspace create a --group-len -1":                                "can't be negative",
		"keyspace create a --partition hash --split-at b":                 "--split-at is for range partition",
		"keyspace create a --split-into 4":                                "--split-into is for hash partition",
		"keyspace create a --split-at zz --hex":                           `--split-at: key "zz" is not hexadecimal`,
		"start extra":                                                     "locus start takes no arguments, not 1",
		"start --log-level loud --insecure":                               `--log-level "loud" is none of debug, info, warn and error`,
		"start":                                                           "--tls-ca, --tls-cert and --tls-key",
		"start --insecure --listen 0.0.0.0:7400":                          "--insecure: it allows loopback addresses only",
		"start --insecure --listen nowhere":                               "--listen",
		"start --insecure --join nowhere":                                 "--join",
		"demo --rows -1":                                                  "--rows -1 is negative",
		"demo extra":                                                      "locus demo takes no arguments, not 1",
	} {
		t.Run(line, func(t *testing.T) {
			args := append(strings.Fields(line), "--addr", "127.0.0.1:1", "--timeout", "100ms")
			if strings.Contains(line, "--timeout") {
				args = strings.Fields(line)
			}
			cli(t, nil, args...).fails(t, want)
		})
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"get a", "put a b", "scan", "status", "status --wait", "node list", "fn call square 5"} {
		args := append(strings.Fields(line), "--addr", "127.0.0.1:1", "--timeout", "200ms")
		cli(t, nil, args...).fails(t, "127.0.0.1:1")
	}
}

// TestReach: who refuses is told of, also when the time is up in the middle of another try; who is silent is not.
func TestReach(t *testing.T) {
	const none = "no node runs at a, b: connection refused"
	for _, c := range []struct {
		name  string
		tries int    // that the time allows
		slow  string // who is silent from then on, or from the begin
		want  string
	}{
		{"the time is up while the first is asked again", 2, "", none},
		{"while the second is", 3, "", none},
		{"one is silent", 9, "b", ""},
		{"the first is", 9, "a", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			late := timedOut{ctx}
			tries := 0
			err := reach(late, []string{"a", "b"}, func(ctx context.Context, _, address string) (net.Conn, error) {
				if tries++; tries > c.tries || address == c.slow {
					cancel()
					<-ctx.Done()
					return nil, &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}
				}
				return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
			})
			if c.want == "" {
				require.NoError(t, err, "the client finds out")
				return
			}
			require.EqualError(t, err, c.want)
		})
	}
}

// timedOut is a context that ends as if its deadline had passed.
type timedOut struct{ context.Context }

func (c timedOut) Err() error {
	if c.Context.Err() != nil {
		return context.DeadlineExceeded
	}
	return nil
}

// TestNobodyThereIsToldSoon: a node that was never started is no reason to wait for half a minute.
func TestNobodyThereIsToldSoon(t *testing.T) {
	t.Parallel()
	begun := time.Now()
	cli(t, nil, "get", "a", "--addr", "127.0.0.1:1,127.0.0.1:2").fails(t, "no node runs at 127.0.0.1:1, 127.0.0.1:2: connection refused")
	require.Less(t, time.Since(begun), defaultTimeout/2)
}

func TestFlagsGoBeforeTheEnvironment(t *testing.T) {
	env := map[string]string{"LOCUS_ADDR": "127.0.0.1:2", "LOCUS_TLS_CA": "/nonexistent.pem"}
	cli(t, env, "get", "a", "--timeout", "100ms").fails(t, "--tls-ca: open /nonexistent.pem")
	env["LOCUS_TLS_CA"] = ""
	cli(t, env, "get", "a", "--timeout", "100ms").fails(t, "127.0.0.1:2")
	cli(t, env, "get", "a", "--timeout", "100ms", "--addr", "127.0.0.1:1").fails(t, "127.0.0.1:1")
}

func TestVersion(t *testing.T) {
	a := cli(t, nil, "version")
	require.Equal(t, a.out, cli(t, nil, "--version").out)
	require.Zero(t, a.code)
	require.Regexp(t, `^locus \S+ go\S+ \w+/\w+\n$`, a.out)
	require.Contains(t, cli(t, nil, "version", "-o", "json").out, `"version": `)
}

func TestRootPrintsItsHelp(t *testing.T) {
	a := cli(t, nil)
	require.Zero(t, a.code)
	for _, name := range []string{"start", "demo", "put", "get", "delete", "scan", "import", "status", "check", "version", "keyspace", "range", "node", "fn"} {
		require.Contains(t, a.out, "\n  "+name+" ")
	}
}
