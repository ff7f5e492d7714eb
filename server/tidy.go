package server

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/locuskv/locus/api/locuspb"
)

const (
	moduleSuffix = ".wasm"
	// maxCompiledBytes bounds what the runtime keeps of compiled modules on disk: about as much as maxCompiled Go guests.
	maxCompiledBytes = 2 << 30
)

// tidier keeps what is on disk of modules bounded: those that no version names any more are deleted, and of what the runtime
// has compiled the oldest files above maxCompiledBytes. All of it can be fetched and compiled again.
type tidier struct {
	functions *functions
	compiled  string // directory
	limit     int64
	busy      atomic.Bool
	seen      string // of the last list; of look alone
}

// look has the disk tidied if the registered functions have changed. It is called with each answer of the driver, by one goroutine.
func (t *tidier) look(list []*locuspb.FunctionInfo, spawn func(func())) {
	hashes := make([]string, len(list))
	for i, f := range list {
		hashes[i] = f.Hash
	}
	now := strings.Join(hashes, " ")
	if now == t.seen || !t.busy.CompareAndSwap(false, true) {
		return
	}
	t.seen = now
	spawn(func() {
		defer t.busy.Store(false)
		t.modules(hashes)
		t.trim()
	})
}

// modules deletes the modules that are none of hashes. One that has been registered since is fetched again when it runs.
func (t *tidier) modules(hashes []string) {
	names, err := t.functions.fs.List(t.functions.dir)
	if err != nil {
		return // as good as empty; the next fetch says what is wrong with it
	}
	for _, name := range names {
		if hash, ok := strings.CutSuffix(name, moduleSuffix); ok && !slices.Contains(hashes, hash) {
			_ = t.functions.fs.Remove(filepath.Join(t.functions.dir, name))
		}
	}
}

// trim deletes the oldest files of compiled modules until the rest is within the limit.
func (t *tidier) trim() {
	type file struct {
		path string
		size int64
		at   time.Time
	}
	var files []file
	var total int64
	_ = filepath.WalkDir(t.compiled, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			files, total = append(files, file{path, info.Size(), info.ModTime()}), total+info.Size()
		}
		return nil
	})
	slices.SortFunc(files, func(a, b file) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.path, b.path)) })
	for _, f := range files {
		if total <= t.limit {
			return
		}
		if os.Remove(f.path) == nil {
			total -= f.size
		}
	}
}
