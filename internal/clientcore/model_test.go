package clientcore

import (
	"bytes"
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
)

// modelRange is one range as its replicas together behave: one state, a leader that changes, and a session
// table by the rules of docs/invariants.md.
type modelRange struct {
	desc     *topology.Descriptor
	leader   ids.StoreID
	term     ids.Term
	last     hlc.Timestamp
	counters map[string]int
	sessions map[string]*modelSession
}

type modelSession struct {
	floor   uint64
	results map[uint64]hlc.Timestamp
}

// model is a cluster and the network between it and one Core, driven by events in virtual time.
type model struct {
	t      *testing.T
	rng    *rand.Rand
	core   *Core
	now    Instant
	events eventQueue
	seq    int
	ranges []*modelRange
	stores []ids.StoreID
	nextID ids.RangeID
	faults bool
	link   uint64
	links  map[ids.StoreID]uint64

	applied   map[string]int // by key, all ranges together
	acked     map[string]int
	ambiguous map[string]int
	sent      map[string]int // operations by key
	done      int
	failed    map[string]int // by error type
	check     func(Done)
}

type event struct {
	at  Instant
	seq int
	do  func()
}

type eventQueue []event

func (q eventQueue) Len() int { return len(q) }
func (q eventQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *eventQueue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

const modelWindow = 30 * time.Second // the session window of the model

func newModel(t *testing.T, seed uint64, o Options) *model {
	m := &model{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), nextID: 10, stores: []ids.StoreID{1, 2, 3},
		applied: map[string]int{}, acked: map[string]int{}, ambiguous: map[string]int{}, sent: map[string]int{},
		failed: map[string]int{}, links: map[ids.StoreID]uint64{},
	}
	o.Rand = rand.New(rand.NewPCG(seed, 2))
	m.core = New(o)
	m.ranges = []*modelRange{m.newRange(keys.KeyspaceSpan(1), 1)}
	return m
}

func (m *model) newRange(span keys.Span, bounds uint64) *modelRange {
	m.nextID++
	d := &topology.Descriptor{ID: m.nextID, Span: span, Epoch: topology.Epoch{Conf: 1, Bounds: bounds}}
	for i, s := range m.stores {
		d.Replicas = append(d.Replicas, topology.Replica{Store: s, ID: ids.ReplicaID(i + 1), Role: topology.Voter})
	}
	return &modelRange{
		desc: d, leader: m.stores[m.rng.IntN(3)], term: 1, counters: map[string]int{}, sessions: map[string]*modelSession{},
	}
}

func (m *model) after(d time.Duration, do func()) {
	m.seq++
	heap.Push(&m.events, event{m.now + d, m.seq, do})
}

// clock is a hybrid clock that all stores share.
func (m *model) clock() hlc.Timestamp { return hlc.Make(1_000_000+m.now.Milliseconds(), 0) }

func (m *model) latency() time.Duration {
	if m.faults && m.rng.IntN(50) == 0 {
		return time.Duration(m.rng.Int64N(int64(6 * time.Second)))
	}
	return time.Duration(m.rng.Int64N(int64(2 * time.Millisecond)))
}

// run handles events until nothing is left to happen or the time is over.
func (m *model) run(until Instant) {
	var e Effects
	for {
		m.pump(&e)
		at := until
		wake, timer := m.core.Wake()
		if timer {
			require.Greater(m.t, wake, m.now, "an event left something undone")
			at = min(at, wake)
		}
		if len(m.events) > 0 && m.events[0].at < at {
			ev := heap.Pop(&m.events).(event)
			m.now = ev.at
			ev.do()
			continue
		}
		if m.now = at; at == until {
			return
		}
		m.core.Tick(m.now)
	}
}

func (m *model) pump(e *Effects) {
	for {
		m.core.Take(e)
		if len(e.Sends) == 0 && len(e.Done) == 0 && e.Routes == nil {
			return
		}
		for i := range e.Sends {
			m.carry(&e.Sends[i])
		}
		for _, d := range e.Done {
			m.done++
			m.check(d)
		}
		if e.Routes != nil {
			m.carryRoutes(*e.Routes, e.RoutesLimit)
		}
	}
}

