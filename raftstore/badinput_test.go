package raftstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

func is[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// What is wrong with a request gets an error that says so, and changes nothing.
func TestBadRequests(t *testing.T) {
	c := newTestCluster(t, 3, func(o *Options) { o.Retention = 10 * time.Second; o.CheckpointTicks = 20 })
	n := c.leaseholder(testRange)
	old := c.ok(testRange, put("x", "old")).ts()
	for range 30 {
		c.ok(testRange, put("x", "1"))
		c.pass(time.Second)
		c.tick(10)
	}
	s := newTestSession(1, n.clock.Now())
	write := func(f func(*locuspb.WriteRequest)) *locuspb.Request {
		r := put("x", "2")
		f(r.GetWrite())
		return r
	}
	consistency := func(level int32, ts hlc.Timestamp, staleness int64) *locuspb.Request {
		r := get("x")
		r.Consistency = &locuspb.Consistency{Level: locuspb.ConsistencyLevel(level), Timestamp: uint64(ts), MaxStalenessMs: staleness}
		return r
	}
	session := func(f func(*locuspb.Session)) *locuspb.Request {
		r := s.with(1, put("x", "2"))
		f(r.Session)
		return r
	}
	c.tick(20) // quiet: nothing moves by itself
	now := n.clock.Now()
	cases := []struct {
		name string
		req  *locuspb.Request
		ok   func(error) bool
	}{
		{"no operation", &locuspb.Request{}, is[*api.InvalidArgumentError]},
		{"key too long", put(string(make([]byte, keys.MaxKeyLen+3)), "1"), is[*api.LimitError]},
		{"value too long", put("x", string(make([]byte, keys.MaxValueLen+1))), is[*api.LimitError]},
		{"empty write", write(func(w *locuspb.WriteRequest) { w.Mutations = nil }), is[*api.InvalidArgumentError]},
		{"conditions alone", write(func(w *locuspb.WriteRequest) {
			w.Mutations, w.Conditions = nil, []*locuspb.Condition{{Key: key("x")}}
		}), is[*api.InvalidArgumentError]},
		{"negative time to live", write(func(w *locuspb.WriteRequest) { w.Mutations[0].TtlMs = -1 }), is[*api.InvalidArgumentError]},
		{"mutation outside the range", write(func(w *locuspb.WriteRequest) {
			w.Mutations = append(w.Mutations, &locuspb.Mutation{Key: keys.Layout{ID: 7}.Encode([]byte("k"))})
		}), func(err error) bool { return errors.Is(err, api.ErrNotOneGroup) }},
		{"condition outside the range", write(func(w *locuspb.WriteRequest) {
			w.Conditions = []*locuspb.Condition{{Key: keys.Layout{ID: 7}.Encode([]byte("k"))}}
		}), func(err error) bool { return errors.Is(err, api.ErrNotOneGroup) }},
		{"unknown condition", write(func(w *locuspb.WriteRequest) { w.Conditions = []*locuspb.Condition{{Key: key("x"), Kind: 99}} }), is[*api.ConditionError]},
		{"delete of a span without a limit", write(func(w *locuspb.WriteRequest) {
			w.DeleteSpan, w.Span = true, api.SpanToProto(keys.Span{Start: key("a"), End: key("z")})
		}), is[*api.InvalidArgumentError]},
		{"delete of an empty span", write(func(w *locuspb.WriteRequest) {
			w.DeleteSpan, w.Limit, w.Span = true, 1, api.SpanToProto(keys.Span{Start: key("z"), End: key("a")})
		}), is[*api.InvalidArgumentError]},
		{"delete of no span", write(func(w *locuspb.WriteRequest) { w.DeleteSpan, w.Limit = true, 1 }), is[*api.EpochMismatchError]},
		{"unknown function", call("nothing", "x", ""), is[*api.FunctionNotFoundError]},
		{"large argument", call("nothing", "x", string(make([]byte, 3<<20))), is[*api.LimitError]},
		{"call on another range's key", &locuspb.Request{Op: &locuspb.Request_Call{Call: &locuspb.CallRequest{Key: keys.Layout{ID: 7}.Encode([]byte("k"))}}}, is[*api.EpochMismatchError]},
		{"read of another range's key", &locuspb.Request{Op: &locuspb.Request_Get{Get: &locuspb.GetRequest{Key: keys.Layout{ID: 7}.Encode([]byte("k"))}}}, is[*api.EpochMismatchError]},
		{"scan of another range", &locuspb.Request{Op: &locuspb.Request_Scan{Scan: &locuspb.ScanRequest{}}}, is[*api.EpochMismatchError]},
		{"scan backwards", scan("z", "a"), is[*api.InvalidArgumentError]},
		{"stale epoch", &locuspb.Request{BoundsEpoch: 77, Op: put("x", "2").Op}, is[*api.EpochMismatchError]},
		{"stale epoch of a read", &locuspb.Request{BoundsEpoch: 77, Op: get("x").Op}, is[*api.EpochMismatchError]},
		{"stale epoch of a clock", &locuspb.Request{BoundsEpoch: 77, Op: &locuspb.Request_ClockAt{}}, is[*api.EpochMismatchError]},
		{"session without an id", session(func(s *locuspb.Session) { s.Id = nil }), is[*api.InvalidArgumentError]},
		{"session with a short id", session(func(s *locuspb.Session) { s.Id = s.Id[:15] }), is[*api.InvalidArgumentError]},
		{"session without a number", session(func(s *locuspb.Session) { s.Number = 0 }), is[*api.InvalidArgumentError]},
		{"first attempt long ago", session(func(s *locuspb.Session) { s.FirstAttempt = 1 }), func(err error) bool { return errors.Is(err, api.ErrSessionExpired) }},
		{"first attempt in the future", session(func(s *locuspb.Session) { s.FirstAttempt = math.MaxUint64 }), is[*api.ClockOffsetError]},
		{"token from the far future", &locuspb.Request{Token: math.MaxUint64, Op: get("x").Op}, is[*api.ClockOffsetError]},
		{"token an hour ahead", &locuspb.Request{Token: uint64(now.Add(time.Hour)), Op: put("x", "2").Op}, is[*api.ClockOffsetError]},
		{"snapshot at no timestamp", consistency(1, 0, 0), is[*api.InvalidArgumentError]},
		{"snapshot in the future", consistency(1, now.Add(200*time.Millisecond), 0), is[*api.ClockOffsetError]},
		{"snapshot at the end of time", consistency(1, hlc.Max, 0), is[*api.ClockOffsetError]},
		{"snapshot below the window", consistency(1, old, 0), is[*api.TimestampUnavailableError]},
		{"snapshot before everything", consistency(1, 1, 0), is[*api.TimestampUnavailableError]},
		{"negative staleness", consistency(2, 0, -1), is[*api.InvalidArgumentError]},
		{"unknown consistency", consistency(77, 0, 0), is[*api.InvalidArgumentError]},
	}
	before := n.replica(testRange).snapshot().applied
	sum, err := n.Digest(testRange)
	c.must(err)
	clock := n.clock.Last()
	for _, tc := range cases {
		p := c.do(n, testRange, tc.req)
		if !tc.ok(p.err()) {
			t.Errorf("%s: %v (%T)", tc.name, p.err(), p.err())
		}
	}
	unknown := c.do(n, 4711, put("x", "2"))
	if e := want[*api.RangeNotFoundError](t, "unknown range", unknown.err()); len(e.Routes) != 1 {
		t.Errorf("unknown range: routes %v", e.Routes)
	}
	zero := c.do(n, 0, get("x"))
	want[*api.RangeNotFoundError](t, "range 0", zero.err())
	n.OpenView(4711, 1, 0, func(_ View, err error) { want[*api.RangeNotFoundError](t, "view of an unknown range", err) })
	n.OpenView(testRange, 1, hlc.Max, func(_ View, err error) { want[*api.ClockOffsetError](t, "view at the end of time", err) })
	c.healthy()
	if after := n.replica(testRange).snapshot().applied; after != before {
		t.Errorf("applied state went from %+v to %+v", before, after)
	}
	if again, err := n.Digest(testRange); err != nil || !bytes.Equal(again, sum) {
		t.Errorf("the state changed (%v)", err)
	}
	if moved := n.clock.Last(); moved.Sub(clock) > time.Second {
		t.Errorf("the clock went from %s to %s", clock, moved)
	}
	c.ok(testRange, put("x", "3"))
	c.tick(3)
	c.equal(testRange)
}

// A time to live at the end of an int64 is one for ever, not one that has passed.
func TestHugeTimeToLive(t *testing.T) {
	c := newTestCluster(t, 1)
	r := put("x", "1")
	r.GetWrite().Mutations[0].TtlMs = math.MaxInt64
	c.ok(testRange, r)
	if v := c.ok(testRange, get("x")).value(); v != "1" {
		t.Fatalf("x=%q", v)
	}
}

// Bounded staleness: any replica that has closed enough; the leaseholder whatever was asked for.
func TestBoundedStaleness(t *testing.T) {
	c := newTestCluster(t, 3)
	w := c.ok(testRange, put("x", "1"))
	lead := c.leaseholder(testRange)
	r := get("x")
	r.Consistency = &locuspb.Consistency{Level: locuspb.ConsistencyLevel_BOUNDED_STALENESS, MaxStalenessMs: 100}
	r.Token = uint64(w.ts())
	follower := c.node(lead.id%3 + 1)
	want[*api.NotLeaseholderError](t, "a follower that closed too little", c.do(follower, testRange, r).err())
	if p := c.do(lead, testRange, r); p.err() != nil || p.value() != "1" {
		t.Fatalf("the leaseholder: %q, %v", p.value(), p.err())
	}
	c.tick(2)
	r.GetConsistency().MaxStalenessMs += 200
	if p := c.do(follower, testRange, r); p.err() != nil || p.value() != "1" {
		t.Fatalf("the follower, once it has heard: %q, %v", p.value(), p.err())
	}
}

// Operators that make no sense, or come too late, do nothing.
func TestBadOperators(t *testing.T) {
	c := newTestCluster(t, 3)
	n, op := c.operator(testRange)
	step := func(f func(*locuspb.Operator)) *locuspb.Operator {
		o := proto.Clone(op).(*locuspb.Operator)
		f(o)
		return o
	}
	split := func(k []byte, id uint64) *locuspb.Operator {
		return step(func(o *locuspb.Operator) {
			o.Step = &locuspb.Operator_Split{Split: &locuspb.SplitAt{Key: k, NewRangeId: id}}
		})
	}
	replace := func(promote, remove []uint64) *locuspb.Operator {
		return step(func(o *locuspb.Operator) {
			o.Step = &locuspb.Operator_Replace{Replace: &locuspb.ReplaceVoters{Promote: promote, Remove: remove}}
		})
	}
	stale := split(key("m"), 100)
	stale.ConfEpoch--
	before := c.info(testRange, n.id).Descriptor
	for name, o := range map[string]*locuspb.Operator{
		"no step":             op,
		"split outside":       split(keys.Layout{ID: 9}.Encode([]byte("m")), 100),
		"split at the start":  split(before.Span.Start, 100),
		"split without an id": split(key("m"), 0),
		"split into itself":   split(key("m"), uint64(testRange)),
		"stale epoch":         stale,
		"learner where there is one": step(func(o *locuspb.Operator) {
			o.Step = &locuspb.Operator_AddLearner{AddLearner: &locuspb.AddLearner{StoreId: 2}}
		}),
		"learner nowhere":      step(func(o *locuspb.Operator) { o.Step = &locuspb.Operator_AddLearner{AddLearner: &locuspb.AddLearner{}} }),
		"promote a voter":      replace([]uint64{2}, nil),
		"promote nobody known": replace([]uint64{77}, nil),
		"remove nobody known":  replace(nil, []uint64{77}),
		"remove all voters":    replace(nil, []uint64{1, 2, 3}),
		"transfer to a stranger": step(func(o *locuspb.Operator) {
			o.Step = &locuspb.Operator_Transfer{Transfer: &locuspb.TransferLease{StoreId: 9}}
		}),
		"unknown range": step(func(o *locuspb.Operator) {
			o.RangeId, o.Step = 4711, &locuspb.Operator_Remove{Remove: &locuspb.RemoveReplica{ReplicaId: 2}}
		}),
	} {
		if err := c.operate(n, o); err == nil || err.Error() == "not answered" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after := c.info(testRange, n.id).Descriptor; after.String() != before.String() {
		t.Fatalf("%s became %s", before, after)
	}
	c.ok(testRange, put("x", "1"))
	c.healthy()
}

// Garbage in the message stream is dropped.
func TestBadRaftMessages(t *testing.T) {
	c := newTestCluster(t, 3)
	c.ok(testRange, put("x", "1"))
	lead := c.leaseholder(testRange)
	follower := c.node(lead.id%3 + 1)
	self := c.info(testRange, follower.id).Replica
	from := c.info(testRange, lead.id).Replica
	term := uint64(c.info(testRange, lead.id).Term)
	msg := func(kind raftpb.MessageType, f func(*raftpb.Message)) *locuspb.RaftEnvelope {
		m := &raftpb.Message{Type: kind.Enum(), From: new(uint64(from)), To: new(uint64(self)), Term: new(term)}
		if f != nil {
			f(m)
		}
		return &locuspb.RaftEnvelope{
			RangeId: uint64(testRange), FromReplica: uint64(from), ToReplica: uint64(self), FromStore: uint64(lead.id), ToStore: uint64(follower.id), Message: mustMarshal(m),
		}
	}
	edit := func(e *locuspb.RaftEnvelope, f func(*locuspb.RaftEnvelope)) *locuspb.RaftEnvelope { f(e); return e }
	bad := map[string]*locuspb.RaftEnvelope{
		"empty":                  {},
		"not a message":          edit(msg(raftpb.MsgApp, nil), func(e *locuspb.RaftEnvelope) { e.Message = []byte{0xff, 0xff} }),
		"no message":             edit(msg(raftpb.MsgApp, nil), func(e *locuspb.RaftEnvelope) { e.Message = nil }),
		"short context":          msg(raftpb.MsgHeartbeat, func(m *raftpb.Message) { m.Context = []byte{1, 2, 3} }),
		"long context":           msg(raftpb.MsgHeartbeatResp, func(m *raftpb.Message) { m.Context = make([]byte, 9) }),
		"another replica's":      edit(msg(raftpb.MsgApp, nil), func(e *locuspb.RaftEnvelope) { e.ToReplica = 99 }),
		"from another":           edit(msg(raftpb.MsgApp, nil), func(e *locuspb.RaftEnvelope) { e.FromReplica = 99 }),
		"from nobody":            edit(msg(raftpb.MsgApp, func(m *raftpb.Message) { m.From = nil }), func(e *locuspb.RaftEnvelope) { e.FromReplica = 0 }),
		"another store's":        edit(msg(raftpb.MsgApp, nil), func(e *locuspb.RaftEnvelope) { e.ToStore = 99 }),
		"of range 0":             edit(msg(raftpb.MsgApp, nil), func(e *locuspb.RaftEnvelope) { e.RangeId = 0 }),
		"unknown range, no span": edit(msg(raftpb.MsgApp, nil), func(e *locuspb.RaftEnvelope) { e.RangeId = 4711 }),
		"unknown range, taken span": edit(msg(raftpb.MsgApp, nil), func(e *locuspb.RaftEnvelope) {
			e.RangeId, e.Span = 4711, api.SpanToProto(keys.Span{Start: key("q")})
		}),
		"unknown range, an answer to a vote": edit(msg(raftpb.MsgVoteResp, nil), func(e *locuspb.RaftEnvelope) {
			e.RangeId, e.Span = 4711, api.SpanToProto(keys.KeyspaceSpan(77))
		}),
		"gone, of an old epoch":   {RangeId: uint64(testRange), Gone: true, ToReplica: uint64(self), ToStore: uint64(follower.id), ConfEpoch: 1},
		"gone, for another":       {RangeId: uint64(testRange), Gone: true, ToReplica: 99, ToStore: uint64(follower.id), ConfEpoch: 1 << 40},
		"gone, for another store": {RangeId: uint64(testRange), Gone: true, ToReplica: uint64(self), ToStore: 99, ConfEpoch: 1 << 40},
	}
	for i := range int32(40) {
		kind := raftpb.MessageType(i)
		if travels(kind) {
			continue
		}
		bad["of type "+kind.String()] = msg(kind, nil)
		bad["of type "+kind.String()+" with an entry"] = msg(kind, func(m *raftpb.Message) {
			m.Entries = []*raftpb.Entry{{Data: []byte("forged")}}
			m.Snapshot = &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(uint64(1000)), Term: new(uint64(1000))}}
		})
	}
	before := follower.replica(testRange).snapshot()
	ranges := len(follower.Ranges())
	for name, e := range bad {
		// To the follower, and to the leader as if from it.
		follower.HandleRaft(lead.id, []*locuspb.RaftEnvelope{e})
		back := proto.Clone(e).(*locuspb.RaftEnvelope)
		back.ToStore, back.FromStore = uint64(lead.id), uint64(follower.id)
		if m, err := decodeMessage(e.Message); err == nil && e.ToReplica == uint64(self) && e.FromReplica == uint64(from) {
			m.To, m.From = m.From, m.To
			back.ToReplica, back.FromReplica, back.Message = m.GetTo(), m.GetFrom(), mustMarshal(m)
			lead.HandleRaft(follower.id, []*locuspb.RaftEnvelope{back})
		}
		c.settle()
		c.healthy()
		after := follower.replica(testRange).snapshot()
		if after.applied != before.applied || after.term != before.term || after.leader != before.leader || len(follower.Ranges()) != ranges || follower.replica(4711) != nil {
			t.Fatalf("%s: %+v became %+v", name, before, after)
		}
	}
	c.ok(testRange, put("x", "2"))
	c.tick(3)
	c.equal(testRange)
}

