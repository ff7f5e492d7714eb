package server

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/udf"
)

// inspect compiles a module that is to be registered, and describes it. What can't run is never stored.
func (f *functions) inspect(ctx context.Context, name string, module []byte) (*locuspb.FunctionInfo, error) {
	if name == "" || strings.ContainsAny(name, "/\x00") {
		return nil, &api.InvalidArgumentError{Reason: fmt.Sprintf("%q can't name a function", name)}
	}
	if udf.Reserved(name) {
		return nil, &api.InvalidArgumentError{Reason: fmt.Sprintf("function %q: names that begin with %s are reserved", name, udf.ReservedPrefix)}
	}
	if len(module) > maxModule {
		return nil, &api.LimitError{What: "module size", Limit: maxModule, Got: int64(len(module))}
	}
	if _, ok := f.native.Lookup(name); ok {
		return nil, &api.InvalidArgumentError{Reason: fmt.Sprintf("function %q is native on this node; choose another name", name)}
	}
	info := &locuspb.FunctionInfo{Name: name, Runtime: "wasm", Hash: hashOf(module), Size: uint64(len(module))}
	if fn, ok := f.cached(info); ok {
		defer fn.release()
		info.Kind, info.Codec = fn.runnable.Kind().String(), fn.runnable.Codec().String()
		return info, nil
	}
	r, err := f.make(ctx, name, module)
	if err != nil {
		return nil, err
	}
	info.Kind, info.Codec = r.Kind().String(), r.Codec().String()
	f.keep(info, r, f.nextUse())
	return info, nil
}

func hexOf(hash []byte) []byte { return hex.AppendEncode(nil, hash) }

func uitoa(n uint64) string { return strconv.FormatUint(n, 10) }
