package server

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/vfs"
	"github.com/locuskv/locus/server/clustermap"
	"github.com/locuskv/locus/udf"
)

// maxCompiled bounds the modules that a node keeps compiled. One of a Go guest takes some 20 MB.
const maxCompiled = 64

// errClosing sends a call to another node.
var errClosing = &api.RetryError{Reason: "the node stops"}

// compiler makes WebAssembly modules runnable.
type compiler interface {
	Compile(ctx context.Context, name string, module []byte) (udf.Runnable, error)
	Close() error
}

// functions resolves names to functions: native ones first, which are part of the node, then the versions
// that are registered in the system keyspace, whose modules are fetched and compiled on first use. Versions
// never change, and neither does the module of a hash.
//
// A call that names no version is resolved once, by the node that admits it, and has its version from then on. Which version is
// active the node knows from its last report to the driver, for as long as that may be relied on (trust); after that it
// asks again first. A version that has been removed can't be resolved any more, but who has resolved it before can go on
// while it is compiled here.
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
	trust trust
	// accounts add up what the functions do here.
	accounts *accounts

	loads   singleflight.Group // by name and hash
	fetches singleflight.Group // by hash: names share modules, and a file has one writer

	limit int           // of compiled modules; 0: maxCompiled
	uses  atomic.Uint64 // counts: what was used last has the highest number

	// life ends with close, and so does what is being fetched or compiled for callers who may have gone; nil: it never does.
	life    context.Context
	end     context.CancelFunc
	loading sync.WaitGroup // modules that are being compiled; it grows under mu, and not once closed is set

	mu struct {
		sync.RWMutex
		closed   bool
		compiled map[string]*compiled // by name and hash
		// versions are those that have been resolved. One that is in use stays, so that whoever was admitted with it finds it.
		versions map[functionVersion]*compiled
	}
}

// functionVersion names a version; 0: native.
type functionVersion struct {
	name    string
	version uint32
}

// compiled is a module that can run. It is closed when it was evicted and nobody uses it.
type compiled struct {
	runnable udf.Runnable
	key      string
	hash     string
	users    atomic.Int64  // rises under functions.mu only
	used     atomic.Uint64 // 0: it was prepared, and never used
	evicted  atomic.Bool   // set under functions.mu
	closed   bool          // guarded by functions.mu
}

// function is one that this node can run, resolved. Release it.
type function struct {
	runnable udf.Runnable
	version  uint32 // 0: native
	hash     string // of the module; empty: native
	owner    *functions
	compiled *compiled // nil: native
}

// release says that the function is not run any more.
func (f function) release() {
	if f.compiled == nil || f.compiled.users.Add(-1) > 0 || !f.compiled.evicted.Load() {
		return
	}
	f.owner.mu.Lock()
	defer f.owner.mu.Unlock()
	f.owner.closeUnused(f.compiled)
}

// closeUnused gives back a module that was evicted and that nobody uses any more. REQUIRES: mu.
func (f *functions) closeUnused(c *compiled) {
	if !c.evicted.Load() || c.users.Load() > 0 || c.closed {
		return
	}
	c.closed = true
	for v, x := range f.mu.versions {
		if x == c {
			delete(f.mu.versions, v)
		}
	}
	if x, ok := c.runnable.(interface{ Close() }); ok {
		x.Close()
	}
}

// ready is the function if it can run at once.
func (f *functions) ready(name string, version uint32) (function, bool) {
	if r, ok := f.native.Lookup(name); ok {
		return function{runnable: r}, version == 0
	}
	if version == 0 && !f.trust.current() {
		return function{}, false
	}
	info, ok := choose(f.cmap.FunctionVersions(name), name, version)
	if !ok {
		return function{}, false
	}
	return f.cached(info)
}

