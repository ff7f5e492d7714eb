package client

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/topology"
)

// nullNode answers every request with nothing, at once: what is measured is the client, gRPC and protobuf.
type nullNode struct {
	locuspb.UnimplementedLocusServer
	routes *locuspb.RoutesResponse
	frames atomic.Int64
}

func (n *nullNode) Routes(context.Context, *locuspb.RoutesRequest) (*locuspb.RoutesResponse, error) {
	return n.routes, nil
}

func (n *nullNode) LookupKeyspace(context.Context, *locuspb.LookupKeyspaceRequest) (*locuspb.LookupKeyspaceResponse, error) {
	return &locuspb.LookupKeyspaceResponse{Keyspace: &locuspb.Keyspace{Name: "default", Id: 1}}, nil
}

func (n *nullNode) Batch(s grpc.BidiStreamingServer[locuspb.BatchRequest, locuspb.BatchResponse]) error {
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		n.frames.Add(1)
		out := &locuspb.BatchResponse{Clock: 1}
		for _, r := range m.Requests {
			resp := &locuspb.Response{Id: r.Id, Timestamp: 1, Result: &locuspb.Response_Get{Get: &locuspb.GetResponse{Found: true, Value: []byte("value")}}}
			if r.GetWrite() != nil {
				resp.Result = &locuspb.Response_Write{Write: &locuspb.WriteResponse{}}
			}
			out.Responses = append(out.Responses, resp)
		}
		if err := s.Send(out); err != nil {
			return err
		}
	}
}

func benchDB(b *testing.B) (*DB, *nullNode) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	n := &nullNode{}
	d := &topology.Descriptor{ID: 1, Epoch: topology.Epoch{Conf: 1, Bounds: 1}, Replicas: []topology.Replica{{Store: 1, ID: 1, Role: topology.Voter}}}
	n.routes = &locuspb.RoutesResponse{
		Clock: 1, Routes: api.RoutesToProto([]api.Route{{Descriptor: d, Leaseholder: 1, Term: 1}}),
		Nodes: []*locuspb.NodeInfo{{StoreId: 1, Address: lis.Addr().String(), State: "up"}},
	}
	srv := grpc.NewServer()
	locuspb.RegisterLocusServer(srv, n)
	go func() { _ = srv.Serve(lis) }()
	b.Cleanup(srv.Stop)
	db, err := Open(ctx, Options{Addrs: []string{lis.Addr().String()}})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	return db, n
}

// BenchmarkGet: many goroutines, each with one read at a time.
func BenchmarkGet(b *testing.B) {
	for _, callers := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			db, n := benchDB(b)
			ks := db.Keyspace("default")
			_, err := ks.Get(ctx, []byte("warm"))
			require.NoError(b, err)
			b.ReportAllocs()
			b.SetParallelism(max(callers/2, 1))
			n.frames.Store(0)
			b.ResetTimer()
			key := []byte("some-key-of-24-bytes-abc")
			if callers == 1 {
				for b.Loop() {
					if _, err := ks.Get(ctx, key); err != nil {
						b.Fatal(err)
					}
				}
			} else {
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if _, err := ks.Get(ctx, key); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
			b.ReportMetric(float64(b.N)/float64(max(n.frames.Load(), 1)), "requests/frame")
		})
	}
}

// BenchmarkBulkWriter: one goroutine that writes as fast as it can.
func BenchmarkBulkWriter(b *testing.B) {
	db, n := benchDB(b)
	w := db.Keyspace("default").BulkWriter(ctx, BulkOptions{})
	value := make([]byte, 100)
	b.ReportAllocs()
	b.SetBytes(124)
	for b.Loop() {
		if err := w.Put([]byte("some-key-of-24-bytes-abc"), value); err != nil {
			b.Fatal(err)
		}
	}
	require.NoError(b, w.Close())
	b.ReportMetric(float64(b.N)/float64(max(n.frames.Load(), 1)), "requests/frame")
}
