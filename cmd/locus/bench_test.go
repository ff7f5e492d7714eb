package main

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/bench/functions"
	loadgen "github.com/locuskv/locus/bench/load"
	"github.com/locuskv/locus/bench/load/sidebyside"
)

func TestBench(t *testing.T) {
	t.Parallel()
	env := node(t)
	a := cli(t, env, "bench", "load", "-k", "bench", "--ranges", "3", "--keys", "500")
	require.Empty(t, a.err)
	require.Regexp(t, `^loaded 500 keys with values of 128 B into bench in .*/s\n$`, a.out)

	a = cli(t, env, "bench", "load", "-k", "bench", "--keys", "500", "-o", "json")
	var l loadgen.Loaded
	require.NoError(t, json.Unmarshal([]byte(a.out), &l), a.out)
	require.Equal(t, 500, l.Keys)

	run := []string{"bench", "run", "-k", "bench", "--keys", "500", "--clients", "4", "--duration", "100ms", "--warmup", "0s", "--workload"}
	a = cli(t, env, append(run, "mix")...)
	require.Empty(t, a.err)
	require.Contains(t, a.out, "mix on locus: 4 clients, closed loop, 500 keys chosen uniform, values of 128 B; 100 ms measured after 0 µs\n"+
		"durability: acknowledged after fsync")
	require.Regexp(t, `(?m)^ +ops +ops/s +mean +p50 `, a.out)
	require.Contains(t, a.out, "\nerrors: none\n")

	a = cli(t, env, append(run, "counter", "-o", "json")...)
	var r loadgen.Report
	require.NoError(t, json.Unmarshal([]byte(a.out), &r), a.out)
	require.Equal(t, "locus", r.Target)
	require.True(t, r.Counter.Exact)

	t.Run("missing keys are told", func(t *testing.T) {
		a := cli(t, env, append(run, "get", "--keys", "100000", "--duration", "1s")...) // one of 200 is there
		require.Zero(t, a.code)
		require.Contains(t, a.out, "× get: not found, for example: a loaded key is not there")
	})
	t.Run("missing keyspace", func(t *testing.T) {
		cli(t, env, "bench", "run", "-k", "nowhere", "--workload", "get").fails(t, "nowhere")
		cli(t, env, "bench", "load", "-k", "nowhere", "--keys", "1").fails(t, "nowhere")
	})
}

func TestBenchWrongUse(t *testing.T) {
	for line, want := range map[string]string{
		"bench bogus":                              `unknown command "bogus" for "locus bench"`,
		"bench run":                                "--workload is required: put, get, mix, counter, ycsb-a",
		"bench run --workload x":                   `--workload "x" is none of put`,
		"bench run --workload put --target x":      `--target "x" is neither locus nor etcd`,
		"bench run --workload put --clients 0":     "--clients 0 is not between 1 and",
		"bench run --workload put --keys 0":        "--keys 0 is not between 1 and",
		"bench load --ranges -1":                   "--ranges -1 is not between 0 and",
		"bench load --value-size -1":               "--value-size -1 is not between 0 and",
		"bench load --target x":                    `--target "x" is neither locus nor etcd`,
		"bench functions --records 5":              "--records 5 is not between 1000 and",
		"bench functions --rows json,x":            `--rows: "x" is none of json, fixed,`,
		"bench functions --quick --rounds 0":       "--rounds 0 is not between 1 and",
		"bench functions --dir /nonexistent":       "/nonexistent",
		"bench peers --rounds 0":                   "--rounds 0 is not between 1 and",
		"bench peers --rows put":                   `--rows: "put" is not WORKLOAD/CLIENTS`,
		"bench peers --rows x/1":                   `--workload "x" is none of`,
		"bench peers --ranges 0":                   "--ranges 0 is not between 1 and",
		"bench peers --clients 0":                  "--clients 0 is not between 1 and",
		"bench peers --dir /nonexistent":           "/nonexistent",
		"bench run --workload put --addr 1.2.3.4x": "1.2.3.4x",
	} {
		t.Run(line, func(t *testing.T) {
			args := append(strings.Fields(line), "--timeout", "100ms")
			if !strings.Contains(line, "--addr") {
				args = append(args, "--addr", "127.0.0.1:1")
			}
			a := cli(t, nil, args...)
			require.Equal(t, 1, a.code)
			require.Empty(t, a.out)
			require.Contains(t, a.err, want)
		})
	}
}

