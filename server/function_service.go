package server

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/placement"
)

// The life cycle of functions. A change is made by the node that runs the driver, and answered by the node that was asked when every
// node that the driver hears from has heard of it: so a call that begins after the answer goes by the change, wherever it goes.

// inOffice runs what changes or reads the catalog on the node that runs the driver. A change may be made twice, where the first
// answer was lost: making it again changes nothing.
func inOffice[T any](ctx context.Context, n *Node, local func(ctx context.Context, office *locuspb.Condition) (T, error), remote func(context.Context, locuspb.LocusClient) (T, error)) (T, error) {
	return driverCall(ctx, n,
		func(ctx context.Context, d *placement.Driver) (T, error) {
			office, err := d.Office()
			if err != nil {
				var zero T
				return zero, err
			}
			return local(ctx, office)
		},
		func(ctx context.Context, conn grpc.ClientConnInterface) (T, error) {
			return remote(ctx, locuspb.NewLocusClient(conn))
		})
}

// spread waits until every node goes by what has just been changed. Only the node that was asked waits.
func (n *Node) spread(ctx context.Context) error {
	if forwarded(ctx) {
		return nil
	}
	_, err := n.awaitMap(ctx)
	if err != nil {
		return &api.AmbiguousError{Cause: fmt.Errorf("the change is recorded, and not all nodes are known to have heard of it: %w", err)}
	}
	return nil
}

func (n *Node) awaitMap(ctx context.Context) (*locuspb.AwaitMapResponse, error) {
	return driverCall(ctx, n,
		func(ctx context.Context, d *placement.Driver) (*locuspb.AwaitMapResponse, error) {
			// A driver that was replaced waits for no node that it has not heard from for long, and its map is not the newest.
			office, err := d.Office()
			if err == nil {
				err = n.office.confirm(ctx, office, n.catalog.boot())
			}
			if err != nil {
				return nil, err
			}
			return placement.Await(ctx, func(done func(*locuspb.AwaitMapResponse, error)) {
				d.AwaitMap(func(err error) { done(&locuspb.AwaitMapResponse{}, err) })
				n.reporter.refresh() // this node need not be the last to hear
			})
		},
		func(ctx context.Context, conn grpc.ClientConnInterface) (*locuspb.AwaitMapResponse, error) {
			return locuspb.NewNodeClient(conn).AwaitMap(ctx, &locuspb.AwaitMapRequest{})
		})
}

// AwaitMap is answered by the driver's node.
func (s *nodeService) AwaitMap(ctx context.Context, _ *locuspb.AwaitMapRequest) (*locuspb.AwaitMapResponse, error) {
	return s.n.awaitMap(ctx)
}

// RegisterFunction is checked here, where a bad module costs this node's time only, and stored by the node
// that runs the driver.
func (s *locusService) RegisterFunction(ctx context.Context, req *locuspb.RegisterFunctionRequest) (*locuspb.RegisterFunctionResponse, error) {
	info, err := s.n.functions.inspect(ctx, req.Name, req.Module)
	if err != nil {
		return nil, err
	}
	resp, err := inOffice(ctx, s.n,
		func(ctx context.Context, office *locuspb.Condition) (*locuspb.RegisterFunctionResponse, error) {
			stored, err := s.n.catalog.add(ctx, office, info, req.Module, req.Inactive)
			return &locuspb.RegisterFunctionResponse{Function: stored}, err
		},
		func(ctx context.Context, c locuspb.LocusClient) (*locuspb.RegisterFunctionResponse, error) {
			return c.RegisterFunction(ctx, req)
		})
	if err != nil {
		return nil, err
	}
	return resp, s.n.spread(ctx)
}

// ActivateFunction finds out first, if need be, what a rollback activates, so that the driver's node is asked for one and the same
// change however often it is asked.
func (s *locusService) ActivateFunction(ctx context.Context, req *locuspb.ActivateFunctionRequest) (*locuspb.ActivateFunctionResponse, error) {
	if err := s.n.functions.changeable(req.Name); err != nil {
		return nil, err
	}
	rollback := req.Version == 0
	if rollback {
		var err error
		if req, err = s.rollback(ctx, req); err != nil {
			return nil, err
		}
	}
	resp, err := inOffice(ctx, s.n,
		func(ctx context.Context, office *locuspb.Condition) (*locuspb.ActivateFunctionResponse, error) {
			now, before, err := s.n.catalog.activate(ctx, office, req.Name, req.Version, req.Instead)
			return &locuspb.ActivateFunctionResponse{Function: now, Before: before}, err
		},
		func(ctx context.Context, c locuspb.LocusClient) (*locuspb.ActivateFunctionResponse, error) {
			return c.ActivateFunction(ctx, req)
		})
	if err != nil {
		return nil, err
	}
	if rollback {
		resp.Before = req.Instead // a repeated change finds the new one active
	}
	return resp, s.n.spread(ctx)
}

