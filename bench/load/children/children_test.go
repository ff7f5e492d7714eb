//go:build unix

package children

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// asChild makes the test binary behave as a child: "serve", "fail", "answer", "wait" or "parent".
const asChild = "LOCUS_TEST_AS_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(asChild) {
	case "":
		os.Exit(m.Run())
	case "serve":
		fmt.Println(`{"pid":` + strconv.Itoa(os.Getpid()) + `}`)
		select {}
	case "fail":
		fmt.Fprintln(os.Stderr, "first\nthe disk is full")
		os.Exit(3)
	case "silent":
		fmt.Fprintln(os.Stderr, "still thinking")
		select {}
	case "answer":
		fmt.Println("42")
	case "wait":
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, os.Interrupt)
		fmt.Fprintln(os.Stderr, "waiting")
		<-signals
		fmt.Fprintln(os.Stderr, "cleaned up")
	case "parent": // starts a server, says its number, and is killed then
		os.Setenv(asChild, "serve")
		g, err := NewGroup("", "")
		if err != nil {
			panic(err)
		}
		var ready struct{ PID int }
		if _, err := g.Start(context.Background(), Spec{Name: "server", Path: os.Args[0]}, &ready); err != nil {
			panic(err)
		}
		fmt.Println(ready.PID, g.Dir())
		select {}
	}
}

func child(t *testing.T, as string) Spec {
	t.Setenv(asChild, as)
	return Spec{Name: as, Path: os.Args[0]}
}

func group(t *testing.T) *Group {
	t.Helper()
	g, err := NewGroup(t.TempDir(), "group-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, g.Close()) })
	return g
}

// gone waits until a process is no more, or only a zombie.
func gone(t *testing.T, pid int) {
	t.Helper()
	require.Eventually(t, func() bool {
		if syscall.Kill(pid, 0) != nil {
			return true
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err == nil && bytes.Contains(stat, []byte(") Z "))
	}, time.Minute, time.Millisecond)
}

func TestServer(t *testing.T) {
	g := group(t)
	var ready struct{ PID int }
	p, err := g.Start(t.Context(), child(t, "serve"), &ready)
	require.NoError(t, err)
	require.Equal(t, p.PID(), ready.PID)
	require.True(t, p.Running())
	if u, ok := p.Usage(); ok {
		require.Positive(t, u.Anon)
		require.Positive(t, u.Mapped)
	}
	require.NoError(t, g.Close())
	require.False(t, p.Running())
	gone(t, p.PID())
	require.NoDirExists(t, g.Dir())
	_, err = g.Start(t.Context(), child(t, "serve"), &ready)
	require.Error(t, err, "nothing starts in a closed group")
}

func TestServerThatDoesNotStart(t *testing.T) {
	g := group(t)
	_, err := g.Start(t.Context(), child(t, "fail"), new(any))
	require.EqualError(t, err, "fail did not start: the disk is full")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = g.Start(ctx, child(t, "silent"), new(any))
	require.ErrorIs(t, err, context.Canceled)
}

func TestRun(t *testing.T) {
	g := group(t)
	out, err := g.Run(t.Context(), child(t, "answer"), io.Discard)
	require.NoError(t, err)
	require.Equal(t, "42\n", string(out))

	_, err = g.Run(t.Context(), child(t, "fail"), io.Discard)
	require.EqualError(t, err, "fail: exit status 3: the disk is full")
	exit := new(exec.ExitError)
	require.ErrorAs(t, err, &exit)

	_, err = g.Run(t.Context(), Spec{Name: "nothing", Path: "/nonexistent"}, io.Discard)
	require.ErrorContains(t, err, "starting nothing")
}

// onWrite calls a function when something is written.
type onWrite func(string)

func (f onWrite) Write(b []byte) (int, error) {
	f(string(b))
	return len(b), nil
}

// TestRunIsInterruptedFirst: a program may clean up before it is gone.
func TestRunIsInterruptedFirst(t *testing.T) {
	g := group(t)
	ctx, cancel := context.WithCancel(t.Context())
	var all strings.Builder
	_, err := g.Run(ctx, child(t, "wait"), onWrite(func(text string) {
		all.WriteString(text)
		cancel()
	}))
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, "waiting\ncleaned up\n", all.String())
}

// TestParentKilled: the kernel ends the children of a parent that could not.
func TestParentKilled(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("this system has no parent-death signal")
	}
	s := child(t, "parent")
	cmd := exec.Command(s.Path)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var (
		pid int
		dir string
	)
	_, err = fmt.Fscan(out, &pid, &dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	gone(t, pid)
}

func TestFreeAddresses(t *testing.T) {
	got, err := FreeAddresses(6)
	require.NoError(t, err)
	seen := make(map[string]bool)
	for _, a := range got {
		seen[a] = true
	}
	require.Len(t, seen, 6)
}

func TestUsageIsParsed(t *testing.T) {
	n, ok := kilobytes("Name:\tx\nRssAnon:\t    1234 kB\nRssFile:\t 5 kB\n", "RssAnon:")
	require.True(t, ok)
	require.EqualValues(t, 1234<<10, n)
	_, ok = kilobytes("RssAnon:\t1 MB\n", "RssAnon:")
	require.False(t, ok)

	cpu, ok := cpuTime("7 (a ) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 25 0 0 20 0 8 0 100 1 1")
	require.True(t, ok)
	require.Equal(t, 1750*time.Millisecond, cpu)
	_, ok = cpuTime("7 (x) S")
	require.False(t, ok)
}

// TestLaunch: a server that says nothing on its output runs, and leaves its words in its log.
func TestLaunch(t *testing.T) {
	t.Setenv(asChild, "silent")
	g, err := NewGroup(t.TempDir(), "")
	require.NoError(t, err)
	defer func() { require.NoError(t, g.Close()) }()
	p, err := g.Launch(Spec{Name: "quiet", Path: os.Args[0]})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return p.LastWords() == "still thinking" }, 20*time.Second, 10*time.Millisecond)
	require.True(t, p.Running())
	p.Kill()
	require.False(t, p.Running())
	_, err = g.Launch(Spec{Name: "nothing", Path: "/nonexistent"})
	require.ErrorContains(t, err, "starting nothing")
}
