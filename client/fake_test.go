package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sort"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/packed"
	"github.com/locuskv/locus/internal/topology"
)

// fake is a cluster of real gRPC servers over one map in memory: it speaks the protocol, keeps sessions, and
// loses what a test tells it to. It is for what the client does; how the real thing behaves is tested with
// the real thing.
type fake struct {
	t *testing.T

	mu        sync.Mutex
	nodes     []*fakeNode
	ranges    []*fakeRange
	keyspaces []*locuspb.Keyspace
	nextRange ids.RangeID
	ts        hlc.Timestamp
	data      map[string]*fakeRecord // by global key, with all versions
	sessions  map[string]*fakeSession
	applied   map[string]int // mutations by global key
	calls     map[ids.StoreID]int
	frames    int
	requests  int
	// intercept, if set, may answer a request itself, or (false) have it lost.
	intercept func(store ids.StoreID, r *locuspb.Request) (*locuspb.Response, bool)
	// onPage, if set, may change a page of a stream before it is sent, or end the stream with an error.
	onPage func(n *fakeNode, r *locuspb.RunRequest, i int, page *locuspb.RunResponse) error
	// onEnd, if set, hears how a stream ended.
	onEnd    func(error)
	holds    []*locuspb.HoldRequest
	released []string // ids of holds
	noHolds  error
}

var errHang = errors.New("say nothing until the client is gone")

type fakeRange struct {
	desc   *topology.Descriptor
	leader ids.StoreID
	term   ids.Term
}

type fakeSession struct {
	floor   uint64
	results map[uint64]*locuspb.Response
}

type fakeRecord struct{ versions []fakeVersion } // oldest first

type fakeVersion struct {
	ts      hlc.Timestamp
	value   []byte
	deleted bool
	expires hlc.Timestamp
}

type fakeNode struct {
	locuspb.UnimplementedLocusServer
	f     *fake
	store ids.StoreID
	addr  string
	srv   *grpc.Server
}

func newFake(t *testing.T, nodes int) *fake {
	f := &fake{
		t: t, nextRange: 100, ts: hlc.Make(time.Now().UnixMilli(), 0), data: map[string]*fakeRecord{},
		sessions: map[string]*fakeSession{}, applied: map[string]int{}, calls: map[ids.StoreID]int{},
	}
	for i := range nodes {
		n := &fakeNode{f: f, store: ids.StoreID(i + 1)}
		f.nodes = append(f.nodes, n)
		n.addr = n.start("127.0.0.1:0")
	}
	t.Cleanup(func() {
		for _, n := range f.nodes {
			n.srv.Stop()
		}
	})
	f.createKeyspace(&locuspb.Keyspace{Name: "system"})
	f.createKeyspace(&locuspb.Keyspace{Name: "default"})
	return f
}

// start serves on an address, which may leave the port open, and returns it with the port.
func (n *fakeNode) start(addr string) string {
	lis, err := net.Listen("tcp", addr)
	require.NoError(n.f.t, err)
	n.srv = grpc.NewServer(grpc.MaxRecvMsgSize(32<<20), grpc.MaxSendMsgSize(32<<20))
	locuspb.RegisterLocusServer(n.srv, n)
	go func() { _ = n.srv.Serve(lis) }()
	return lis.Addr().String()
}

// open makes a client with short pauses. It asks nobody a second time only because he was slow: tests count.
func (f *fake) open(change ...func(*Options)) *DB {
	o := Options{
		Addrs: []string{f.nodes[0].addr}, Timeout: time.Minute,
		Retry: RetryOptions{Min: time.Millisecond, Max: 20 * time.Millisecond, Attempt: 30 * time.Second},
	}
	for _, c := range change {
		c(&o)
	}
	db, err := Open(context.Background(), o)
	require.NoError(f.t, err)
	f.t.Cleanup(func() { require.NoError(f.t, db.Close()) })
	return db
}

func (f *fake) createKeyspace(k *locuspb.Keyspace) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k.Id = uint32(len(f.keyspaces))
	f.keyspaces = append(f.keyspaces, k)
	f.nextRange++
	tail := f.tail()
	d := tail.desc.Clone()
	d.ID, d.Span = f.nextRange, keys.KeyspaceSpan(ids.KeyspaceID(k.Id))
	tail.desc = tail.desc.Clone()
	tail.desc.Span.Start = d.Span.End
	tail.desc.Epoch.Bounds++
	d.Epoch = tail.desc.Epoch
	leader := f.nodes[int(k.Id)%len(f.nodes)].store
	f.ranges = slices.Insert(f.ranges, len(f.ranges)-1, &fakeRange{desc: d, leader: leader, term: 1})
}

