package raftstore

import (
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
)

// Replica is this store's copy of one range. Four parties work on it, each on its own queue: the Raft side
// (driver.go), the evaluation (sequencer.go), the store's apply queue (apply.go), and readers (read.go).
// What they share is state, under mu; a reader takes all it needs of it in one step (rule D1).
type Replica struct {
	store *Store
	id    ids.RangeID
	self  ids.ReplicaID

	mu struct {
		sync.RWMutex
		state replicaState
	}

	// The Raft side.
	queue   Queue
	driving func() // drive
	inbox   struct {
		sync.Mutex
		inputs             []raftInput
		started, scheduled bool
	}
	raft raftState

	seq *sequencer

	// The apply queue's own: what the next entry is applied to. state.applied follows once it is visible.
	apply struct {
		state appliedState
		desc  *topology.Descriptor
	}
	history *history

	// leaseWanted: the lease was used since it was last renewed.
	leaseWanted atomic.Bool

	resting resting
}

// replicaState is what the parties share.
type replicaState struct {
	desc *topology.Descriptor // nil until initialized
	// reserved is the span that an uninitialized replica was told it will have.
	reserved keys.Span
	applied  appliedState
	measured measured
	visible  ids.Seq // applied.Index and all before it are visible at this sequence
	// gen is the lineage of applied state for the row cache: another one whenever data is replaced without entries.
	gen      uint64
	term     ids.Term
	leader   ids.ReplicaID // 0: not known
	isLeader bool
	// leaseholder: leads term and has applied an entry of it.
	leaseholder bool
	// frozen: a split was proposed and is not applied; no read is answered (rule D2).
	frozen bool
	// transferring: the lead is being handed over; proposals would be dropped.
	transferring bool
	// leaseUntil is the end of the lease, on the store's monotonic clock; leaseVoid: this term has none any more.
	leaseUntil time.Duration
	leaseVoid  bool
	// committed is the last index that Raft has called committed. Nobody else knows of it before this replica does,
	// if it leads.
	committed ids.Index
	// ingesting: a snapshot is replacing the span's data.
	ingesting bool
	change    replicaChange
	// gone: the replica was removed; its data is being wiped.
	gone bool
	// peers are the stores of replicas that the descriptor does not have (see notePeer).
	peers map[ids.ReplicaID]ids.StoreID
	// progress is the leader's view of the followers, refreshed on ticks.
	progress  []ReplicaProgress
	lastIndex ids.Index
	// oldest is what followers have told this leader of how far back they can be read (see reach.go).
	oldest map[ids.ReplicaID]hlc.Timestamp
}

func newReplica(s *Store, id ids.RangeID, self ids.ReplicaID) *Replica {
	r := &Replica{store: s, id: id, self: self, queue: s.exec.NewQueue(QueueRaft)}
	r.driving = r.drive
	r.raft.heardAt = s.started
	r.mu.state.gen = s.gens.Add(1)
	r.seq = newSequencer(r)
	return r
}

// snapshot copies the shared state.
func (r *Replica) snapshot() replicaState {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.mu.state
}

// update changes the shared state.
func (r *Replica) update(f func(*replicaState)) {
	r.mu.Lock()
	f(&r.mu.state)
	r.mu.Unlock()
}

func (r *Replica) freeze() { r.update(func(s *replicaState) { s.frozen = true }) }

// thaw ends a freeze whose split is decided: applied, or never to be, everything up to index being applied.
func (r *Replica) thaw(index ids.Index) {
	r.update(func(s *replicaState) {
		if s.applied.Index >= index {
			s.frozen = false
		}
	})
}

// notLeaseholder is the error for whoever asked the wrong replica, with the cure.
func (r *Replica) notLeaseholder() error {
	s := r.snapshot()
	e := &api.NotLeaseholderError{Range: r.id}
	if s.desc != nil {
		if lead, ok := s.desc.Replica(s.leader); ok && !(s.isLeader && (!s.leaseholder || r.fenced(s.desc))) {
			e.Leaseholder = lead.Store
		}
		e.Routes = []api.Route{s.route()}
	}
	return e
}

func (s *replicaState) route() api.Route {
	bytes, records := s.size()
	rt := api.Route{Descriptor: s.desc, Term: s.term, Bytes: bytes, Records: records}
	if lead, ok := s.desc.Replica(s.leader); ok {
		rt.Leaseholder = lead.Store
	}
	return rt
}

// info is the replica as the outside sees it; false while it is uninitialized or gone.
func (r *Replica) info() (RangeInfo, bool) {
	s := r.snapshot()
	if s.desc == nil || s.gone {
		return RangeInfo{}, false
	}
	bytes, records := s.size()
	i := RangeInfo{
		Descriptor: s.desc, Replica: r.self, Term: s.term, Leaseholder: s.leaseholder,
		Applied: s.applied.Index, LastIndex: s.lastIndex, Bytes: bytes, Records: records, Closed: s.applied.Closed,
		Settled: s.change.settled,
	}
	if lead, ok := s.desc.Replica(s.leader); ok {
		i.Leader = lead.Store
	}
	if s.isLeader {
		i.Progress = s.progress
	}
	if s.leaseholder && !s.leaseVoid {
		i.LeaseUntil = s.leaseUntil
	}
	return i, true
}

