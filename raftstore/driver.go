package raftstore

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/topology"
	"github.com/locuskv/locus/raftstore/raftlog"
)

// openRaft makes the RawNode of a replica from what the log and the engine hold.
func (r *Replica) openRaft() error {
	s := r.snapshot()
	r.raft.storage = &groupStorage{r: r, log: r.store.log}
	r.raft.pinned = make(map[string]*pinnedSnapshot)
	r.raft.incoming = make(map[string]*incomingSnapshot)
	o := &r.store.opts
	node, err := raft.NewRawNode(&raft.Config{
		ID:                        uint64(r.self),
		ElectionTick:              o.ElectionTicks,
		HeartbeatTick:             o.HeartbeatTicks,
		Storage:                   r.raft.storage,
		Applied:                   uint64(s.applied.Index),
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             o.MaxMessageBytes,
		MaxCommittedSizePerReady:  o.MaxApplyBytes,
		MaxUncommittedEntriesSize: o.MaxUncommittedBytes,
		MaxInflightMsgs:           o.MaxInflightMessages,
		MaxInflightBytes:          o.MaxInflightBytes,
		CheckQuorum:               true,
		PreVote:                   true,
		ReadOnlyOption:            raft.ReadOnlySafe,
		Logger:                    raftLogger{r},
		DisableProposalForwarding: true,
		// Changes are serialized by the sequencer and judged at apply by their epoch (rule A2), so the
		// library's best-effort check would only turn them into empty entries behind our back.
		DisableConfChangeValidation: true,
		StepDownOnRemoval:           true,
	})
	if err != nil {
		return fmt.Errorf("raftstore: open range %s: %w", r.id, err)
	}
	r.raft.node = node
	last, err := r.raft.storage.LastIndex()
	if err != nil {
		return err
	}
	r.raft.lastAppended = ids.Index(last)
	if hs := node.BasicStatus().HardState; hs.GetTerm() > 0 {
		r.update(func(s *replicaState) { s.term = ids.Term(hs.GetTerm()) })
	}
	return nil
}

// keptInputs bounds the space that an idle replica keeps for its inputs.
const keptInputs = 8

// drive is one step of the Raft side: all inputs, then everything that Raft has ready.
func (r *Replica) drive() {
	r.inbox.Lock()
	inputs := r.inbox.inputs
	r.inbox.inputs, r.inbox.scheduled = r.raft.done, false
	r.inbox.Unlock()
	r.raft.done = nil
	if r.raft.stopped {
		r.discard(inputs)
		return
	}
	defer r.stopOnFailedRead()
	for i := range inputs {
		r.input(&inputs[i])
	}
	if cap(inputs) <= keptInputs {
		clear(inputs)
		r.raft.done = inputs[:0]
	}
	for !r.raft.stopped && r.raft.node.HasReady() {
		r.ready()
	}
	if !r.raft.stopped {
		r.raft.reads.advance(r)
		for r.raft.node.HasReady() {
			r.ready()
		}
	}
	r.finishReset()
	r.dropUnusedSnapshots()
	r.beginQuiet()
}

// stopOnFailedRead stops the store when Raft could not read its log. Nothing of the step that it panicked in is handed out
// any more, and the group, which may be in any state, is not touched again.
func (r *Replica) stopOnFailedRead() {
	p := recover()
	if p == nil {
		return
	}
	f, ok := p.(failedRead)
	if !ok {
		panic(p)
	}
	r.raft.stopped = true
	r.store.fatal(f.error)
}

// discard ends what was posted to a replica that no longer runs.
func (r *Replica) discard(inputs []raftInput) {
	for i := range inputs {
		if run := inputs[i].run; run != nil {
			run() // closures check for themselves whether the replica runs
		}
	}
}

func (r *Replica) input(in *raftInput) {
	switch {
	case in.message != nil:
		if in.voucher == 0 && r.wakes(in.message) {
			r.wake()
		}
		r.step(in.message)
		if in.voucher != 0 {
			r.hush(in.message, in.voucher, in.incarnation)
		}
	case in.proposal != nil:
		r.wake()
		r.propose(in.proposal)
	case in.generation > 0:
		r.raft.generation = max(r.raft.generation, in.generation)
	case in.tick:
		r.tick()
	case in.run != nil:
		in.run()
	}
}