// Snapshots that were asked for by nobody, or are not what their header says, leave nothing behind.
func TestBadSnapshots(t *testing.T) {
	c := newTestCluster(t, 3)
	c.ok(testRange, put("x", "1"))
	c.removeOn(testRange, 3)
	c.tick(10)
	n := c.node(3)
	desc := c.info(testRange, 1).Descriptor.Clone()
	id := bytes.Repeat([]byte{7}, 16)
	header := func(f func(h *locuspb.SnapshotHeader, m *raftpb.Message)) *locuspb.SnapshotHeader {
		m := &raftpb.Message{}
		if err := proto.Unmarshal(snapMessage(1, 4, id, confState(desc)), m); err != nil {
			t.Fatal(err)
		}
		h := &locuspb.SnapshotHeader{
			Id: bytes.Clone(id), Descriptor_: api.DescriptorToProto(desc),
			Envelope: &locuspb.RaftEnvelope{RangeId: uint64(testRange), FromReplica: 1, ToReplica: 4, FromStore: 1, ToStore: 3},
		}
		f(h, m)
		if h.Envelope != nil && h.Envelope.Message == nil {
			h.Envelope.Message = mustMarshal(m)
		}
		return h
	}
	for name, h := range map[string]*locuspb.SnapshotHeader{
		"empty":            {},
		"no envelope":      header(func(h *locuspb.SnapshotHeader, _ *raftpb.Message) { h.Envelope = nil }),
		"no descriptor":    header(func(h *locuspb.SnapshotHeader, _ *raftpb.Message) { h.Descriptor_ = nil }),
		"short id":         header(func(h *locuspb.SnapshotHeader, _ *raftpb.Message) { h.Id = h.Id[:3] }),
		"another id":       header(func(h *locuspb.SnapshotHeader, _ *raftpb.Message) { h.Id[0]++ }),
		"another range":    header(func(h *locuspb.SnapshotHeader, _ *raftpb.Message) { h.Envelope.RangeId++ }),
		"another store":    header(func(h *locuspb.SnapshotHeader, _ *raftpb.Message) { h.Envelope.ToStore = 2 }),
		"removed replica":  header(func(h *locuspb.SnapshotHeader, m *raftpb.Message) { h.Envelope.ToReplica = 3; m.To = new(uint64(3)) }),
		"another receiver": header(func(_ *locuspb.SnapshotHeader, m *raftpb.Message) { m.To = new(uint64(8)) }),
		"another message":  header(func(_ *locuspb.SnapshotHeader, m *raftpb.Message) { m.Type = raftpb.MsgHup.Enum() }),
		"no snapshot":      header(func(_ *locuspb.SnapshotHeader, m *raftpb.Message) { m.Snapshot = nil }),
		"no metadata":      header(func(_ *locuspb.SnapshotHeader, m *raftpb.Message) { m.Snapshot.Metadata = nil }),
		"another set of replicas": header(func(_ *locuspb.SnapshotHeader, m *raftpb.Message) {
			m.Snapshot.Metadata.ConfState.Voters = []uint64{9}
		}),
		"garbage message": header(func(h *locuspb.SnapshotHeader, _ *raftpb.Message) { h.Envelope.Message = []byte{0xff} }),
	} {
		if sink, err := n.BeginSnapshot(h); err == nil || sink != nil {
			t.Errorf("%s was accepted", name)
		}
	}
	st := appliedState{Index: 99, Term: 9, TS: 5}
	head := func(f func(*locuspb.SnapshotHead)) []byte {
		h := &locuspb.SnapshotHead{
			Format: snapshotFormat, Id: id, Descriptor_: api.DescriptorToProto(desc), Index: 99, Term: 9, AppliedState: st.encode(),
		}
		f(h)
		return append([]byte{chunkHead}, mustMarshal(h)...)
	}
	good := head(func(*locuspb.SnapshotHead) {})
	record := func(k []byte) []byte { return appendBytes(appendBytes([]byte{chunkRecords}, k), []byte("v")) }
	end := func(n uint64) []byte { return binary.BigEndian.AppendUint64([]byte{chunkEnd}, n) }
	for name, chunks := range map[string][][]byte{
		"nothing":             {},
		"an empty chunk":      {{}},
		"no head":             {record(dataKey(key("x")))},
		"a head of garbage":   {{chunkHead, 0xff}},
		"another head":        {head(func(h *locuspb.SnapshotHead) { h.Id = make([]byte, 16) })},
		"another format":      {head(func(h *locuspb.SnapshotHead) { h.Format = 9 })},
		"another position":    {head(func(h *locuspb.SnapshotHead) { h.Index = 98 })},
		"no state":            {head(func(h *locuspb.SnapshotHead) { h.AppliedState = nil })},
		"two heads":           {good, good},
		"no end":              {good, record(dataKey(key("x")))},
		"a wrong count":       {good, record(dataKey(key("x"))), end(2)},
		"a short end":         {good, {chunkEnd, 0}},
		"more after the end":  {good, end(0), record(dataKey(key("x")))},
		"an unknown chunk":    {good, {99}},
		"torn records":        {good, {chunkRecords, 9, 1}},
		"a key outside":       {good, record(dataKey(keys.Layout{ID: 9}.Encode([]byte("x"))))},
		"an empty key":        {good, record(nil)},
		"another range's own": {good, record(localKey(1, suffixApplied))},
	} {
		sink, err := n.BeginSnapshot(header(func(*locuspb.SnapshotHeader, *raftpb.Message) {}))
		c.must(err)
		for _, chunk := range chunks {
			if err = sink.Write(chunk); err != nil {
				break
			}
		}
		if err == nil {
			err = sink.Finish()
		}
		sink.Abort()
		if err == nil {
			t.Errorf("%s was accepted", name)
		}
		c.settle()
		c.healthy()
	}
	if names, err := n.files.List("/snapshots"); err != nil || len(names) != 0 {
		t.Errorf("files left behind: %v %v", names, err)
	}
	// The replica that all this was for gets its snapshot in the end.
	c.addVoter(testRange, 3)
	c.equal(testRange)
	c.healthy()
}

// FuzzSnapshotSink: whatever the chunks, no panic, and the store lives on.
func FuzzSnapshotSink(f *testing.F) {
	f.Add([]byte{chunkHead, 1}, []byte{chunkRecords, 1, 2}, []byte{chunkEnd, 0, 0, 0, 0, 0, 0, 0, 0})
	c := newTestCluster(f, 2)
	n := c.node(2)
	desc := c.info(ids.SystemRange, 1).Descriptor
	id := make([]byte, 16)
	f.Fuzz(func(t *testing.T, a, b, d []byte) {
		sink, err := n.BeginSnapshot(&locuspb.SnapshotHeader{
			Id: id, Descriptor_: api.DescriptorToProto(desc),
			Envelope: &locuspb.RaftEnvelope{RangeId: uint64(ids.SystemRange), FromReplica: 1, ToReplica: 9, FromStore: 1, ToStore: 2, Message: snapMessage(1, 9, id, confState(desc))},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, chunk := range [][]byte{a, b, d} {
			if err = sink.Write(chunk); err != nil {
				break
			}
		}
		sink.Abort()
		n.exec.run()
		if n.fatal != nil {
			t.Fatal(n.fatal)
		}
	})
}
