// Package guestcache is where tests keep what they compile guests to, from run to run and for all packages: to compile a guest
// in Go takes 2 s of CPU, and the same few are compiled by many tests. It is to guests what Go's build cache is to packages.
//
// What is kept is found by the hash of the module and the CPU's features, and belongs to one version of wazero, so it is never
// stale; it may be deleted at any time. Production has the same, in a node's data directory. Not for generated modules: each
// would stay.
package guestcache

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"

	"github.com/tetratelabs/wazero"

	"github.com/locuskv/locus/udf/codecache"
)

const (
	// limit is of the files' bytes: five times what the guests of this module take (15 MB each).
	limit = 1 << 30
	// Variable names the directory for nodes and commands that a test starts.
	Variable = "LOCUS_COMPILED_DIR"
)

// Dir makes the directory. It is empty, which stands for compiling every time, where the system has no place for it.
func Dir() string {
	base, err := os.UserCacheDir()
	version := wazeroVersion()
	if err != nil || version == "" {
		return ""
	}
	dir := filepath.Join(base, "locus-test-guests", version)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return ""
	}
	if versions, err := filepath.Glob(filepath.Join(filepath.Dir(dir), "*")); err == nil {
		codecache.Trim(limit, versions...)
	}
	return dir
}

// Share has the processes that this one starts use the directory too, if they are locus.
func Share() {
	if dir := Dir(); dir != "" {
		_ = os.Setenv(Variable, dir)
	}
}

// wazeroVersion is what the path of wazero's sources says, as wazero itself does not know it in tests; empty for a changed one.
func wazeroVersion() string {
	file, _ := runtime.FuncForPC(reflect.ValueOf(wazero.NewRuntimeConfig).Pointer()).FileLine(0)
	if m := regexp.MustCompile(`tetratelabs/wazero@([\w.-]+)/`).FindStringSubmatch(filepath.ToSlash(file)); m != nil {
		return m[1]
	}
	return ""
}