// pinned is a function that has been resolved before, here or by another node; version 0 is the native one. REQUIRES: for a
// version that is not compiled here, resolve.
func (f *functions) pinned(name string, version uint32) (function, bool) {
	if version == 0 {
		r, ok := f.native.Lookup(name)
		return function{runnable: r}, ok
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	c, ok := f.mu.versions[functionVersion{name, version}]
	if !ok {
		return function{}, false
	}
	return f.use(c, version), true
}

// resolvePinned is pinned, where the function may be fetched and compiled.
func (f *functions) resolvePinned(ctx context.Context, name string, version uint32) (function, error) {
	if fn, ok := f.pinned(name, version); ok {
		return fn, nil
	}
	if version == 0 {
		return function{}, &api.FunctionNotFoundError{Name: name, Node: f.node}
	}
	return f.resolve(ctx, name, version)
}

// use counts a user in. REQUIRES: mu, for reading at least.
func (f *functions) use(c *compiled, version uint32) function {
	c.used.Store(f.nextUse())
	c.users.Add(1)
	return function{runnable: c.runnable, version: version, hash: c.hash, owner: f, compiled: c}
}

// resolve is the function, fetched and compiled if need be. Version 0 is the active one.
func (f *functions) resolve(ctx context.Context, name string, version uint32) (function, error) {
	_, native := f.native.Lookup(name)
	if version == 0 && !native {
		if err := f.trust.await(ctx); err != nil {
			return function{}, err
		}
	}
	if fn, ok := f.ready(name, version); ok {
		return fn, nil
	}
	notFound := &api.FunctionNotFoundError{Name: name, Version: version, Node: f.node}
	if native {
		return function{}, notFound // native functions have no numbered versions
	}
	info, ok := choose(f.cmap.FunctionVersions(name), name, version)
	if !ok {
		list, err := f.list(ctx)
		if err != nil {
			return function{}, fmt.Errorf("server: looking up function %q: %w", name, err)
		}
		if info, ok = choose(list, name, version); !ok {
			return function{}, notFound
		}
	}
	fn, err := f.load(ctx, info)
	if errors.Is(err, errNoModule) {
		return function{}, notFound // removed while it was being fetched
	}
	return fn, err
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

// cached is a version that is compiled.
func (f *functions) cached(info *locuspb.FunctionInfo) (function, bool) {
	v := functionVersion{info.Name, info.Version}
	f.mu.RLock()
	c, ok := f.mu.compiled[cacheKey(info)]
	if ok && (v.version == 0 || f.mu.versions[v] == c) { // 0: it is about to be registered
		defer f.mu.RUnlock()
		return f.use(c, info.Version), true
	}
	f.mu.RUnlock()
	if !ok {
		return function{}, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if c, ok = f.mu.compiled[cacheKey(info)]; !ok {
		return function{}, false
	}
	f.mu.versions[v] = c
	return f.use(c, info.Version), true
}

// load compiles a module once, however many ask for it.
func (f *functions) load(ctx context.Context, info *locuspb.FunctionInfo) (function, error) {
	for {
		select {
		case r := <-f.start(ctx, info, f.nextUse):
			if r.Err != nil {
				return function{}, r.Err
			}
			if fn, ok := f.cached(info); ok {
				return fn, nil
			} // evicted already, by others
		case <-ctx.Done():
			return function{}, ctx.Err()
		}
	}
}

// start begins to load a module, or joins whoever does. used is the compiled module's first number.
func (f *functions) start(ctx context.Context, info *locuspb.FunctionInfo, used func() uint64) <-chan singleflight.Result {
	return f.loads.DoChan(cacheKey(info), func() (any, error) {
		r, err := f.compile(ctx, info)
		if r != nil {
			f.keep(info, r, used())
		}
		return nil, err
	})
}

func (f *functions) nextUse() uint64 { return f.uses.Add(1) }

// compile fetches and compiles a module. It is nil if that has been done.
func (f *functions) compile(ctx context.Context, info *locuspb.FunctionInfo) (udf.Runnable, error) {
	if f.isCompiled(info) {
		return nil, nil
	}
	ctx, cancel := f.detached(ctx)
	defer cancel()
	module, err := f.module(ctx, info.Hash)
	if err != nil {
		return nil, fmt.Errorf("server: fetching function %q version %d: %w", info.Name, info.Version, err)
	}
	return f.make(ctx, info.Name, module)
}

// detached is a context for what others may come to wait for too: it ends with the node, and not with the first caller.
func (f *functions) detached(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), defaultTimeout)
	if f.life == nil {
		return ctx, cancel
	}
	stop := context.AfterFunc(f.life, cancel)
	return ctx, func() { stop(); cancel() }
}

// make has the compiler make a function of a module. A compiler that panics has refused the module: nodes prepare functions by
// themselves, and would end with it again and again.
func (f *functions) make(ctx context.Context, name string, module []byte) (r udf.Runnable, err error) {
	if !f.begin() {
		return nil, errClosing
	}
	defer f.loading.Done()
	defer func() {
		if p := recover(); p != nil {
			r, err = nil, &api.InvalidArgumentError{Reason: fmt.Sprintf("the module of function %q was refused: the compiler failed: %v", name, p)}
		}
	}()
	return f.compiler.Compile(ctx, name, module)
}

// begin counts a use of the compiler, unless that is being closed.
func (f *functions) begin() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.mu.closed {
		f.loading.Add(1)
	}
	return !f.mu.closed
}

// close ends what is being loaded, waits for the compiler, which finishes the module it is at, and closes it.
func (f *functions) close() error {
	f.mu.Lock()
	f.mu.closed = true
	f.mu.Unlock()
	if f.end != nil {
		f.end()
	}
	f.loading.Wait()
	return f.compiler.Close()
}

// keep remembers a compiled module and forgets the one used longest ago when there are too many.
func (f *functions) keep(info *locuspb.FunctionInfo, r udf.Runnable, used uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.compiled == nil {
		f.mu.compiled, f.mu.versions = map[string]*compiled{}, map[functionVersion]*compiled{}
	}
	c := &compiled{runnable: r, key: cacheKey(info), hash: info.Hash}
	c.used.Store(used)
	if f.mu.compiled[c.key] != nil { // two registrations of one module at a time
		c.evicted.Store(true)
		f.closeUnused(c)
		return
	}
	f.mu.compiled[c.key] = c
	f.evict(f.maxCompiled())
}

