package server

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/vfs"
)

// maxPrepared and maxPreparedBytes bound the functions that a node makes ready before anybody has called them there, and their
// modules. A module takes some ten times its size in memory when it is ready: 20 MB of a Go guest, of which six fit.
const (
	maxPrepared      = 16
	maxPreparedBytes = 16 << 20
)

// preparer makes functions ready before they are called. A first call of a Go guest would wait for the compiler, a second or two, or
// 40 ms where the compiled code lies on the disk.
//
// A node that starts takes what it had ready at its last run, the last used first, from its own disk, while the others elect and the
// driver looks around. Later it takes what becomes active. All else is made ready by its first call; a call that comes meanwhile waits
// for the same load. A node that joins, or has been away while a version became active, does not compile for calls that may never come.
//
// It takes one module at a time, so that the node's users have the other processors, and evicts nothing. What it
// prepared and nobody used gives way when too much else has become active since. As long as the list of functions stays as it is, nothing runs.
type preparer struct {
	functions *functions
	log       *slog.Logger
	file      string // what was ready, for the next start
	// first has the first list, which says what was active before the node came. lists has the newest that run has not seen. Both are
	// of capacity 1.
	first, lists chan []*locuspb.FunctionInfo

	// These are of heard alone.
	last []*locuspb.FunctionInfo
	told bool

	// These are of run alone.
	active  []*locuspb.FunctionInfo // as of the last list; of the last run before there was one
	listed  bool                    // there was a list
	wanted  []*locuspb.FunctionInfo // what is to be ready, the most urgent first
	written []byte                  // to file
}

func newPreparer(f *functions, file string, log *slog.Logger) *preparer {
	list := func() chan []*locuspb.FunctionInfo { return make(chan []*locuspb.FunctionInfo, 1) }
	return &preparer{functions: f, file: file, log: log, first: list(), lists: list()}
}

// heard takes the registered functions. It is called with each answer of the driver, by one goroutine.
func (p *preparer) heard(list []*locuspb.FunctionInfo) {
	if !p.told {
		p.last, p.told = list, true
		p.first <- list
		return
	}
	if slices.EqualFunc(p.last, list, sameVersion) {
		return
	}
	p.last = list
	select {
	case <-p.lists:
	default:
	}
	p.lists <- list
}

// sameVersion says whether nothing has changed that matters here. Versions never change but for their marks.
func sameVersion(a, b *locuspb.FunctionInfo) bool {
	return a == b || a.Name == b.Name && a.Version == b.Version && a.Hash == b.Hash && a.Active == b.Active
}

// run prepares until ctx ends. It does not wait for the module that is being compiled then: functions.close does.
func (p *preparer) run(ctx context.Context) {
	p.active = p.takeRecords()
	p.wanted = p.active
	p.prepare(ctx)
	for lists := p.first; ; lists = p.lists {
		p.keepRecords()
		select {
		case <-ctx.Done():
			p.keepRecords()
			return
		case list := <-lists:
			p.choose(list)
			p.prepare(ctx)
		}
	}
}

// choose takes over a list, and finds out what is wanted now: what has become active, the youngest first, and then what was wanted before.
func (p *preparer) choose(list []*locuspb.FunctionInfo) {
	before, now := cacheKeys(p.active), make(map[string]bool)
	var active, wanted []*locuspb.FunctionInfo
	for _, i := range list {
		if _, native := p.functions.native.Lookup(i.Name); native || !i.Active {
			continue
		}
		active = append(active, i)
		if now[cacheKey(i)] = true; p.listed && !before[cacheKey(i)] {
			wanted = append(wanted, i)
		}
	}
	slices.SortStableFunc(wanted, func(a, b *locuspb.FunctionInfo) int { return cmp.Compare(b.Registered, a.Registered) })
	for _, i := range p.wanted {
		if now[cacheKey(i)] {
			wanted = append(wanted, i)
		}
	}
	p.active, p.listed, p.wanted = active, true, bounded(wanted)
}

func cacheKeys(list []*locuspb.FunctionInfo) map[string]bool {
	keys := make(map[string]bool, len(list))
	for _, i := range list {
		keys[cacheKey(i)] = true
	}
	return keys
}

