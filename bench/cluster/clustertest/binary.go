package clustertest

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locuskv/locus/internal/vfs"
	"github.com/locuskv/locus/udf/guestcache"
)

// program is what users run.
const program = "github.com/locuskv/locus/cmd/locus"

// binaries are those built so far by this process, by their build flags.
var binaries struct {
	sync.Mutex
	dir   string
	built map[string]string
}

// Binary is the path of the locus binary, built with the given flags of "go build" once per test process, and without flags
// only if the sources have changed since another built it. Without a go tool the test is skipped. The test binary's TestMain has to be Main.
func Binary(t testing.TB, flags ...string) string {
	t.Helper()
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("the go tool is not in PATH, so the locus binary can't be built")
	}
	binaries.Lock()
	defer binaries.Unlock()
	key := strings.Join(flags, " ")
	if path := binaries.built[key]; path != "" {
		return path
	}
	if binaries.dir == "" {
		if binaries.dir, err = os.MkdirTemp("", "locus-bin-"); err != nil {
			t.Fatalf("making a directory for the binary: %v", err)
		}
		binaries.built = make(map[string]string)
	}
	dir, err := os.MkdirTemp(binaries.dir, "")
	if err != nil {
		t.Fatalf("making a directory for the binary: %v", err)
	}
	path := filepath.Join(dir, "locus")
	if len(flags) > 0 || !copyShared(t, goTool, path) {
		build(t, goTool, path, flags...)
	}
	binaries.built[key] = path
	return path
}

func build(t testing.TB, goTool, path string, flags ...string) {
	t.Helper()
	args := append(append([]string{"build"}, flags...), "-o", path, program)
	if out, err := exec.Command(goTool, args...).CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// copyShared brings the binary in the user's cache directory up to date and copies it, under a lock: the go tool leaves a
// binary alone that is what it would link, which takes it 3 s of CPU. It is false if there is no place for it.
func copyShared(t testing.TB, goTool, path string) bool {
	t.Helper()
	base, err := os.UserCacheDir()
	if err != nil {
		return false
	}
	dir := filepath.Join(base, "locus-test-binary")
	if os.MkdirAll(dir, 0o700) != nil {
		return false
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return false
	}
	defer lock.Close()
	shared := filepath.Join(dir, filepath.Base(path))
	build(t, goTool, shared)
	b, err := os.ReadFile(shared)
	return err == nil && os.WriteFile(path, b, 0o700) == nil
}

// lockFile waits for its turn: until a package that builds is done.
func lockFile(path string) (io.Closer, error) {
	for {
		lock, err := vfs.OS().Lock(path)
		if !errors.Is(err, vfs.ErrLocked) {
			return lock, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// moduleRoot is where the module's sources are.
func moduleRoot(t testing.TB) string {
	t.Helper()
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/locuskv/locus").Output()
	if err != nil {
		t.Skipf("the go tool does not find the module: %v", err)
	}
	return strings.TrimSpace(string(root))
}

// Main runs a package's tests, whose nodes find guests compiled, and removes the binaries that they built. It returns the exit status.
func Main(m *testing.M) int {
	guestcache.Share()
	status := m.Run()
	binaries.Lock()
	defer binaries.Unlock()
	if binaries.dir != "" {
		if err := os.RemoveAll(binaries.dir); err != nil && status == 0 {
			status = 1
		}
	}
	return status
}