func (r *Replica) step(m *raftpb.Message) {
	if asksForVote(m) && r.bound() {
		return
	}
	if m.GetType() == raftpb.MsgTimeoutNow && r.fenced(r.snapshot().desc) {
		return // whoever hands over its lead tries another (rule C4)
	}
	err := r.raft.node.Step(m)
	r.heard(m)
	if err != nil && !errors.Is(err, raft.ErrStepPeerNotFound) && !errors.Is(err, raft.ErrProposalDropped) {
		r.store.logger.Debug("raft message refused", "range", r.id, "type", m.GetType(), "err", err)
	}
}

// propose appends an entry to the log of a leader, if it still is the one that the entry was evaluated for.
func (r *Replica) propose(p *proposal) {
	if p.generation < r.raft.generation {
		return
	}
	st := r.raft.node.BasicStatus()
	if st.RaftState != raft.StateLeader || ids.Term(st.GetTerm()) != p.entry.Term {
		return // the change of term has told, or will tell, the sequencer
	}
	var err error
	if p.entry.Kind != entryBatch {
		r.raft.promptTicks = r.store.opts.ElectionTicks
	}
	if p.entry.Kind == entryReplicas {
		var cc *raftpb.ConfChangeV2
		if cc, err = r.confChange(p); err == nil {
			err = r.raft.node.ProposeConfChange(cc)
		}
	} else {
		err = r.raft.node.Propose(p.data)
	}
	r.store.metrics.propose(len(p.data))
	if err != nil {
		r.resetSequencer(p.generation)
	}
}

// resetSequencer follows a dropped or refused entry: no later one of its generation may be proposed, and the
// sequencer starts again once everything in the log is applied.
func (r *Replica) resetSequencer(generation uint64) {
	r.raft.generation = max(r.raft.generation, generation+1)
	r.raft.reset = max(r.raft.reset, generation)
}

// finishReset tells the sequencer of a reset once Raft has handed out all that it accepted before.
func (r *Replica) finishReset() {
	if g := r.raft.reset; g > 0 {
		r.raft.reset = 0
		r.seq.reset(g, r.raft.lastAppended)
	}
}

// confChange is the Raft form of a replica change: the difference of two descriptors.
func (r *Replica) confChange(p *proposal) (*raftpb.ConfChangeV2, error) {
	next, _, err := decodeChange(p.entry.Payload)
	if err != nil {
		return nil, err
	}
	s := r.snapshot()
	cc := confChangeBetween(s.desc, next)
	cc.Context = p.data
	return cc, nil
}

// confChangeBetween is the difference of two descriptors of a range as a Raft configuration change. A change
// of one replica is simple; more go through a joint configuration that is left explicitly.
func confChangeBetween(from, to *topology.Descriptor) *raftpb.ConfChangeV2 {
	cc := &raftpb.ConfChangeV2{}
	if from.Joint() && !to.Joint() {
		return cc // leave
	}
	if to.Joint() {
		cc.Transition = raftpb.ConfChangeTransitionJointExplicit.Enum()
	}
	add := func(t raftpb.ConfChangeType, id ids.ReplicaID) {
		cc.Changes = append(cc.Changes, &raftpb.ConfChangeSingle{Type: t.Enum(), NodeId: proto.Uint64(uint64(id))})
	}
	for _, n := range to.Replicas {
		old, ok := from.Replica(n.ID)
		switch {
		case ok && old.Role == n.Role:
		case n.Role == topology.Learner:
			add(raftpb.ConfChangeAddLearnerNode, n.ID)
		case n.Role == topology.VoterOutgoing:
			add(raftpb.ConfChangeRemoveNode, n.ID)
		default:
			add(raftpb.ConfChangeAddNode, n.ID)
		}
	}
	for _, old := range from.Replicas {
		if _, ok := to.Replica(old.ID); !ok {
			add(raftpb.ConfChangeRemoveNode, old.ID)
		}
	}
	return cc
}

