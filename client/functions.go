package client

import (
	"context"
	"time"

	"github.com/locuskv/locus/api/locuspb"
)

// FunctionInfo describes one version of a registered function.
type FunctionInfo struct {
	Name    string
	Version uint32
	Kind    string // pure, read-only, read-write, range, map
	Codec   string // raw, json, proto; empty: registered by a release that did not record it
	Runtime string // native, wasm
	Hash    string // SHA-256 of the module, hexadecimal; empty for native
	Size    uint64
	Active  bool // calls that name no version run it
	// Previous: it was active before the version that is, and RollbackFunction makes it active again.
	Previous   bool
	Registered time.Time // zero: native, or not recorded
}

// FunctionDetails is what the cluster has of one function.
type FunctionDetails struct {
	Versions []FunctionInfo // in order
	Nodes    []FunctionNode // by store
}

// FunctionNode says what one node has ready of a function.
type FunctionNode struct {
	Store    StoreID
	Native   bool     // it is part of the node's program
	Compiled []uint32 // versions that run there without being fetched and compiled first
	Silent   bool     // the node did not answer, so nothing is known
}

// RegisterOption changes what RegisterFunction does.
type RegisterOption interface {
	applyRegister(*locuspb.RegisterFunctionRequest)
}

type inactive struct{}

func (inactive) applyRegister(r *locuspb.RegisterFunctionRequest) { r.Inactive = true }

// Inactive has RegisterFunction leave the active version as it is: the new one runs for those who name it, until it is activated.
func Inactive() RegisterOption { return inactive{} }

// RegisterFunction stores a WebAssembly module as the next version of a function and makes it the active one; see ActivateFunction
// for what that means for calls. A module that the name has already is the version that it is.
func (db *DB) RegisterFunction(ctx context.Context, name string, module []byte, opts ...RegisterOption) (FunctionInfo, error) {
	ctx, cancel := db.limited(ctx)
	defer cancel()
	req := &locuspb.RegisterFunctionRequest{Name: name, Module: module}
	for _, o := range opts {
		if o != nil {
			o.applyRegister(req)
		}
	}
	m, err := call(ctx, db, false, func(ctx context.Context, c locuspb.LocusClient) (*locuspb.RegisterFunctionResponse, error) {
		return c.RegisterFunction(ctx, req)
	})
	if err != nil {
		return FunctionInfo{}, public(err, nil)
	}
	return functionInfo(m.GetFunction()), nil
}

// ActivateFunction makes a version of a function the one that calls run that name none; before is the one that was, 0 if none was. An older
// version may be activated as well as a newer one.
//
// Every call and run that begins after it has returned runs the version, whichever node serves it: it returns when all nodes have heard of
// the change, about a second later, and a node that is cut off from the others serves no call without a version until it has. What began
// before keeps the version that it began with, to its end. An *AmbiguousError says that the change may have been made, or is made and not all nodes are
// known to have heard of it; activating again settles it.
func (db *DB) ActivateFunction(ctx context.Context, name string, version uint32) (before uint32, err error) {
	if version == 0 {
		return 0, &InvalidArgumentError{Reason: "versions of functions begin with 1"}
	}
	_, before, err = db.activate(ctx, name, version)
	return before, err
}

// RollbackFunction activates the version that was active before the one that is, of those that there are still: so two in a row change
// nothing. It returns what ActivateFunction does, for calls too.
func (db *DB) RollbackFunction(ctx context.Context, name string) (now FunctionInfo, before uint32, err error) {
	return db.activate(ctx, name, 0)
}

func (db *DB) activate(ctx context.Context, name string, version uint32) (now FunctionInfo, before uint32, err error) {
	ctx, cancel := db.limited(ctx)
	defer cancel()
	m, err := call(ctx, db, false, func(ctx context.Context, c locuspb.LocusClient) (*locuspb.ActivateFunctionResponse, error) {
		return c.ActivateFunction(ctx, &locuspb.ActivateFunctionRequest{Name: name, Version: version})
	})
	if err != nil {
		return FunctionInfo{}, 0, public(err, nil)
	}
	return functionInfo(m.GetFunction()), m.GetBefore(), nil
}

// RemoveFunction removes a function with all its versions, and returns these. The numbers of its versions are not given again.
//
// Calls and runs that begin after it has returned get a *FunctionNotFoundError. Those that began before end as if nothing had happened or,
// where a node would have to fetch the module now, with that error: never with a part of the result.
func (db *DB) RemoveFunction(ctx context.Context, name string) ([]FunctionInfo, error) {
	return db.remove(ctx, name, 0)
}

// RemoveFunctionVersion removes one version of a function, which must not be the active one. See RemoveFunction.
func (db *DB) RemoveFunctionVersion(ctx context.Context, name string, version uint32) error {
	if version == 0 {
		return &InvalidArgumentError{Reason: "versions of functions begin with 1"}
	}
	_, err := db.remove(ctx, name, version)
	return err
}

func (db *DB) remove(ctx context.Context, name string, version uint32) ([]FunctionInfo, error) {
	ctx, cancel := db.limited(ctx)
	defer cancel()
	m, err := call(ctx, db, false, func(ctx context.Context, c locuspb.LocusClient) (*locuspb.RemoveFunctionResponse, error) {
		return c.RemoveFunction(ctx, &locuspb.RemoveFunctionRequest{Name: name, Version: version})
	})
	if err != nil {
		return nil, public(err, nil)
	}
	return functionInfos(m.Removed), nil
}