func (f *functions) maxCompiled() int { return cmp.Or(f.limit, maxCompiled) }

func (f *functions) isCompiled(info *locuspb.FunctionInfo) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.mu.compiled[cacheKey(info)] != nil
}

// forget makes a module one that is not found any more. REQUIRES: mu.
func (f *functions) forget(c *compiled) {
	delete(f.mu.compiled, c.key)
	c.evicted.Store(true)
	f.closeUnused(c)
}

// evict forgets modules until there are no more than limit. REQUIRES: mu.
func (f *functions) evict(limit int) {
	for len(f.mu.compiled) > limit {
		var oldest *compiled
		for _, c := range f.mu.compiled {
			if oldest == nil || c.used.Load() < oldest.used.Load() {
				oldest = c
			}
		}
		f.forget(oldest)
	}
}

// known says whether a version is native, or registered as far as this node has heard.
func (f *functions) known(v functionVersion) bool {
	if v.version == 0 {
		_, ok := f.native.Lookup(v.name)
		return ok
	}
	_, ok := choose(f.cmap.FunctionVersions(v.name), v.name, v.version)
	return ok
}

// compiledVersions are the versions of a list that run here without being compiled first.
func (f *functions) compiledVersions(list []*locuspb.FunctionInfo) (out []uint32) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for _, i := range list {
		if f.mu.compiled[cacheKey(i)] != nil {
			out = append(out, i.Version)
		}
	}
	return out
}

// module is a module's bytes, from this node's disk or from the cluster, checked against its hash.
func (f *functions) module(ctx context.Context, hash string) ([]byte, error) {
	if raw, err := hex.DecodeString(hash); err != nil || len(raw) != sha256.Size {
		return nil, &api.InvalidArgumentError{Reason: fmt.Sprintf("%q is not the hash of a module", hash)}
	}
	fetched := f.fetches.DoChan(hash, func() (any, error) {
		ctx, cancel := f.detached(ctx)
		defer cancel()
		return f.fetchModule(ctx, hash)
	})
	select {
	case r := <-fetched:
		module, _ := r.Val.([]byte)
		return module, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f *functions) fetchModule(ctx context.Context, hash string) ([]byte, error) {
	name := filepath.Join(f.dir, hash+moduleSuffix)
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
		// Parts of it were deleted while it was read: versions never change, and neither do modules.
		return nil, fmt.Errorf("server: module %s arrived as %s: %w", hash, got, errNoModule)
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
		out = append(out, f.nativeInfo(name))
	}
	for _, i := range registered {
		if _, shadowed := f.native.Lookup(i.Name); !shadowed {
			out = append(out, i)
		}
	}
	return out
}

func (f *functions) nativeInfo(name string) *locuspb.FunctionInfo {
	r, _ := f.native.Lookup(name)
	return &locuspb.FunctionInfo{Name: name, Kind: r.Kind().String(), Codec: r.Codec().String(), Runtime: "native", Active: true}
}

// versionsOf are the infos of one name.
func versionsOf(list []*locuspb.FunctionInfo, name string) (out []*locuspb.FunctionInfo) {
	for _, i := range list {
		if i.Name == name {
			out = append(out, i)
		}
	}
	return slices.Clip(out)
}

// reducer is a run's view of a range function on the gateway. Of a map function it only knows the version.
type reducer struct {
	f     function
	codec udf.Codec
	arg   []byte

	accounts *accounts
	used     usage // by the run here; its parts are entered where they run
}

// reducer finds the function for a run, and refuses one that can't be run with the request. End it.
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
		fn.release()
		return nil, err
	}
	return &reducer{f: fn, codec: udf.Codec(req.Codec), arg: req.Argument, accounts: f.accounts}, nil
}

// end enters the run in the accounts and releases the function.
func (r *reducer) end(name string, err error) {
	r.used.err = err
	r.accounts.add(functionVersion{name, r.f.version}, &r.used)
	r.f.release()
}

func (r *reducer) Version() uint32 { return r.f.version }

func (r *reducer) Hash() string { return r.f.hash }

func (r *reducer) Merge(ctx context.Context, accs [][]byte) ([]byte, uint64, error) {
	began := time.Now()
	out, err := r.f.runnable.Merge(ctx, r.codec, r.arg, accs)
	r.used.fuel, r.used.time = r.used.fuel+out.Fuel, r.used.time+time.Since(began)
	return out.Result, out.Fuel, err
}

func (r *reducer) Result(ctx context.Context, accs [][]byte) ([]byte, uint64, error) {
	began := time.Now()
	out, err := r.f.runnable.Result(ctx, r.codec, r.arg, accs)
	r.used.fuel, r.used.time = r.used.fuel+out.Fuel, r.used.time+time.Since(began)
	return out.Result, out.Fuel, err
}