// ready hands out what Raft produced, in the order that the library asks for: messages to others at once,
// storage messages to their queues.
func (r *Replica) ready() {
	rd := r.raft.node.Ready()
	if rd.SoftState != nil || rd.HardState.GetTerm() != 0 {
		r.roleChanged()
	}
	if c := ids.Index(rd.HardState.GetCommit()); c > 0 {
		r.update(func(s *replicaState) { s.committed = max(s.committed, c) })
	}
	for _, rs := range rd.ReadStates {
		r.raft.reads.confirmed(r, rs)
	}
	var out []*raftpb.Message
	for _, m := range rd.Messages {
		switch m.GetTo() {
		case raft.LocalAppendThread:
			r.append(m)
		case raft.LocalApplyThread:
			r.store.applier.entries(r, m)
		default:
			out = append(out, m)
		}
	}
	r.send(out)
}

// Followers learn of a commit only once it is visible on the leaseholder, so that nobody can read anywhere what a read
// under the lease does not show yet. Nor are they told in a message of its own: the next entry's says it, and if none
// comes the next tick does, which spares a busy range half of its messages and its followers half of their frames.

// commitless makes a message to a follower say no more of commits than it may, and nil of one that says nothing else.
// What it leaves out is said later. REQUIRES: applied is what is visible here.
func (r *Replica) commitless(m *raftpb.Message, applied ids.Index) *raftpb.Message {
	if r.store.opts.commitAtOnce {
		return m
	}
	t := m.GetType()
	if t != raftpb.MsgApp && t != raftpb.MsgHeartbeat {
		return m
	}
	early := ids.Index(m.GetCommit()) > applied
	if t == raftpb.MsgApp {
		n := len(m.GetEntries())
		delete(r.raft.late, m.GetTo())
		if n == 0 && r.raft.promptTicks == 0 || early {
			r.later(m)
		}
		if n == 0 && r.raft.promptTicks == 0 {
			return nil
		}
	}
	if !early {
		return m
	}
	// A copy: Raft may still hold the message.
	return &raftpb.Message{
		Type: m.Type, To: m.To, From: m.From, Term: m.Term, LogTerm: m.LogTerm, Index: m.Index,
		Entries: m.Entries, Commit: proto.Uint64(uint64(applied)), Context: m.Context,
	}
}

// later keeps what an append says of the commit, as an append of nothing behind its last entry.
func (r *Replica) later(m *raftpb.Message) {
	if r.raft.late == nil {
		r.raft.late = make(map[uint64]*raftpb.Message)
	}
	l := &raftpb.Message{Type: m.Type, To: m.To, From: m.From, Term: m.Term, LogTerm: m.LogTerm, Index: m.Index, Commit: m.Commit}
	if n := len(m.GetEntries()); n > 0 {
		last := m.GetEntries()[n-1]
		l.LogTerm, l.Index = last.Term, last.Index
	}
	r.raft.late[m.GetTo()] = l
}

// sendLate says what was left out and is visible by now.
func (r *Replica) sendLate() {
	if len(r.raft.late) == 0 {
		return
	}
	applied := r.snapshot().applied.Index
	var out []*raftpb.Message
	for _, to := range slices.Sorted(maps.Keys(r.raft.late)) {
		if m := r.raft.late[to]; ids.Index(m.GetCommit()) <= applied {
			out = append(out, m)
			delete(r.raft.late, to)
		}
	}
	r.sendAs(out)
}

// roleChanged publishes leadership. A leader holds the lease only once it has applied an entry of its term.
func (r *Replica) roleChanged() {
	st := r.raft.node.BasicStatus()
	term, lead := ids.Term(st.GetTerm()), ids.ReplicaID(st.Lead)
	leads := st.RaftState == raft.StateLeader
	var was, began bool
	r.update(func(s *replicaState) {
		was = s.isLeader && (!leads || s.term != term)
		began = leads && (!s.isLeader || s.term != term)
		if was || began {
			s.leaseholder = false
		}
		s.term, s.leader, s.isLeader = term, lead, leads
		if was || began || !leads {
			s.transferring, s.leaseUntil, s.leaseVoid = false, 0, false
		}
		if !leads {
			s.progress = nil
		}
		if !leads || began {
			s.oldest = nil
		}
	})
	if was || began {
		r.raft.handOvers = 0
		r.raft.successor.give(r.notLeaseholder())
		clear(r.raft.late)
		r.raft.reads.fail(r.notLeaseholder())
		r.seq.stop(term)
	}
	if began {
		r.store.metrics.elected()
		r.maybeTakeOffice()
	}
}

