package raftstore

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// age lets a store's discard sequence pass everything it has now.
func (c *testCluster) age(n *testNode) {
	c.t.Helper()
	for range 4 {
		c.tick(10)
		c.pass(time.Minute)
		n.takeCheckpoint()
	}
	c.tick(10)
}

// TestIdleRangeIsWritable: the discard sequence passes what an idle range last showed, because nothing of it lies in
// between; its next command must still be evaluated.
func TestIdleRangeIsWritable(t *testing.T) {
	c := newTestCluster(t, 1, func(o *Options) { o.Retention = time.Minute })
	n := c.node(1)
	c.split(testRange, "m", 9)
	c.ok(testRange, put("a", "1"))
	c.tick(30) // goes quiet
	for i := range 5 {
		c.ok(9, put("z", fmt.Sprint(i)))
		c.age(n)
	}
	if d, v := n.holds.discard, n.replica(testRange).snapshot().visible; d <= v {
		t.Fatalf("the discard sequence %d has not passed %d", d, v)
	}
	c.ok(testRange, cas("a", "1", "2"))
	c.healthy()
}

// TestSecondSnapshotDuringIngest: the report of a delivered snapshot is lost, the leader sends another while the first
// is still being ingested.
func TestSecondSnapshotDuringIngest(t *testing.T) {
	c := newTestCluster(t, 2)
	c.ok(testRange, put("a", "v"))
	c.removeOn(testRange, 2)
	c.tick(20)
	n, op := c.operator(testRange)
	c.node(2).exec.hold(true, QueueApply)
	op.Step = &locuspb.Operator_AddLearner{AddLearner: &locuspb.AddLearner{StoreId: 2}}
	n.RunOperator(op, func(err error) { c.must(err) })
	sent := 0
	for range 20 {
		n.Tick()
		c.node(2).Tick()
		for range 5 {
			c.run()
			mail := c.mail
			c.mail = nil
			for _, l := range mail {
				if l.snap != nil {
					report := l.snap.done
					l.snap.done = func(err error) {
						if sent++; sent == 1 && err == nil {
							err = errors.New("the answer was lost")
						}
						report(err)
					}
				}
				c.deliver(l)
			}
		}
		n.send(testRange, put("more", "v"))
	}
	if sent < 2 {
		t.Fatalf("%d snapshots were sent", sent)
	}
	c.node(2).exec.hold(false, QueueApply)
	c.tick(20)
	c.healthy()
	c.equal(testRange)
}

// TestChangesThatRaftWouldMakeJoint: several changes at once that the descriptor does not call joint.
func TestChangesThatRaftWouldMakeJoint(t *testing.T) {
	c := newTestCluster(t, 4)
	c.removeOn(testRange, 4)
	learner := c.addLearner(testRange, 4)
	voter, _ := c.info(testRange, 1).Descriptor.On(3)
	c.tellOldest(testRange)
	n, op := c.operator(testRange)
	op.Step = &locuspb.Operator_Replace{Replace: &locuspb.ReplaceVoters{Remove: []uint64{uint64(voter.ID), uint64(learner)}}}
	n.RunOperator(op, func(error) {})
	for range 300 { // not settle: it may never come to rest
		c.run()
		mail := c.mail
		c.mail = nil
		for _, l := range mail {
			c.deliver(l)
		}
	}
	if i := c.info(testRange, n.id); i.Applied > 200 {
		t.Fatalf("the range proposes without end: %d entries", i.Applied)
	}
	c.tick(20)
	c.healthy()
	if d := c.info(testRange, n.id).Descriptor; d.Joint() || len(d.Replicas) != 2 {
		t.Fatalf("descriptor %v", d)
	}
	c.addLearner(testRange, 3)
}

