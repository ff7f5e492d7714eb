package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// alive says whether a process runs, zombies excepted: what the demo left would be a child of init.
func alive(pid int) bool {
	if err := syscall.Kill(pid, 0); err != nil {
		return false
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || !bytes.Contains(b, []byte(") Z "))
}

// nodePIDs reads the process ids of the nodes from the demo's first table.
func nodePIDs(t *testing.T, out string) []int {
	t.Helper()
	var pids []int
	for _, m := range regexp.MustCompile(`(?m)^  node \d +(\d+) `).FindAllStringSubmatch(out, -1) {
		pid, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		pids = append(pids, pid)
	}
	require.Len(t, pids, 3, out)
	return pids
}

// startDemo runs the demo as a process in a temporary directory of its own.
func startDemo(t *testing.T, args ...string) (p *process, tmp string) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts three nodes")
	}
	t.Parallel()
	tmp = t.TempDir()
	return spawn(t, []string{"TMPDIR=" + tmp}, append([]string{"demo", "--rows", "4000"}, args...)...), tmp
}

// readUntil reads the demo's output up to a line that contains text.
func readUntil(t *testing.T, r *bufio.Reader, text string) string {
	t.Helper()
	var all strings.Builder
	for {
		line, err := r.ReadString('\n')
		all.WriteString(line)
		require.NoError(t, err, "%s", all.String())
		if strings.Contains(line, text) {
			return all.String()
		}
	}
}

// requireNothingLeft checks that neither processes nor files remain.
func requireNothingLeft(t *testing.T, tmp string, pids []int) {
	t.Helper()
	for _, pid := range pids {
		require.Eventually(t, func() bool { return !alive(pid) }, time.Minute, time.Millisecond, "process %d", pid)
	}
	left, err := os.ReadDir(tmp)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestDemo(t *testing.T) {
	p, tmp := startDemo(t)
	out, err := io.ReadAll(p.out)
	require.NoError(t, err)
	require.NoError(t, p.Wait(), "%s%s", out, p.err.String())
	text := string(out)
	for _, want := range []string{
		"loaded 4,000 flights",
		"registered flights-delays version 1",
		"pulling every record to the client gives the same answer",
		"square(5) = 25",
		"sum exact: 3200",
		"(SIGKILL)",
		"the job gives the same answer:",
		"writes to its ranges paused for",
		"none failed",
		"leads its",
		"the job gives the same answer again",
		"What to try next",
	} {
		require.Contains(t, text, want)
	}
	requireNothingLeft(t, tmp, nodePIDs(t, text))
}

// TestDemoInterrupted sends the demo a signal in several places: it ends with status 1, and leaves nothing.
func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"started in", "4. Functions", "killed node"} {
		t.Run(at, func(t *testing.T) {
			p, tmp := startDemo(t)
			r := bufio.NewReader(p.out)
			pids := nodePIDs(t, readUntil(t, r, at))
			require.NoError(t, p.Process.Signal(os.Interrupt))
			require.NoError(t, p.Process.Signal(os.Interrupt), "an impatient user")
			_, err := io.Copy(io.Discard, r)
			require.NoError(t, err)
			require.Equal(t, 1, p.ends(t))
			require.True(t, strings.HasSuffix(p.err.String(), "interrupted\n"), p.err.String())
			requireNothingLeft(t, tmp, pids)
		})
	}
}

// TestDemoKilled: even when the demo can't clean up, its nodes end.
func TestDemoKilled(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs the parent-death signal")
	}
	p, _ := startDemo(t)
	pids := nodePIDs(t, readUntil(t, bufio.NewReader(p.out), "started in"))
	require.NoError(t, p.Process.Kill())
	for _, pid := range pids {
		require.Eventually(t, func() bool { return !alive(pid) }, time.Minute, time.Millisecond, "process %d", pid)
	}
	_ = p.Wait() // it was killed
}

// TestDemoPiped: a reader that goes away ends the demo, and nothing is left.
func TestDemoPiped(t *testing.T) {
	p, tmp := startDemo(t)
	pids := nodePIDs(t, readUntil(t, bufio.NewReader(p.out), "started in"))
	require.NoError(t, p.out.(io.Closer).Close())
	require.Error(t, p.Wait())
	require.Contains(t, p.err.String(), "broken pipe")
	requireNothingLeft(t, tmp, pids)
}

// TestDemoKept: the cluster outlives the demo, answers at the address that was printed, and is ended as
// the demo says.
func TestDemoKept(t *testing.T) {
	p, tmp := startDemo(t, "--keep")
	out, err := io.ReadAll(p.out)
	require.NoError(t, err)
	require.NoError(t, p.Wait(), "%s%s", out, p.err.String())
	text := string(out)
	m := regexp.MustCompile(`To end it: kill ([0-9 ]+); rm -r (\S+)`).FindStringSubmatch(text)
	require.NotNil(t, m, text)
	var pids []int
	for _, f := range strings.Fields(m[1]) {
		pid, err := strconv.Atoi(f)
		require.NoError(t, err)
		pids = append(pids, pid)
		t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	}
	require.Len(t, pids, 3)

	addr := regexp.MustCompile(`export LOCUS_ADDR=(\S+)`).FindStringSubmatch(text)
	require.NotNil(t, addr, text)
	env := map[string]string{"LOCUS_ADDR": addr[1]}
	cli(t, env, "get", "visits").is(t, "3200\n")
	require.Contains(t, cli(t, env, "status", "--wait").out, "3 live")

	for _, pid := range pids {
		require.True(t, alive(pid))
		require.NoError(t, syscall.Kill(pid, syscall.SIGTERM))
	}
	for _, pid := range pids {
		require.Eventually(t, func() bool { return !alive(pid) }, time.Minute, 5*time.Millisecond, "process %d", pid)
	}
	require.NoError(t, os.RemoveAll(m[2]))
	requireNothingLeft(t, tmp, nil)
}
