package raftstore

import (
	"fmt"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/raftstore/engine"
	"github.com/locuskv/locus/raftstore/raftlog"
)

// hardState is what the log of a store holds of a group.
func (n *testNode) hardState(id ids.RangeID) *raftpb.HardState {
	n.c.t.Helper()
	g, ok := n.wal.Group(id)
	if !ok {
		n.c.t.Fatalf("store %s: the log has no group of range %s", n.id, id)
	}
	return g.HardState
}

// I9: nothing is answered, by a leader or a follower, before it is durable.
func TestI9NothingIsAnsweredBeforeTheSync(t *testing.T) {
	c := newTestCluster(t, 3)
	lead := c.leaseholder(testRange)
	followers := []*testNode{c.node(2), c.node(3)}
	// One follower writes its frame and does not sync it; the other hears nothing.
	c.cut(3)
	w := lead.send(testRange, put("x", "1"))
	q := followers[0].logWriter.queue.(*stepQueue)
	q.held = true
	c.settle()
	q.step() // append, without the sync
	c.settle()
	if w.answered() {
		t.Fatal("acknowledged before a quorum has synced")
	}
	followers[0].crash(false)
	followers[0].start()
	c.cut(1) // the leader is lost; what is left decides
	delete(c.drop, [2]ids.StoreID{2, 3})
	delete(c.drop, [2]ids.StoreID{3, 2})
	c.settle()
	c.elect(testRange, 3)
	if v := c.do(c.node(3), testRange, get("x")).value(); v != "" {
		t.Fatalf("x=%q came from nowhere", v)
	}
	if w.answered() && w.err() == nil {
		t.Fatal("an acknowledged write is lost")
	}
}

// Rule E1: only the engine goes back. Whatever the engine kept of what followed the checkpoint, all that was
// acknowledged is there again, and term, vote and commit stand where they stood.
func TestE1OnlyTheEngineGoesBack(t *testing.T) {
	for _, kept := range []bool{false, true} {
		t.Run(fmt.Sprint("kept=", kept), func(t *testing.T) {
			c := newTestCluster(t, 3)
			c.eval = addOne
			c.ok(testRange, put("x", "1"))
			for _, n := range c.nodes {
				n.takeCheckpoint()
			}
			s := newTestSession(1, c.node(1).clock.Now())
			c.ok(testRange, put("x", "2"))
			first := c.ok(testRange, s.with(1, call("add", "n", "")))
			c.ok(testRange, write(&locuspb.Mutation{Key: key("x"), Delete: true}))
			c.ok(testRange, put("y", "1"))
			c.tick(3)
			var before []*raftpb.HardState
			for _, n := range c.nodes {
				before = append(before, n.hardState(testRange))
			}
			for _, n := range c.nodes {
				n.crash(kept)
			}
			c.mail = nil
			for i, n := range c.nodes {
				n.start()
				after := n.hardState(testRange)
				if after.GetTerm() < before[i].GetTerm() || (after.GetTerm() == before[i].GetTerm() && after.GetVote() != before[i].GetVote()) {
					t.Fatalf("store %s: hard state went from %v to %v", n.id, before[i], after)
				}
				if !kept && n.eng.MaxSeq() > n.eng.Durable() {
					t.Fatal("the engine did not go back")
				}
			}
			c.settle()
			c.elect(testRange, 2)
			if x, y := c.ok(testRange, get("x")), c.ok(testRange, get("y")); x.resp.GetGet().Found || y.value() != "1" {
				t.Fatalf("x=%q y=%q", x.value(), y.value())
			}
			same(t, "retry", first, c.ok(testRange, s.with(1, call("add", "n", ""))))
			c.tick(3)
			c.equal(testRange)
			c.healthy()
		})
	}
}

