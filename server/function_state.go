package server

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
)

// stateTime is how long a node may take to say what it has of a function.
const stateTime = 3 * time.Second

// FunctionState says what this node has ready of a function, and what functions have done here.
func (s *nodeService) FunctionState(_ context.Context, req *locuspb.FunctionStateRequest) (*locuspb.FunctionStateResponse, error) {
	return s.n.functionState(req), nil
}

func (n *Node) functionState(req *locuspb.FunctionStateRequest) *locuspb.FunctionStateResponse {
	resp := &locuspb.FunctionStateResponse{Stats: n.functions.accounts.stats(req.Name, req.ByRange)}
	if req.Name != "" {
		_, native := n.functions.native.Lookup(req.Name)
		resp.Ready = &locuspb.FunctionOnNode{
			StoreId: uint64(n.ident.StoreID), Native: native,
			Compiled: n.functions.compiledVersions(n.cmap.FunctionVersions(req.Name)),
		}
	}
	return resp
}

// nodeState is one node's answer; nil: there was none.
type nodeState struct {
	store ids.StoreID
	state *locuspb.FunctionStateResponse
}

// functionStates asks all nodes, in the order of their stores.
func (n *Node) functionStates(ctx context.Context, req *locuspb.FunctionStateRequest) []nodeState {
	ctx, cancel := context.WithTimeout(ctx, stateTime)
	defer cancel()
	var out []nodeState
	for _, node := range n.cmap.Nodes() {
		out = append(out, nodeState{store: ids.StoreID(node.StoreId)})
	}
	var wg sync.WaitGroup
	for i := range out {
		wg.Go(func() {
			if out[i].store == n.ident.StoreID {
				out[i].state = n.functionState(req)
			} else if conn, err := n.peers.connect(out[i].store); err == nil {
				out[i].state, _ = locuspb.NewNodeClient(conn).FunctionState(ctx, req) // nil says that there was no answer
			}
		})
	}
	wg.Wait()
	return out
}

func (s *locusService) DescribeFunction(ctx context.Context, req *locuspb.DescribeFunctionRequest) (*locuspb.DescribeFunctionResponse, error) {
	resp := &locuspb.DescribeFunctionResponse{}
	if _, native := s.n.functions.native.Lookup(req.Name); native {
		resp.Versions = append(resp.Versions, s.n.functions.nativeInfo(req.Name))
	} else {
		list, err := s.n.registered(ctx)
		if err != nil {
			return nil, err
		}
		resp.Versions = versionsOf(list, req.Name)
	}
	if len(resp.Versions) == 0 {
		return nil, &api.FunctionNotFoundError{Name: req.Name}
	}
	for _, n := range s.n.functionStates(ctx, &locuspb.FunctionStateRequest{Name: req.Name}) {
		ready := &locuspb.FunctionOnNode{StoreId: uint64(n.store), Silent: true}
		if n.state.GetReady() != nil {
			ready = n.state.Ready
		}
		resp.Nodes = append(resp.Nodes, ready)
	}
	return resp, nil
}

// FunctionStats adds up what all nodes have in their accounts.
func (s *locusService) FunctionStats(ctx context.Context, req *locuspb.FunctionStatsRequest) (*locuspb.FunctionStatsResponse, error) {
	resp := &locuspb.FunctionStatsResponse{}
	type key struct {
		name    string
		version uint32
		of      uint64
	}
	sums := make(map[key]*locuspb.FunctionStats)
	for _, n := range s.n.functionStates(ctx, &locuspb.FunctionStateRequest{Name: req.Name, ByRange: req.ByRange}) {
		if n.state == nil {
			resp.Silent = append(resp.Silent, uint64(n.store))
		}
		for _, f := range n.state.GetStats() {
			k := key{f.Name, f.Version, f.RangeId}
			if sums[k] == nil {
				sums[k] = f
				resp.Functions = append(resp.Functions, f)
			} else {
				addStats(sums[k], f)
			}
		}
	}
	slices.SortFunc(resp.Functions, func(a, b *locuspb.FunctionStats) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version), cmp.Compare(a.RangeId, b.RangeId))
	})
	return resp, nil
}

func addStats(to, f *locuspb.FunctionStats) {
	to.Calls += f.Calls
	to.Parts += f.Parts
	to.Fuel += f.Fuel
	to.Nanoseconds += f.Nanoseconds
	to.RecordsRead += f.RecordsRead
	to.BytesRead += f.BytesRead
	to.RecordsWritten += f.RecordsWritten
	to.BytesWritten += f.BytesWritten
	for kind, n := range f.Errors {
		if to.Errors == nil {
			to.Errors = make(map[string]uint64)
		}
		to.Errors[kind] += n
	}
}