// bounded is the beginning of a list, as far as it may be prepared.
func bounded(list []*locuspb.FunctionInfo) []*locuspb.FunctionInfo {
	size := uint64(0)
	for n, i := range list {
		if size += i.Size; n == maxPrepared || size > maxPreparedBytes {
			return list[:n]
		}
	}
	return list
}

// prepare makes ready what is wanted, until there is news.
func (p *preparer) prepare(ctx context.Context) {
	p.functions.forgetUnused(cacheKeys(p.wanted))
	for _, i := range p.wanted {
		if ctx.Err() != nil || len(p.first)+len(p.lists) > 0 || p.functions.full() {
			return
		}
		if !p.listed && !p.functions.onDisk(i.Hash) {
			continue // the cluster can't be asked yet
		}
		began := time.Now()
		err := p.functions.prepare(ctx, i)
		p.log.Debug("function prepared", "function", i.Name, "hash", i.Hash, "took", time.Since(began), "error", err)
	}
}

// preparedRecord is a function in the file of what was ready.
type preparedRecord struct {
	Name string `json:"name"`
	Hash string `json:"hash"`
	Size uint64 `json:"size"`
}

// takeRecords is what was ready when they were kept. A missing or damaged file is an empty one.
//
// Crash: the file is removed until everything in it is ready. A module that ends the process does so once.
func (p *preparer) takeRecords() (out []*locuspb.FunctionInfo) {
	var records []preparedRecord
	text, err := vfs.ReadFile(p.functions.fs, p.file)
	if err == nil {
		err = p.functions.fs.Remove(p.file)
	}
	if err != nil || json.Unmarshal(text, &records) != nil {
		return nil
	}
	for _, r := range records {
		out = append(out, &locuspb.FunctionInfo{Name: r.Name, Hash: r.Hash, Size: r.Size})
	}
	return bounded(out)
}

// keepRecords keeps what is ready, the last used first.
func (p *preparer) keepRecords() {
	records := []preparedRecord{}
	for _, i := range bounded(p.functions.lastUsed(p.active)) {
		records = append(records, preparedRecord{i.Name, i.Hash, i.Size})
	}
	text, err := json.MarshalIndent(records, "", "  ")
	if err == nil && !bytes.Equal(text, p.written) {
		if err = vfs.WriteFile(p.functions.fs, p.file, append(text, '\n')); err == nil {
			p.written = text
		}
	}
	if err != nil {
		p.log.Debug("keeping what functions are ready", "error", err)
	}
}

// prepare makes a version ready for calls: compiled, and its module on the disk for the next start. A call that comes
// meanwhile waits for the same load, which does not end with ctx: prepare only no longer waits for it then.
func (f *functions) prepare(ctx context.Context, info *locuspb.FunctionInfo) error {
	select {
	case r := <-f.start(ctx, info, func() uint64 { return 0 }):
		if r.Err != nil {
			return r.Err
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	if f.onDisk(info.Hash) {
		return nil
	}
	_, err := f.module(ctx, info.Hash) // it was registered here, and came from the client
	return err
}

// onDisk says whether this node has a module.
func (f *functions) onDisk(hash string) bool {
	_, err := f.fs.Stat(filepath.Join(f.dir, hash+moduleSuffix))
	return err == nil
}

// full says whether one more compiled module would push another one out.
func (f *functions) full() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return len(f.mu.compiled) >= f.maxCompiled()
}

// forgetUnused forgets what was prepared and never used, unless it is wanted.
func (f *functions) forgetUnused(wanted map[string]bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, c := range f.mu.compiled {
		if c.used.Load() == 0 && !wanted[key] {
			f.forget(c)
		}
	}
}

// lastUsed are those of a list that are compiled, the last used first.
func (f *functions) lastUsed(list []*locuspb.FunctionInfo) (out []*locuspb.FunctionInfo) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	used := make(map[*locuspb.FunctionInfo]uint64)
	for _, i := range list {
		if c := f.mu.compiled[cacheKey(i)]; c != nil {
			out, used[i] = append(out, i), c.used.Load()
		}
	}
	slices.SortStableFunc(out, func(a, b *locuspb.FunctionInfo) int { return cmp.Compare(used[b], used[a]) })
	return out
}
