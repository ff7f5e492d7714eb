package clustertest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/locuskv/locus/internal/guestcache"
)

// program is what users run.
const program = "github.com/locuskv/locus/cmd/locus"

// binaries are those built so far by this process, by their build flags.
var binaries struct {
	sync.Mutex
	dir   string
	built map[string]string
}

// Binary is the path of the locus binary, built with the given flags of "go build" once per test process.
// Without a go tool the test is skipped. The test binary's TestMain has to be Main.
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
	args := append(append([]string{"build"}, flags...), "-o", path, program)
	if out, err := exec.Command(goTool, args...).CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	binaries.built[key] = path
	return path
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
