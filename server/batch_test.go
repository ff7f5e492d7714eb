package server

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
	"github.com/locuskv/locus/raftstore"
	"github.com/locuskv/locus/server/clustermap"
	"github.com/locuskv/locus/server/rpc"
)

// fakeStore answers what it is asked with what do says; everything else of a store does nothing.
type fakeStore struct {
	store
	do    func(req *locuspb.Request, done func(*locuspb.Response))
	asked atomic.Int64
}

func (s *fakeStore) Do(req *locuspb.Request, done func(*locuspb.Response)) {
	s.asked.Add(1)
	s.do(req, done)
}
func (s *fakeStore) Ranges() []raftstore.RangeInfo { return nil }

func (s *fakeStore) AppendRanges(out []raftstore.RangeInfo) []raftstore.RangeInfo { return out }
func (s *fakeStore) Range(ids.RangeID) (raftstore.RangeInfo, bool) {
	return raftstore.RangeInfo{}, false
}
func (s *fakeStore) Lookup([]byte) (raftstore.RangeInfo, bool) { return raftstore.RangeInfo{}, false }
func (s *fakeStore) answerAll(resp *locuspb.Response) {
	s.do = func(_ *locuspb.Request, done func(*locuspb.Response)) { done(resp) }
}

// newTestDispatcher knows the keyspaces default (1), grouped (2: "a/b" up to the first slash) and hashed (3),
// and that 4 is dropped.
func newTestDispatcher(t testing.TB, s store) *dispatcher {
	m := &clustermap.Map{}
	m.Apply(&locuspb.HeartbeatResponse{MapVersion: 1, Keyspaces: []*locuspb.Keyspace{
		{Name: "default", Id: 1}, {Name: "grouped", Id: 2, Group: &locuspb.GroupRule{Delimiter: '/', Depth: 1}},
		{Name: "hashed", Id: 3, Partition: 1}, {Name: "dropped", Id: 4, Dropped: true},
	}})
	return &dispatcher{
		store: s, clock: hlc.NewClock(time.Now, 0), cmap: m, room: &room{self: 1, disk: plenty(), cmap: m, store: s}, loads: newLoads(1, 1, time.Second), pure: make(chan struct{}, 2),
		functions: &functions{node: "here", native: testFunctions(t), cmap: m, list: func(context.Context) ([]*locuspb.FunctionInfo, error) { return nil, nil }, accounts: newAccounts(func(functionVersion) bool { return true })},
		refetch:   func(context.Context) error { return nil },
	}
}

// plenty is a disk with room.
func plenty() *disk {
	return newDisk(func() (uint64, uint64, error) { return 1 << 40, 1 << 40, nil }, 0, slog.New(slog.DiscardHandler))
}

var grouped = keys.Layout{ID: 2, Group: keys.GroupRule{Delimiter: '/', Depth: 1}}

// ask dispatches one request and waits for its answer.
func ask(t testing.TB, d *dispatcher, from origin, req *locuspb.Request) *locuspb.Response {
	t.Helper()
	ch := make(chan *locuspb.Response, 2)
	req.Id = 77
	d.dispatch(context.Background(), req, from, func(r *locuspb.Response) { ch <- r })
	select {
	case r := <-ch:
		require.Equal(t, uint64(77), r.Id)
		return r
	case <-time.After(patience):
		t.Fatal("no answer")
		return nil
	}
}

