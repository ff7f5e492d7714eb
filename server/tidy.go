package server

import (
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/udf/codecache"
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
		codecache.Trim(t.limit, t.compiled)
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