// rollback is the request to activate the version that was active before.
func (s *locusService) rollback(ctx context.Context, req *locuspb.ActivateFunctionRequest) (*locuspb.ActivateFunctionRequest, error) {
	list, err := s.n.registered(ctx)
	if err != nil {
		return nil, err
	}
	out := &locuspb.ActivateFunctionRequest{Name: req.Name}
	versions := versionsOf(list, req.Name)
	for _, i := range versions {
		if i.Active {
			out.Instead = i.Version
		}
		if i.Previous {
			out.Version = i.Version
		}
	}
	switch {
	case len(versions) == 0:
		return nil, &api.FunctionNotFoundError{Name: req.Name, Node: s.n.ident.NodeID}
	case out.Version == 0:
		return nil, &api.InvalidArgumentError{Reason: fmt.Sprintf("no other version of function %q was active before, of those that there are", req.Name)}
	case req.Instead != 0 && req.Instead != out.Instead:
		return nil, &api.InvalidArgumentError{Reason: fmt.Sprintf("version %d of function %q is active, not %d", out.Instead, req.Name, req.Instead)}
	}
	return out, nil
}

// RemoveFunction takes away a version, or a name with all its versions.
func (s *locusService) RemoveFunction(ctx context.Context, req *locuspb.RemoveFunctionRequest) (*locuspb.RemoveFunctionResponse, error) {
	if err := s.n.functions.changeable(req.Name); err != nil {
		return nil, err
	}
	resp, err := inOffice(ctx, s.n,
		func(ctx context.Context, office *locuspb.Condition) (*locuspb.RemoveFunctionResponse, error) {
			removed, err := s.n.catalog.remove(ctx, office, req.Name, req.Version)
			return &locuspb.RemoveFunctionResponse{Removed: removed}, err
		},
		func(ctx context.Context, c locuspb.LocusClient) (*locuspb.RemoveFunctionResponse, error) {
			return c.RemoveFunction(ctx, req)
		})
	if err != nil {
		return nil, err
	}
	return resp, s.n.spread(ctx)
}

func (s *locusService) ListFunctions(ctx context.Context, _ *locuspb.ListFunctionsRequest) (*locuspb.ListFunctionsResponse, error) {
	list, err := s.n.registered(ctx)
	if err != nil {
		return nil, err
	}
	if forwarded(ctx) {
		// Native functions are each node's own: the node that was asked adds its.
		return &locuspb.ListFunctionsResponse{Functions: list}, nil
	}
	return &locuspb.ListFunctionsResponse{Functions: s.n.functions.infos(list)}, nil
}

func (s *locusService) FetchModule(ctx context.Context, req *locuspb.FetchModuleRequest) (*locuspb.FetchModuleResponse, error) {
	module, err := s.n.functions.module(ctx, string(hexOf(req.Hash)))
	if err != nil {
		return nil, err
	}
	return &locuspb.FetchModuleResponse{Module: module}, nil
}

// registered asks the driver's node for the registered functions, as they are now.
func (n *Node) registered(ctx context.Context) ([]*locuspb.FunctionInfo, error) {
	return inOffice(ctx, n,
		func(ctx context.Context, office *locuspb.Condition) ([]*locuspb.FunctionInfo, error) {
			if err := n.office.confirm(ctx, office, n.catalog.boot()); err != nil {
				return nil, err
			}
			return n.catalog.list(ctx, office)
		},
		func(ctx context.Context, c locuspb.LocusClient) ([]*locuspb.FunctionInfo, error) {
			resp, err := c.ListFunctions(ctx, &locuspb.ListFunctionsRequest{})
			return resp.GetFunctions(), err
		})
}

// changeable refuses native functions, which are part of the nodes' program.
func (f *functions) changeable(name string) error {
	if _, native := f.native.Lookup(name); native {
		return &api.InvalidArgumentError{Reason: fmt.Sprintf("function %q is native: it is part of the nodes' program and has no versions", name)}
	}
	return nil
}
