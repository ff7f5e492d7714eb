package clientcore

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
)

func TestTimersAreOrdered(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var h timers
	var all []*op
	for i := range 500 {
		o := &op{id: OpID(i), slot: -1}
		all = append(all, o)
		h.set(o, Instant(rng.IntN(100)))
	}
	for range 500 {
		o := all[rng.IntN(len(all))]
		if rng.IntN(3) == 0 {
			h.remove(o)
		} else {
			h.set(o, Instant(rng.IntN(100)))
		}
		for i, x := range h {
			require.Equal(t, i, x.slot)
		}
	}
	last := &op{when: -1}
	for o := h.first(); o != nil; o = h.first() {
		require.True(t, last.when < o.when || last.when == o.when && last.id < o.id)
		h.remove(o)
		last = o
	}
}

func TestRoutesNewestWins(t *testing.T) {
	r := func(id ids.RangeID, start, end string, bounds uint64, leader ids.StoreID, term ids.Term) api.Route {
		d := &topology.Descriptor{ID: id, Epoch: topology.Epoch{Conf: 1, Bounds: bounds}, Replicas: []topology.Replica{{Store: 1, ID: 1, Role: topology.Voter}}}
		d.Span = keys.Span{Start: []byte(start)}
		if end != "" {
			d.Span.End = []byte(end)
		}
		return api.Route{Descriptor: d, Leaseholder: leader, Term: term}
	}
	rng := rand.New(rand.NewPCG(3, 3))
	routes := []api.Route{
		r(1, "", "", 1, 1, 4), r(1, "", "m", 2, 1, 4), r(2, "m", "", 2, 2, 5), r(2, "m", "t", 3, 2, 7), r(3, "t", "", 3, 0, 5), r(2, "m", "t", 3, 3, 6),
	}
	for range 200 {
		rng.Shuffle(len(routes), func(i, j int) { routes[i], routes[j] = routes[j], routes[i] })
		var c routeCache
		for _, x := range slices.Concat(routes, routes) { // twice: gaps that a refused route left are filled
			c.merge(x)
		}
		tiles, ok := c.tile(keys.Span{})
		require.True(t, ok)
		require.Len(t, tiles, 3)
		require.Equal(t, ids.RangeID(1), c.find([]byte("a")).desc.ID)
		require.Equal(t, ids.RangeID(2), c.find([]byte("m")).desc.ID)
		require.Equal(t, ids.StoreID(2), c.find([]byte("n")).leaseholder, "the higher term wins")
		require.Equal(t, ids.RangeID(3), c.findBefore(nil).desc.ID)
		require.Equal(t, ids.RangeID(2), c.findBefore([]byte("t")).desc.ID)
		require.Equal(t, ids.RangeID(3), c.findBefore([]byte("u")).desc.ID)
	}
}

func TestSubmitIsBounded(t *testing.T) {
	c := New(Options{Rand: rand.New(rand.NewPCG(1, 1)), MaxOps: 3, MaxBytes: 30})
	var full *api.OverloadedError
	var invalid *api.InvalidArgumentError
	big := put(make([]byte, 25))
	_, err := c.Submit(1, Op{Request: big, Deadline: time.Second})
	require.NoError(t, err)
	_, err = c.Submit(1, Op{Request: put(make([]byte, 25)), Deadline: time.Second})
	require.ErrorAs(t, err, &full)
	for range 2 {
		_, err = c.Submit(1, Op{Request: put([]byte("k")), Deadline: time.Second})
		require.NoError(t, err)
	}
	_, err = c.Submit(1, Op{Request: put([]byte("k")), Deadline: time.Second})
	require.ErrorAs(t, err, &full)
	c.Close(2, errors.New("over"))
	require.Zero(t, c.Live())
	require.Zero(t, c.bytes)
	for _, bad := range []Op{{}, {Request: &locuspb.Request{}}, {Fresh: &keys.Span{}, Request: big}, {Request: put(nil)},
		{Locate: &keys.Span{Start: []byte("b"), End: []byte("a")}}} {
		_, err = c.Submit(1, bad)
		require.ErrorAs(t, err, &invalid)
	}
}

// TestPolicies: over many choices each policy keeps its word.
func TestPolicies(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	stores := []*store{{id: 1, weight: 1}, {id: 2, weight: 2}, {id: 3, weight: 3}}
	count := map[ids.StoreID]int{}
	for range 600 {
		count[pick(RoundRobin, rng, stores).id]++
	}
	require.Equal(t, map[ids.StoreID]int{1: 100, 2: 200, 3: 300}, count)
	clear(count)
	for range 600 {
		count[pick(Random, rng, stores).id]++
	}
	for _, s := range stores {
		require.InDelta(t, 200, count[s.id], 60)
	}
	for range 600 { // requests that never end
		pick(LeastOutstanding, rng, stores).outstanding++
	}
	for i, s := range stores {
		require.InDelta(t, 100*(i+1), s.outstanding, 15, "in proportion to the weights")
	}
	require.Nil(t, pick(Random, rng, nil))
}