func (m *model) carry(s *Send) {
	store, req := s.Store, s.Request
	link := m.links[store]
	if link == 0 {
		m.link++
		link = m.link
		m.links[store] = link
	}
	s.OnLink(link)
	if m.faults && m.rng.IntN(40) == 0 {
		m.after(m.latency(), func() { m.core.Fail(m.now, req.Id, false, errors.New("connection refused")) })
		return
	}
	if m.faults && m.rng.IntN(100) == 0 {
		m.links[store] = 0
		m.after(m.latency(), func() { m.core.LinkDown(m.now, link, errors.New("connection reset")) })
	}
	m.after(m.latency(), func() {
		resp := m.serve(store, req)
		if m.faults && m.rng.IntN(30) == 0 {
			return // the answer is lost
		}
		m.after(m.latency(), func() {
			m.core.Deliver(m.now, &locuspb.BatchResponse{Clock: uint64(m.clock()), Responses: []*locuspb.Response{resp}})
		})
	})
}

func (m *model) carryRoutes(span keys.Span, limit uint64) {
	m.after(m.latency(), func() {
		if m.faults && m.rng.IntN(5) == 0 {
			m.core.RoutesFailed(m.now, errors.New("nobody answers"))
			return
		}
		out := &locuspb.RoutesResponse{Clock: uint64(m.clock())}
		for _, s := range m.stores {
			out.Nodes = append(out.Nodes, &locuspb.NodeInfo{StoreId: uint64(s), State: "up"})
		}
		for _, r := range m.ranges {
			if r.desc.Span.Overlaps(span) && (limit == 0 || uint64(len(out.Routes)) < limit) {
				out.Routes = append(out.Routes, m.route(r))
			}
		}
		stale := m.latency() // what was true now may no longer be when it arrives
		m.after(stale, func() { m.core.RoutesArrived(m.now, out) })
	})
}

func (m *model) route(r *modelRange) *locuspb.Route {
	out := api.Route{Descriptor: r.desc, Term: r.term}
	if m.rng.IntN(3) > 0 {
		out.Leaseholder = r.leader
	}
	return api.RouteToProto(out)
}

func fail(id uint64, err error) *locuspb.Response {
	return &locuspb.Response{Id: id, Error: api.ToProto(err)}
}

// serve is what a store does with a request.
func (m *model) serve(at ids.StoreID, req *locuspb.Request) *locuspb.Response {
	var r *modelRange
	for _, x := range m.ranges {
		if uint64(x.desc.ID) == req.RangeId {
			r = x
		}
	}
	cure := func(span keys.Span) (routes []api.Route) {
		for _, x := range m.ranges {
			if x.desc.Span.Overlaps(span) && m.rng.IntN(4) > 0 {
				routes = append(routes, api.Route{Descriptor: x.desc, Leaseholder: x.leader, Term: x.term})
			}
		}
		return routes
	}
	switch {
	case r == nil:
		return fail(req.Id, &api.RangeNotFoundError{Range: ids.RangeID(req.RangeId), Routes: cure(keys.KeyspaceSpan(1))})
	case r.desc.Epoch.Bounds != req.BoundsEpoch:
		return fail(req.Id, &api.EpochMismatchError{Range: r.desc.ID, Routes: cure(keys.KeyspaceSpan(1))})
	case r.leader != at:
		e := &api.NotLeaseholderError{Range: r.desc.ID}
		if m.rng.IntN(3) > 0 {
			e.Leaseholder = r.leader
			e.Routes = []api.Route{{Descriptor: r.desc, Leaseholder: r.leader, Term: r.term}}
		}
		return fail(req.Id, e)
	case m.faults && m.rng.IntN(30) == 0:
		return fail(req.Id, &api.OverloadedError{What: "range", RetryAfter: 20 * time.Millisecond})
	case m.faults && m.rng.IntN(30) == 0:
		return fail(req.Id, &api.RetryError{Reason: "the entry was refused"})
	case m.faults && m.rng.IntN(200) == 0:
		return fail(req.Id, &api.InternalError{Reason: "disk on fire"})
	}
	r.last = max(r.last+1, m.clock(), hlc.Timestamp(req.Token)+1)
	switch x := req.Op.(type) {
	case *locuspb.Request_Write:
		return m.write(r, req, x.Write)
	case *locuspb.Request_Get:
		n := r.counters[string(x.Get.Key)]
		return &locuspb.Response{Id: req.Id, Timestamp: uint64(r.last), Result: &locuspb.Response_Get{
			Get: &locuspb.GetResponse{Found: n > 0, Value: []byte(fmt.Sprint(n))},
		}}
	case *locuspb.Request_ClockAt:
		return &locuspb.Response{Id: req.Id, Result: &locuspb.Response_ClockAt{
			ClockAt: &locuspb.ClockResponse{Clock: uint64(r.last)},
		}}
	case *locuspb.Request_Scan:
		s := keys.Span{Start: x.Scan.Span.Start, End: x.Scan.Span.End}
		require.True(m.t, r.desc.Span.ContainsSpan(s), "a scan asked for more than the range holds")
		return &locuspb.Response{Id: req.Id, Result: &locuspb.Response_Scan{Scan: &locuspb.ScanResponse{}}}
	}
	panic("unknown operation")
}