// TestRemovedLeaderAnswers: a leader that was removed takes no command that it will never answer.
func TestRemovedLeaderAnswers(t *testing.T) {
	c := newTestCluster(t, 3)
	n, op := c.operator(testRange)
	rep, _ := c.info(testRange, n.id).Descriptor.On(n.id)
	op.Step = &locuspb.Operator_Remove{Remove: &locuspb.RemoveReplica{ReplicaId: uint64(rep.ID)}}
	want[*api.RetryError](t, "to remove the leader", c.operate(n, op))
	n.replica(testRange).seq.submit(&command{ // as an older version might
		change: &descriptorChange{epoch: c.info(testRange, n.id).Descriptor.Epoch, build: replaceVoters(nil, []uint64{uint64(rep.ID)})},
		done:   func(*locuspb.Response) {},
	})
	r := n.replica(testRange)
	c.settle()
	if st := r.snapshot(); !r.retired(st.desc) || st.leaseholder || st.isLeader {
		t.Fatalf("not removed: %+v", st)
	}
	want[*api.NotLeaseholderError](t, "a write by a removed leader", c.do(n, testRange, put("a", "1")).err())
	eventual := get("a")
	eventual.Consistency = &locuspb.Consistency{Level: locuspb.ConsistencyLevel_EVENTUAL}
	want[*api.RangeNotFoundError](t, "a read by a removed leader", c.do(n, testRange, eventual).err())
	for range 1000 {
		if r.snapshot().gone {
			break
		}
		c.tick(1)
	}
	if !r.snapshot().gone {
		t.Fatal("retired for ever")
	}
	// The disk stalls: the replica stays gone for a while.
	n.exec.hold(true, QueueDisk)
	c.run()
	p := n.send(testRange, getAt("a", n.clock.Now()))
	n.exec.hold(false, QueueDisk)
	c.settle()
	if !p.answered() {
		t.Fatal("a read of a removed leader was not answered")
	}
}

// TestFullSessionTableRecovers: a full table refuses, until its sessions expire.
func TestFullSessionTableRecovers(t *testing.T) {
	c := newTestCluster(t, 1, func(o *Options) { o.MaxSessionBytes = 1024 })
	n := c.node(1)
	full := false
	for i := range 50 {
		p := c.do(n, testRange, newTestSession(byte(i+1), n.clock.Now()).with(1, put("a", "1")))
		if p.err() != nil {
			want[*api.OverloadedError](t, "a full table", p.err())
			full = true
			break
		}
	}
	if !full {
		t.Fatal("the table never filled")
	}
	c.pass(3 * time.Hour)
	var err error
	for range 5 {
		if err = c.do(n, testRange, newTestSession(200, n.clock.Now()).with(1, put("a", "2"))).err(); err == nil {
			return
		}
	}
	t.Fatalf("after all sessions have expired: %v", err)
}

// TestFullSessionTableTakesFloors: a refused command says what its client no longer waits for, which makes room.
func TestFullSessionTableTakesFloors(t *testing.T) {
	c := newTestCluster(t, 1, func(o *Options) { o.MaxSessionBytes = 1024 })
	n := c.node(1)
	s := newTestSession(1, n.clock.Now())
	number := uint64(0)
	for full := false; !full; {
		number++
		full = c.do(n, testRange, s.with(number, put("a", "1"))).err() != nil
	}
	s.floor = number
	var err error
	for range 3 {
		if err = c.do(n, testRange, s.with(number, put("a", "2"))).err(); err == nil {
			break
		}
	}
	c.must(err)
	c.elect(testRange, 1)
	if p := c.do(n, testRange, s.with(number-1, put("a", "3"))); !errors.Is(p.err(), api.ErrSessionExpired) {
		t.Fatalf("a number below the floor: %v", p.err())
	}
}

// TestRetryOfDeleteSpanKeepsMore: the retry of a partial deletion says that keys are left, as the first answer did.
func TestRetryOfDeleteSpanKeepsMore(t *testing.T) {
	c := newTestCluster(t, 1)
	for i := range 5 {
		c.ok(testRange, put(fmt.Sprint("k", i), "v"))
	}
	del := &locuspb.Request{Op: &locuspb.Request_Write{Write: &locuspb.WriteRequest{
		DeleteSpan: true, Limit: 2, Span: api.SpanToProto(keys.Span{Start: key("k"), End: key("l")}),
	}}}
	s := newTestSession(1, c.node(1).clock.Now())
	if p := c.ok(testRange, s.with(1, del)); !p.resp.GetWrite().GetMore() {
		t.Fatal("more keys are left")
	}
	if p := c.ok(testRange, s.with(1, del)); !p.resp.GetWrite().GetMore() {
		t.Fatal("the retry says that no keys are left")
	}
}

// TestRetryThatWroteNothing: the first attempt of a call is late, its retry was answered: it found nothing to do. The
// first attempt must not find something later.
func TestRetryThatWroteNothing(t *testing.T) {
	c := newTestCluster(t, 1)
	c.eval = func(call *locuspb.CallRequest, tx Tx) (*locuspb.CallResponse, error) {
		v, found, err := tx.Get(call.Key)
		if err != nil || !found {
			return &locuspb.CallResponse{}, err
		}
		return &locuspb.CallResponse{Result: v}, tx.Delete(call.Key)
	}
	s := newTestSession(1, c.node(1).clock.Now())
	late := s.with(1, call("take", "job", ""))
	retry := s.with(1, call("take", "job", ""))
	retry.Session.Retry = true
	if p := c.ok(testRange, retry); len(p.resp.GetCall().GetResult()) != 0 {
		t.Fatal("there is no job")
	}
	c.ok(testRange, put("job", "x"))
	c.ok(testRange, late)
	if v := c.ok(testRange, get("job")).value(); v != "x" {
		t.Fatal("the job was taken by a command that had been answered with nothing")
	}
}