// tail is the range of the keys that no keyspace has yet.
func (f *fake) tail() *fakeRange {
	if len(f.ranges) == 0 {
		d := &topology.Descriptor{ID: 3, Epoch: topology.Epoch{Conf: 1, Bounds: 1}}
		for i, n := range f.nodes {
			d.Replicas = append(d.Replicas, topology.Replica{Store: n.store, ID: ids.ReplicaID(i + 1), Role: topology.Voter})
		}
		f.ranges = append(f.ranges, &fakeRange{desc: d, leader: f.nodes[0].store, term: 1})
	}
	return f.ranges[len(f.ranges)-1]
}

// split makes key the first of a new range, led by another store.
func (f *fake) split(key []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, r := range f.ranges {
		if !r.desc.Span.Contains(key) || bytes.Equal(r.desc.Span.Start, key) {
			continue
		}
		f.nextRange++
		left, right := r.desc.Clone(), r.desc.Clone()
		left.Span.End, right.Span.Start, right.ID = key, key, f.nextRange
		left.Epoch.Bounds++
		right.Epoch.Bounds = left.Epoch.Bounds
		r.desc = left
		leader := f.nodes[int(r.leader)%len(f.nodes)].store
		f.ranges = slices.Insert(f.ranges, i+1, &fakeRange{desc: right, leader: leader, term: 1})
		return
	}
}

// elect gives every range another leader.
func (f *fake) elect() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.ranges {
		r.leader, r.term = f.nodes[rand.IntN(len(f.nodes))].store, r.term+1
	}
}

func (f *fake) now() hlc.Timestamp {
	f.ts = max(f.ts+1, hlc.Make(time.Now().UnixMilli(), 0))
	return f.ts
}

func (f *fake) routes(span keys.Span, limit uint64) (out []api.Route) {
	for _, r := range f.ranges {
		if r.desc.Span.Overlaps(span) && (limit == 0 || uint64(len(out)) < limit) {
			out = append(out, api.Route{Descriptor: r.desc, Leaseholder: r.leader, Term: r.term})
		}
	}
	return out
}

func (n *fakeNode) Batch(s grpc.BidiStreamingServer[locuspb.BatchRequest, locuspb.BatchResponse]) error {
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		out := &locuspb.BatchResponse{}
		n.f.mu.Lock()
		n.f.frames++
		n.f.requests += len(m.Requests)
		for _, r := range m.Requests {
			resp, keep := n.f.serve(n.store, r)
			if keep {
				resp.Id = r.Id
				out.Responses = append(out.Responses, resp)
			}
		}
		rand.Shuffle(len(out.Responses), func(i, j int) { out.Responses[i], out.Responses[j] = out.Responses[j], out.Responses[i] })
		out.Clock = uint64(n.f.now())
		n.f.mu.Unlock()
		if err := s.Send(out); err != nil {
			return err
		}
	}
}

func refuse(err error) *locuspb.Response { return &locuspb.Response{Error: api.ToProto(err)} }

func (f *fake) serve(store ids.StoreID, r *locuspb.Request) (*locuspb.Response, bool) {
	if f.intercept != nil {
		if resp, keep := f.intercept(store, r); !keep || resp != nil {
			return resp, keep
		}
	}
	if c := r.GetCall(); c != nil && len(c.Key) == 0 {
		f.calls[store]++
		return f.pure(c), true
	}
	var rng *fakeRange
	for _, x := range f.ranges {
		if uint64(x.desc.ID) == r.RangeId {
			rng = x
		}
	}
	switch {
	case rng == nil:
		return refuse(&api.RangeNotFoundError{Range: ids.RangeID(r.RangeId)}), true
	case rng.desc.Epoch.Bounds != r.BoundsEpoch:
		return refuse(&api.EpochMismatchError{Range: rng.desc.ID, Routes: f.routes(keys.Span{}, 0)}), true
	case rng.leader != store && r.Consistency.GetLevel() != locuspb.ConsistencyLevel_EVENTUAL:
		return refuse(&api.NotLeaseholderError{Range: rng.desc.ID, Leaseholder: rng.leader, Routes: f.routes(rng.desc.Span, 0)}), true
	}
	if r.Session == nil {
		return f.read(rng, r), true
	}
	table := f.sessions[string(r.Session.Id)]
	if table == nil {
		table = &fakeSession{results: map[uint64]*locuspb.Response{}}
		f.sessions[string(r.Session.Id)] = table
	}
	for ; table.floor < r.Session.Floor; table.floor++ {
		delete(table.results, table.floor)
	}
	if r.Session.Number < table.floor {
		return refuse(api.ErrSessionExpired), true // an attempt that was late; nobody waits for it
	}
	if known := table.results[r.Session.Number]; known != nil {
		return proto.Clone(known).(*locuspb.Response), true
	}
	resp := f.command(rng, r)
	table.results[r.Session.Number] = proto.Clone(resp).(*locuspb.Response)
	return resp, true
}

