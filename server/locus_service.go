package server

import (
	"context"

	"google.golang.org/grpc"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/placement"
	"github.com/locuskv/locus/server/gateway"
	"github.com/locuskv/locus/server/rpc"
)

// locusService is what this node offers to clients.
type locusService struct {
	locuspb.UnimplementedLocusServer
	n *Node
}

var _ locuspb.LocusServer = (*locusService)(nil)

func (s *locusService) Batch(stream grpc.BidiStreamingServer[locuspb.BatchRequest, locuspb.BatchResponse]) error {
	from := fromClient
	if rpc.FromNode(stream.Context(), s.n.ident.ClusterID) {
		from = fromNode
	}
	return newBatchStream(s.n.dispatcher, stream, from).serve()
}

func (s *locusService) Run(req *locuspb.RunRequest, stream grpc.ServerStreamingServer[locuspb.RunResponse]) error {
	ctx := stream.Context()
	err := s.n.dispatcher.known(ctx, req.GetSpan().GetStart())
	if err == nil {
		err = checkSecret(api.SpanFromProto(req.Span))
	}
	if err == nil {
		var r *reducer
		err = s.n.gateway.Run(ctx, req, func(ctx context.Context, version uint32) (_ gateway.Reducer, err error) {
			if r, err = s.n.functions.reducer(ctx, req, version); err != nil {
				return nil, err
			}
			return r, nil
		}, stream.Send)
		if r != nil {
			r.end(req.Function, err)
		}
	}
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	return stream.Send(&locuspb.RunResponse{Clock: uint64(s.n.clock.Hint()), Error: api.ToProto(err)})
}

// Routes answers from this node's map, which heartbeats keep fresh, and asks the driver only while it has
// none for some part of the span.
func (s *locusService) Routes(ctx context.Context, req *locuspb.RoutesRequest) (*locuspb.RoutesResponse, error) {
	if err := s.n.clock.Update(hlc.Timestamp(req.Clock)); err != nil {
		return nil, err
	}
	span := api.SpanFromProto(req.Span)
	s.n.cmap.Learn(routesOf(s.n.store.Ranges()))
	routes := s.n.cmap.Routes(span, int(req.Limit))
	if len(routes) == 0 {
		s.n.reporter.refresh()
	}
	return &locuspb.RoutesResponse{
		Routes: api.RoutesToProto(routes), Nodes: s.n.cmap.Nodes(), Clock: uint64(s.n.clock.Hint()),
		ClusterId: s.n.ident.ClusterID,
	}, nil
}

func (s *locusService) LookupKeyspace(ctx context.Context, req *locuspb.LookupKeyspaceRequest) (*locuspb.LookupKeyspaceResponse, error) {
	if k, ok := s.n.cmap.Keyspace(req.Name); ok {
		return &locuspb.LookupKeyspaceResponse{Keyspace: k, Clock: uint64(s.n.clock.Hint())}, nil
	}
	// Not here: perhaps not here yet.
	return driverCall(ctx, s.n,
		func(_ context.Context, d *placement.Driver) (*locuspb.LookupKeyspaceResponse, error) {
			k, err := d.LookupKeyspace(req.Name)
			if err != nil {
				return nil, err
			}
			return &locuspb.LookupKeyspaceResponse{Keyspace: k, Clock: uint64(s.n.clock.Hint())}, nil
		},
		func(ctx context.Context, conn grpc.ClientConnInterface) (*locuspb.LookupKeyspaceResponse, error) {
			return locuspb.NewLocusClient(conn).LookupKeyspace(ctx, req)
		})
}

func (s *locusService) CreateKeyspace(ctx context.Context, req *locuspb.CreateKeyspaceRequest) (*locuspb.CreateKeyspaceResponse, error) {
	resp, err := driverCall(ctx, s.n,
		func(ctx context.Context, d *placement.Driver) (*locuspb.CreateKeyspaceResponse, error) {
			k, err := placement.Await(ctx, func(done func(*locuspb.Keyspace, error)) { d.CreateKeyspace(req, done) })
			return &locuspb.CreateKeyspaceResponse{Keyspace: k}, err
		},
		func(ctx context.Context, conn grpc.ClientConnInterface) (*locuspb.CreateKeyspaceResponse, error) {
			return locuspb.NewLocusClient(conn).CreateKeyspace(ctx, req)
		})
	s.n.reporter.refresh()
	return resp, err
}

func (s *locusService) ListKeyspaces(ctx context.Context, req *locuspb.ListKeyspacesRequest) (*locuspb.ListKeyspacesResponse, error) {
	return driverCall(ctx, s.n,
		func(_ context.Context, d *placement.Driver) (*locuspb.ListKeyspacesResponse, error) {
			list, err := d.ListKeyspaces()
			return &locuspb.ListKeyspacesResponse{Keyspaces: list}, err
		},
		func(ctx context.Context, conn grpc.ClientConnInterface) (*locuspb.ListKeyspacesResponse, error) {
			return locuspb.NewLocusClient(conn).ListKeyspaces(ctx, req)
		})
}

func (s *locusService) DropKeyspace(ctx context.Context, req *locuspb.DropKeyspaceRequest) (*locuspb.DropKeyspaceResponse, error) {
	resp, err := driverCall(ctx, s.n,
		func(ctx context.Context, d *placement.Driver) (*locuspb.DropKeyspaceResponse, error) {
			_, err := placement.Await(ctx, func(done func(struct{}, error)) {
				d.DropKeyspace(req.Name, func(err error) { done(struct{}{}, err) })
			})
			return &locuspb.DropKeyspaceResponse{}, err
		},
		func(ctx context.Context, conn grpc.ClientConnInterface) (*locuspb.DropKeyspaceResponse, error) {
			return locuspb.NewLocusClient(conn).DropKeyspace(ctx, req)
		})
	s.n.reporter.refresh()
	return resp, err
}