// TestPureCalls: they go to any store that is up, carry no session, and are repeated elsewhere.
func TestPureCalls(t *testing.T) {
	c := New(Options{Rand: rand.New(rand.NewPCG(1, 1))})
	id, err := c.Submit(1, Op{Deadline: time.Minute, Request: &locuspb.Request{Op: &locuspb.Request_Call{Call: &locuspb.CallRequest{Function: "f"}}}})
	require.NoError(t, err)
	var e Effects
	c.Take(&e)
	require.NotNil(t, e.Routes)
	c.RoutesArrived(2, &locuspb.RoutesResponse{Clock: 9, Nodes: []*locuspb.NodeInfo{
		{StoreId: 1, State: "up"}, {StoreId: 2, State: "dead"}, {StoreId: 3, State: "up"},
	}})
	seen := map[ids.StoreID]bool{}
	for i := range 4 {
		c.Take(&e)
		if len(e.Sends) == 0 {
			at, _ := c.Wake()
			c.Tick(at)
			c.Take(&e)
		}
		require.Len(t, e.Sends, 1)
		require.Nil(t, e.Sends[0].Request.Session)
		seen[e.Sends[0].Store] = true
		c.Fail(Instant(i+3)*time.Second, e.Sends[0].Request.Id, true, errors.New("gone"))
	}
	require.Equal(t, map[ids.StoreID]bool{1: true, 3: true}, seen)
	c.Cancel(time.Minute, id, errors.New("enough"))
}

// FuzzAnswers: whatever nodes send, the core ends every operation and never panics.
func FuzzAnswers(f *testing.F) {
	add := func(m proto.Message) {
		b, err := proto.Marshal(m)
		require.NoError(f, err)
		f.Add(b, b)
	}
	add(&locuspb.BatchResponse{Clock: 5, Responses: []*locuspb.Response{
		{Id: 1<<16 | 1, Timestamp: 1, Result: &locuspb.Response_Write{Write: &locuspb.WriteResponse{}}},
		{Id: 2<<16 | 1, Error: &locuspb.Error{Code: 17, Routes: []*locuspb.Route{{Term: 4}}}},
		{Id: 3<<16 | 1, Error: &locuspb.Error{Code: 8, Cause: &locuspb.Error{Code: 99}}},
	}})
	add(&locuspb.RoutesResponse{Clock: 7, Nodes: []*locuspb.NodeInfo{{}}, Routes: []*locuspb.Route{
		{Descriptor_: &locuspb.RangeDescriptor{RangeId: 1, BoundsEpoch: 9, Span: &locuspb.Span{Start: []byte("\x00\x00\x00\x01b")}}},
	}})
	f.Fuzz(func(t *testing.T, frame, routes []byte) {
		c := New(Options{Rand: rand.New(rand.NewPCG(1, 1))})
		m, r := &locuspb.BatchResponse{}, &locuspb.RoutesResponse{}
		if proto.Unmarshal(frame, m) != nil || proto.Unmarshal(routes, r) != nil {
			return
		}
		c.RoutesArrived(1, &locuspb.RoutesResponse{Clock: 1, Nodes: []*locuspb.NodeInfo{{StoreId: 1, State: "up"}}, Routes: []*locuspb.Route{
			{LeaseholderStore: 1, Term: 1, Descriptor_: &locuspb.RangeDescriptor{RangeId: 1, Replicas: []*locuspb.Replica{{StoreId: 1, ReplicaId: 1, Role: 1}}}},
		}})
		span := keys.KeyspaceSpan(1)
		key := modelKey(1)
		scan := &locuspb.Request{Op: &locuspb.Request_Scan{Scan: &locuspb.ScanRequest{Span: api.SpanToProto(span), Reverse: true}}}
		call := &locuspb.Request{Op: &locuspb.Request_Call{Call: &locuspb.CallRequest{Function: "f"}}}
		for _, o := range []Op{{Request: put(key)}, {Request: scan}, {Request: call}, {Fresh: &span}, {Locate: &span}} {
			o.Deadline = time.Minute
			_, err := c.Submit(2, o)
			require.NoError(t, err)
		}
		done := 0
		now := Instant(3)
		var e Effects
		for round := 0; c.Live() > 0; round++ {
			if round < 20 {
				c.Deliver(now, m)
				c.RoutesArrived(now, r)
			}
			c.Take(&e)
			done += len(e.Done)
			if at, ok := c.Wake(); ok {
				require.Greater(t, at, now)
				now = at
				c.Tick(now)
			}
			require.Less(t, round, 100_000)
		}
		c.Take(&e)
		require.Equal(t, 5, done+len(e.Done))
	})
}

func TestAttemptTimeouts(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	write, call := &op{tmpl: put([]byte("k"))}, &op{tmpl: &locuspb.Request{Op: &locuspb.Request_Call{}}}
	for first, want := range map[time.Duration][]time.Duration{
		0:        {3 * s, 5 * s, 5 * s, 5 * s, 5 * s},
		100 * ms: {100 * ms, 200 * ms, 400 * ms, 800 * ms, 800 * ms},
		8 * s:    {8 * s, 8 * s, 8 * s, 8 * s, 8 * s},
	} {
		c := New(Options{Rand: rand.New(rand.NewPCG(1, 1)), AttemptTimeout: first})
		for i, d := range want {
			write.timeouts, call.timeouts = uint8(i), uint8(i)
			require.Equal(t, d, c.attemptTimeout(write), "first %s, after %d", first, i)
			require.Equal(t, 4*d, c.attemptTimeout(call))
		}
	}
}