// maybeTakeOffice makes a leader that has applied an entry of its own term the leaseholder.
func (r *Replica) maybeTakeOffice() {
	took := false
	var term ids.Term
	r.update(func(s *replicaState) {
		if s.isLeader && !s.leaseholder && !s.gone && s.applied.Term == s.term && !r.fenced(s.desc) {
			s.leaseholder, took, term = true, true, s.term
		}
	})
	if took {
		r.seq.start(term)
		r.raft.reads.kick(r)
	}
}

// send sends what Raft has for other replicas.
func (r *Replica) send(msgs []*raftpb.Message) {
	if len(msgs) == 0 {
		return
	}
	applied := r.snapshot().applied.Index
	out := msgs[:0]
	for _, m := range msgs {
		if m = r.commitless(m, applied); m != nil {
			out = append(out, m)
		}
	}
	r.sendAs(out)
}

// sendAs wraps messages for other stores.
func (r *Replica) sendAs(msgs []*raftpb.Message) {
	if len(msgs) == 0 {
		return
	}
	s := r.snapshot()
	var order []ids.StoreID
	envelopes := make(map[ids.StoreID][]*locuspb.RaftEnvelope)
	for _, m := range msgs {
		dest, ok := r.storeOf(&s, ids.ReplicaID(m.GetTo()))
		if !ok {
			continue
		}
		if m.GetType() == raftpb.MsgSnap {
			r.sendSnapshot(&s, dest, m)
			continue
		}
		if envelopes[dest] == nil {
			order = append(order, dest)
		}
		envelopes[dest] = append(envelopes[dest], r.envelope(&s, m, dest))
	}
	for _, dest := range order {
		r.store.opts.Transport.Send(dest, envelopes[dest])
	}
}

// storeOf finds where a replica lives: by the descriptor, or, while there is none, by who wrote to us.
func (r *Replica) storeOf(s *replicaState, id ids.ReplicaID) (ids.StoreID, bool) {
	if s.desc != nil {
		if rep, ok := s.desc.Replica(id); ok {
			return rep.Store, true
		}
	}
	st, ok := s.peers[id]
	return st, ok
}

func (r *Replica) envelope(s *replicaState, m *raftpb.Message, to ids.StoreID) *locuspb.RaftEnvelope {
	e := &locuspb.RaftEnvelope{
		RangeId: uint64(r.id), FromReplica: uint64(r.self), ToReplica: m.GetTo(),
		FromStore: uint64(r.store.opts.StoreID), ToStore: uint64(to), Message: mustMarshal(m),
	}
	if s.desc != nil {
		e.ConfEpoch = s.desc.Epoch.Conf
		switch m.GetType() {
		case raftpb.MsgHeartbeat, raftpb.MsgApp, raftpb.MsgSnap, raftpb.MsgVote, raftpb.MsgPreVote:
			e.Span = api.SpanToProto(s.desc.Span)
		case raftpb.MsgHeartbeatResp:
			e.Oldest = uint64(r.oldestHere())
		}
	}
	return e
}

// tick advances Raft's clock by one, and does what is done now and then.
func (r *Replica) tick() {
	progress := r.followers() // before Raft forgets who was active, as it does once in an election timeout
	if r.mayTick() {
		r.raft.node.Tick()
	}
	r.missLeader()
	r.askToGo()
	r.raft.promptTicks = max(0, r.raft.promptTicks-1)
	r.sendLate()
	r.raft.reads.tick(r)
	r.renewLease()
	r.campaign()
	st := r.raft.node.BasicStatus()
	if st.RaftState != raft.StateLeader {
		return
	}
	r.update(func(s *replicaState) {
		s.progress = slices.Clone(progress)
		s.transferring = st.LeadTransferee != 0
		s.lastIndex = r.raft.lastAppended
	})
	r.awaitSuccessor()
	r.giveUpLead()
	r.maybeTakeOffice()
	if st.LeadTransferee == 0 {
		r.seq.schedule()
	}
	r.leaveJoint()
	r.closeQuiet()
	r.considerQuiet(progress)
}

