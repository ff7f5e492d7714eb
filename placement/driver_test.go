package placement

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
)

// table is Records and Eraser in memory: it answers before it returns, unless told to hold its answers.
type table struct {
	world // for apply and the map
	fail  error
	hold  bool
	held  []func()
	erase []keys.Span
	more  int
}

func (r *table) Load(span keys.Span, done func([]Record, error)) {
	var out []Record
	for k, v := range r.records {
		if span.Contains([]byte(k)) {
			out = append(out, Record{Key: []byte(k), Value: v})
		}
	}
	done(out, nil)
}

func (r *table) Write(w *locuspb.WriteRequest, done func(error)) {
	act := func() {
		err := r.fail
		if err == nil {
			err = r.apply(w)
		}
		done(err)
	}
	if r.hold {
		r.held = append(r.held, act)
		return
	}
	act()
}

func (r *table) Erase(span keys.Span, _ uint64, done func(bool, error)) {
	r.erase = append(r.erase, span)
	r.more--
	done(r.more > 0, nil)
}

// bench is a driver with a clock of its own.
type bench struct {
	*Driver
	t   *testing.T
	rec *table
	now time.Duration
	// lost is what OnLost said.
	lost error
	// has is the version of the map that stores report to have; 0: none.
	has map[uint64]uint64
	// holds is the version of the holds that stores report to keep to, readable since when.
	holds, readable map[uint64]uint64
}

func newTable() *table { return &table{world: world{records: map[string][]byte{}}} }

func newBench(t *testing.T, rec *table) *bench {
	b := &bench{t: t, rec: rec}
	d, err := NewDriver(Options{
		ClusterID: "c1", Self: &locuspb.NodeInfo{StoreId: 1, NodeId: "n1", Address: "a1"},
		Records: rec, Eraser: rec, Now: func() time.Duration { return b.now },
		OnLost: func(err error) { b.lost = err },
	})
	if err != nil {
		t.Fatal(err)
	}
	b.Driver = d
	return b
}

// started is a driver in office.
func started(t *testing.T, rec *table) *bench {
	b := newBench(t, rec)
	b.Start()
	if !b.Serving() {
		t.Fatalf("not serving: %v", b.Err())
	}
	return b
}

func (b *bench) join(node, address string) (uint64, error) {
	resp, err := Await(context.Background(), func(done func(*locuspb.JoinResponse, error)) {
		b.Join(&locuspb.JoinRequest{Node: &locuspb.NodeInfo{NodeId: node, Address: address}}, done)
	})
	return resp.GetStoreId(), err
}

func (b *bench) allocate(n uint64) (ids.RangeID, error) {
	return Await(context.Background(), func(done func(ids.RangeID, error)) { b.AllocateIDs(n, done) })
}

// beat sends a heartbeat of store s.
func (b *bench) beat(s uint64, clock uint64, reports ...*locuspb.RangeReport) *locuspb.HeartbeatResponse {
	b.t.Helper()
	req := &locuspb.HeartbeatRequest{
		Node:  &locuspb.NodeInfo{StoreId: s, NodeId: fmt.Sprintf("n%d", s), Address: fmt.Sprintf("a%d", s)},
		Clock: clock, Leading: reports, MapVersion: b.has[s],
		HoldsVersion: b.holds[s], ReadableFrom: b.readable[s],
	}
	for _, r := range reports {
		req.Holding = append(req.Holding, r.Descriptor_.RangeId)
	}
	resp, err := b.Heartbeat(req)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp
}

// report is a range led in a term, with voters on stores; replica ids are store ids.
func report(id ids.RangeID, span keys.Span, conf, bounds, term uint64, stores ...uint64) *locuspb.RangeReport {
	d := &topology.Descriptor{ID: id, Span: span, Epoch: topology.Epoch{Conf: conf, Bounds: bounds}, NextReplica: 50}
	m := &locuspb.RangeReport{Term: term, Applied: 100}
	for _, s := range stores {
		d.Replicas = append(d.Replicas, topology.Replica{Store: ids.StoreID(s), ID: ids.ReplicaID(s), Role: topology.Voter})
		m.Progress = append(m.Progress, &locuspb.ReplicaProgress{ReplicaId: s, Match: 100, Active: true})
	}
	m.Descriptor_ = api.DescriptorToProto(d)
	return m
}