// Rule E2: the child was elected in a later term and acknowledged a write; its parent's split is undone and replayed.
func TestE2ReplayingASplitLowersNothing(t *testing.T) {
	c := newTestCluster(t, 3)
	c.ok(testRange, put("z", "old"))
	for _, n := range c.nodes {
		n.takeCheckpoint()
	}
	c.split(testRange, "m", 100)
	c.elect(100, 2)
	c.elect(100, 3)
	c.ok(100, put("z", "new"))
	c.tick(3)
	for _, n := range c.nodes {
		before := n.hardState(100)
		g, _ := n.wal.Group(100)
		last := g.Last
		n.crash(false)
		c.mail = nil
		n.start()
		n.exec.run()
		after := n.hardState(100)
		if after.GetTerm() < before.GetTerm() || (after.GetTerm() == before.GetTerm() && after.GetVote() != before.GetVote()) {
			t.Fatalf("store %s: the replayed split took the child from %v to %v: it can vote twice", n.id, before, after)
		}
		if g, _ := n.wal.Group(100); g.Last < last {
			t.Fatalf("store %s: the child's log ended at %d, now at %d", n.id, last, g.Last)
		}
		if i, ok := n.Range(100); !ok || i.Applied < initialIndex+1 {
			t.Fatalf("store %s: the child was not opened by its parent's split: %+v", n.id, i)
		}
		c.settle()
		c.tick(1)
	}
	c.tick(25)
	c.awaitLead(100)
	if v := c.ok(100, get("z")).value(); v != "new" {
		t.Fatalf("z=%q", v)
	}
	c.equal(100)
	c.healthy()
}

// Rule E3: a store that applied more than its log knows to be committed opens all the same.
func TestE3TheCommitIndexIsAtLeastWhatWasApplied(t *testing.T) {
	c := newTestCluster(t, 1)
	n := c.node(1)
	c.ok(testRange, put("x", "1"))
	n.takeCheckpoint()
	n.crash(false)
	// The engine and its checkpoint are one entry ahead of the commit index.
	l := n.openLog()
	g, _ := l.Group(testRange)
	raw, _, _, err := n.eng.Get(localKey(testRange, suffixApplied), n.eng.MaxSeq())
	c.must(err)
	st, err := decodeApplied(raw)
	c.must(err)
	st.Index, st.Term = g.Last+1, ids.Term(g.HardState.GetTerm())
	entry := &raftpb.Entry{Index: new(uint64(st.Index)), Term: new(uint64(st.Term)), Type: raftpb.EntryNormal.Enum()}
	seq := n.eng.MaxSeq() + 1
	c.must(n.eng.Apply([]engine.Batch{{Seq: seq, Ops: []engine.Op{{Key: localKey(testRange, suffixApplied), Value: st.encode()}}}}))
	c.must(n.eng.Sync())
	cut, err := readCheckpoint(l)
	c.must(err)
	cut.Seq = uint64(seq)
	for _, a := range cut.Applied {
		if a.RangeId == uint64(testRange) {
			a.Index, a.Term = uint64(st.Index), uint64(st.Term)
		}
	}
	c.must(appendSync(l, raftlog.Batch{
		Groups: []raftlog.Write{{Group: testRange, Entries: []*raftpb.Entry{entry}}},
		Store:  []raftlog.StoreRecord{{Kind: recordCheckpoint, Value: mustMarshal(cut)}},
	}))
	if g, _ := l.Group(testRange); ids.Index(g.HardState.GetCommit()) >= st.Index {
		t.Fatal("the log knows the commit already")
	}
	c.must(l.Close())
	n.start()
	c.settle()
	if v := c.ok(testRange, get("x")).value(); v != "1" {
		t.Fatalf("x=%q", v)
	}
	c.healthy()
}

