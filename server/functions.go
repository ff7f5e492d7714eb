package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"golang.org/x/sync/singleflight"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/vfs"
	"github.com/locuskv/locus/server/clustermap"
	"github.com/locuskv/locus/udf"
)

// maxCompiled bounds the modules that a node keeps compiled. One of a Go guest takes some 20 MB.
const maxCompiled = 64

// function is one that this node can run.
type function struct {
	runnable udf.Runnable
	version  uint32 // 0: native
	hash     string // of the module; empty: native
}

// compiler makes WebAssembly modules runnable.
type compiler interface {
	Compile(ctx context.Context, name string, module []byte) (udf.Runnable, error)
	Close() error
}

// functions resolves names to functions: native ones first, which are part of the node, then the versions
// that are registered in the system keyspace, whose modules are fetched and compiled on first use. Versions
// never change, and neither does the module of a hash.
type functions struct {
	node     string // for errors
	native   *udf.Registry
	compiler compiler
	cmap     *clustermap.Map
	fs       vfs.FS
	dir      string // of modules on disk, by hash
	// list asks the driver for the registered functions; fetch gets a module's bytes from the cluster.
	list  func(ctx context.Context) ([]*locuspb.FunctionInfo, error)
	fetch func(ctx context.Context, hash string) ([]byte, error)

	loads   singleflight.Group // by name and hash
	modules singleflight.Group // by hash: several names may have one module

	mu struct {
		sync.Mutex
		compiled map[string]udf.Runnable // by name and hash
		order    []string                // oldest first
		// listed are versions that the cluster map did not have yet when they were resolved.
		listed map[version]*locuspb.FunctionInfo
	}
}

// version is one version of a function.
type version struct {
	name   string
	number uint32
}

// ready is the function if it can run at once.
func (f *functions) ready(name string, version uint32) (function, bool) {
	if r, ok := f.native.Lookup(name); ok {
		return function{runnable: r}, version == 0
	}
	info, ok := choose(f.cmap.Functions(), name, version)
	if !ok {
		return function{}, false
	}
	r, ok := f.cached(info)
	return function{runnable: r, version: info.Version, hash: info.Hash}, ok
}

// admitted is a version that resolve has let in, if it can run at once: also one that the driver knew of and the cluster map does not
// yet.
func (f *functions) admitted(name string, number uint32) (function, bool) {
	if fn, ok := f.ready(name, number); ok {
		return fn, true
	}
	f.mu.Lock()
	info := f.mu.listed[version{name, number}]
	f.mu.Unlock()
	if info == nil {
		return function{}, false
	}
	r, ok := f.cached(info)
	return function{runnable: r, version: info.Version, hash: info.Hash}, ok
}

// note remembers a version for admitted. More than can be compiled need not be: what is forgotten is resolved again.
func (f *functions) note(info *locuspb.FunctionInfo) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.listed == nil || len(f.mu.listed) >= maxCompiled {
		f.mu.listed = make(map[version]*locuspb.FunctionInfo)
	}
	f.mu.listed[version{info.Name, info.Version}] = info
}

// resolve is the function, fetched and compiled if need be. Version 0 is the active one.
func (f *functions) resolve(ctx context.Context, name string, version uint32) (function, error) {
	if fn, ok := f.ready(name, version); ok {
		return fn, nil
	}
	notFound := &api.FunctionNotFoundError{Name: name, Version: version, Node: f.node}
	if _, native := f.native.Lookup(name); native {
		return function{}, notFound // native functions have no numbered versions
	}
	info, ok := choose(f.cmap.Functions(), name, version)
	if !ok {
		list, err := f.list(ctx)
		if err != nil {
			return function{}, fmt.Errorf("server: looking up function %q: %w", name, err)
		}
		if info, ok = choose(list, name, version); !ok {
			return function{}, notFound
		}
		f.note(info)
	}
	r, err := f.load(ctx, info)
	if err != nil {
		return function{}, err
	}
	return function{runnable: r, version: info.Version, hash: info.Hash}, nil
}

// choose finds a version in a list; 0 is the active one.
func choose(list []*locuspb.FunctionInfo, name string, version uint32) (*locuspb.FunctionInfo, bool) {
	for _, i := range list {
		if i.Name == name && (version == 0 && i.Active || version != 0 && i.Version == version) {
			return i, true
		}
	}
	return nil, false
}

func cacheKey(info *locuspb.FunctionInfo) string { return info.Name + "\x00" + info.Hash }

func (f *functions) cached(info *locuspb.FunctionInfo) (udf.Runnable, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.mu.compiled[cacheKey(info)]
	return r, ok
}