func (f *fake) at(key []byte, ts hlc.Timestamp) (fakeVersion, bool) {
	rec := f.data[string(key)]
	if rec == nil {
		return fakeVersion{}, false
	}
	for i := len(rec.versions) - 1; i >= 0; i-- {
		if v := rec.versions[i]; v.ts <= ts {
			return v, !v.deleted && (v.expires == 0 || v.expires > ts)
		}
	}
	return fakeVersion{}, false
}

func (f *fake) read(rng *fakeRange, r *locuspb.Request) *locuspb.Response {
	ts := f.now()
	if r.Consistency.GetLevel() == locuspb.ConsistencyLevel_SNAPSHOT {
		ts = hlc.Timestamp(r.Consistency.Timestamp)
	}
	resp := &locuspb.Response{Timestamp: uint64(ts)}
	switch x := r.Op.(type) {
	case *locuspb.Request_Get:
		v, ok := f.at(x.Get.Key, ts)
		resp.Result = &locuspb.Response_Get{Get: &locuspb.GetResponse{
			Found: ok, Value: v.value, Timestamp: uint64(v.ts), Expires: uint64(v.expires),
		}}
	case *locuspb.Request_Scan:
		resp.Result = &locuspb.Response_Scan{Scan: f.scan(rng, x.Scan, ts)}
	case *locuspb.Request_ClockAt:
		resp.Result = &locuspb.Response_ClockAt{ClockAt: &locuspb.ClockResponse{Clock: uint64(ts)}}
	}
	return resp
}

func (f *fake) scan(rng *fakeRange, x *locuspb.ScanRequest, ts hlc.Timestamp) *locuspb.ScanResponse {
	span := api.SpanFromProto(x.Span)
	require.True(f.t, rng.desc.Span.ContainsSpan(span))
	var all []string
	for k := range f.data {
		if _, ok := f.at([]byte(k), ts); ok && span.Contains([]byte(k)) {
			all = append(all, k)
		}
	}
	sort.Strings(all)
	if x.Reverse {
		slices.Reverse(all)
	}
	out := &locuspb.ScanResponse{ReadTimestamp: uint64(ts)}
	var batch []byte
	for _, k := range all {
		if x.Limit > 0 && out.Records == x.Limit {
			break
		}
		if x.MaxBytes > 0 && uint64(len(batch)) >= x.MaxBytes {
			out.Resume = []byte(k)
			if x.Reverse {
				out.Resume = keys.Next([]byte(k))
			}
			break
		}
		v, _ := f.at([]byte(k), ts)
		batch = packed.Append(batch, []byte(k), v.value, v.ts, v.expires)
		out.Records++
	}
	if len(batch) > 0 {
		out.Batches = [][]byte{batch}
	}
	return out
}

func (f *fake) command(rng *fakeRange, r *locuspb.Request) *locuspb.Response {
	ts := f.now()
	if c := r.GetCall(); c != nil {
		return f.callKey(c, ts)
	}
	w := r.GetWrite()
	for _, c := range w.Conditions {
		v, ok := f.at(c.Key, ts)
		holds := map[locuspb.Condition_Kind]bool{
			locuspb.Condition_ABSENT:    !ok,
			locuspb.Condition_VALUE:     ok && bytes.Equal(v.value, c.Value),
			locuspb.Condition_TIMESTAMP: ok && uint64(v.ts) == c.Timestamp,
		}[c.Kind]
		if !holds {
			return refuse(&api.ConditionError{Key: c.Key, Exists: ok, Value: v.value, Timestamp: v.ts})
		}
	}
	for _, m := range w.Mutations {
		if !rng.desc.Span.Contains(m.Key) {
			return refuse(api.ErrNotOneGroup)
		}
		f.put(m.Key, fakeVersion{ts: ts, value: m.Value, deleted: m.Delete, expires: expiry(ts, m.TtlMs)})
	}
	return &locuspb.Response{Timestamp: uint64(ts), Result: &locuspb.Response_Write{Write: &locuspb.WriteResponse{}}}
}