// Rule E3: every frame that appends entries repeats the commit index.
func TestE3FramesRepeatTheCommitIndex(t *testing.T) {
	c := newTestCluster(t, 1)
	n := c.node(1)
	c.ok(testRange, put("x", "1"))
	first := c.info(testRange, 1).Applied
	c.ok(testRange, put("x", "2"))
	n.crash(false) // loses commit-only hard states
	l := n.openLog()
	g, _ := l.Group(testRange)
	c.must(l.Close())
	if got := ids.Index(g.HardState.GetCommit()); got < first {
		t.Fatalf("the log knows %d to be committed; %d was before its last entry", got, first)
	}
}

// snapshotToThird makes store 3 a follower that needs a snapshot, and returns with the snapshot in its mailbox.
func snapshotToThird(t *testing.T) *testCluster {
	c := newTestCluster(t, 3, func(o *Options) { o.RetainedEntries = 1; o.MaxLagBytes = 1 })
	c.ok(testRange, put("gone", "1"))
	c.ok(testRange, put("x", "old"))
	c.tick(3)
	c.node(3).takeCheckpoint()
	c.cut(3)
	c.ok(testRange, write(&locuspb.Mutation{Key: key("gone"), Delete: true}))
	for i := range 20 {
		c.ok(testRange, put("x", fmt.Sprint(i)))
	}
	for _, n := range c.nodes[:2] {
		n.takeCheckpoint()
	}
	c.settle()
	c.heal()
	return c
}

func (n *testNode) log(id ids.RangeID) raftlog.GroupState {
	g, _ := n.wal.Group(id)
	return g
}

// Rule E4: a crash at any step of an ingest, before the checkpoint's frame is durable, finds the old data and the old
// log; the replica comes to the same end in the end. Every step of the apply, disk and log queues is a crash point.
func TestE4ACrashInAnIngestGoesBack(t *testing.T) {
	done := false
	for point := 1; !done; point++ {
		if point > 200 {
			t.Fatal("the ingest never ends")
		}
		c := snapshotToThird(t)
		n := c.node(3)
		oldIndex := n.log(testRange).Before.Index
		steps := 0
		n.exec.hold(true, QueueApply, QueueDisk, QueueLog)
		began := func() bool { return n.replica(testRange).raft.ingesting }
		for range 40 {
			if began() {
				break
			}
			c.tick(1)
			for _, q := range n.exec.queues {
				if !began() {
					q.step()
				}
			}
		}
		if !began() {
			t.Fatal("no snapshot came")
		}
		for steps < point {
			moved := false
			for _, q := range n.exec.queues {
				if steps < point && q.held && q.step() {
					moved = true
					steps++
				}
			}
			n.exec.run()
			if !moved {
				done = true
				break
			}
		}
		if st := n.replica(testRange).snapshot(); st.ingesting {
			r := get("x")
			r.Consistency = &locuspb.Consistency{Level: locuspb.ConsistencyLevel_EVENTUAL}
			n.exec.hold(false, QueueRead)
			p := n.send(testRange, r)
			n.exec.run()
			if p.answered() && p.err() == nil {
				t.Fatalf("point %d: the replica answered %q in the middle of an ingest", point, p.value())
			}
		}
		c.healthy()
		n.crash(point%2 == 0)
		c.mail = nil
		c.must(n.tryStart())
		if g := n.log(testRange); g.Before.Index != oldIndex {
			// The frame was durable: then so is the data.
			if st := n.replica(testRange).apply.state; st.Index < g.Before.Index {
				t.Fatalf("point %d: the log begins at %d, the engine is at %d", point, g.Before.Index, st.Index)
			}
		} else if st := n.replica(testRange).apply.state; st.Index > g.Last {
			t.Fatalf("point %d: the log ends at %d, the engine is at %d", point, g.Last, st.Index)
		}
		c.settle()
		c.tick(30)
		c.awaitLead(testRange)
		c.tick(5)
		if v := c.ok(testRange, get("x")).value(); v != "19" {
			t.Fatalf("point %d: x=%q", point, v)
		}
		c.equal(testRange)
		c.healthy()
	}
}