var (
	systemSpan  = keys.Span{End: keys.KeyspacePrefix(1)}
	defaultSpan = keys.KeyspaceSpan(1)
	tailSpan    = keys.Span{Start: keys.KeyspacePrefix(2)}
)

// bootstrapped reports the first three ranges on one store.
func bootstrapped(store uint64) []*locuspb.RangeReport {
	return []*locuspb.RangeReport{
		report(1, systemSpan, 1, 1, 5, store), report(2, defaultSpan, 1, 1, 5, store), report(3, tailSpan, 1, 1, 5, store),
	}
}

func wantError[E error](t *testing.T, err error) {
	t.Helper()
	var want E
	if !errors.As(err, &want) {
		t.Errorf("error %T (%v), want %T", err, err, want)
	}
}

func TestJoin(t *testing.T) {
	rec := newTable()
	b := started(t, rec)
	for _, step := range []struct {
		node, address string
		store         uint64
	}{{"n2", "a2", 2}, {"n3", "a3", 3}, {"n2", "a2", 2}, {"n1", "a1", 1}} {
		if got, err := b.join(step.node, step.address); err != nil || got != step.store {
			t.Errorf("join %s: store %d, %v; want %d", step.node, got, err, step.store)
		}
	}

	// The ids are known to the next driver, and a new node gets a new one.
	b = started(t, rec)
	if got, _ := b.join("n3", "elsewhere"); got != 3 {
		t.Errorf("n3 got store id %d from the next driver", got)
	}
	if got, _ := b.join("n4", "a4"); got != 4 {
		t.Errorf("n4 got store id %d", got)
	}

	// A copied data directory: the same node id while the node is up at another address.
	b.beat(2, 1)
	_, err := b.join("n2", "copy")
	wantError[*api.UnavailableError](t, err)
	b.now += 6 * time.Second // it has moved after all
	if got, err := b.join("n2", "copy"); err != nil || got != 2 {
		t.Errorf("n2 at its new address: %d, %v", got, err)
	}
}

func TestJoinRefuses(t *testing.T) {
	b := started(t, newTable())
	ask := func(req *locuspb.JoinRequest) (err error) {
		b.Join(req, func(_ *locuspb.JoinResponse, e error) { err = e })
		return err
	}
	wantError[*api.ClusterMismatchError](t, ask(&locuspb.JoinRequest{ClusterId: "c2", Node: &locuspb.NodeInfo{NodeId: "n2"}}))
	for _, n := range []*locuspb.NodeInfo{
		nil, {}, {NodeId: "with space"}, {NodeId: strings.Repeat("x", 65)}, {NodeId: "n9", StoreId: 7}, {NodeId: "n1", StoreId: 7},
	} {
		wantError[*api.InvalidArgumentError](t, ask(&locuspb.JoinRequest{Node: n}))
	}
	_, err := b.Heartbeat(&locuspb.HeartbeatRequest{Node: &locuspb.NodeInfo{StoreId: 1, NodeId: "other"}})
	wantError[*api.InvalidArgumentError](t, err)
	_, err = b.Heartbeat(&locuspb.HeartbeatRequest{})
	wantError[*api.InvalidArgumentError](t, err)
}

// TestIDsAreNeverReused: over batches, sizes and offices.
func TestIDsAreNeverReused(t *testing.T) {
	rec := newTable()
	seen := map[ids.RangeID]bool{1: true, 2: true, 3: true}
	for range 3 {
		b := started(t, rec)
		for _, n := range []uint64{1, 1, 60, 5, 200, 1, 64, 4096} {
			first, err := b.allocate(n)
			if err != nil {
				t.Fatal(err)
			}
			for id := first; id < first+ids.RangeID(n); id++ {
				if seen[id] {
					t.Fatalf("range id %s handed out twice", id)
				}
				seen[id] = true
			}
		}
	}
	b := started(t, rec)
	for _, n := range []uint64{0, maxIDs + 1} {
		_, err := b.allocate(n)
		wantError[*api.LimitError](t, err)
	}
}