func expiry(ts hlc.Timestamp, ttl int64) hlc.Timestamp {
	if ttl == 0 {
		return 0
	}
	return ts.Add(time.Duration(ttl) * time.Millisecond)
}

func (f *fake) put(key []byte, v fakeVersion) {
	f.applied[string(key)]++
	if f.data[string(key)] == nil {
		f.data[string(key)] = &fakeRecord{}
	}
	f.data[string(key)].versions = append(f.data[string(key)].versions, v)
}

func (f *fake) pure(c *locuspb.CallRequest) *locuspb.Response {
	result := c.Argument
	switch c.Function {
	case "square":
		n, _ := strconv.Atoi(string(c.Argument))
		result = []byte(strconv.Itoa(n * n))
	case "echo":
	case "fail":
		return refuse(&api.FunctionError{Function: "fail", Code: 7, Message: "no"})
	default:
		return refuse(&api.FunctionNotFoundError{Name: c.Function, Version: c.Version, Node: "fake"})
	}
	return &locuspb.Response{Result: &locuspb.Response_Call{Call: &locuspb.CallResponse{Result: result, Fuel: 3, Version: max(c.Version, 1)}}}
}

// callKey knows one function, "add", which adds its argument to the number at the key.
func (f *fake) callKey(c *locuspb.CallRequest, ts hlc.Timestamp) *locuspb.Response {
	if c.Function != "add" {
		return refuse(&api.FunctionNotFoundError{Name: c.Function, Node: "fake"})
	}
	v, _ := f.at(c.Key, ts)
	old, _ := strconv.Atoi(string(v.value))
	n, _ := strconv.Atoi(string(c.Argument))
	sum := []byte(strconv.Itoa(old + n))
	if !c.DryRun {
		f.put(c.Key, fakeVersion{ts: ts, value: sum})
	}
	return &locuspb.Response{Timestamp: uint64(ts), Result: &locuspb.Response_Call{Call: &locuspb.CallResponse{Result: sum, Version: 1}}}
}

func (n *fakeNode) Routes(_ context.Context, r *locuspb.RoutesRequest) (*locuspb.RoutesResponse, error) {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	out := &locuspb.RoutesResponse{Clock: uint64(n.f.now()), Routes: api.RoutesToProto(n.f.routes(api.SpanFromProto(r.Span), r.Limit))}
	for _, x := range n.f.nodes {
		out.Nodes = append(out.Nodes, &locuspb.NodeInfo{StoreId: uint64(x.store), Address: x.addr, State: "up"})
	}
	return out, nil
}

func (n *fakeNode) LookupKeyspace(_ context.Context, r *locuspb.LookupKeyspaceRequest) (*locuspb.LookupKeyspaceResponse, error) {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	for _, k := range n.f.keyspaces {
		if k.Name == r.Name && !k.Dropped {
			return &locuspb.LookupKeyspaceResponse{Keyspace: k}, nil
		}
	}
	return nil, api.ToStatus(&api.KeyspaceNotFoundError{Name: r.Name})
}

func (n *fakeNode) CreateKeyspace(_ context.Context, r *locuspb.CreateKeyspaceRequest) (*locuspb.CreateKeyspaceResponse, error) {
	if n.store != n.f.nodes[len(n.f.nodes)-1].store {
		return nil, api.ToStatus(&api.NotDriverError{Address: n.f.nodes[len(n.f.nodes)-1].addr})
	}
	for _, k := range n.f.keyspaces {
		if k.Name == r.Name && !k.Dropped {
			return nil, api.ToStatus(&api.KeyspaceExistsError{Name: r.Name})
		}
	}
	k := &locuspb.Keyspace{Name: r.Name, Partition: r.Partition, Group: r.Group, Replicas: r.Replicas}
	n.f.createKeyspace(k)
	for _, at := range r.SplitAt {
		n.f.split(keys.Layout{ID: ids.KeyspaceID(k.Id)}.Encode(at))
	}
	return &locuspb.CreateKeyspaceResponse{Keyspace: k}, nil
}

