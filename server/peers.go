package server

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/server/clustermap"
	"github.com/locuskv/locus/server/rpc"
)

// peers reaches the other nodes by their store ids, and this one without a connection.
type peers struct {
	self  ids.StoreID
	clock *hlc.Clock
	pool  *rpc.Pool
	cmap  *clustermap.Map
	// local serves what is meant for this node; set before the node serves.
	local localNode
	// hint is the address of a store's node by its own word, in gossip; may be nil.
	hint func(ids.StoreID) (string, bool)
}

// localNode is this node, as its own peer.
type localNode interface {
	do(ctx context.Context, req *locuspb.Request, done func(*locuspb.Response))
	runRange(ctx context.Context, req *locuspb.RunRangeRequest) *locuspb.RunRangeResponse
}

// address of a store's node.
func (p *peers) address(store ids.StoreID) (string, error) {
	if p.hint != nil {
		if a, ok := p.hint(store); ok {
			return a, nil
		}
	}
	if n, ok := p.cmap.Node(store); ok && n.Address != "" {
		return n.Address, nil
	}
	return "", &api.UnavailableError{Reason: fmt.Sprintf("the address of store %s is not known", store)}
}

// Connection implements transport.Dialer.
func (p *peers) Connection(to ids.StoreID, bulk bool) (grpc.ClientConnInterface, error) {
	address, err := p.address(to)
	if err != nil {
		return nil, err
	}
	class := rpc.Raft
	if bulk {
		class = rpc.Bulk
	}
	return p.pool.Get(address, class)
}

// connect returns a store's control connection.
func (p *peers) connect(store ids.StoreID) (grpc.ClientConnInterface, error) {
	address, err := p.address(store)
	if err != nil {
		return nil, err
	}
	return p.pool.Get(address, rpc.Control)
}

// Do sends requests to one store and waits for all answers, in the order of the requests. An error that is
// not of a single request is an *api.RetryError: reads may be sent again, and commands under their session.
func (p *peers) Do(ctx context.Context, store ids.StoreID, reqs []*locuspb.Request) ([]*locuspb.Response, error) {
	if store == p.self {
		return p.doLocal(ctx, reqs)
	}
	conn, err := p.connect(store)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	responses, err := p.doRemote(ctx, conn, reqs)
	if err != nil {
		return nil, again(ctx, err)
	}
	return responses, nil
}

// doLocal is for requests to this node. A store that is stopping may leave some unanswered.
func (p *peers) doLocal(ctx context.Context, reqs []*locuspb.Request) ([]*locuspb.Response, error) {
	type answer struct {
		place    int
		response *locuspb.Response
	}
	answers := make(chan answer, len(reqs))
	for i, r := range reqs {
		p.local.do(ctx, r, func(resp *locuspb.Response) { answers <- answer{i, resp} })
	}
	responses := make([]*locuspb.Response, len(reqs))
	for range reqs {
		select {
		case a := <-answers:
			responses[a.place] = a.response
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return responses, nil
}

func (p *peers) doRemote(ctx context.Context, conn grpc.ClientConnInterface, reqs []*locuspb.Request) ([]*locuspb.Response, error) {
	stream, err := locuspb.NewLocusClient(conn).Batch(ctx)
	if err != nil {
		return nil, err
	}
	place := make(map[uint64]int, len(reqs))
	for i, r := range reqs {
		r.Id = uint64(i + 1)
		place[r.Id] = i
	}
	if err := stream.Send(&locuspb.BatchRequest{Clock: uint64(p.clock.Hint()), Requests: reqs}); err != nil {
		if _, rerr := stream.Recv(); rerr != nil {
			err = rerr // has the reason; Send only knows io.EOF
		}
		return nil, err
	}
	responses := make([]*locuspb.Response, len(reqs))
	for len(place) > 0 {
		frame, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		if err := p.clock.Update(hlc.Timestamp(frame.Clock)); err != nil {
			return nil, err
		}
		for _, r := range frame.Responses {
			if i, ok := place[r.Id]; ok {
				responses[i] = r
				delete(place, r.Id)
			}
		}
	}
	return responses, nil
}

// RunRange executes a range function on one range of a store.
func (p *peers) RunRange(ctx context.Context, store ids.StoreID, req *locuspb.RunRangeRequest) (*locuspb.RunRangeResponse, error) {
	if store == p.self {
		return p.local.runRange(ctx, req), nil
	}
	conn, err := p.connect(store)
	if err != nil {
		return nil, err
	}
	resp, err := locuspb.NewNodeClient(conn).RunRange(ctx, req)
	if err != nil {
		return nil, again(ctx, err)
	}
	return resp, p.clock.Update(hlc.Timestamp(resp.Clock))
}

// again makes an error of a connection one that says to try again; what a node itself said stays.
func again(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.Canceled:
		return &api.RetryError{Reason: err.Error()}
	}
	return api.FromStatus(err)
}