// TestOffice: a deposed driver's writes change nothing, even those that were on their way, and its callers
// are told.
func TestOffice(t *testing.T) {
	rec := newTable()
	old := started(t, rec)
	rec.hold = true
	var joinErr error
	old.Join(&locuspb.JoinRequest{Node: &locuspb.NodeInfo{NodeId: "n2"}}, func(_ *locuspb.JoinResponse, err error) { joinErr = err })
	var queuedErr error
	old.AllocateIDs(1, func(_ ids.RangeID, err error) { queuedErr = err })
	late := rec.held
	rec.hold, rec.held = false, nil

	next := started(t, rec)
	if got, err := next.join("n3", "a3"); err != nil || got != 2 {
		t.Fatalf("join: %d, %v", got, err)
	}
	before := fmt.Sprint(rec.records)
	for _, f := range late {
		f()
	}
	if after := fmt.Sprint(rec.records); after != before {
		t.Errorf("a deposed driver wrote:\n%s\n%s", before, after)
	}
	wantError[*api.ConditionError](t, joinErr)
	wantError[*api.NotDriverError](t, queuedErr)
	wantError[*api.ConditionError](t, old.lost)
	_, err := old.join("n4", "a4")
	wantError[*api.NotDriverError](t, err)
	if old.Err() == nil || old.Serving() || next.Err() != nil {
		t.Errorf("old: %v, next: %v", old.Err(), next.Err())
	}
}

// TestStopTellsWhoeverWaits: those whose job has yet to be written, and the one whose write is under way and is answered
// when nobody listens any more.
func TestStopTellsWhoeverWaits(t *testing.T) {
	rec := newTable()
	b := started(t, rec)
	rec.hold = true
	var written, queued []error
	b.Join(&locuspb.JoinRequest{Node: &locuspb.NodeInfo{NodeId: "n2"}}, func(_ *locuspb.JoinResponse, err error) { written = append(written, err) })
	b.AllocateIDs(1, func(_ ids.RangeID, err error) { queued = append(queued, err) })
	if len(rec.held) != 1 || len(written)+len(queued) != 0 {
		t.Fatalf("%d writes under way; told %v and %v", len(rec.held), written, queued)
	}
	b.Stop()
	rec.held[0]()
	for _, told := range [][]error{written, queued} {
		if len(told) != 1 {
			t.Fatalf("told %d times: %v", len(told), told)
		}
		wantError[*api.NotDriverError](t, told[0])
	}
	if got, err := started(t, newTableOf(rec)).join("n2", "a2"); err != nil || got != 2 {
		t.Errorf("the next driver gave n2 store id %d, %v", got, err)
	}
}

// newTableOf is a table with another's records.
func newTableOf(rec *table) *table { return &table{world: world{records: rec.records}} }

// TestOfficeIsClaimedOnce: of two drivers that read the same office number one serves.
func TestOfficeIsClaimedOnce(t *testing.T) {
	fresh, used := newTable(), newTable()
	started(t, used)
	claimOnce(t, fresh)
	claimOnce(t, used)
}

func claimOnce(t *testing.T, rec *table) {
	t.Helper()
	rec.hold = true
	a, b := newBench(t, rec), newBench(t, rec)
	a.Start()
	b.Start()
	for len(rec.held) > 0 {
		f := rec.held[0]
		rec.held = rec.held[1:]
		f()
	}
	if a.Serving() == b.Serving() {
		t.Errorf("serving: %t and %t", a.Serving(), b.Serving())
	}
}

// TestWriteErrors: an error that says that nothing was done ends the call; any other ends the office.
func TestWriteErrors(t *testing.T) {
	for _, tc := range []struct {
		err  error
		ends bool
	}{
		{&api.OverloadedError{What: "x"}, false},
		{&api.UnavailableError{Reason: "x"}, false},
		{&api.AmbiguousError{Cause: context.DeadlineExceeded}, true},
		{&api.NotLeaseholderError{Range: 1}, true},
		{&api.ConditionError{}, true},
		{errors.New("unknown"), true},
	} {
		rec := newTable()
		b := started(t, rec)
		rec.fail = tc.err
		if _, err := b.join("n2", "a2"); !reflect.DeepEqual(err, tc.err) {
			t.Errorf("%v: join says %v", tc.err, err)
		}
		if (b.lost != nil) != tc.ends || b.Serving() == tc.ends {
			t.Errorf("%v: lost %v, serving %t", tc.err, b.lost, b.Serving())
		}
		if rec.fail = nil; !tc.ends {
			if got, err := b.join("n2", "a2"); err != nil || got != 2 {
				t.Errorf("%v: join afterwards %d, %v", tc.err, got, err)
			}
		}
	}
}