// write counts each mutated key up, once per command.
func (m *model) write(r *modelRange, req *locuspb.Request, w *locuspb.WriteRequest) *locuspb.Response {
	ok := func(ts hlc.Timestamp) *locuspb.Response {
		return &locuspb.Response{Id: req.Id, Timestamp: uint64(ts), Result: &locuspb.Response_Write{Write: &locuspb.WriteResponse{}}}
	}
	s := req.Session
	require.NotNil(m.t, s)
	require.NotZero(m.t, s.FirstAttempt)
	require.LessOrEqual(m.t, s.FirstAttempt, req.Token|uint64(m.clock()), "a first attempt from the future")
	require.LessOrEqual(m.t, s.Floor, s.Number)
	if m.clock().Sub(hlc.Timestamp(s.FirstAttempt)) > modelWindow {
		return fail(req.Id, api.ErrSessionExpired)
	}
	table := r.sessions[string(s.Id)]
	if table == nil {
		table = &modelSession{results: map[uint64]hlc.Timestamp{}}
		r.sessions[string(s.Id)] = table
	}
	if s.Floor > table.floor {
		table.floor = s.Floor
		for n := range table.results {
			if n < s.Floor {
				delete(table.results, n)
			}
		}
	}
	if s.Number < table.floor {
		// Nobody waits for this answer; the test fails if somebody gets it.
		return fail(req.Id, &api.InvalidArgumentError{Reason: "number below the floor"})
	}
	if ts, known := table.results[s.Number]; known {
		return ok(ts)
	}
	for _, mu := range w.Mutations {
		require.True(m.t, r.desc.Span.Contains(mu.Key))
		r.counters[string(mu.Key)]++
		m.applied[string(mu.Key)]++
	}
	table.results[s.Number] = r.last
	return ok(r.last)
}

// split cuts a random range; the child begins with a copy of the session table.
func (m *model) split() {
	r := m.ranges[m.rng.IntN(len(m.ranges))]
	key := modelKey(m.rng.IntN(modelKeys))
	if !r.desc.Span.Contains(key) || bytes.Equal(key, r.desc.Span.Start) {
		return
	}
	right := m.newRange(keys.Span{Start: key, End: r.desc.Span.End}, r.desc.Epoch.Bounds+1)
	left := r.desc.Clone()
	left.Span.End = key
	left.Epoch.Bounds++
	r.desc = left
	right.leader, right.term, right.last = r.leader, r.term, r.last
	for id, s := range r.sessions {
		c := &modelSession{floor: s.floor, results: map[uint64]hlc.Timestamp{}}
		for n, ts := range s.results {
			c.results[n] = ts
		}
		right.sessions[id] = c
	}
	for k, n := range r.counters {
		if right.desc.Span.Contains([]byte(k)) {
			right.counters[k] = n
			delete(r.counters, k)
		}
	}
	for i, x := range m.ranges {
		if x == r {
			m.ranges = append(m.ranges[:i+1], append([]*modelRange{right}, m.ranges[i+1:]...)...)
			return
		}
	}
}

func (m *model) elect() {
	r := m.ranges[m.rng.IntN(len(m.ranges))]
	r.leader, r.term = m.stores[m.rng.IntN(3)], r.term+1
}

const modelKeys = 40

func modelKey(i int) []byte {
	return keys.Layout{ID: 1}.Encode([]byte(fmt.Sprintf("k%03d", i)))
}

func put(key []byte) *locuspb.Request {
	return &locuspb.Request{Op: &locuspb.Request_Write{Write: &locuspb.WriteRequest{
		Mutations: []*locuspb.Mutation{{Key: key, Value: []byte("v")}},
	}}}
}