// followers is a leader's view of its group, until it is asked for again. A follower is active if it was heard within an
// election timeout.
func (r *Replica) followers() []ReplicaProgress {
	out, heard := r.raft.progress[:0], r.raft.spare
	if heard == nil {
		heard = make(map[ids.ReplicaID]int)
	}
	r.raft.node.WithProgress(func(id uint64, kind raft.ProgressType, pr trackerProgress) {
		rep := ids.ReplicaID(id)
		silent := r.raft.silent[rep] + 1
		if pr.RecentActive || rep == r.self {
			silent = 0
		}
		heard[rep] = silent
		out = append(out, ReplicaProgress{
			Replica: rep, Match: ids.Index(pr.Match), Active: silent < r.store.opts.ElectionTicks,
			Snapshotting: pr.State == progressSnapshot, Learner: kind == raft.ProgressTypeLearner,
		})
	})
	clear(r.raft.silent)
	r.raft.silent, r.raft.spare, r.raft.progress = heard, r.raft.silent, out
	return out
}

// leaveJoint proposes to leave a joint configuration, which this package never leaves by itself.
func (r *Replica) leaveJoint() {
	s := r.snapshot()
	if !s.leaseholder || s.desc == nil || !s.desc.Joint() || r.raft.leaving {
		return
	}
	if self, _ := s.desc.Replica(r.self); self.Role == topology.VoterOutgoing {
		r.handOver(&s) // elected since: see keeping
		return
	}
	r.raft.leaving = true // in the queue, behind what waits there: a busy range is never idle
	r.seq.submit(&command{
		change: &descriptorChange{epoch: s.desc.Epoch, build: leaveJointDescriptor},
		done: func(*locuspb.Response) {
			r.post(raftInput{run: func() { r.raft.leaving = false }})
		},
	})
}

// closeQuiet closes the present of a range that has gone quiet, once, so that snapshots of idle data cost
// nothing (rule C5).
func (r *Replica) closeQuiet() {
	s := r.snapshot()
	if !s.leaseholder || !r.seq.idle() || s.applied.Closed >= s.applied.TS {
		r.raft.idleTicks = 0
		return
	}
	if r.raft.idleTicks++; r.raft.idleTicks < r.store.opts.QuietTicks {
		return
	}
	r.raft.idleTicks = 0
	r.seq.submit(&command{closeNow: true, done: func(*locuspb.Response) {}})
}

// append hands a storage message to the log writer, or keeps it while a snapshot of the group is ingested:
// a group's appends are done in order.
func (r *Replica) append(m *raftpb.Message) {
	t := &appendTask{r: r, responses: m.GetResponses(), snapshot: m.GetSnapshot()}
	t.write = raftlog.Write{Group: r.id, Entries: m.GetEntries()}
	if m.GetTerm() != 0 || m.GetVote() != 0 || m.GetCommit() != 0 {
		t.write.HardState = &raftpb.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit}
	}
	t.write.Commit = ids.Index(r.raft.node.BasicStatus().GetCommit())
	if t.snapshot != nil {
		r.raft.restored = max(r.raft.restored, ids.Index(t.snapshot.GetMetadata().GetIndex()))
		r.raft.lastAppended = max(r.raft.lastAppended, r.raft.restored)
	}
	if n := len(m.GetEntries()); n > 0 {
		r.raft.lastAppended = ids.Index(m.GetEntries()[n-1].GetIndex())
	}
	if r.raft.ingesting {
		r.raft.blocked = append(r.raft.blocked, t)
		return
	}
	if t.snapshot != nil && len(t.snapshot.GetData()) > 0 {
		r.raft.ingesting = true
		r.startIngest(t)
		return
	}
	r.store.logWriter.append(t)
}

// ingestDone lets waiting appends follow an ingest.
func (r *Replica) ingestDone() {
	if r.raft.stopped {
		return
	}
	r.raft.ingesting = false
	r.raft.reads.release(r, r.snapshot().applied.Index)
	blocked := r.raft.blocked
	r.raft.blocked = nil
	for i, t := range blocked {
		if t.snapshot != nil && len(t.snapshot.GetData()) > 0 {
			r.raft.ingesting = true
			r.raft.blocked = blocked[i+1:]
			r.startIngest(t)
			return
		}
		r.store.logWriter.append(t)
	}
}

// deliver hands a storage response to whom it is for.
func (r *Replica) deliver(responses []*raftpb.Message) {
	var out []*raftpb.Message
	for _, m := range responses {
		if m.GetTo() == uint64(r.self) {
			r.post(raftInput{message: m})
		} else {
			out = append(out, m)
		}
	}
	r.send(out)
}