// TestCorruptRecord: a record that can't be read stops the driver: ids could be handed out again.
func TestCorruptRecord(t *testing.T) {
	for _, key := range []string{keyNextRange, keyOffice, "store/1", "keyspace/default"} {
		rec := newTable()
		started(t, rec)
		rec.records[string(recordKey(key))] = []byte{0xff, 1, 2}
		b := newBench(t, rec)
		b.Start()
		if b.Serving() || b.lost == nil || !strings.Contains(b.lost.Error(), key) {
			t.Errorf("%s: serving %t, lost %v", key, b.Serving(), b.lost)
		}
	}
}

func TestNotYetAndNoLonger(t *testing.T) {
	rec := newTable()
	b := newBench(t, rec)
	calls := map[string]func() error{
		"join":     func() error { _, err := b.join("n2", "a2"); return err },
		"allocate": func() error { _, err := b.allocate(1); return err },
		"list":     func() error { _, err := b.ListKeyspaces(); return err },
		"lookup":   func() error { _, err := b.LookupKeyspace("default"); return err },
		"routes":   func() error { _, _, err := b.Routes(keys.Span{}); return err },
		"nodes":    func() error { _, err := b.Nodes(); return err },
		"status":   func() error { _, err := b.Status(); return err },
		"beat":     func() error { _, err := b.Heartbeat(&locuspb.HeartbeatRequest{}); return err },
		"drop":     func() (err error) { b.DropKeyspace("x", func(e error) { err = e }); return err },
		"create": func() (err error) {
			b.CreateKeyspace(&locuspb.CreateKeyspaceRequest{Name: "x"}, func(_ *locuspb.Keyspace, e error) { err = e })
			return err
		},
		"split": func() (err error) {
			b.SplitRange(&locuspb.SplitRangeRequest{}, func(_ *locuspb.SplitRangeResponse, e error) { err = e })
			return err
		},
		"transfer": func() (err error) {
			b.TransferRange(&locuspb.TransferRangeRequest{}, func(e error) { err = e })
			return err
		},
	}
	for name, f := range calls {
		t.Run(name, func(t *testing.T) { wantError[*api.UnavailableError](t, f()) })
	}
	b.Tick()
	b.Start()
	b.Stop()
	for name, f := range calls {
		t.Run(name+" stopped", func(t *testing.T) { wantError[*api.NotDriverError](t, f()) })
	}
	if b.lost != nil {
		t.Error("Stop is no loss")
	}
}

