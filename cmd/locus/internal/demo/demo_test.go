package demo

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func keysOf(keys [][]byte) []string {
	out := []string{}
	for _, k := range keys {
		out = append(out, string(k))
	}
	return out
}

func TestSplitKeysWeighAlike(t *testing.T) {
	for name, c := range map[string]struct {
		weight map[string]int64
		n      int
		want   []string
	}{
		"nothing":     {map[string]int64{}, 4, []string{}},
		"one airport": {map[string]int64{"ATL": 10}, 4, []string{}},
		"equal":       {map[string]int64{"A": 1, "B": 1, "C": 1, "D": 1}, 4, []string{"B", "C", "D"}},
		"halves":      {map[string]int64{"A": 1, "B": 1, "C": 1, "D": 1}, 2, []string{"C"}},
		"no split":    {map[string]int64{"A": 1, "B": 1, "C": 1, "D": 1}, 1, []string{}},
		"one is most": {map[string]int64{"A": 1, "B": 97, "C": 1, "D": 1}, 4, []string{"C", "D"}},
		"more parts than airports": {
			map[string]int64{"A": 5, "B": 5}, 8, []string{"B"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, keysOf(splitKeys(c.weight, c.n)))
		})
	}
}

func TestSpansTile(t *testing.T) {
	require.Equal(t, []span{{nil, nil}}, spans(nil))
	require.Equal(t, []span{{nil, []byte("B")}, {[]byte("B"), []byte("C")}, {[]byte("C"), nil}},
		spans([][]byte{[]byte("B"), []byte("C")}))
}

// TestWatchMeasuresThePause stops one of two ranges until the other has moved on, and finds the pause in
// the one that stopped.
func TestWatchMeasuresThePause(t *testing.T) {
	const pause = 60 * time.Millisecond
	stopped := atomic.Bool{}
	gate := make(chan struct{})
	put := func(ctx context.Context, r record) error {
		if string(r.key) == "a" && stopped.Load() {
			select {
			case <-gate:
			case <-ctx.Done():
			}
		}
		return ctx.Err()
	}
	w := startWatch(t.Context(), []record{{key: []byte("a")}, {key: []byte("b")}}, put)
	defer w.stop()
	require.NoError(t, w.awaitAcks(t.Context()))
	stopped.Store(true)
	timer := time.AfterFunc(pause, func() { stopped.Store(false); close(gate) })
	defer timer.Stop()
	require.NoError(t, w.awaitAcks(t.Context()))
	w.stop()
	w.stop()
	all, acks := w.longest(func(int) bool { return true })
	stoppedOne, _ := w.longest(func(i int) bool { return i == 0 })
	require.Equal(t, all, stoppedOne)
	require.GreaterOrEqual(t, stoppedOne, pause/2)
	require.GreaterOrEqual(t, acks, int64(6))
}

func TestWatchReportsAFailedWrite(t *testing.T) {
	bad := errors.New("no")
	w := startWatch(t.Context(), []record{{key: []byte("a")}}, func(context.Context, record) error { return bad })
	defer w.stop()
	require.ErrorIs(t, w.awaitAcks(t.Context()), bad)
}

func TestWatchTurnsPanicsIntoErrors(t *testing.T) {
	w := startWatch(t.Context(), []record{{key: []byte("a")}}, func(context.Context, record) error { panic("boom") })
	defer w.stop()
	require.ErrorContains(t, w.awaitAcks(t.Context()), "panic: boom")
}

func TestParseResident(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want int64
		ok   bool
	}{
		"a process":   {"Name:\tlocus\nVmRSS:\t  900 kB\nRssAnon:\t   512 kB\nRssFile:\t  1 kB\n", 512 << 10, true},
		"no line":     {"Name:\tlocus\n", 0, false},
		"other unit":  {"RssAnon:\t 512 MB\n", 0, false},
		"no number":   {"RssAnon:\t x kB\n", 0, false},
		"empty":       {"", 0, false},
		"cut in half": {"RssAnon:", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			n, ok := parseResident([]byte(c.in))
			require.Equal(t, c.ok, ok)
			if ok {
				require.Equal(t, c.want, n)
			}
		})
	}
}

func TestMemoryOfThisProcess(t *testing.T) {
	if _, ok := residentOf(os.Getpid()); !ok {
		t.Skip("the system does not tell")
	}
	m := watchMemory(func() []int { return []int{os.Getpid(), 0} })
	m.stop()
	m.stop()
	require.Positive(t, m.peak())
}

// shell makes a process of the demo that runs a script instead of a node.
func shell(t *testing.T, script string) *process {
	t.Helper()
	bin, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no sh")
	}
	return &process{name: "node 1", bin: bin, args: []string{"-c", script}, log: filepath.Join(t.TempDir(), "log")}
}

func TestProcessIsReadyWhenItSaysSo(t *testing.T) {
	s := newSpawner()
	defer s.close()
	p := shell(t, `echo '{"address":"127.0.0.1:1","store":3}'; exec cat /dev/zero >/dev/null`)
	require.NoError(t, p.start(t.Context(), s))
	require.True(t, p.running())
	require.Equal(t, "127.0.0.1:1", p.ready.Address)
	require.EqualValues(t, 3, p.ready.StoreID)
	p.kill()
	p.kill()
	require.False(t, p.running())
}

func TestProcessThatEndsTellsWhy(t *testing.T) {
	s := newSpawner()
	defer s.close()
	p := shell(t, `echo first >&2; echo the port is in use >&2; exit 1`)
	require.EqualError(t, p.start(t.Context(), s), "node 1 did not start: the port is in use")
}

func TestProcessThatHangsIsLeftToItsKiller(t *testing.T) {
	s := newSpawner()
	defer s.close()
	p := shell(t, `exec cat /dev/zero >/dev/null`)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.Error(t, p.start(ctx, s))
	p.kill()
	require.False(t, p.running())
}

func TestClusterLeavesNothing(t *testing.T) {
	parent := t.TempDir()
	c, err := newCluster("/nonexistent/locus", parent, "", false)
	require.NoError(t, err)
	require.Error(t, c.start(t.Context()))
	require.Empty(t, c.running())
	n, err := c.diskUsage()
	require.NoError(t, err)
	require.GreaterOrEqual(t, n, int64(0))
	require.NoError(t, c.close())
	left, err := os.ReadDir(parent)
	require.NoError(t, err)
	require.Empty(t, left)
}