func (n *fakeNode) DropKeyspace(_ context.Context, r *locuspb.DropKeyspaceRequest) (*locuspb.DropKeyspaceResponse, error) {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	for _, k := range n.f.keyspaces {
		if k.Name == r.Name && !k.Dropped {
			k.Dropped = true
			return &locuspb.DropKeyspaceResponse{}, nil
		}
	}
	return nil, api.ToStatus(&api.KeyspaceNotFoundError{Name: r.Name})
}

func (n *fakeNode) ListKeyspaces(context.Context, *locuspb.ListKeyspacesRequest) (*locuspb.ListKeyspacesResponse, error) {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	return &locuspb.ListKeyspacesResponse{Keyspaces: slices.Clone(n.f.keyspaces)}, nil
}

func (n *fakeNode) ListNodes(context.Context, *locuspb.ListNodesRequest) (*locuspb.ListNodesResponse, error) {
	out := &locuspb.ListNodesResponse{}
	for _, x := range n.f.nodes {
		out.Nodes = append(out.Nodes, &locuspb.NodeInfo{StoreId: uint64(x.store), Address: x.addr, State: "up", SinceHeartbeatMs: 40})
	}
	return out, nil
}

func (n *fakeNode) Status(context.Context, *locuspb.StatusRequest) (*locuspb.StatusResponse, error) {
	return &locuspb.StatusResponse{ClusterId: "c", StoreId: uint64(n.store), LiveNodes: uint64(len(n.f.nodes))}, nil
}

func (n *fakeNode) SplitRange(_ context.Context, r *locuspb.SplitRangeRequest) (*locuspb.SplitRangeResponse, error) {
	n.f.split(r.Key)
	return &locuspb.SplitRangeResponse{Left: 1, Right: 2, Key: r.Key}, nil
}

func (n *fakeNode) TransferRange(_ context.Context, r *locuspb.TransferRangeRequest) (*locuspb.TransferRangeResponse, error) {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	for _, x := range n.f.ranges {
		if uint64(x.desc.ID) == r.RangeId {
			x.leader, x.term = ids.StoreID(r.ToStore), x.term+1
			return &locuspb.TransferRangeResponse{}, nil
		}
	}
	return nil, api.ToStatus(&api.RangeNotFoundError{Range: ids.RangeID(r.RangeId)})
}

func (n *fakeNode) RegisterFunction(_ context.Context, r *locuspb.RegisterFunctionRequest) (*locuspb.RegisterFunctionResponse, error) {
	if len(r.Module) == 0 {
		return nil, api.ToStatus(&api.InvalidArgumentError{Reason: "the module is empty"})
	}
	return &locuspb.RegisterFunctionResponse{Function: &locuspb.FunctionInfo{Name: r.Name, Version: 1, Runtime: "wasm", Active: true}}, nil
}

func (n *fakeNode) ListFunctions(context.Context, *locuspb.ListFunctionsRequest) (*locuspb.ListFunctionsResponse, error) {
	return &locuspb.ListFunctionsResponse{Functions: []*locuspb.FunctionInfo{{Name: "square", Version: 1, Kind: "pure", Runtime: "native"}}}, nil
}

func (n *fakeNode) Hold(_ context.Context, r *locuspb.HoldRequest) (*locuspb.HoldResponse, error) {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	if n.f.noHolds != nil {
		return nil, api.ToStatus(n.f.noHolds)
	}
	n.f.holds = append(n.f.holds, r)
	return &locuspb.HoldResponse{}, nil
}

func (n *fakeNode) Release(_ context.Context, r *locuspb.ReleaseRequest) (*locuspb.ReleaseResponse, error) {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	n.f.released = append(n.f.released, string(r.Id))
	return &locuspb.ReleaseResponse{}, nil
}