func TestOptionsValidate(t *testing.T) {
	rec := newTable()
	good := Options{
		ClusterID: "c", Self: &locuspb.NodeInfo{StoreId: 1, NodeId: "n"}, Records: rec, Eraser: rec, Now: func() time.Duration { return 0 },
	}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for i, spoil := range []func(*Options){
		func(o *Options) { o.ClusterID = "" },
		func(o *Options) { o.Self = nil },
		func(o *Options) { o.Self = &locuspb.NodeInfo{NodeId: "n"} },
		func(o *Options) { o.Records = nil },
		func(o *Options) { o.Eraser = nil },
		func(o *Options) { o.Now = nil },
		func(o *Options) { o.SuspectAfter, o.DeadAfter = 2*time.Second, time.Second },
		func(o *Options) { o.DeadAfter = -1 },
	} {
		o := good
		spoil(&o)
		if _, err := NewDriver(o); err == nil {
			t.Errorf("spoiled options %d are accepted", i)
		}
	}
	if o := good.withDefaults(); o.DeadAfter != 30*time.Second || o.SuspectAfter != 5*time.Second || o.Limits.Replicas != 3 {
		t.Errorf("defaults: %+v", o)
	}
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var late func(int, error)
	if _, err := Await(ctx, func(done func(int, error)) { late = done }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	late(1, nil) // nobody waits any more; must not block
}

// TestHeartbeatMap: the map comes when it has moved, versions of two offices differ, and a map with holes is
// held back at first.
func TestHeartbeatMap(t *testing.T) {
	rec := newTable()
	b := started(t, rec)
	if resp := b.beat(1, 1, bootstrapped(1)[:2]...); len(resp.Routes)+len(resp.Nodes)+len(resp.Keyspaces) != 0 {
		t.Errorf("a map with holes: %v", resp)
	}
	resp := b.beat(1, 2, bootstrapped(1)...)
	if len(resp.Routes) != 3 || len(resp.Nodes) != 1 || len(resp.Keyspaces) != 1 || resp.MapVersion == 0 {
		t.Fatalf("first map: %v", resp)
	}
	if r := resp.Routes[2]; r.LeaseholderStore != 1 || r.Descriptor_.RangeId != 3 {
		t.Errorf("route %v", r)
	}
	again := func(version uint64) *locuspb.HeartbeatResponse {
		resp, err := b.Heartbeat(&locuspb.HeartbeatRequest{
			Node: &locuspb.NodeInfo{StoreId: 1, NodeId: "n1", Address: "a1"}, Clock: 3, Leading: bootstrapped(1), MapVersion: version,
		})
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	if same := again(resp.MapVersion); same.Routes != nil || same.MapVersion != resp.MapVersion {
		t.Errorf("unchanged map sent again: %v", same)
	}
	b.AwaitMap(func(error) {})
	if moved := again(resp.MapVersion); moved.Routes != nil || len(moved.Nodes) != 1 || moved.MapVersion == resp.MapVersion {
		t.Errorf("after AwaitMap: %v", moved)
	}
	old := resp.MapVersion
	b = started(t, rec)
	if resp := b.beat(1, 4, bootstrapped(1)...); resp.MapVersion>>32 == old>>32 {
		t.Errorf("versions %x and %x of two offices", old, resp.MapVersion)
	}

	// After the grace period a map with holes is better than none.
	b = started(t, rec)
	b.now += 11 * time.Second
	if resp := b.beat(1, 5, bootstrapped(1)[:2]...); len(resp.Routes) != 2 {
		t.Errorf("after the grace period: %v", resp)
	}
	if _, holes, _ := b.Routes(keys.Span{}); len(holes) != 1 || !holes[0].Equal(tailSpan) {
		t.Errorf("holes %v", holes)
	}
}

// TestHeartbeatRoutes: a map brings the routes that have changed since the node's, which may be older than the last one that
// was sent; all of them after a split, whatever that hides, and when a node no longer answers.
func TestHeartbeatRoutes(t *testing.T) {
	b := started(t, newTable())
	b.has = map[uint64]uint64{}
	reports := bootstrapped(1)
	clock := uint64(0)
	want := func(version uint64, ids ...uint64) uint64 {
		t.Helper()
		b.has[1] = version
		clock++
		resp := b.beat(1, clock, reports...)
		var got []uint64
		for _, r := range resp.Routes {
			got = append(got, r.Descriptor_.RangeId)
		}
		if !slices.Equal(got, ids) {
			t.Fatalf("since version %x: routes of %v, want %v", version, got, ids)
		}
		return resp.MapVersion
	}
	first := want(0, 1, 2, 3)
	want(first)
	reports[1] = report(2, defaultSpan, 2, 1, 5, 1) // a replica change
	second := want(first, 2)
	reports[2] = report(3, tailSpan, 2, 1, 5, 1)
	want(second, 3)
	third := want(first, 2, 3) // it has not heard of the second
	want(third)
	want(third-1<<32, 1, 2, 3) // of another office
	reports = append(reports[:2], report(3, keys.Span{Start: keys.KeyspacePrefix(2), End: keys.KeyspacePrefix(3)}, 2, 2, 5, 1),
		report(4, keys.Span{Start: keys.KeyspacePrefix(3)}, 2, 2, 5, 1))
	fourth := want(third, 1, 2, 3, 4)
	reports = reports[1:] // range 1 has no leader
	want(fourth, 1)
}

// TestLiveness: up, suspect and dead by silence alone, and nobody dead within the grace period.
func TestLiveness(t *testing.T) {
	rec := newTable()
	b := started(t, rec)
	for _, n := range []string{"n2", "n3"} {
		if _, err := b.join(n, "a"+n[1:]); err != nil {
			t.Fatal(err)
		}
	}
	state := func() string {
		nodes, err := b.Nodes()
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, n := range nodes {
			out = append(out, n.State)
		}
		return strings.Join(out, " ")
	}
	expect := func(want string) {
		t.Helper()
		if b.Tick(); state() != want {
			t.Errorf("at %s: %s, want %s", b.now, state(), want)
		}
	}
	b.beat(1, 1, bootstrapped(1)...)
	b.beat(2, 1)
	b.beat(3, 1)
	expect("up up up")
	b.now += 6 * time.Second
	b.beat(1, 2, bootstrapped(1)...)
	expect("up suspect suspect")
	b.now += 22 * time.Second
	b.beat(1, 3, bootstrapped(1)...)
	b.beat(3, 2)
	expect("up suspect up")
	b.now += 3 * time.Second
	b.beat(3, 1) // older than the one before: says nothing
	expect("up dead up")
	if s, _ := b.Status(); s.LiveNodes != 2 || s.DeadNodes != 1 || s.WantedReplicas != 2 {
		t.Errorf("status %v", s)
	}
	b.beat(2, 2)
	b.beat(1, 4, bootstrapped(1)...)
	b.beat(3, 3)
	expect("up up up")

	b = started(t, rec) // a new office begins its own count of silence
	expect("suspect suspect suspect")
	b.now += 29 * time.Second
	expect("suspect suspect suspect")
	b.now += time.Second
	expect("dead dead dead")
}

// TestStatusAtFirst: nothing looks well before it has been heard of.
func TestStatusAtFirst(t *testing.T) {
	b := started(t, newTable())
	if s, err := b.Status(); err != nil || s.Unavailable != 1 || s.Ranges != 0 {
		t.Errorf("nothing reported: %v, %v", s, err)
	}
	b.beat(1, 1, bootstrapped(1)[0])
	if s, _ := b.Status(); s.Unavailable != 1 || s.Ranges != 1 {
		t.Errorf("one range reported: %v", s)
	}
	b.beat(1, 2, bootstrapped(1)...)
	want := &locuspb.StatusResponse{ClusterId: "c1", Ranges: 3, LiveNodes: 1, Keyspaces: 1, WantedReplicas: 1}
	if s, _ := b.Status(); !proto.Equal(s, want) {
		t.Errorf("all reported: %v", s)
	}
	b.beat(1, 3)
	if s, _ := b.Status(); s.Unavailable != 3 {
		t.Errorf("no leader: %v", s)
	}
}

// TestOperatorLife: handed out to the leader, again now and then, given up after a while, planned again after
// a pause that grows.
func TestOperatorLife(t *testing.T) {
	b := started(t, newTable())
	if _, err := b.join("n2", "a2"); err != nil {
		t.Fatal(err)
	}
	clock := uint64(1)
	beat := func() []*locuspb.Operator {
		clock++
		if resp := b.beat(2, clock); len(resp.Operators) > 0 {
			t.Fatalf("operators for a store that leads nothing: %v", resp.Operators)
		}
		b.now += 200 * time.Millisecond
		return b.beat(1, clock, bootstrapped(1)...).Operators
	}
	ops := beat()
	if len(ops) != 3 || ops[0].GetAddLearner().GetStoreId() != 2 || ops[0].ConfEpoch != 1 || ops[0].BoundsEpoch != 1 {
		t.Fatalf("operators %v", ops)
	}
	var out, last time.Duration
	var pauses []time.Duration // between giving up and planning again
	begun := b.now
	for n := 1; len(pauses) < 4; {
		ops := beat()
		if len(ops) == 0 {
			continue
		}
		if b.now-begun < b.core.o.OperatorTimeout {
			n++
			out = b.now - begun
			continue
		}
		if n != 4 || out > 4500*time.Millisecond {
			t.Fatalf("handed out %d times in 5 s, the last after %s", n, out)
		}
		last, begun, n = begun, b.now, 1
		pauses = append(pauses, begun-last-b.core.o.OperatorTimeout)
	}
	for i := 1; i < len(pauses); i++ {
		if pauses[i] < 3*pauses[i-1]/2 {
			t.Errorf("pauses do not grow: %v", pauses)
		}
	}
}