// TestExactlyOnceUnderFaults: commands are sent through everything that goes wrong between a client and a
// cluster; each acknowledged one was applied exactly once, each failed one not at all, each ambiguous one
// at most once (promise P4, Invariant: I7).
func TestExactlyOnceUnderFaults(t *testing.T) {
	seeds := 40
	if testing.Short() {
		seeds = 10
	}
	totals := map[string]int{}
	for seed := range seeds {
		o := Options{}
		if seed%2 == 0 { // commands have to wait for numbers, and for room
			o = Options{Sessions: 3, Window: 16, MaxOps: 200}
		}
		m := newModel(t, uint64(seed), o)
		m.faults = true
		m.check = func(d Done) { m.judge(d) }
		for i := range 600 {
			m.after(time.Duration(i)*15*time.Millisecond, func() { m.submit() })
		}
		for i := range 60 {
			m.after(time.Duration(i)*150*time.Millisecond, func() { m.elect() })
			m.after(time.Duration(i)*157*time.Millisecond, func() { m.split() })
		}
		m.run(time.Minute)

		require.Zero(t, m.core.Live(), "seed %d: operations that never ended", seed)
		require.Equal(t, 600, m.done, "seed %d", seed)
		for i := range modelKeys {
			k := string(modelKey(i))
			require.GreaterOrEqual(t, m.applied[k], m.acked[k], "seed %d key %q: acknowledged and not applied", seed, k)
			require.LessOrEqual(t, m.applied[k], m.acked[k]+m.ambiguous[k], "seed %d key %q: applied too often", seed, k)
		}
		for _, l := range m.core.sessions.lanes {
			require.Equal(t, l.next, l.floor, "seed %d: the floor stays behind", seed)
		}
		for _, s := range m.core.order {
			require.Zero(t, s.outstanding, "seed %d", seed)
		}
		for k, n := range m.failed {
			totals[k] += n
		}
		for _, n := range m.acked {
			totals["acknowledged"] += n
		}
	}
	t.Logf("outcomes over %d seeds: %v", seeds, totals)
	require.Greater(t, totals["acknowledged"], seeds*400, "the faults leave nothing to test")
	require.Positive(t, totals["ambiguous"])
}

func (m *model) submit() {
	key := modelKey(m.rng.IntN(modelKeys))
	deadline := m.now + time.Duration(m.rng.Int64N(int64(12*time.Second)))
	id, err := m.core.Submit(m.now, Op{Request: put(key), Deadline: deadline, Tag: string(key)})
	if err != nil {
		m.done++
		m.failed["overloaded"]++
		return
	}
	m.sent[string(key)]++
	if m.rng.IntN(20) == 0 {
		m.after(m.latency()*3, func() { m.core.Cancel(m.now, id, errors.New("the caller left")) })
	}
}

func (m *model) judge(d Done) {
	key := d.Tag.(string)
	var ambiguous *api.AmbiguousError
	var invalid *api.InvalidArgumentError
	switch {
	case d.Err == nil:
		m.acked[key]++
		require.GreaterOrEqual(m.t, uint64(m.core.Token()), d.Response.Timestamp)
	case errors.As(d.Err, &ambiguous), errors.Is(d.Err, api.ErrSessionExpired):
		m.ambiguous[key]++
		m.failed["ambiguous"]++
	case errors.As(d.Err, &invalid):
		m.t.Fatalf("somebody waited for an answer below the floor: %v", d.Err)
	default:
		m.failed["nothing done"]++
	}
}

// TestRunsAreReproducible: equal seeds, equal histories.
func TestRunsAreReproducible(t *testing.T) {
	history := func() (out []string) {
		m := newModel(t, 7, Options{})
		m.faults = true
		m.check = func(d Done) { out = append(out, fmt.Sprint(m.now, d.ID, d.Tag, d.Err, m.core.Stats())) }
		for i := range 200 {
			m.after(time.Duration(i)*10*time.Millisecond, func() { m.submit() })
			m.after(time.Duration(i)*30*time.Millisecond, func() { m.elect() })
		}
		m.run(20 * time.Second)
		return out
	}
	first := history()
	require.NotEmpty(t, first)
	require.Equal(t, first, history())
}

// TestFreshTimestamp: a fresh timestamp is at or above every write acknowledged before it was asked for, on
// every range of its span, while ranges split and leaders change.
func TestFreshTimestamp(t *testing.T) {
	for seed := range 20 {
		m := newModel(t, uint64(seed), Options{})
		m.faults = true
		floor := map[OpID]hlc.Timestamp{}
		got := 0
		m.check = func(d Done) {
			if want, fresh := floor[d.ID]; fresh && d.Err == nil {
				got++
				require.GreaterOrEqual(t, d.Timestamp, want, "seed %d", seed)
			}
		}
		for i := range 200 {
			at := time.Duration(i) * 20 * time.Millisecond
			m.after(at, func() { m.submit() })
			m.after(at, func() {
				span := keys.KeyspaceSpan(1)
				id, err := m.core.Submit(m.now, Op{Fresh: &span, Deadline: m.now + 5*time.Second})
				require.NoError(t, err)
				for _, r := range m.ranges {
					floor[id] = max(floor[id], r.last)
				}
			})
			if i%5 == 0 {
				m.after(at, func() { m.split() })
				m.after(at, func() { m.elect() })
			}
		}
		m.run(30 * time.Second)
		require.Zero(t, m.core.Live())
		require.Greater(t, got, 100, "seed %d", seed)
	}
}
