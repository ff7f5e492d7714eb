package clientcore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
)

// TestStories plays the files of testdata: one story each, told in events and what the core does about
// them. Keys are single letters of keyspace 1; ranges are given as id[start,end)epoch@leaseholder/term.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &story{t: t, core: New(Options{
			Rand: rand.New(rand.NewPCG(1, 2)), Session: SessionID{0xaa}, Sessions: 2, Window: 4,
			RetryMin: 8 * time.Millisecond, RetryMax: 8 * time.Millisecond, AttemptTimeout: time.Second,
		})}
		datadriven.RunTest(t, path, s.step)
	})
}

type story struct {
	t    *testing.T
	core *Core
	now  Instant
	last map[OpID]*locuspb.Request // the last request of each operation
}

func (s *story) step(t *testing.T, d *datadriven.TestData) string {
	if d.HasArg("after") {
		var ms int
		d.ScanArgs(t, "after", &ms)
		s.now += time.Duration(ms) * time.Millisecond
	}
	switch d.Cmd {
	case "routes":
		s.core.RoutesArrived(s.now, s.routes(d))
	case "routes-failed":
		s.core.RoutesFailed(s.now, errors.New("no node answers"))
	case "submit":
		s.submit(d)
	case "answer":
		s.answer(d)
	case "link-down":
		var link uint64
		d.ScanArgs(t, "link", &link)
		s.core.LinkDown(s.now, link, errors.New("connection reset"))
	case "unsent":
		s.core.Fail(s.now, s.request(d).Id, false, errors.New("connection refused"))
	case "cancel":
		s.core.Cancel(s.now, s.op(d), errors.New("the caller left"))
	case "tick":
		s.core.Tick(s.now)
	default:
		t.Fatalf("unknown command %s", d.Cmd)
	}
	return s.effects()
}

func storyKey(k string) []byte { return keys.Layout{ID: 1}.Encode([]byte(k)) }

// routes reads lines like "1[a,m)e1@2/5".
func (s *story) routes(d *datadriven.TestData) *locuspb.RoutesResponse {
	m := &locuspb.RoutesResponse{}
	if d.HasArg("clock") {
		var c int
		d.ScanArgs(s.t, "clock", &c)
		m.Clock = uint64(c)
	}
	for _, line := range strings.Split(d.Input, "\n") {
		if line != "" {
			m.Routes = append(m.Routes, s.route(line))
		}
	}
	for i := range 3 {
		m.Nodes = append(m.Nodes, &locuspb.NodeInfo{StoreId: uint64(i + 1), State: "up"})
	}
	return m
}

func (s *story) route(text string) *locuspb.Route {
	f := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune("[,)@/", r) })
	require.Len(s.t, f, 6, "route %q", text)
	num := func(x string) uint64 {
		n, err := strconv.ParseUint(strings.TrimPrefix(x, "e"), 10, 64)
		require.NoError(s.t, err)
		return n
	}
	span := keys.KeyspaceSpan(1)
	if f[1] != "-" {
		span.Start = storyKey(f[1])
	}
	if f[2] != "-" {
		span.End = storyKey(f[2])
	}
	desc := &topology.Descriptor{ID: ids.RangeID(num(f[0])), Span: span, Epoch: topology.Epoch{Conf: 1, Bounds: num(f[3])}}
	for i := range 3 {
		desc.Replicas = append(desc.Replicas, topology.Replica{Store: ids.StoreID(i + 1), ID: ids.ReplicaID(i + 1), Role: topology.Voter})
	}
	return api.RouteToProto(api.Route{Descriptor: desc, Leaseholder: ids.StoreID(num(f[4])), Term: ids.Term(num(f[5]))})
}

func (s *story) submit(d *datadriven.TestData) {
	var key, kind string
	deadline := 10_000
	d.ScanArgs(s.t, "key", &key)
	d.ScanArgs(s.t, "op", &kind)
	if d.HasArg("deadline") {
		d.ScanArgs(s.t, "deadline", &deadline)
	}
	op := Op{Deadline: s.now + time.Duration(deadline)*time.Millisecond}
	span := keys.Span{Start: storyKey(key), End: keys.KeyspaceSpan(1).End}
	switch kind {
	case "put":
		op.Request = put(storyKey(key))
	case "get":
		op.Request = &locuspb.Request{Op: &locuspb.Request_Get{Get: &locuspb.GetRequest{Key: storyKey(key)}}}
	case "stale-get":
		op.Request = &locuspb.Request{
			Consistency: &locuspb.Consistency{Level: locuspb.ConsistencyLevel_EVENTUAL},
			Op:          &locuspb.Request_Get{Get: &locuspb.GetRequest{Key: storyKey(key)}},
		}
	case "snapshot-get":
		op.Request = &locuspb.Request{
			Consistency: &locuspb.Consistency{Level: locuspb.ConsistencyLevel_SNAPSHOT, Timestamp: 3},
			Op:          &locuspb.Request_Get{Get: &locuspb.GetRequest{Key: storyKey(key)}},
		}
	case "scan":
		op.Request = &locuspb.Request{Op: &locuspb.Request_Scan{Scan: &locuspb.ScanRequest{
			Span: &locuspb.Span{Start: span.Start, End: span.End},
		}}}
	case "fresh":
		op.Fresh = &span
	}
	_, err := s.core.Submit(s.now, op)
	require.NoError(s.t, err)
}

func (s *story) op(d *datadriven.TestData) OpID {
	var n uint64
	d.ScanArgs(s.t, "op", &n)
	return OpID(n)
}