// TestBenchFunctions: the rows that need no nodes, for people and for machines.
func TestBenchFunctions(t *testing.T) {
	if testing.Short() {
		t.Skip("starts Redis where it is installed")
	}
	t.Parallel()
	dir := t.TempDir()
	a := cli(t, nil, "bench", "functions", "--quick", "--rows", "cached,memory", "--dir", dir)
	require.Zero(t, a.code, a.err)
	require.Regexp(t, `(?m)^ +\d+s  cached, alone: `, a.err)
	require.Contains(t, a.out, "\n--quick: these numbers mean nothing\n")
	require.Regexp(t, `(?m)^ +guest in C, metered +[\d,]+ +[\d,]+ +[\d,]+ +records/s$`, a.out)
	require.Regexp(t, `(?m)^ +guest in C +at most 300,000 bytes +[\d,]+ bytes +(met|missed)$`, a.out)

	a = cli(t, nil, "bench", "functions", "--quick", "--records", "2000", "--rows", "cached", "--rounds", "2", "-o", "json", "--dir", dir)
	require.Zero(t, a.code, a.err)
	var r functions.Report
	require.NoError(t, json.Unmarshal([]byte(a.out), &r), a.out)
	require.Equal(t, 2000, r.Flights)
	require.True(t, r.Quick)
	require.Len(t, r.Rows, 1)
	require.Len(t, r.Rows[0].Contenders[0].Samples, 2, "what is given goes before --quick")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestBenchWithoutSource: who has only the binary learns what is missing.
func TestBenchWithoutSource(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("the go tool is not in PATH")
	}
	t.Chdir(t.TempDir())
	cli(t, nil, "bench", "run", "--workload", "put", "--target", "etcd").fails(t, "run this in its folder, or give a built one with --peers-bin")
}

// fakeEtcd is a helper that answers like bench/peers and does nothing, so that this module needs no etcd. The
// real one is run by .ci/run.
const fakeEtcd = `#!/bin/sh
case $1 in
serve) echo '{"version":"fake","address":"127.0.0.1:1","pid":1}'; exec sleep 1000;;
load) echo '{"keys":500,"seconds":2,"keys_per_second":250}';;
run) echo '{"workload":"x","all":{"ops":10,"ops_per_second":100,"p50_us":1000,"p99_us":2000},"durability":"fake fsync","errors":[{"op":"put","kind":"overloaded","count":7,"example":"too much"}]}';;
esac
`

// endless are the rounds of a comparison that does not come to its end before it is interrupted, however late that is.
const endless = "1000"

// startPeers runs "locus bench peers" as a process, with a temporary directory of its own.
func startPeers(t *testing.T, args ...string) (p *exec.Cmd, out, errs io.Reader, tmp string) {
	t.Helper()
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("starts three nodes, and looks for them in /proc")
	}
	t.Parallel()
	helper := filepath.Join(t.TempDir(), "peers")
	require.NoError(t, os.WriteFile(helper, []byte(fakeEtcd), 0o700))
	tmp = t.TempDir()
	bin, err := os.Executable()
	require.NoError(t, err)
	p = exec.Command(bin, append([]string{
		"bench", "peers", "--peers-bin", helper, "--rounds", "2", "--duration", "100ms", "--warmup", "0s", "--keys", "500", "--ranges", "1,3",
		"--rows", "put/4,counter/4",
	}, args...)...)
	p.Env = append(os.Environ(), asLocus+"=1", "TMPDIR="+tmp)
	o, err := p.StdoutPipe()
	require.NoError(t, err)
	e, err := p.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, p.Start())
	t.Cleanup(func() {
		if p.ProcessState == nil {
			_ = p.Process.Kill()
			_ = p.Wait()
		}
	})
	return p, o, e, tmp
}