// Run knows one range function, "count", and one map function, "keys".
func (n *fakeNode) Run(r *locuspb.RunRequest, s grpc.ServerStreamingServer[locuspb.RunResponse]) error {
	if r.Stream && r.Function == "keys" {
		err := n.stream(r, s)
		n.f.mu.Lock()
		defer n.f.mu.Unlock()
		if n.f.onEnd != nil {
			n.f.onEnd(err)
		}
		return err
	}
	if r.Function != "count" {
		return s.Send(&locuspb.RunResponse{Error: api.ToProto(&api.FunctionNotFoundError{Name: r.Function, Node: n.addr})})
	}
	n.f.mu.Lock()
	ts := n.f.now()
	if r.Timestamp != 0 {
		ts = hlc.Timestamp(r.Timestamp)
	}
	count := uint64(0)
	for k := range n.f.data {
		if _, ok := n.f.at([]byte(k), ts); ok && api.SpanFromProto(r.Span).Contains([]byte(k)) {
			count++
		}
	}
	total := uint64(len(n.f.routes(api.SpanFromProto(r.Span), 0)))
	n.f.mu.Unlock()
	for i := range total {
		if err := s.Send(&locuspb.RunResponse{Progress: &locuspb.Progress{RangesDone: i + 1, RangesTotal: total, Records: count, Fuel: i}}); err != nil {
			return err
		}
	}
	return s.Send(&locuspb.RunResponse{Done: true, Result: fmt.Append(nil, count), Timestamp: uint64(ts), Version: 1})
}

// fakeToken is a continuation token as clients may look into it: the timestamp; behind it is whatever a node likes.
func fakeToken(ts hlc.Timestamp, left []*locuspb.Span) []byte {
	slices.SortFunc(left, func(a, b *locuspb.Span) int { return bytes.Compare(a.Start, b.Start) })
	body, err := proto.Marshal(&locuspb.RunResponse{Rest: left})
	if err != nil {
		panic(err)
	}
	return append(binary.BigEndian.AppendUint64(append([]byte{1}, make([]byte, 8)...), uint64(ts)), body...)
}

func fromFakeToken(t *testing.T, token []byte) (hlc.Timestamp, []*locuspb.Span) {
	m := new(locuspb.RunResponse)
	require.NoError(t, proto.Unmarshal(token[17:], m))
	return hlc.Timestamp(binary.BigEndian.Uint64(token[9:])), m.Rest
}

// stream sends the keys of the span, two in each page; every other page is of the upper half, from its start on.
func (n *fakeNode) stream(r *locuspb.RunRequest, s grpc.ServerStreamingServer[locuspb.RunResponse]) error {
	n.f.mu.Lock()
	ts := n.f.now()
	if r.Timestamp != 0 {
		ts = hlc.Timestamp(r.Timestamp)
	}
	rest := []*locuspb.Span{r.Span}
	if len(r.Continuation) > 0 {
		ts, rest = fromFakeToken(n.f.t, r.Continuation)
	}
	var pages []*locuspb.RunResponse
	for _, p := range rest {
		span := api.SpanFromProto(p)
		var page *locuspb.RunResponse
		flush := func(end []byte) {
			page.Covered = &locuspb.Span{Start: span.Start, End: end}
			pages, span.Start, page = append(pages, page), end, nil
		}
		for _, k := range slices.Sorted(maps.Keys(n.f.data)) {
			if _, ok := n.f.at([]byte(k), ts); !ok || !span.Contains([]byte(k)) {
				continue
			}
			if page != nil && len(page.Outputs) == 2 {
				flush([]byte(k))
			}
			if page == nil {
				page = &locuspb.RunResponse{Timestamp: uint64(ts), Version: 3, Progress: &locuspb.Progress{RangesTotal: 1}}
			}
			page.Outputs = append(page.Outputs, fmt.Appendf(nil, "%q", k[4:]))
		}
		if page == nil {
			page = &locuspb.RunResponse{}
		}
		flush(span.End)
	}
	change := n.f.onPage
	n.f.mu.Unlock()
	if half := len(pages) / 2; !r.KeyOrder {
		var mixed []*locuspb.RunResponse
		for i := range half {
			mixed = append(mixed, pages[half+i], pages[i])
		}
		pages = append(mixed, pages[2*half:]...)
	}
	if len(r.Continuation) > 0 {
		if err := s.Send(&locuspb.RunResponse{Rest: rest}); err != nil {
			return err
		}
	}
	for i, p := range pages {
		var left []*locuspb.Span
		for _, other := range pages[i+1:] {
			left = append(left, other.Covered)
		}
		p.Continuation = fakeToken(ts, left)
	}
	for i, p := range pages {
		if change != nil {
			if err := change(n, r, i, p); err == errHang {
				<-s.Context().Done()
				return s.Context().Err()
			} else if err != nil {
				return err
			}
		}
		if err := s.Send(p); err != nil {
			return err
		}
	}
	return s.Send(&locuspb.RunResponse{Done: true, Timestamp: uint64(ts), Version: 3})
}