// Rule E4: no checkpoint is taken in the middle of an ingest, whoever asks.
func TestE4NoCheckpointInsideAnIngest(t *testing.T) {
	c := snapshotToThird(t)
	n := c.node(3)
	n.exec.hold(true, QueueApply)
	for range 40 {
		c.tick(1)
		if n.replica(testRange).raft.ingesting {
			break
		}
	}
	q := n.applier.queue.(*stepQueue)
	for n.applier.ingest == nil && q.step() {
	}
	if n.applier.ingest == nil {
		t.Fatal("no ingest")
	}
	durable := false
	n.checkpoint(raftlog.Batch{}, func() { durable = true })
	for n.applier.ingest != nil && q.step() {
		n.exec.run()
		if durable && n.applier.ingest != nil {
			t.Fatal("a checkpoint was taken in the middle of an ingest")
		}
	}
	n.exec.hold(false, QueueApply)
	c.settle()
	if !durable {
		t.Fatal("the checkpoint never came")
	}
	c.tick(3)
	c.equal(testRange)
}

// Rule E4: a snapshot's file is durable before Raft hears of it.
func TestE4TheFileIsSyncedFirst(t *testing.T) {
	c := snapshotToThird(t)
	n := c.node(3)
	n.exec.hold(true, QueueApply)
	for range 40 {
		c.tick(1)
		if n.replica(testRange).raft.ingesting {
			break
		}
	}
	after := n.files.CrashClean()
	names, err := after.List("/snapshots")
	if err != nil || len(names) != 1 {
		t.Fatalf("after a crash the snapshot files are %v, %v", names, err)
	}
	f := &Store{opts: Options{Files: after}}
	file, err := f.openSnapshotFile("/snapshots/" + names[0])
	c.must(err)
	for {
		chunk, err := file.next()
		c.must(err)
		if chunk[0] == chunkEnd {
			break
		}
	}
}

// Rule E7: a span being wiped is occupied: no replica is created and no snapshot accepted over it.
func TestE7ASpanBeingWipedIsOccupied(t *testing.T) {
	c := newTestCluster(t, 3)
	c.ok(testRange, put("x", "1"))
	n := c.node(3)
	old := n.replica(testRange)
	n.exec.hold(true, QueueApply)
	c.removeOn(testRange, 3)
	c.tick(2)
	// The removal is known; the wipe has begun and not ended.
	lead, op := c.operator(testRange)
	op.Step = &locuspb.Operator_AddLearner{AddLearner: &locuspb.AddLearner{StoreId: 3}}
	c.must(c.operate(lead, op))
	q := n.applier.queue.(*stepQueue)
	refused := 0
	for i := 0; ; i++ {
		if i == 2000 {
			t.Fatal("the wipe does not end")
		}
		r := n.replica(testRange)
		st, left := old.snapshot(), 0
		if st.gone {
			found, _, err := keysIn(n.eng, dataSpan(st.desc.Span), n.eng.MaxSeq(), 10)
			c.must(err)
			left = len(found)
		}
		if r != nil && r != old && left > 0 {
			t.Fatalf("replica %s was created over %d keys of the one before", r.self, left)
		}
		if st.gone && left > 0 {
			desc := c.info(testRange, lead.id).Descriptor.Clone()
			desc.ID = 999
			_, err := n.BeginSnapshot(&locuspb.SnapshotHeader{
				Id: make([]byte, 16), Descriptor_: api.DescriptorToProto(desc),
				Envelope: &locuspb.RaftEnvelope{RangeId: 999, FromReplica: 1, ToReplica: 3, FromStore: 1, ToStore: 3, Message: snapMessage(1, 3, make([]byte, 16), confState(desc))},
			})
			want[*api.RetryError](t, "a snapshot over the span", err)
			refused++
		}
		if r != nil && r != old {
			break
		}
		if !q.step() {
			c.tick(1)
		}
		n.exec.run()
	}
	if refused == 0 {
		t.Fatal("the wipe had nothing to do")
	}
	n.exec.hold(false, QueueApply)
	for range 20 {
		c.tick(1)
	}
	if i, ok := n.Range(testRange); !ok || i.Replica == old.self {
		t.Fatalf("the new replica did not come: %+v", i)
	}
	c.equal(testRange)
	c.healthy()
}

