package scaffold

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/udf"
	"github.com/locuskv/locus/udf/guestcache"
	"github.com/locuskv/locus/udf/local"
)

// build runs a project's build script. The test is skipped where the toolchain is not there.
func build(t *testing.T, dir, language string) {
	t.Helper()
	missing := func(what string) { t.Skipf("needs %s to build a project in %s", what, language) }
	if _, err := exec.LookPath("sh"); err != nil {
		missing("a shell")
	}
	switch language {
	case "c":
		for _, tool := range []string{"clang", "wasm-ld"} {
			if _, err := exec.LookPath(tool); err != nil {
				missing(tool)
			}
		}
	case "rust":
		if !rustHasTarget("rustc") && !rustHasTarget("/usr/bin/rustc") {
			missing("a rustc with the target wasm32-unknown-unknown")
		}
	}
	cmd := exec.Command(filepath.Join(dir, "build.sh"))
	cmd.Dir = t.TempDir() // from anywhere
	// No network, and nothing of this checkout: a project must build from what is in it.
	cmd.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=mod", "CARGO_NET_OFFLINE=true")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func rustHasTarget(rustc string) bool {
	dir, err := exec.Command(rustc, "--print", "target-libdir", "--target", "wasm32-unknown-unknown").Output()
	if err != nil {
		return false
	}
	libs, _ := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "libcore-*.rlib"))
	return len(libs) > 0
}

// TestProjects: in each language a new project builds as it is, and what it builds runs: the same function in all.
func TestProjects(t *testing.T) {
	for _, language := range Languages {
		t.Run(language, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "deep", "my-adder")
			files, err := Write(dir, language, "my-adder")
			require.NoError(t, err)
			require.Contains(t, files, "build.sh")
			require.Contains(t, files, "README.md")
			for _, f := range files {
				text, err := os.ReadFile(filepath.Join(dir, f))
				require.NoError(t, err)
				require.NotContains(t, f, "NAME")
				require.NotContains(t, f, "_test.go")
				if !strings.HasPrefix(f, "locus") {
					require.NotContains(t, string(text), "NAME.", "%s: the name is put in", f)
				}
			}
			build(t, dir, language)
			module, err := os.ReadFile(filepath.Join(dir, "my-adder.wasm"))
			require.NoError(t, err)

			call := func(arg, value string) (*local.Report, error) {
				return local.Run(context.Background(), module, local.Options{
					Function: "my-adder", Key: []byte("visits"), Argument: []byte(arg),
					CompiledDir: guestcache.Dir(), Records: []local.Record{{Key: []byte("visits"), Value: []byte(value)}},
				})
			}
			report, err := call("5", "37")
			require.NoError(t, err)
			require.Equal(t, udf.KindReadWrite, report.Kind)
			require.Equal(t, "42", string(report.Result))
			require.Equal(t, []local.Write{{Key: []byte("visits"), Value: []byte("42")}}, report.Writes)
			require.EqualValues(t, 64, report.Capabilities.Limits.Result)
			_, err = call("5", "many")
			require.Equal(t, &api.FunctionError{Function: "my-adder", Code: 1, Message: "the key does not hold a decimal number"}, err)
			_, err = call(`"five"`, "37")
			var invalid *api.InvalidArgumentError
			require.ErrorAs(t, err, &invalid)
		})
	}
}

func TestWriteRefuses(t *testing.T) {
	full := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(full, "there"), nil, 0o600))
	file := filepath.Join(full, "there")
	for _, c := range []struct{ dir, language, name, want string }{
		{t.TempDir(), "zig", "f", `language "zig" is none of go, rust, c`},
		{t.TempDir(), "go", "", "the name is empty"},
		{t.TempDir(), "go", "a/b", `the name "a/b" may hold letters, digits, '-' and '_' only, and begins with a letter or digit`},
		{t.TempDir(), "go", "-a", `the name "-a" may hold`},
		{t.TempDir(), "go", strings.Repeat("n", 101), "the name has 101 bytes, more than the limit of 100"},
		{full, "go", "f", full + " exists and is not empty"},
		{file, "go", "f", file},
	} {
		_, err := Write(c.dir, c.language, c.name)
		require.ErrorContains(t, err, c.want)
	}
	entries, err := os.ReadDir(full)
	require.NoError(t, err)
	require.Len(t, entries, 1)
}