func (s *locusService) Hold(ctx context.Context, req *locuspb.HoldRequest) (*locuspb.HoldResponse, error) {
	resp, err := driverCall(ctx, s.n,
		func(ctx context.Context, d *placement.Driver) (*locuspb.HoldResponse, error) {
			if err := s.n.clock.Update(hlc.Timestamp(max(req.Clock, req.Timestamp))); err != nil {
				return nil, err
			}
			req.Clock = uint64(s.n.clock.Now())
			return placement.Await(ctx, func(done func(*locuspb.HoldResponse, error)) { d.Hold(req, done) })
		},
		func(ctx context.Context, conn grpc.ClientConnInterface) (*locuspb.HoldResponse, error) {
			return locuspb.NewLocusClient(conn).Hold(ctx, req)
		})
	if err != nil {
		return nil, err
	}
	return &locuspb.HoldResponse{Deadline: resp.Deadline, Clock: uint64(s.n.clock.Hint())}, nil
}

func (s *locusService) Release(ctx context.Context, req *locuspb.ReleaseRequest) (*locuspb.ReleaseResponse, error) {
	return driverCall(ctx, s.n,
		func(ctx context.Context, d *placement.Driver) (*locuspb.ReleaseResponse, error) {
			_, err := placement.Await(ctx, func(done func(struct{}, error)) {
				d.Release(req, func(err error) { done(struct{}{}, err) })
			})
			return &locuspb.ReleaseResponse{}, err
		},
		func(ctx context.Context, conn grpc.ClientConnInterface) (*locuspb.ReleaseResponse, error) {
			return locuspb.NewLocusClient(conn).Release(ctx, req)
		})
}

func (s *locusService) SplitRange(ctx context.Context, req *locuspb.SplitRangeRequest) (*locuspb.SplitRangeResponse, error) {
	resp, err := driverCall(ctx, s.n,
		func(ctx context.Context, d *placement.Driver) (*locuspb.SplitRangeResponse, error) {
			return placement.Await(ctx, func(done func(*locuspb.SplitRangeResponse, error)) { d.SplitRange(req, done) })
		},
		func(ctx context.Context, conn grpc.ClientConnInterface) (*locuspb.SplitRangeResponse, error) {
			return locuspb.NewLocusClient(conn).SplitRange(ctx, req)
		})
	s.n.reporter.refresh()
	return resp, err
}

func (s *locusService) TransferRange(ctx context.Context, req *locuspb.TransferRangeRequest) (*locuspb.TransferRangeResponse, error) {
	resp, err := driverCall(ctx, s.n,
		func(ctx context.Context, d *placement.Driver) (*locuspb.TransferRangeResponse, error) {
			_, err := placement.Await(ctx, func(done func(struct{}, error)) {
				d.TransferRange(req, func(err error) { done(struct{}{}, err) })
			})
			return &locuspb.TransferRangeResponse{}, err
		},
		func(ctx context.Context, conn grpc.ClientConnInterface) (*locuspb.TransferRangeResponse, error) {
			return locuspb.NewLocusClient(conn).TransferRange(ctx, req)
		})
	s.n.reporter.refresh()
	return resp, err
}

func (s *locusService) ListNodes(ctx context.Context, req *locuspb.ListNodesRequest) (*locuspb.ListNodesResponse, error) {
	return driverCall(ctx, s.n,
		func(_ context.Context, d *placement.Driver) (*locuspb.ListNodesResponse, error) {
			nodes, err := d.Nodes()
			return &locuspb.ListNodesResponse{Nodes: nodes}, err
		},
		func(ctx context.Context, conn grpc.ClientConnInterface) (*locuspb.ListNodesResponse, error) {
			return locuspb.NewLocusClient(conn).ListNodes(ctx, req)
		})
}

// Status is the driver's view of the cluster, with the names of the node that was asked.
func (s *locusService) Status(ctx context.Context, req *locuspb.StatusRequest) (*locuspb.StatusResponse, error) {
	resp, err := driverCall(ctx, s.n,
		func(_ context.Context, d *placement.Driver) (*locuspb.StatusResponse, error) {
			resp, err := d.Status()
			if err == nil {
				resp.DriverAddress = s.n.address
			}
			return resp, err
		},
		func(ctx context.Context, conn grpc.ClientConnInterface) (*locuspb.StatusResponse, error) {
			return locuspb.NewLocusClient(conn).Status(ctx, req)
		})
	if err != nil {
		return nil, err
	}
	resp.ClusterId, resp.NodeId = s.n.ident.ClusterID, s.n.ident.NodeID
	resp.StoreId, resp.Version = uint64(s.n.ident.StoreID), s.n.o.Version
	return resp, nil
}

// refetchKeyspaces asks the driver's node for keyspaces that this node has not heard of.
func (n *Node) refetchKeyspaces(ctx context.Context) error {
	list, err := driverCall(ctx, n,
		func(_ context.Context, d *placement.Driver) ([]*locuspb.Keyspace, error) { return d.ListKeyspaces() },
		func(ctx context.Context, conn grpc.ClientConnInterface) ([]*locuspb.Keyspace, error) {
			resp, err := locuspb.NewLocusClient(conn).ListKeyspaces(ctx, &locuspb.ListKeyspacesRequest{})
			return resp.GetKeyspaces(), err
		})
	if err != nil {
		return err
	}
	n.cmap.AddKeyspaces(list)
	return nil
}