func snapMessage(from, to uint64, id []byte, conf *raftpb.ConfState) []byte {
	return mustMarshal(&raftpb.Message{
		Type: raftpb.MsgSnap.Enum(), From: &from, To: &to, Term: new(uint64(9)),
		Snapshot: &raftpb.Snapshot{Data: id, Metadata: &raftpb.SnapshotMetadata{Index: new(uint64(99)), Term: new(uint64(9)), ConfState: conf}},
	})
}

// Rule E8: requests are checked for the epoch where they enter; commands that waited, again when they are evaluated
// (TestA2DescriptorChangesGoAlone), reads after they waited (TestD1BoundsAreTakenAfterTheWait), entries at apply
// (TestA1EntriesAreAcceptedOnTheirBaseOnly). Raft messages are not: a replica two changes behind catches up.
func TestE8LaggingReplicasLearnFromNewEpochs(t *testing.T) {
	c := newTestCluster(t, 4)
	c.ok(testRange, put("a", "1"))
	c.cut(3)
	c.removeOn(testRange, 4)
	c.tick(5)
	// Store 3 hears nothing of it, nor of the split, nor of the new leader's replica.
	c.split(testRange, "m", 100)
	c.addVoter(testRange, 4)
	c.ok(testRange, put("a", "2"))
	c.elect(testRange, 4)
	c.ok(testRange, put("a", "3"))
	if e := c.info(testRange, 3).Descriptor.Epoch; e == c.info(testRange, 4).Descriptor.Epoch {
		t.Fatal("store 3 does not lag")
	}
	c.heal()
	for range 30 {
		c.tick(1)
	}
	if a, b := c.info(testRange, 3), c.info(testRange, 4); a.Applied != b.Applied || a.Descriptor.Epoch != b.Descriptor.Epoch {
		t.Fatalf("store 3 stays behind: %+v, %+v", a, b)
	}
	c.equal(testRange)
	c.equal(100)
	old := get("a")
	old.BoundsEpoch = 1
	p := c.do(c.leaseholder(testRange), testRange, old)
	want[*api.EpochMismatchError](t, "a read for old bounds", p.err())
	c.healthy()
}

// I10: the log is truncated only below what the engine has durably applied. Whatever is crashed when, every store opens
// again and nothing acknowledged is missing.
func TestI10TruncationFollowsTheCheckpoint(t *testing.T) {
	c := newTestCluster(t, 1, func(o *Options) { o.RetainedEntries = 1; o.MaxLagBytes = 1 })
	n := c.node(1)
	for i := range 30 {
		c.ok(testRange, put("x", fmt.Sprint(i)))
	}
	// The checkpoint's frame is not durable: nothing may be truncated.
	n.exec.hold(true, QueueDisk)
	n.checkpoint(raftlog.Batch{}, nil)
	c.settle()
	before := n.log(testRange).Before.Index
	n.exec.hold(false, QueueDisk)
	n.exec.hold(true, QueueLog)
	c.settle()
	if got := n.log(testRange).Before.Index; got != before {
		t.Fatalf("truncated to %d before the checkpoint is durable", got)
	}
	n.exec.hold(false, QueueLog)
	c.settle()
	if got := n.log(testRange).Before.Index; got <= before {
		t.Fatal("nothing was truncated in the end")
	}
	for _, kept := range []bool{true, false} {
		n.crash(kept)
		n.start()
		c.settle()
		if v := c.ok(testRange, get("x")).value(); v != "29" {
			t.Fatalf("x=%q", v)
		}
	}
	c.healthy()
}