func TestAdmission(t *testing.T) {
	put := func(pairs ...string) *locuspb.Request {
		w := &locuspb.WriteRequest{}
		for i := 0; i < len(pairs); i += 2 {
			w.Mutations = append(w.Mutations, &locuspb.Mutation{Key: []byte(pairs[i]), Value: []byte(pairs[i+1])})
		}
		return &locuspb.Request{Session: &locuspb.Session{}, Op: &locuspb.Request_Write{Write: w}}
	}
	g := func(user string) string { return string(grouped.Encode([]byte(user))) }
	dflt := func(user string) string { return string(defaultLayout.Encode([]byte(user))) }
	hashed := keys.Layout{ID: 3, Partition: keys.PartitionHash}
	long := string(bytes.Repeat([]byte("k"), keys.MaxKeyLen+1))
	huge := string(make([]byte, keys.MaxValueLen+1))
	condition := put(g("a/1"), "v")
	condition.GetWrite().Conditions = []*locuspb.Condition{{Key: []byte(g("b/1"))}}
	negative := put(dflt("a"), "v")
	negative.GetWrite().Mutations[0].TtlMs = -1
	call := func(function, key string, codec locuspb.Codec) *locuspb.Request {
		return &locuspb.Request{Session: &locuspb.Session{}, Op: &locuspb.Request_Call{Call: &locuspb.CallRequest{Function: function, Key: []byte(key), Codec: codec, Argument: []byte("1")}}}
	}
	stateless := func(r *locuspb.Request) *locuspb.Request {
		r.Session = nil
		return r
	}
	dry := call("count", dflt("a"), locuspb.Codec_JSON)
	dry.GetCall().DryRun = true
	get := func(key string) *locuspb.Request {
		return &locuspb.Request{Op: &locuspb.Request_Get{Get: &locuspb.GetRequest{Key: []byte(key)}}}
	}
	scan := func(start, end string) *locuspb.Request {
		span := &locuspb.Span{Start: []byte(start), End: []byte(end)}
		return &locuspb.Request{Op: &locuspb.Request_Scan{Scan: &locuspb.ScanRequest{Span: span}}}
	}
	const unknown, dropped, system = "\x00\x00\x00\x09a", "\x00\x00\x00\x04a", "\x00\x00\x00\x00a"
	const json, raw = locuspb.Codec_JSON, locuspb.Codec_RAW
	for _, c := range []struct {
		name string
		req  *locuspb.Request
		want api.Code // 0: reaches the store
	}{
		{"one key", put(dflt("a"), "v"), 0},
		{"one group", put(g("a/1"), "v", g("a/2"), "v"), 0},
		{"a hashed key", put(string(hashed.Encode([]byte("a"))), "v"), 0},
		{"a call", call("count", dflt("a"), json), 0},
		{"a call that writes nothing, without a session", stateless(dry), 0},
		{"a get", get(dflt("a")), 0},
		{"a get of the system's", get(system), 0},
		{"a scan", scan(dflt("a"), dflt("b")), 0},
		{"a scan of a keyspace", scan(dflt(""), "\x00\x00\x00\x02"), 0},

		{"a write without a session", stateless(put(dflt("a"), "v")), api.CodeInvalidArgument},
		{"a call without a session", stateless(call("count", dflt("a"), json)), api.CodeInvalidArgument},
		{"two keys are two groups", put(dflt("a"), "v", dflt("b"), "v"), api.CodeNotOneGroup},
		{"two groups", put(g("a/1"), "v", g("b/1"), "v"), api.CodeNotOneGroup},
		{"a condition elsewhere", condition, api.CodeNotOneGroup},
		{"two keyspaces", put(g("a/1"), "v", dflt("a/1"), "v"), api.CodeNotOneGroup},
		{"a key in a wrong bucket", put("\x00\x00\x00\x03\x00\x01a", "v"), api.CodeInvalidArgument},
		{"an empty key", put(dflt(""), "v"), api.CodeInvalidArgument},
		{"no keyspace", put("ab", "v"), api.CodeInvalidArgument},
		{"nothing", put(), api.CodeInvalidArgument},
		{"a long key", put(dflt(long), "v"), api.CodeLimit},
		{"a large value", put(dflt("a"), huge), api.CodeLimit},
		{"a negative time to live", negative, api.CodeInvalidArgument},
		{"an unknown keyspace", put(unknown, "v"), api.CodeKeyspaceNotFound},
		{"a dropped keyspace", put(dropped, "v"), api.CodeKeyspaceNotFound},
		{"a call on an unknown keyspace", call("count", unknown, json), api.CodeKeyspaceNotFound},
		{"a call on a dropped keyspace", call("count", dropped, json), api.CodeKeyspaceNotFound},
		{"a get of an unknown keyspace", get(unknown), api.CodeKeyspaceNotFound},
		{"a get of a dropped keyspace", get(dropped), api.CodeKeyspaceNotFound},
		{"a scan of an unknown keyspace", scan(unknown, unknown+"b"), api.CodeKeyspaceNotFound},
		{"a scan of a dropped keyspace", scan(dropped, dropped+"b"), api.CodeKeyspaceNotFound},
		{"a scan that reaches into another keyspace", scan(dflt("a"), dropped), api.CodeInvalidArgument},
		{"a scan to the end of all keys", scan(dflt("a"), ""), api.CodeInvalidArgument},
		{"a scan of everything", scan("", ""), api.CodeInvalidArgument},
		{"the system's keys", put("\x00\x00\x00\x00a", "v"), api.CodePermission},
		{"a call on the system's keys", call("count", "\x00\x00\x00\x00a", json), api.CodePermission},
		{"deleting a span", &locuspb.Request{Session: &locuspb.Session{}, Op: &locuspb.Request_Write{Write: &locuspb.WriteRequest{DeleteSpan: true}}}, api.CodePermission},
		{"an unknown function", call("nothing", dflt("a"), json), api.CodeFunctionNotFound},
		{"a function whose name is not UTF-8", call("no\xff", dflt("a"), json), api.CodeFunctionNotFound},
		{"a function of another codec", call("count", dflt("a"), raw), api.CodeInvalidArgument},
		{"a range function as a call", call("rows", dflt("a"), json), api.CodeInvalidArgument},
		{"a writing function on no key", call("count", "", json), api.CodeInvalidArgument},
		{"no operation", &locuspb.Request{}, api.CodeInvalidArgument},
		{"a token from the future", &locuspb.Request{Token: uint64(hlc.FromTime(time.Now().Add(time.Hour))), Op: &locuspb.Request_Get{Get: &locuspb.GetRequest{}}}, api.CodeClockOffset},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &fakeStore{}
			s.answerAll(&locuspb.Response{})
			resp := ask(t, newTestDispatcher(t, s), fromClient, c.req)
			require.Equal(t, uint32(c.want), resp.GetError().GetCode(), "%v", resp.Error)
			require.Equal(t, c.want == 0, s.asked.Load() == 1)
		})
	}
	t.Run("a node may write the system's keys", func(t *testing.T) {
		s := &fakeStore{}
		s.answerAll(&locuspb.Response{})
		resp := ask(t, newTestDispatcher(t, s), fromNode, put("\x00\x00\x00\x00a", "v", "\x00\x00\x00\x00b", "v"))
		require.Nil(t, resp.Error)
	})
}