// TestAnswerToTryAgainIsNotRemembered: a retried call that is told to try again does, and gets its turn.
func TestAnswerToTryAgainIsNotRemembered(t *testing.T) {
	c := newTestCluster(t, 1)
	ready := false
	c.eval = func(call *locuspb.CallRequest, tx Tx) (*locuspb.CallResponse, error) {
		if !ready {
			return nil, &api.RetryError{Reason: "not yet"}
		}
		return &locuspb.CallResponse{}, tx.Put(call.Key, []byte("1"), 0)
	}
	s := newTestSession(1, c.node(1).clock.Now())
	retry := func() *locuspb.Request {
		r := s.with(1, call("put", "a", ""))
		r.Session.Retry = true
		return r
	}
	want[*api.RetryError](t, "the first retry", c.do(c.leaseholder(testRange), testRange, retry()).err())
	ready = true
	c.ok(testRange, retry())
	if v := c.ok(testRange, get("a")).value(); v != "1" {
		t.Fatalf("got %q", v)
	}
}

// TestDryRunLeavesItsNumberAlone: a dry run that is sent again is no result of the command that has the number.
func TestDryRunLeavesItsNumberAlone(t *testing.T) {
	c := newTestCluster(t, 1)
	c.eval = func(call *locuspb.CallRequest, tx Tx) (*locuspb.CallResponse, error) {
		for _, v := range []string{"1", "2"} {
			if err := tx.Put(call.Key, []byte(v), 60_000); err != nil {
				return nil, err
			}
		}
		return &locuspb.CallResponse{}, nil
	}
	s := newTestSession(1, c.node(1).clock.Now())
	for _, mode := range []*locuspb.Request{call("put", "a", ""), optimistic("put", "a", "")} {
		dry := s.with(1, mode)
		dry.GetCall().DryRun, dry.Session.Retry = true, true
		writes := c.ok(testRange, dry).resp.GetCall().Writes
		if len(writes) != 1 || string(writes[0].Value) != "2" || writes[0].TtlMs != 60_000 {
			t.Fatalf("a dry run would write %v", writes)
		}
	}
	if p := c.ok(testRange, get("a")); p.resp.GetGet().Found {
		t.Fatal("a dry run wrote")
	}
	c.ok(testRange, s.with(1, call("put", "a", "")))
	if v := c.ok(testRange, get("a")).value(); v != "2" {
		t.Fatal("the real call was taken for the dry run")
	}
}

// TestFunctionsOwnWhatTheyGet: a function that changes the bytes it was given changes nothing else.
func TestFunctionsOwnWhatTheyGet(t *testing.T) {
	c := newTestCluster(t, 1)
	c.eval = func(call *locuspb.CallRequest, tx Tx) (*locuspb.CallResponse, error) {
		v, _, err := tx.Get(call.Key)
		if len(v) > 0 {
			v[0] = 'X'
		}
		return &locuspb.CallResponse{}, err
	}
	n := c.node(1)
	n.exec.hold(true, QueueEval)
	a := n.send(testRange, put("a", "1"))
	b := n.send(testRange, call("f", "a", ""))
	n.exec.hold(false, QueueEval)
	c.settle()
	c.must(a.err())
	c.must(b.err())
	if v := c.ok(testRange, get("a")).value(); v != "1" {
		t.Fatalf("got %q", v)
	}
}

// TestUnwrittenBatchIsAnsweredWhenReadsOverflow: a leadership check that is refused must not block the sequencer.
func TestUnwrittenBatchIsAnsweredWhenReadsOverflow(t *testing.T) {
	c := newTestCluster(t, 3)
	n := c.leaseholder(testRange)
	c.ok(testRange, put("a", "1"))
	r := n.replica(testRange)
	// A round is under way and does not come back; the next is full.
	r.raft.reads.underWay = true
	for range maxWaitingReads {
		r.raft.reads.next = append(r.raft.reads.next, &readWaiter{confirmed: func(error) {}})
	}
	p := n.send(testRange, cas("a", "no", "2"))
	c.settle()
	if !p.answered() {
		t.Fatal("not answered")
	}
	c.ok(testRange, put("a", "3"))
}