// Functions lists the functions that the cluster knows.
func (db *DB) Functions(ctx context.Context) ([]FunctionInfo, error) {
	ctx, cancel := db.limited(ctx)
	defer cancel()
	m, err := call(ctx, db, true, func(ctx context.Context, c locuspb.LocusClient) (*locuspb.ListFunctionsResponse, error) {
		return c.ListFunctions(ctx, &locuspb.ListFunctionsRequest{})
	})
	if err != nil {
		return nil, public(err, nil)
	}
	return functionInfos(m.Functions), nil
}

// DescribeFunction tells all versions of a function, and which nodes have which of them ready.
func (db *DB) DescribeFunction(ctx context.Context, name string) (FunctionDetails, error) {
	ctx, cancel := db.limited(ctx)
	defer cancel()
	m, err := call(ctx, db, true, func(ctx context.Context, c locuspb.LocusClient) (*locuspb.DescribeFunctionResponse, error) {
		return c.DescribeFunction(ctx, &locuspb.DescribeFunctionRequest{Name: name})
	})
	if err != nil {
		return FunctionDetails{}, public(err, nil)
	}
	d := FunctionDetails{Versions: functionInfos(m.Versions)}
	for _, n := range m.Nodes {
		d.Nodes = append(d.Nodes, FunctionNode{StoreID(n.GetStoreId()), n.GetNative(), n.GetCompiled(), n.GetSilent()})
	}
	return d, nil
}

func functionInfos(list []*locuspb.FunctionInfo) (out []FunctionInfo) {
	for _, f := range list {
		out = append(out, functionInfo(f))
	}
	return out
}

func functionInfo(f *locuspb.FunctionInfo) FunctionInfo {
	i := FunctionInfo{
		Name: f.GetName(), Version: f.GetVersion(), Kind: f.GetKind(), Codec: f.GetCodec(), Runtime: f.GetRuntime(), Hash: f.GetHash(),
		Size: f.GetSize(), Active: f.GetActive(), Previous: f.GetPrevious(),
	}
	if t := f.GetRegistered(); t != 0 {
		i.Registered = Timestamp(t).Time()
	}
	return i
}

// FunctionStats is what a version of a function has done since the nodes were started.
type FunctionStats struct {
	Name    string // "(other)": those that a node could not tell apart, because it has run more than 200 versions
	Version uint32 // 0: native
	// Range is set with ByRange; 0: on no range (pure calls, merging), or on ranges that a node could not tell apart, more than 1,024.
	Range RangeID
	Calls uint64 // that ran, each run of a call in optimistic mode; of range functions, runs
	Parts uint64 // of range functions: parts of runs, each on one range
	// Errors of calls and runs, and with ByRange of parts, by kind: function (the function's own), trap, fuel, limit, permission, group, argument, deadline, other. What is refused before a
	// function runs is not among them.
	Errors                       map[string]uint64
	Fuel                         uint64
	Time                         time.Duration // that it ran, with its reads
	RecordsRead, BytesRead       uint64
	RecordsWritten, BytesWritten uint64 // puts and deletes of calls that succeeded
}

// FunctionReport is what the functions of the cluster have done.
type FunctionReport struct {
	Functions []FunctionStats // by name, version and range
	Silent    []StoreID       // nodes that did not answer: what they have done is missing
}

// StatsOption changes what FunctionStats tells.
type StatsOption interface {
	applyStats(*locuspb.FunctionStatsRequest)
}

type byRange struct{}

func (byRange) applyStats(r *locuspb.FunctionStatsRequest) { r.ByRange = true }

// ByRange has FunctionStats tell the ranges apart.
func ByRange() StatsOption { return byRange{} }

// FunctionStats adds up what a function, or with an empty name every function, has done on all nodes. Each node counts since it was
// started.
func (db *DB) FunctionStats(ctx context.Context, name string, opts ...StatsOption) (FunctionReport, error) {
	ctx, cancel := db.limited(ctx)
	defer cancel()
	req := &locuspb.FunctionStatsRequest{Name: name}
	for _, o := range opts {
		if o != nil {
			o.applyStats(req)
		}
	}
	m, err := call(ctx, db, false, func(ctx context.Context, c locuspb.LocusClient) (*locuspb.FunctionStatsResponse, error) {
		return c.FunctionStats(ctx, req)
	})
	if err != nil {
		return FunctionReport{}, public(err, nil)
	}
	r := FunctionReport{Silent: storeIDs(m.Silent)}
	for _, f := range m.Functions {
		r.Functions = append(r.Functions, FunctionStats{
			Name: f.GetName(), Version: f.GetVersion(), Range: RangeID(f.GetRangeId()), Calls: f.GetCalls(), Parts: f.GetParts(), Errors: f.GetErrors(),
			Fuel: f.GetFuel(), Time: time.Duration(f.GetNanoseconds()), RecordsRead: f.GetRecordsRead(), BytesRead: f.GetBytesRead(),
			RecordsWritten: f.GetRecordsWritten(), BytesWritten: f.GetBytesWritten(),
		})
	}
	return r, nil
}
