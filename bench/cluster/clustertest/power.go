package clustertest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Disk is a file system that loses what was not synced, and that can be full (bench/power), mounted by a process of its own.
type Disk struct {
	dir   string
	in    io.WriteCloser
	lines *bufio.Reader
}

// NewDisk mounts a disk for the time of the test. Where FUSE does not work the test is skipped.
func NewDisk(t testing.TB, args ...string) *Disk {
	t.Helper()
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		t.Skipf("power loss needs FUSE: %v", err)
	} else {
		_ = f.Close()
	}
	if os.Geteuid() != 0 {
		t.Skip("power loss needs root: it mounts a file system")
	}
	d := &Disk{dir: t.TempDir()}
	cmd := exec.Command(buildPower(t), append(args, d.dir)...)
	cmd.Stderr = os.Stderr
	// NB: not killed with the test, or the mount would stay. It ends with its input.
	var err error
	if d.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.lines = bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = d.in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the disk: %v", err)
		}
	})
	switch _, err := d.answer(); {
	case err != nil && strings.Contains(err.Error(), syscall.EPERM.Error()):
		t.Skipf("power loss needs the right to mount: %v", err)
	case err != nil:
		t.Fatal(err)
	}
	return d
}

// buildPower builds the command. It is a module of its own, which go build ./... leaves alone.
func buildPower(t testing.TB) string {
	t.Helper()
	root := moduleRoot(t)
	to := filepath.Join(t.TempDir(), "power")
	in := func(args ...string) ([]byte, error) {
		cmd := exec.Command("go", args...)
		cmd.Dir = filepath.Join(root, "bench", "power")
		return cmd.CombinedOutput()
	}
	if out, err := in("mod", "download"); err != nil {
		t.Skipf("the disk's FUSE library is not here and can't be fetched: %v\n%s", err, out)
	}
	if out, err := in("build", "-o", to, "."); err != nil {
		t.Fatalf("building the disk: %v\n%s", err, out)
	}
	return to
}

// Dir is where the disk is mounted.
func (d *Disk) Dir() string { return d.dir }

// Cut leaves only what was synced. No process may have the disk open.
func (d *Disk) Cut() (lost string, err error) { return d.command("cut") }

// CutByChance also leaves any part of the rest.
func (d *Disk) CutByChance(seed uint64) (lost string, err error) {
	return d.command(fmt.Sprintf("cut %d", seed))
}

// SetCapacity changes how many bytes the disk takes; what does not fit fails with ENOSPC.
func (d *Disk) SetCapacity(bytes int64) error {
	_, err := d.command(fmt.Sprintf("capacity %d", bytes))
	return err
}

// FailSyncs makes all syncs fail with EIO from now on, or no longer.
func (d *Disk) FailSyncs(fail bool) error {
	word := "heal-syncs"
	if fail {
		word = "fail-syncs"
	}
	_, err := d.command(word)
	return err
}

func (d *Disk) command(line string) (string, error) {
	if _, err := io.WriteString(d.in, line+"\n"); err != nil {
		return "", fmt.Errorf("clustertest: disk: %w", err)
	}
	return d.answer()
}

func (d *Disk) answer() (string, error) {
	line, err := d.lines.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("clustertest: disk: %w", err)
	}
	said, ok := strings.CutPrefix(strings.TrimSpace(line), "ok")
	if !ok {
		return "", errors.New("clustertest: disk: " + strings.TrimSpace(line))
	}
	return strings.TrimPrefix(said, ": "), nil
}