func TestKeyspaceIsFetched(t *testing.T) {
	s := &fakeStore{}
	s.answerAll(&locuspb.Response{})
	d := newTestDispatcher(t, s)
	d.refetch = func(context.Context) error {
		d.cmap.AddKeyspaces([]*locuspb.Keyspace{{Name: "new", Id: 9}})
		return nil
	}
	resp := ask(t, d, fromClient, &locuspb.Request{Session: &locuspb.Session{}, Op: &locuspb.Request_Write{Write: &locuspb.WriteRequest{
		Mutations: []*locuspb.Mutation{{Key: []byte("\x00\x00\x00\x09a")}},
	}}})
	require.Nil(t, resp.Error)

	// One that is known to be gone is not asked for.
	d.refetch = func(context.Context) error { t.Error("asked the driver"); return nil }
	resp = ask(t, d, fromClient, &locuspb.Request{Op: &locuspb.Request_Get{Get: &locuspb.GetRequest{Key: []byte("\x00\x00\x00\x04a")}}})
	require.Equal(t, uint32(api.CodeKeyspaceNotFound), resp.GetError().GetCode())
}

func TestErrorsGetACure(t *testing.T) {
	s := &fakeStore{}
	s.answerAll(failed(&api.NotLeaseholderError{Range: 4}))
	d := newTestDispatcher(t, s)
	known := api.Route{Descriptor: &topology.Descriptor{ID: 4, Span: defaultLayout.All()}, Leaseholder: 3, Term: 2}
	d.cmap.Learn([]api.Route{known})
	resp := ask(t, d, fromClient, &locuspb.Request{RangeId: 4, Op: &locuspb.Request_Get{Get: &locuspb.GetRequest{Key: defaultLayout.Encode([]byte("x"))}}})
	var moved *api.NotLeaseholderError
	require.ErrorAs(t, api.FromProto(resp.Error), &moved)
	require.Equal(t, ids.StoreID(3), moved.Routes[0].Leaseholder)
}

// batchServer serves Batch alone, over real gRPC.
type batchServer struct {
	locuspb.UnimplementedLocusServer
	d     *dispatcher
	ended chan error
}

func (b *batchServer) Batch(s grpc.BidiStreamingServer[locuspb.BatchRequest, locuspb.BatchResponse]) error {
	err := newBatchStream(b.d, s, fromClient).serve()
	b.ended <- err
	return err
}

func serveBatch(t *testing.T, d *dispatcher) (locuspb.LocusClient, chan error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer(rpc.ServerOptions(insecure.NewCredentials())...)
	b := &batchServer{d: d, ended: make(chan error, 1)}
	locuspb.RegisterLocusServer(server, b)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:///"+l.Addr().String(), rpc.DialOptions(insecure.NewCredentials())...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return locuspb.NewLocusClient(conn), b.ended
}