// load compiles a module once, however many ask for it.
func (f *functions) load(ctx context.Context, info *locuspb.FunctionInfo) (udf.Runnable, error) {
	v := f.loads.DoChan(cacheKey(info), func() (any, error) {
		if r, ok := f.cached(info); ok {
			return r, nil
		}
		// Others wait for this load too: it does not end with the first caller's context.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), defaultTimeout)
		defer cancel()
		module, err := f.module(ctx, info.Hash)
		if err != nil {
			return nil, fmt.Errorf("server: fetching function %q version %d: %w", info.Name, info.Version, err)
		}
		r, err := f.compiler.Compile(ctx, info.Name, module)
		if err != nil {
			return nil, err
		}
		f.keep(info, r)
		return r, nil
	})
	select {
	case r := <-v:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(udf.Runnable), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// keep remembers a compiled module and forgets the oldest when there are too many.
func (f *functions) keep(info *locuspb.FunctionInfo, r udf.Runnable) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.compiled == nil {
		f.mu.compiled = make(map[string]udf.Runnable)
	}
	key := cacheKey(info)
	if _, ok := f.mu.compiled[key]; !ok {
		f.mu.order = append(f.mu.order, key)
	}
	f.mu.compiled[key] = r
	if len(f.mu.order) > maxCompiled {
		if c, ok := f.mu.compiled[f.mu.order[0]].(interface{ Close() }); ok {
			c.Close() // once what runs it has ended
		}
		delete(f.mu.compiled, f.mu.order[0])
		f.mu.order = f.mu.order[1:]
	}
}

// module is a module's bytes, from this node's disk or from the cluster, checked against its hash. It is fetched and
// written once, however many ask for it at a time, so that no two write the same file.
func (f *functions) module(ctx context.Context, hash string) ([]byte, error) {
	v := f.modules.DoChan(hash, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), defaultTimeout)
		defer cancel()
		return f.fetchModule(ctx, hash)
	})
	select {
	case r := <-v:
		module, _ := r.Val.([]byte)
		return module, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f *functions) fetchModule(ctx context.Context, hash string) ([]byte, error) {
	if raw, err := hex.DecodeString(hash); err != nil || len(raw) != sha256.Size {
		return nil, fmt.Errorf("server: %q is not the hash of a module", hash)
	}
	name := filepath.Join(f.dir, hash+".wasm")
	module, err := vfs.ReadFile(f.fs, name)
	if err == nil && hashOf(module) == hash {
		return module, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if module, err = f.fetch(ctx, hash); err != nil {
		return nil, err
	}
	if got := hashOf(module); got != hash {
		return nil, fmt.Errorf("server: module %s arrived as %s", hash, got)
	}
	return module, vfs.WriteFile(f.fs, name, module)
}

func hashOf(module []byte) string {
	sum := sha256.Sum256(module)
	return hex.EncodeToString(sum[:])
}

// infos lists the native functions and the given registered ones.
func (f *functions) infos(registered []*locuspb.FunctionInfo) []*locuspb.FunctionInfo {
	var out []*locuspb.FunctionInfo
	for _, name := range f.native.Names() {
		r, _ := f.native.Lookup(name)
		out = append(out, &locuspb.FunctionInfo{Name: name, Kind: r.Kind().String(), Runtime: "native", Active: true})
	}
	for _, i := range registered {
		if _, shadowed := f.native.Lookup(i.Name); !shadowed {
			out = append(out, i)
		}
	}
	return out
}

// reducer is a run's view of a range function on the gateway. Of a map function it only knows the version.
type reducer struct {
	f     function
	codec udf.Codec
	arg   []byte
}

// reducer finds the function for a run, and refuses one that can't be run with the request.
func (f *functions) reducer(ctx context.Context, req *locuspb.RunRequest, version uint32) (*reducer, error) {
	fn, err := f.resolve(ctx, req.Function, version)
	if err != nil {
		return nil, err
	}
	kind := udf.KindRange
	if req.Stream {
		kind = udf.KindMap
	}
	if err := udf.CheckCall(fn.runnable, kind, udf.Codec(req.Codec)); err != nil {
		return nil, err
	}
	return &reducer{f: fn, codec: udf.Codec(req.Codec), arg: req.Argument}, nil
}

func (r *reducer) Version() uint32 { return r.f.version }

func (r *reducer) Hash() string { return r.f.hash }

func (r *reducer) Merge(ctx context.Context, accs [][]byte) ([]byte, uint64, error) {
	out, err := r.f.runnable.Merge(ctx, r.codec, r.arg, accs)
	return out.Result, out.Fuel, err
}

func (r *reducer) Result(ctx context.Context, accs [][]byte) ([]byte, uint64, error) {
	out, err := r.f.runnable.Result(ctx, r.codec, r.arg, accs)
	return out.Result, out.Fuel, err
}