// workingIn are the processes whose working directory is or was in dir.
func workingIn(t *testing.T, dir string) (pids []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cwd")
	require.NoError(t, err)
	for _, link := range all {
		if cwd, err := os.Readlink(link); err == nil && strings.HasPrefix(cwd, dir) {
			pids = append(pids, strings.Split(link, "/")[2])
		}
	}
	return pids
}

func requireCleanedUp(t *testing.T, tmp string) {
	t.Helper()
	left, err := os.ReadDir(tmp)
	require.NoError(t, err)
	require.Empty(t, left)
	require.Empty(t, workingIn(t, tmp))
}

func TestBenchPeers(t *testing.T) {
	p, out, errs, tmp := startPeers(t, "-o", "json")
	words := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(errs)
		words <- string(b)
	}()
	b, err := io.ReadAll(out)
	require.NoError(t, err)
	said := <-words
	require.NoError(t, p.Wait(), said)
	requireCleanedUp(t, tmp)
	require.Contains(t, said, "round 2 of 2: counter, 4 clients")

	var c sidebyside.Comparison
	require.NoError(t, json.Unmarshal(b, &c))
	require.Len(t, c.Rows, 4, "two workloads, 1 and 3 ranges")
	for _, r := range c.Rows {
		require.Len(t, r.Locus.Rates, 2)
		require.Empty(t, r.Locus.Failed)
		require.EqualValues(t, 100, r.Etcd.Rate)
		require.EqualValues(t, 14, r.Etcd.Errors)
		require.InDelta(t, r.Locus.Rate/100, r.Ratio, 1e-9)
	}
	require.Equal(t, "fake", c.Etcd.Version)
	require.Equal(t, "fake fsync", c.Etcd.Durability)
	require.Contains(t, c.Locus.Durability, "fsync")
	require.Positive(t, c.Locus.Loaded)
	require.Len(t, c.Loads, 3)

	var text strings.Builder
	s := &shell{streams: streams{out: &text}}
	require.NoError(t, s.printComparison(&c))
	require.Contains(t, text.String(), "etcd fake: fake fsync\n")
	require.Contains(t, text.String(), "errors of etcd, puts, 4 clients: 14 × put: overloaded, for example: too much\n")
	require.Equal(t, 1, strings.Count(text.String(), "errors of etcd, puts"), "rows that differ in the ranges share etcd's")
}

// TestBenchPeersInterrupted: in the middle of what it does, a signal leaves neither process nor file.
func TestBenchPeersInterrupted(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"starting three nodes", "loading 500 keys into locus (3 ranges)", "round 1 of " + endless + ": counter"} {
		t.Run(at, func(t *testing.T) {
			p, out, errs, tmp := startPeers(t, "--rounds", endless)
			r := bufio.NewReader(errs)
			readUntil(t, r, at)
			require.NoError(t, p.Process.Signal(os.Interrupt))
			require.NoError(t, p.Process.Signal(os.Interrupt), "an impatient user")
			rest, err := io.ReadAll(r)
			require.NoError(t, err)
			require.True(t, strings.HasSuffix(string(rest), "interrupted\n"), string(rest))
			_, err = io.Copy(io.Discard, out)
			require.NoError(t, err)
			require.Error(t, p.Wait())
			require.Equal(t, 1, p.ProcessState.ExitCode())
			requireCleanedUp(t, tmp)
		})
	}
}

// TestBenchPeersKilled: even when it can't clean up, its processes end.
func TestBenchPeersKilled(t *testing.T) {
	p, _, errs, tmp := startPeers(t, "--rounds", endless)
	readUntil(t, bufio.NewReader(errs), "round 1")
	require.NotEmpty(t, workingIn(t, tmp))
	require.NoError(t, p.Process.Kill())
	require.Error(t, p.Wait())
	require.Eventually(t, func() bool { return len(workingIn(t, tmp)) == 0 }, time.Minute, 10*time.Millisecond)
}