func get(id uint64) *locuspb.Request {
	return &locuspb.Request{Id: id, Op: &locuspb.Request_Get{Get: &locuspb.GetRequest{Key: defaultLayout.Encode([]byte("k"))}}}
}

// Answers come as they are done, in whatever order, each once, and the stream's end waits for all.
func TestBatchAnswersOutOfOrder(t *testing.T) {
	var mu sync.Mutex
	var held []func()
	s := &fakeStore{}
	s.do = func(req *locuspb.Request, done func(*locuspb.Response)) {
		mu.Lock()
		defer mu.Unlock()
		held = append(held, func() { done(&locuspb.Response{Timestamp: req.Id}) })
	}
	client, ended := serveBatch(t, newTestDispatcher(t, s))
	stream, err := client.Batch(context.Background())
	require.NoError(t, err)
	const count = 100
	var all []*locuspb.Request
	for i := range uint64(count) {
		all = append(all, get(i+1))
	}
	require.NoError(t, stream.Send(&locuspb.BatchRequest{Requests: all}))
	require.NoError(t, stream.CloseSend())
	eventually(t, "all are dispatched", func() bool { mu.Lock(); defer mu.Unlock(); return len(held) == count })
	for i := count - 1; i >= 0; i-- {
		held[i]()
	}
	var got []uint64
	for len(got) < count {
		frame, err := stream.Recv()
		require.NoError(t, err)
		require.NotZero(t, frame.Clock)
		for _, r := range frame.Responses {
			require.Equal(t, r.Id, r.Timestamp)
			got = append(got, r.Id)
		}
	}
	require.Equal(t, uint64(count), got[0])
	require.Equal(t, uint64(1), got[count-1])
	require.NoError(t, <-ended)
}

// A stream whose requests are not answered is not read beyond its bound; one that is answered goes on.
func TestBatchBackPressure(t *testing.T) {
	release := make(chan struct{})
	s := &fakeStore{}
	s.do = func(_ *locuspb.Request, done func(*locuspb.Response)) {
		go func() { <-release; done(&locuspb.Response{}) }()
	}
	client, ended := serveBatch(t, newTestDispatcher(t, s))
	stream, err := client.Batch(context.Background())
	require.NoError(t, err)
	const total = 3 * streamRequests
	go func() {
		for i := range uint64(total) {
			if stream.Send(&locuspb.BatchRequest{Requests: []*locuspb.Request{get(i + 1)}}) != nil {
				return
			}
		}
		_ = stream.CloseSend()
	}()
	eventually(t, "the stream is full", func() bool { return s.asked.Load() == streamRequests })
	time.Sleep(20 * time.Millisecond) // nothing to wait for: that nothing happens is the point
	require.Equal(t, int64(streamRequests), s.asked.Load())
	close(release)
	got := 0
	for got < total {
		frame, err := stream.Recv()
		require.NoError(t, err)
		got += len(frame.Responses)
	}
	require.NoError(t, <-ended)
}

func TestScansWeighTheirAnswers(t *testing.T) {
	scan := func(max uint64) *locuspb.Request {
		return &locuspb.Request{Op: &locuspb.Request_Scan{Scan: &locuspb.ScanRequest{MaxBytes: max}}}
	}
	require.Less(t, weightOf(get(1)), int64(1024))
	require.GreaterOrEqual(t, weightOf(scan(0)), int64(defaultScan))
	require.GreaterOrEqual(t, weightOf(scan(4<<20)), int64(4<<20))
	require.Equal(t, int64(streamBytes), weightOf(scan(1<<63)))
}

// A clock from the future fails the requests of its frame and moves nothing.
func TestBatchRefusesFastClock(t *testing.T) {
	s := &fakeStore{}
	s.answerAll(&locuspb.Response{})
	d := newTestDispatcher(t, s)
	client, _ := serveBatch(t, d)
	stream, err := client.Batch(context.Background())
	require.NoError(t, err)
	future := hlc.FromTime(time.Now().Add(time.Hour))
	require.NoError(t, stream.Send(&locuspb.BatchRequest{Clock: uint64(future), Requests: []*locuspb.Request{get(1), get(2)}}))
	got := 0
	for got < 2 {
		frame, err := stream.Recv()
		require.NoError(t, err)
		for _, r := range frame.Responses {
			require.Equal(t, uint32(api.CodeClockOffset), r.Error.GetCode())
			got++
		}
	}
	require.Zero(t, s.asked.Load())
	require.Less(t, d.clock.Now(), future)
}