// request is what the answer is to: the last request of an operation, or an earlier attempt of it.
func (s *story) request(d *datadriven.TestData) *locuspb.Request {
	r := s.last[s.op(d)]
	require.NotNil(s.t, r)
	if d.HasArg("attempt") {
		var n uint64
		d.ScanArgs(s.t, "attempt", &n)
		return &locuspb.Request{Id: r.Id>>16<<16 | n, Op: r.Op}
	}
	return r
}

func (s *story) answer(d *datadriven.TestData) {
	req := s.request(d)
	resp := &locuspb.Response{Id: req.Id}
	frame := &locuspb.BatchResponse{Responses: []*locuspb.Response{resp}}
	var ts, leader, oldest uint64
	var name string
	for arg, v := range map[string]*uint64{"ts": &ts, "leader": &leader, "oldest": &oldest, "clock": &frame.Clock} {
		if d.HasArg(arg) {
			d.ScanArgs(s.t, arg, v)
		}
	}
	resp.Timestamp = ts
	if !d.HasArg("error") {
		switch req.Op.(type) {
		case *locuspb.Request_Write:
			resp.Result = &locuspb.Response_Write{Write: &locuspb.WriteResponse{}}
		case *locuspb.Request_Get:
			resp.Result = &locuspb.Response_Get{Get: &locuspb.GetResponse{}}
		case *locuspb.Request_Scan:
			resp.Result = &locuspb.Response_Scan{Scan: &locuspb.ScanResponse{}}
		case *locuspb.Request_ClockAt:
			resp.Result = &locuspb.Response_ClockAt{ClockAt: &locuspb.ClockResponse{Clock: ts}}
		}
		s.core.Deliver(s.now, frame)
		return
	}
	d.ScanArgs(s.t, "error", &name)
	resp.Error = api.ToProto(map[string]error{
		"disk-full":       &api.DiskFullError{Store: 1, Free: 5, Limit: 10},
		"not-leaseholder": &api.NotLeaseholderError{Range: 1, Leaseholder: ids.StoreID(leader)},
		"epoch-mismatch":  &api.EpochMismatchError{Range: 1},
		"range-not-found": &api.RangeNotFoundError{Range: 1},
		"overloaded":      &api.OverloadedError{What: "range 1", RetryAfter: 50 * time.Millisecond},
		"retry":           &api.RetryError{Reason: "the entry was refused"},
		"expired":         api.ErrSessionExpired,
		"not-kept":        api.ErrResultNotKept,
		"permission":      api.ErrPermission,
		"internal":        &api.InternalError{Reason: "disk"},
		"condition":       &api.ConditionError{Key: []byte("k")},
		"too-old":         &api.TimestampUnavailableError{Timestamp: 3, Oldest: 7, Reason: "not here"},
		"too-young":       &api.TimestampUnavailableError{Timestamp: 3, Oldest: hlc.Timestamp(oldest), Reason: "not here", Elsewhere: true},
	}[name])
	require.NotNil(s.t, resp.Error, name)
	for _, line := range strings.Split(d.Input, "\n") {
		if line != "" {
			resp.Error.Routes = append(resp.Error.Routes, s.route(line))
		}
	}
	s.core.Deliver(s.now, frame)
}

// effects tells what the core wants done. Each request goes out on the link that has its store's number.
func (s *story) effects() string {
	var e Effects
	s.core.Take(&e)
	var b strings.Builder
	if s.last == nil {
		s.last = map[OpID]*locuspb.Request{}
	}
	for i := range e.Sends {
		x := &e.Sends[i]
		x.OnLink(uint64(x.Store))
		id, attempt := splitRequestID(x.Request.Id)
		s.last[id] = x.Request
		fmt.Fprintf(&b, "send op %d attempt %d to %s: %s of r%d e%d", id, attempt, x.Store, what(x.Request), x.Request.RangeId, x.Request.BoundsEpoch)
		if n := x.Request.Session; n != nil {
			fmt.Fprintf(&b, " session %x number %d floor %d first attempt %d", n.Id[:1], n.Number, n.Floor, n.FirstAttempt)
			if n.Id[15] != 0 {
				fmt.Fprintf(&b, " (lane %d)", n.Id[15])
			}
		}
		if x.Request.Token != 0 {
			fmt.Fprintf(&b, " token %d", x.Request.Token)
		}
		b.WriteString("\n")
	}
	sort.SliceStable(e.Done, func(i, j int) bool { return e.Done[i].ID < e.Done[j].ID })
	for _, d := range e.Done {
		fmt.Fprintf(&b, "done op %d", d.ID)
		switch {
		case d.Err != nil:
			fmt.Fprintf(&b, ": %T: %v", d.Err, d.Err)
		case d.Response.GetScan() != nil:
			fmt.Fprintf(&b, ": covered %s", d.Covered)
		case d.Response != nil:
			fmt.Fprintf(&b, " at %d", d.Response.Timestamp)
		case d.Timestamp != 0:
			fmt.Fprintf(&b, ": fresh timestamp %d", hlc.Timestamp(d.Timestamp))
		}
		b.WriteString("\n")
	}
	if e.Routes != nil {
		fmt.Fprintf(&b, "ask for routes of %s\n", e.Routes)
	}
	if b.Len() == 0 {
		return "nothing\n"
	}
	return b.String()
}

func what(r *locuspb.Request) string {
	name := strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", r.Op), "*locuspb.Request_"))
	if s := r.GetScan(); s != nil {
		return fmt.Sprintf("%s [%q,%q)", name, s.Span.Start, s.Span.End)
	}
	return name
}
