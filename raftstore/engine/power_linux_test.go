package engine_test

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/locuskv/locus/raftstore/engine"
	"github.com/locuskv/locus/raftstore/engine/enginetest"
)

var (
	powerCommand = flag.String("engine.power", "", "the built command of bench/power, for TestBadgerPowerLoss")
	powerNames   = flag.Bool("engine.names-by-directory", false, "TestBadgerPowerLoss: the sync of a file does not make its name durable")
)

// mountedDisk is a disk of bench/power. Unlike cutPower it takes nothing on trust: what Badger synced, and when, is what
// reached the disk.
type mountedDisk struct {
	t     *testing.T
	rng   *rand.Rand
	dir   string
	in    io.Writer
	lines *bufio.Reader
}

func mountDisk(t *testing.T, seed int64) *mountedDisk {
	t.Helper()
	d := &mountedDisk{t: t, rng: rand.New(rand.NewSource(seed)), dir: t.TempDir()}
	var args []string
	if *powerNames {
		args = append(args, "-names-by-directory")
	}
	cmd := exec.Command(*powerCommand, append(args, d.dir)...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	d.in, d.lines = in, bufio.NewReader(out)
	t.Cleanup(func() {
		require.NoError(t, in.Close())
		require.NoError(t, cmd.Wait())
	})
	line, err := d.lines.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ok\n", line)
	return d
}

func (d *mountedDisk) command(line string) {
	d.t.Helper()
	_, err := io.WriteString(d.in, line+"\n")
	require.NoError(d.t, err)
	said, err := d.lines.ReadString('\n')
	require.NoError(d.t, err)
	require.True(d.t, strings.HasPrefix(said, "ok"), said)
}

func (d *mountedDisk) Synced(engine.Engine) {}

// Crash freezes the disk at some moment. The engine, which can't be killed alone, is closed after that; the disk forgets
// what it wrote meanwhile.
func (d *mountedDisk) Crash(e engine.Engine, during func()) engine.Engine {
	done := make(chan struct{})
	go func() {
		defer close(done)
		during()
	}()
	d.writeBack()
	d.command("freeze")
	<-done
	require.NoError(d.t, e.Close())
	if d.rng.Intn(3) == 0 {
		d.command("cut")
	} else {
		d.command(fmt.Sprintf("cut %d", d.rng.Uint32()))
	}
	return openSmall(d.t, filepath.Join(d.dir, "engine"))
}

// writeBack lets the kernel write some mapped pages, without a sync: it may do that at any time.
func (d *mountedDisk) writeBack() {
	logs, err := filepath.Glob(filepath.Join(d.dir, "engine", "*.mem"))
	require.NoError(d.t, err)
	for _, name := range logs {
		if d.rng.Intn(3) == 0 {
			continue
		}
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			continue // flushed meanwhile
		}
		from := d.rng.Int63n(4<<20) &^ 4095 * d.rng.Int63n(2)
		const write = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
		_ = unix.SyncFileRange(int(f.Fd()), from, 0, write)
		require.NoError(d.t, f.Close())
	}
}

// TestBadgerPowerLoss is TestBadgerCrashModel on a disk that knows each write and each sync.
func TestBadgerPowerLoss(t *testing.T) {
	if *powerCommand == "" {
		t.Skip("needs -engine.power")
	}
	d := mountDisk(t, 3)
	dir := filepath.Join(d.dir, "engine")
	require.NoError(t, os.Mkdir(dir, 0o700))
	e := openSmall(t, dir)
	require.NoError(t, e.Sync())
	root, err := os.Open(d.dir)
	require.NoError(t, err)
	require.NoError(t, root.Sync()) // dir's own name is its maker's to sync
	require.NoError(t, root.Close())
	last := enginetest.Model(t, e, func(t *testing.T, e engine.Engine) engine.Engine {
		require.NoError(t, e.Close())
		return openSmall(t, dir)
	}, enginetest.ModelOptions{Steps: 2000, LargeValues: true, Crasher: d})
	require.NoError(t, last.Close())
}