// I11: replica ids are never used twice, and a removed replica that did not hear of it is told and never acts again.
func TestI11RemovedReplicasNeverAct(t *testing.T) {
	c := newTestCluster(t, 3)
	c.ok(testRange, put("x", "1"))
	seen := map[ids.ReplicaID]bool{}
	for _, r := range c.info(testRange, 1).Descriptor.Replicas {
		seen[r.ID] = true
	}
	for range 3 {
		c.removeOn(testRange, 3)
		c.tick(5)
		rep := c.addVoter(testRange, 3)
		if seen[rep] {
			t.Fatalf("replica id %s was given twice", rep)
		}
		seen[rep] = true
	}
	// Store 3 is removed while it is cut off, and campaigns when it comes back.
	c.cut(3)
	c.removeOn(testRange, 3)
	term := c.info(testRange, 1).Term
	self := c.info(testRange, 3).Replica
	c.heal()
	c.campaign(testRange, 3)
	c.settle()
	c.tick(60) // it may have cost them their leader
	if i, ok := c.node(3).Range(testRange); ok {
		t.Fatalf("the removed replica still acts: %+v", i)
	}
	if next, dead := c.node(3).tombstone(testRange); !dead || next <= self {
		t.Fatalf("no tombstone: %s", next)
	}
	// A message of its past creates it again for nobody, and after a restart neither.
	for range 2 {
		c.node(3).HandleRaft(1, []*locuspb.RaftEnvelope{{
			RangeId: uint64(testRange), FromReplica: 1, ToReplica: uint64(self), FromStore: 1, ToStore: 3, Span: api.SpanToProto(keys.KeyspaceSpan(1)),
			Message: mustMarshal(&raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: new(uint64(1)), To: new(uint64(self)), Term: new(uint64(term))}),
		}})
		if c.node(3).replica(testRange) != nil {
			t.Fatal("a removed replica was created again")
		}
		c.settle()
		c.node(3).crash(false)
		c.node(3).start()
		c.settle()
	}
	c.awaitLead(testRange)
	c.ok(testRange, put("x", "2"))
	c.healthy()
}

// Rule E4, its other side: Raft takes the configuration of a snapshot when it accepts it; a change from before that is
// still in the apply queue must not be made on top.
func TestAChangeBelowASnapshotIsNotMadeAgain(t *testing.T) {
	c := newTestCluster(t, 4, func(o *Options) { o.RetainedEntries = 1; o.MaxLagBytes = 1 })
	if c.leaseholder(testRange).id != 1 {
		c.elect(testRange, 1)
	}
	c.removeOn(testRange, 4)
	c.tick(5)
	n := c.node(3)
	n.exec.hold(true, QueueApply)
	lead, op := c.operator(testRange)
	op.Step = &locuspb.Operator_AddLearner{AddLearner: &locuspb.AddLearner{StoreId: 4}}
	c.must(c.operate(lead, op))
	c.tick(3) // store 3 has it committed, and in its apply queue
	c.cut(3)
	rep, _ := c.info(testRange, 1).Descriptor.On(4)
	c.must(c.replace(testRange, []uint64{uint64(rep.ID)}, nil))
	for i := range 20 {
		c.ok(testRange, put("x", fmt.Sprint(i)))
	}
	lead.takeCheckpoint()
	c.settle()
	c.heal()
	r := n.replica(testRange)
	for range 40 {
		c.tick(1)
		if r.raft.ingesting {
			break
		}
	}
	if !r.raft.ingesting {
		t.Fatal("no snapshot came")
	}
	n.exec.hold(false, QueueApply)
	c.settle()
	c.tick(5)
	c.equal(testRange)
	voters := r.raft.node.Status().Config.Voters.IDs()
	for _, rep := range c.info(testRange, 3).Descriptor.Voters() {
		if _, ok := voters[uint64(rep.ID)]; !ok {
			t.Fatalf("Raft on store 3 has voters %v, the descriptor %v", voters, c.info(testRange, 3).Descriptor)
		}
	}
	c.healthy()
}