// TestRemovedBeforeReplay: a store that went back to before a split hears that its replica of the parent was removed.
// The child, whose votes and entries are in the log, must come into being all the same.
func TestRemovedBeforeReplay(t *testing.T) {
	c := newTestCluster(t, 3)
	c.ok(testRange, put("z", "1"))
	n := c.node(3)
	n.takeCheckpoint()
	c.split(testRange, "m", 9)
	c.ok(9, put("z", "2"))
	n.crash(false)
	if c.leaseholder(testRange) == n {
		t.Fatal("bad luck")
	}
	c.removeOn(testRange, 3)
	n.start()
	n.exec.hold(true, QueueRaft)
	n.RemoveReplica(testRange, 100)
	n.exec.run()
	n.exec.hold(false, QueueRaft)
	c.settle()
	c.tick(40)
	c.healthy()
	if i, ok := n.Range(9); !ok {
		t.Fatalf("the child is gone")
	} else if want := c.info(9, c.leaseholder(9).id).Applied; i.Applied != want {
		t.Fatalf("the child applied %d of %d", i.Applied, want)
	}
	c.equal(9)
}

// TestLateMessageToALowerReplica: what a store's newest replica of a range has voted is not forgotten for a message
// to an older one.
func TestLateMessageToALowerReplica(t *testing.T) {
	c := newTestCluster(t, 1)
	n := c.node(1)
	env := func(self ids.ReplicaID) *locuspb.RaftEnvelope {
		return &locuspb.RaftEnvelope{RangeId: 77, FromReplica: 1, ToReplica: uint64(self), FromStore: 2, ToStore: 1, Span: api.SpanToProto(keys.Span{Start: []byte{0xf0}, End: []byte{0xf1}})}
	}
	n.mu.Lock()
	n.mu.replicas[TailRange].mu.state.desc.Span.End = []byte{0xe0} // room for the range
	n.mu.Unlock()
	if _, err := n.receiver(env(5), true); err != nil {
		t.Fatal(err)
	}
	c.settle()
	n.crash(false)
	n.start()
	n.mu.replicas[TailRange].mu.state.desc.Span.End = []byte{0xe0}
	if _, err := n.receiver(env(3), true); err == nil {
		t.Fatal("replica 3 was made after replica 5")
	}
	if _, err := n.receiver(env(5), true); err != nil {
		t.Fatal(err)
	}
	c.settle()
	c.healthy()
}

// TestScanOfManyExpiries: a scan judges expiry by one point in the log, however many values expire meanwhile.
func TestScanOfManyExpiries(t *testing.T) {
	var wall, step time.Duration // each look at the clock takes a step
	c := newTestCluster(t, 1, func(o *Options) {
		o.Clock = hlc.NewClock(func() time.Time { wall += step; return testEpoch.Add(wall) }, 0)
	})
	for i := range 500 {
		c.ok(testRange, write(&locuspb.Mutation{Key: key(fmt.Sprintf("k%04d", i)), Value: []byte("v"), TtlMs: int64(1000 + i)}))
	}
	wall, step = 1200*time.Millisecond, 2*time.Millisecond
	before := c.info(testRange, 1).Applied
	c.ok(testRange, scan("k", "l"))
	if n := c.info(testRange, 1).Applied - before; n > 2 {
		t.Fatalf("a scan proposed %d entries", n)
	}
}

// TestOutgoingLeaderHandsOver: a leader that its joint configuration will remove hands over before that is left: its
// last words might be lost, and with them the vote that others need.
func TestOutgoingLeaderHandsOver(t *testing.T) {
	c := newTestCluster(t, 3, func(o *Options) { o.Retention = time.Second })
	c.removeOn(testRange, 3)
	c.tick(20)
	learner := c.addLearner(testRange, 3)
	first, _ := c.info(testRange, 1).Descriptor.On(1)
	c.elect(testRange, 2)
	c.tellOldest(testRange)
	n, op := c.operator(testRange)
	op.Step = &locuspb.Operator_Replace{Replace: &locuspb.ReplaceVoters{Promote: []uint64{uint64(learner)}, Remove: []uint64{uint64(first.ID)}}}
	c.must(c.operate(n, op))
	c.elect(testRange, 1)
	if !c.info(testRange, 1).Descriptor.Joint() {
		t.Fatal("no joint configuration")
	}
	r := c.node(1).replica(testRange)
	for range 100 {
		if s := r.snapshot(); s.gone {
			if s.isLeader {
				t.Fatal("removed as leader")
			}
			break
		}
		c.tick(1)
	}
	if !r.snapshot().gone {
		t.Fatal("the configuration was not left")
	}
	c.ok(testRange, put("a", "1"))
	c.healthy()
	c.equal(testRange)
}