// confState is the Raft configuration that a descriptor stands for.
func confState(d *topology.Descriptor) *raftpb.ConfState {
	cs := &raftpb.ConfState{}
	if d == nil {
		return cs
	}
	joint := d.Joint()
	for _, r := range d.Replicas {
		id := uint64(r.ID)
		switch r.Role {
		case topology.Voter:
			cs.Voters = append(cs.Voters, id)
			if joint {
				cs.VotersOutgoing = append(cs.VotersOutgoing, id)
			}
		case topology.VoterIncoming:
			cs.Voters = append(cs.Voters, id)
		case topology.VoterOutgoing:
			cs.VotersOutgoing = append(cs.VotersOutgoing, id)
		case topology.Learner:
			cs.Learners = append(cs.Learners, id)
		}
	}
	return cs
}

// raftInput is one thing for the Raft side to do.
type raftInput struct {
	message *raftpb.Message
	// voucher, if not 0, is the store that sent message as a leader's last before it falls quiet.
	voucher     ids.StoreID
	incarnation uint64
	proposal    *proposal
	generation  uint64 // above 0: proposals of older generations are not made
	tick        bool
	run         func()
}

// proposal is an entry on its way from the sequencer into the log.
type proposal struct {
	generation uint64
	entry      *batchEntry
	data       []byte
}

// raftState belongs to the Raft side.
type raftState struct {
	node *raft.RawNode
	// done is space for inputs that the next step may take.
	done       []raftInput
	storage    *groupStorage
	generation uint64
	reads      readRounds
	// pinned are snapshots that were made for the log's sake and not yet sent.
	pinned map[string]*pinnedSnapshot
	// incoming is a received snapshot that Raft has been told of.
	incoming map[string]*incomingSnapshot
	// ingesting: a snapshot is on its way into the engine; the group's later appends wait in blocked.
	ingesting bool
	blocked   []*appendTask
	// restored is the index of the last snapshot that Raft accepted, with its configuration.
	restored ids.Index
	// silent counts, per follower, the ticks since Raft last called it active. spare and progress are space for the next
	// tick's (followers).
	silent, spare map[ids.ReplicaID]int
	progress      []ReplicaProgress
	// lastAppended is the last index handed to the log writer.
	lastAppended ids.Index
	// reset is the highest generation whose sequencer must start again.
	reset     uint64
	idleTicks int
	// heardAt is when this replica last handled a message of its leader, or when its store started; unheard counts
	// the ticks since.
	heardAt time.Duration
	unheard int
	// quiet: Raft's clock stands still (see quiet.go). restTicks counts a leader's ticks without anything to do.
	quiet     bool
	restTicks int
	// late are messages that only tell of a commit, by receiver, which wait for the next tick; promptTicks says for how
	// long none is put off.
	late        map[uint64]*raftpb.Message
	promptTicks int
	successor   successor
	// handOvers counts attempts to hand over the lead in this term.
	handOvers int
	// asked counts the ticks of a retired replica.
	asked     int
	leaving   bool // a command to leave the joint configuration is under way
	campaigns int
	stopped   bool
}

// maxInbox bounds the Raft messages that wait for a replica; more are dropped, as a network may drop them.
const maxInbox = 4096

// post hands an input to the Raft side.
func (r *Replica) post(in raftInput) {
	r.inbox.Lock()
	defer r.inbox.Unlock()
	// What the storage answers to this replica itself is never dropped: Raft does not ask again.
	if in.message != nil && len(r.inbox.inputs) >= maxInbox && in.message.GetFrom() != uint64(r.self) && !raft.IsLocalMsg(in.message.GetType()) {
		return
	}
	r.inbox.inputs = append(r.inbox.inputs, in)
	r.wakeLocked()
}

// start opens the Raft group; what was posted before waits for it. A replica that has reason to believe that
// it should lead campaigns at once instead of waiting for an election timeout.
func (r *Replica) start(campaign bool) {
	open := raftInput{run: func() {
		if err := r.openRaft(); err != nil {
			r.raft.stopped = true // there is no group to drive
			r.store.fatal(err)
			return
		}
		if campaign {
			r.raft.campaigns = eagerCampaigns
			r.campaign()
		}
	}}
	r.inbox.Lock()
	defer r.inbox.Unlock()
	r.inbox.inputs = append([]raftInput{open}, r.inbox.inputs...)
	r.inbox.started = true
	r.wakeLocked()
}

// eagerCampaigns is how many ticks in a row a replica that should lead tries again: its peers may not have
// opened the group yet.
const eagerCampaigns = 5

func (r *Replica) campaign() {
	if r.raft.campaigns == 0 {
		return
	}
	if st := r.raft.node.BasicStatus(); st.Lead != raft.None {
		r.raft.campaigns = 0
		return
	}
	r.raft.campaigns--
	if d := r.snapshot().desc; (r.bound() && !r.alone()) || r.fenced(d) || r.retired(d) {
		return
	}
	if err := r.raft.node.Campaign(); err != nil {
		r.store.logger.Debug("campaign refused", "range", r.id, "err", err)
	}
}

// alone says whether the range has never had another replica that could lead it.
func (r *Replica) alone() bool {
	d := r.snapshot().desc
	return d != nil && len(d.Replicas) == 1 && d.Replicas[0].ID == r.self && d.NextReplica == r.self+1 && r.self == 1
}

func (r *Replica) wakeLocked() {
	if r.inbox.started && !r.inbox.scheduled {
		r.inbox.scheduled = true
		r.queue.Post(r.driving)
	}
}
