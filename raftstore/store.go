package raftstore

import (
	"cmp"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
	"github.com/locuskv/locus/raftstore/engine"
	"github.com/locuskv/locus/raftstore/raftlog"
	"github.com/locuskv/locus/raftstore/rowcache"
	"github.com/locuskv/locus/raftstore/scancache"
)

var errStopped = errors.New("raftstore: the store is stopping")

// Store is the replicas of many ranges on one engine and one log.
type Store struct {
	opts   Options
	engine engine.Engine
	log    raftlog.Log
	clock  *hlc.Clock
	exec   Executor
	logger *slog.Logger
	// started is when the store was opened, on its monotonic clock.
	started time.Duration
	// incarnation names this process to other stores; never 0.
	incarnation uint64
	lives       quiescence
	clocks      clockWatch
	reclaim     reclaimer

	applier   *applier
	logWriter *logWriter
	disk      Queue
	holds     *holds
	metrics   metrics
	rows      *rowcache.Cache
	scans     *scancache.Cache
	// published is the last sequence of which everything at or below is visible.
	published atomic.Uint64
	// optimistic counts runs of calls in optimistic mode that wait or are under way.
	optimistic atomic.Int64
	readCalls  atomic.Int64
	gens       atomic.Uint64
	readIDs    atomic.Uint64
	halted     atomic.Bool
	failOnce   sync.Once

	mu struct {
		sync.RWMutex
		replicas map[ids.RangeID]*Replica
		sorted   []*Replica // replicas by range id, never changed; nil: not known since replicas changed
		// wiping are spans whose data is being deleted: they are nobody's until that is durable.
		wiping map[ids.RangeID]keys.Span
		// tombstones: replicas with smaller ids never act again.
		tombstones map[ids.RangeID]ids.ReplicaID
		// dormant are children that only the log holds: recovery went back to before the split that made them, and
		// the parent is about to apply it again.
		dormant map[ids.RangeID]groupMeta
	}

	randMu sync.Mutex

	// resumed is when, by the monotonic clock, a tick came much later than the one before.
	resumed atomic.Int64
	// stirs counts the replicas that wake, fall quiet, come or go.
	stirs atomic.Uint64

	// The ticker's own.
	bedroom           bedroom
	peersSeen         peersSeen
	peersAgain        bool
	peersFound        []ids.StoreID
	ticked            time.Duration
	ticks             int
	sinceCheckpoint   int
	checkpointedBytes uint64
	appended          uint64
}

// stopped says whether the store does nothing any more: after Stop, or after a failure.
func (s *Store) stopped() bool { return s.halted.Load() }

// fatal stops the store for good: after a failed write, a failed sync or damage nothing that it knows can be
// trusted to be durable.
func (s *Store) fatal(err error) {
	s.failOnce.Do(func() {
		s.halted.Store(true)
		s.opts.OnFatal(err)
	})
}

func (s *Store) newID() (id [16]byte) {
	s.randMu.Lock()
	defer s.randMu.Unlock()
	for i := range id {
		id[i] = byte(s.opts.Rand.Uint32())
	}
	return id
}

// nextReadID is unique in the life of the process.
func (s *Store) nextReadID() uint64 { return s.readIDs.Add(1) }

func (s *Store) replica(id ids.RangeID) *Replica {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mu.replicas[id]
}

// allReplicas lists the replicas in the order of their range ids. The list is not to be changed.
func (s *Store) allReplicas() []*Replica {
	s.mu.RLock()
	sorted := s.mu.sorted
	s.mu.RUnlock()
	if sorted != nil {
		return sorted
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sorted = make([]*Replica, 0, len(s.mu.replicas))
	for _, r := range s.mu.replicas {
		sorted = append(sorted, r)
	}
	slices.SortFunc(sorted, func(a, b *Replica) int { return cmp.Compare(a.id, b.id) })
	s.mu.sorted = sorted
	return sorted
}

// placeLocked puts a replica in its range's place; nil frees it.
func (s *Store) placeLocked(id ids.RangeID, r *Replica) {
	s.mu.sorted = nil
	defer s.stirs.Add(1)
	if r == nil {
		delete(s.mu.replicas, id)
		return
	}
	s.mu.replicas[id] = r
}

// forget frees a wiped replica's place.
func (s *Store) forget(id ids.RangeID) {
	s.mu.Lock()
	delete(s.mu.wiping, id)
	if r := s.mu.replicas[id]; r != nil && r.snapshot().gone {
		s.placeLocked(id, nil)
	}
	s.mu.Unlock()
}

func (s *Store) occupy(id ids.RangeID, span keys.Span) {
	s.mu.Lock()
	s.mu.wiping[id] = span
	s.mu.Unlock()
}

func (s *Store) tombstone(id ids.RangeID) (ids.ReplicaID, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	next, ok := s.mu.tombstones[id]
	return next, ok
}

func (s *Store) setTombstone(id ids.RangeID, next ids.ReplicaID) {
	s.mu.Lock()
	s.mu.tombstones[id] = max(next, s.mu.tombstones[id])
	s.mu.Unlock()
}

// replaying is the index up to which a range is known to be committed because its split there made a child that
// the log holds and the engine does not (rule E2); 0 if there is none.
func (s *Store) replaying(parent ids.RangeID) ids.Index {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var index ids.Index
	for _, m := range s.mu.dormant {
		if m.ParentRange == parent {
			index = max(index, m.ParentIndex)
		}
	}
	return index
}

// claim reserves a span for a replica, unless anything else on this store has a part of it, or a snapshot of the
// replica, whose span that may be, is being ingested.
func (s *Store) claim(r *Replica, span keys.Span) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if other, ok := s.overlapLocked(r.id, span); ok {
		return &api.RetryError{Reason: "the span overlaps range " + other.String() + " on this store"}
	}
	busy := false
	r.update(func(st *replicaState) {
		if busy = st.ingesting || st.gone; !busy && st.desc == nil {
			st.reserved = span
		}
	})
	if busy {
		return &api.RetryError{Reason: "the replica is being restored or removed"}
	}
	return nil
}

// overlapLocked finds a range other than id that has a part of span.
func (s *Store) overlapLocked(id ids.RangeID, span keys.Span) (ids.RangeID, bool) {
	for other, w := range s.mu.wiping {
		if w.Overlaps(span) {
			return other, true
		}
	}
	for other, r := range s.mu.replicas {
		if other == id {
			continue
		}
		st := r.snapshot()
		if sp, ok := st.span(); ok && sp.Overlaps(span) {
			return other, true
		}
	}
	return 0, false
}

// Tick advances every group's clock by one. The owner calls it every TickInterval, and never twice to catch up:
// a pause must not look like silence.
func (s *Store) Tick() {
	if s.stopped() {
		return
	}
	s.ticks++
	s.watchClock()
	for _, r := range s.rest() {
		r.post(raftInput{tick: true})
	}
	if s.ticks%housekeepingTicks == 0 {
		s.housekeeping()
	}
}

// housekeepingTicks is the time between two rounds of housekeeping.
const housekeepingTicks = 10

// housekeeping is done now and then: garbage collection, checkpoints, the mark at the end of an idle log.
func (s *Store) housekeeping() {
	if s.clock.Anchored() {
		s.applier.run(func() { s.holds.sample(s.clock.Wall(), s.applier.seq) }) // NB: the time first, then what the store has
	}
	discard := s.holds.advance()
	s.engine.SetDiscard(discard)
	s.checkpointDue()
	s.reclaimDue(discard)
	s.logWriter.run(func() {
		if s.stopped() {
			return
		}
		if err := s.log.Compact(); err != nil {
			s.fatal(err)
		}
	})
	if n := s.metrics.appends.Load(); n == s.appended {
		s.logWriter.run(func() {
			if s.stopped() {
				return
			}
			if err := s.log.MarkEnd(); err != nil {
				s.fatal(err)
			}
		})
	} else {
		s.appended = n
	}
}

// Stop takes a checkpoint and then ends the store; done is called when nothing is touched any more. What is
// under way is not answered.
func (s *Store) Stop(done func()) {
	if s.stopped() {
		done()
		return
	}
	s.checkpoint(raftlog.Batch{}, func() {
		s.halted.Store(true)
		s.logWriter.run(done)
	})
}

// Do executes one data request. done is called exactly once, on some worker.
func (s *Store) Do(req *locuspb.Request, done func(*locuspb.Response)) {
	reply := func(resp *locuspb.Response) {
		resp.Id = req.Id
		done(resp)
	}
	fail := func(err error) { reply(&locuspb.Response{Error: api.ToProto(err)}) }
	if s.stopped() {
		fail(&api.UnavailableError{Reason: "the store is stopping"})
		return
	}
	if err := s.hear(hlc.Timestamp(req.Token)); err != nil {
		fail(err)
		return
	}
	r := s.replica(ids.RangeID(req.RangeId))
	if r == nil || r.snapshot().desc == nil {
		fail(&api.RangeNotFoundError{Range: ids.RangeID(req.RangeId), Routes: s.routesFor(req)})
		return
	}
	switch op := req.Op.(type) {
	case *locuspb.Request_Get, *locuspb.Request_Scan:
		r.read(req, reply)
	case *locuspb.Request_Call:
		// Optimistic calls may take seconds, and the first attempt of a retry may have been one that writes (rule B1).
		if op.Call.ReadOnly && !op.Call.Optimistic && !req.Session.GetRetry() {
			r.readCall(req, reply)
		} else {
			s.command(r, req, reply)
		}
	case *locuspb.Request_Write:
		s.command(r, req, reply)
	case *locuspb.Request_ClockAt:
		r.clockAt(req, reply)
	default:
		fail(&api.InvalidArgumentError{Reason: "the request has no operation"})
	}
}

// hear advances the clock to a token; one too far ahead is refused (rule C4).
func (s *Store) hear(token hlc.Timestamp) error {
	err := s.clock.Update(token)
	var off *hlc.OffsetError
	if errors.As(err, &off) {
		return &api.ClockOffsetError{Remote: off.Remote, Local: off.Wall, Max: off.Max}
	}
	return err
}

// command checks a write or a call and queues it.
func (s *Store) command(r *Replica, req *locuspb.Request, reply func(*locuspb.Response)) {
	fail := func(err error) { reply(&locuspb.Response{Error: api.ToProto(err)}) }
	st := r.snapshot()
	if err := r.commandable(&st, req.BoundsEpoch); err != nil {
		fail(err)
		return
	}
	size, err := commandSize(req, s.opts.MaxCommandBytes)
	if err != nil {
		fail(err)
		return
	}
	if req.GetCall().GetOptimistic() {
		s.callOptimistically(r, req, 0, reply)
		return
	}
	r.seq.submit(&command{req: req, bytes: size, done: reply})
}

// commandable says whether a command for these bounds may be queued here.
func (r *Replica) commandable(s *replicaState, bounds uint64) error {
	switch {
	case s.gone || s.desc == nil:
		return &api.RangeNotFoundError{Range: r.id}
	case bounds != s.desc.Epoch.Bounds:
		return &api.EpochMismatchError{Range: r.id, Routes: r.store.routesOf(s.desc)}
	}
	return nil
}

// commandSize is about what a command's writes cost; too much, or a record over its limits, is refused before
// anything is proposed (rule A6).
func commandSize(req *locuspb.Request, limit int) (int, error) {
	size := 64
	switch op := req.Op.(type) {
	case *locuspb.Request_Write:
		for _, m := range op.Write.Mutations {
			if err := checkRecord(m.Key, m.Value); err != nil {
				return 0, err
			}
			if m.TtlMs < 0 {
				return 0, &api.InvalidArgumentError{Reason: "a time to live is not negative"}
			}
			size += len(m.Key) + len(m.Value) + writeOverhead
		}
		if op.Write.DeleteSpan {
			size += int(min(op.Write.Limit, maxDeleteSpan)) * 64
		} else if len(op.Write.Mutations) == 0 {
			return 0, &api.InvalidArgumentError{Reason: "a write needs at least one mutation"}
		}
	case *locuspb.Request_Call:
		size += len(op.Call.Argument) + len(op.Call.Key) + 256
	}
	if size > limit {
		return 0, &api.LimitError{What: "bytes of one command", Limit: int64(limit), Got: int64(size)}
	}
	return size, nil
}

// clockAt answers with this store's clock, read behind a leadership check (rule C2).
func (r *Replica) clockAt(req *locuspb.Request, reply func(*locuspb.Response)) {
	r.confirmLeadership(hlc.Timestamp(req.Token), func(err error) {
		st := r.snapshot()
		if err == nil {
			err = r.servable(&st, req.BoundsEpoch)
		}
		if err == nil && r.fenced(st.desc) {
			err = r.notLeaseholder()
		}
		if err != nil {
			reply(&locuspb.Response{Error: api.ToProto(err)})
			return
		}
		now := uint64(r.store.clock.Now())
		reply(&locuspb.Response{Timestamp: now, Result: &locuspb.Response_ClockAt{ClockAt: &locuspb.ClockResponse{Clock: now}}})
	})
}

// OpenView fixes a range at a timestamp for a function: 0 is the newest, linearizably. done gets the view, which
// the caller closes, or the error.
func (s *Store) OpenView(id ids.RangeID, boundsEpoch uint64, ts hlc.Timestamp, done func(View, error)) {
	r := s.replica(id)
	if r == nil || s.stopped() {
		done(nil, &api.RangeNotFoundError{Range: id})
		return
	}
	if err := s.hear(ts); err != nil {
		done(nil, err)
		return
	}
	take := func(err error) {
		if err != nil {
			done(nil, err)
			return
		}
		s.exec.Go(QueueRead, func() {
			v, err := r.take(boundsEpoch, ts)
			if err != nil {
				done(nil, err)
				return
			}
			done(openView{v, new(sync.Once)}, nil)
		})
	}
	if ts == 0 {
		r.confirmLeadership(s.clock.Last(), take)
		return
	}
	r.whenClosed(ts, take)
}

// acknowledge answers commands whose entries are applied.
func (s *Store) acknowledge(answers []answer) {
	for _, a := range answers {
		a.cmd.done(a.resp)
	}
	s.metrics.acknowledge(len(answers))
}

func sortedStores(set map[ids.StoreID]bool) []ids.StoreID { return slices.Sorted(maps.Keys(set)) }

// Ranges lists this store's replicas by range id.
func (s *Store) Ranges() []RangeInfo { return s.AppendRanges(nil) }

// AppendRanges appends what Ranges lists.
func (s *Store) AppendRanges(out []RangeInfo) []RangeInfo {
	all := s.allReplicas()
	out = slices.Grow(out, len(all))
	for _, r := range all {
		if i, ok := r.info(); ok {
			out = append(out, i)
		}
	}
	return out
}

// Range is one replica, if this store has it.
func (s *Store) Range(id ids.RangeID) (RangeInfo, bool) {
	r := s.replica(id)
	if r == nil {
		return RangeInfo{}, false
	}
	return r.info()
}

// Lookup finds the local replica that holds a global key.
func (s *Store) Lookup(key []byte) (RangeInfo, bool) {
	for _, r := range s.allReplicas() {
		if i, ok := r.info(); ok && i.Descriptor.Span.Contains(key) {
			return i, true
		}
	}
	return RangeInfo{}, false
}

// routesOf are the routes of all local replicas that border on or lie in a descriptor's span: what a client with
// old bounds needs.
func (s *Store) routesOf(d *topology.Descriptor) []api.Route { return s.routesIn(d.Span) }

func (s *Store) routesIn(span keys.Span) []api.Route {
	var out []api.Route
	for _, r := range s.allReplicas() {
		rs := r.snapshot()
		if rs.desc == nil || rs.gone {
			continue
		}
		touches := rs.desc.Span.Overlaps(span) || (span.End != nil && string(rs.desc.Span.Start) == string(span.End))
		if touches {
			out = append(out, rs.route())
		}
	}
	return out
}

// routesFor are the routes of local replicas that hold what a request asks for.
func (s *Store) routesFor(req *locuspb.Request) []api.Route {
	key := firstKey(req)
	if len(key) == 0 {
		return nil
	}
	return s.routesIn(keys.Span{Start: key, End: keys.Next(key)})
}

// HandleRaft takes messages from another store. Messages are checked for range, replica ids and tombstones only,
// never for an epoch: a lagging replica learns from just such messages (rule E8).
func (s *Store) HandleRaft(from ids.StoreID, envs []*locuspb.RaftEnvelope) {
	now := s.opts.Monotonic()
	s.lives.hear(from, 0, now)
	for _, env := range envs {
		if env.Probe != nil {
			s.heardProbe(from, env.Probe)
			continue
		}
		if env.Incarnation != 0 {
			s.lives.hear(from, env.Incarnation, now)
			if env.RangeId == 0 {
				continue
			}
		}
		if env.Gone {
			s.heardGone(env)
			continue
		}
		if env.Asks {
			s.asked(env)
			continue
		}
		m, err := decodeMessage(env.Message)
		if err != nil || !travels(m.GetType()) || m.GetFrom() == 0 || m.GetTo() != env.ToReplica || m.GetFrom() != env.FromReplica || badContext(m) {
			s.logger.Warn("raft message refused", "from", from, "range", env.RangeId, "err", err)
			continue
		}
		r, err := s.receiver(env, creates(m.GetType()))
		if err != nil {
			// A replica that was removed long ago writes to others that are gone as well: whoever has the range
			// now must tell it, or its old span is in the way of what the store is to have there.
			if r := s.replica(ids.RangeID(env.RangeId)); r != nil {
				s.checkSender(r, env)
			}
			continue
		}
		s.checkSender(r, env)
		if env.Oldest != 0 {
			r.update(func(st *replicaState) { st.noteOldest(env) })
		}
		in := raftInput{message: m}
		if env.Quiet && m.GetType() == raftpb.MsgHeartbeat {
			in.voucher, in.incarnation = from, env.Incarnation
		}
		r.post(in)
	}
}

// travels says which messages replicas send to each other in the message stream. The library acts on any other as if
// it were the replica's own: an entry proposed from outside, empty or forged, would stop every replica.
func travels(t raftpb.MessageType) bool {
	switch t {
	case raftpb.MsgApp, raftpb.MsgAppResp, raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp, raftpb.MsgTimeoutNow,
		raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp:
		return true
	}
	return false
}

// badContext: Raft reads 8 bytes from a heartbeat answer's context and panics when there are fewer.
func badContext(m *raftpb.Message) bool {
	t := m.GetType()
	return (t == raftpb.MsgHeartbeat || t == raftpb.MsgHeartbeatResp) && len(m.GetContext()) != 0 && len(m.GetContext()) != 8
}

func decodeMessage(b []byte) (*raftpb.Message, error) {
	m := &raftpb.Message{}
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, &api.InvalidArgumentError{Reason: "not a raft message: " + err.Error()}
	}
	return m, nil
}

// creates says whether a message may make the replica that it is for. A leader's may, and a candidate's: a split's child has no
// replica where its parent lags, or got past the split by a snapshot, and the vote of such a voter may be needed, if the disk of one of
// the others is lost. It has never voted, nor held anything: it is as a voter whose log is empty. A candidate can't be two changes of the
// configuration behind and win with its help: the second change needs a majority of the first configuration, so that the
// candidate or this voter would have had it, with the news that the first was committed (rule E3). All other voters have been
// learners here, and what was here before has left a tombstone.
func creates(t raftpb.MessageType) bool {
	switch t {
	case raftpb.MsgHeartbeat, raftpb.MsgApp, raftpb.MsgVote, raftpb.MsgPreVote:
		return true
	}
	return false
}

// receiver finds the replica that an envelope is for. It may be made, empty, where its span is free: it may then vote and
// receive a snapshot, and nothing else.
func (s *Store) receiver(env *locuspb.RaftEnvelope, creates bool) (*Replica, error) {
	id, self := ids.RangeID(env.RangeId), ids.ReplicaID(env.ToReplica)
	gone := func() (*Replica, error) { return nil, &api.RangeNotFoundError{Range: id} }
	if id == 0 || self == 0 || env.ToStore != uint64(s.opts.StoreID) || s.stopped() {
		return gone()
	}
	s.mu.Lock()
	r := s.mu.replicas[id]
	switch {
	case r == nil && s.mu.tombstones[id] > self:
		s.mu.Unlock()
		return gone()
	case r != nil && r.self != self:
		s.mu.Unlock()
		if r.self < self {
			// The range has given this store a new replica: the one here was removed.
			s.RemoveReplica(id, self)
		}
		return gone()
	case r != nil:
		s.mu.Unlock()
		r.update(func(st *replicaState) { st.notePeer(env) })
		if r.snapshot().gone {
			return gone()
		}
		return r, nil
	}
	defer s.mu.Unlock()
	_, wiping := s.mu.wiping[id]
	_, dormant := s.mu.dormant[id]
	if !creates || env.Span == nil || wiping || dormant {
		return gone()
	}
	if g, ok := s.log.Group(id); ok {
		if m, err := decodeGroupMeta(g.Meta); err == nil && m.Replica > self {
			return gone() // a late message: what the newer replica voted is not forgotten for it
		}
	}
	span := api.SpanFromProto(env.Span)
	if other, ok := s.overlapLocked(id, span); ok {
		return nil, &api.RetryError{Reason: "the span overlaps range " + other.String() + " on this store"}
	}
	return s.createLocked(id, self, span, env), nil
}

// createLocked makes an uninitialized replica. What the log may hold of a former replica of the range is
// forgotten first; of this one it is kept.
func (s *Store) createLocked(id ids.RangeID, self ids.ReplicaID, span keys.Span, env *locuspb.RaftEnvelope) *Replica {
	r := newReplica(s, id, self)
	r.mu.state.reserved = span
	r.mu.state.notePeer(env)
	s.placeLocked(id, r)
	var b raftlog.Batch
	meta := groupMeta{Replica: self}
	keep := false
	if g, ok := s.log.Group(id); ok {
		old, err := decodeGroupMeta(g.Meta)
		keep = err == nil && old.Replica == self
		if keep && g.Before.Index != 0 {
			s.fatal(&CorruptStoreError{Range: id, Reason: "the log holds entries of it, the engine nothing"})
		}
		if !keep {
			b.Groups = append(b.Groups, raftlog.Write{Group: id, Destroy: true})
		}
	}
	if !keep {
		b.Groups = append(b.Groups, raftlog.Write{Group: id, Create: &raftlog.Create{Meta: meta.encode()}})
	}
	s.logWriter.append(&appendTask{extra: b, durable: func() { r.start(false) }})
	return r
}

// maxPeers bounds what notePeer remembers.
const maxPeers = 64

// notePeer remembers which store a replica writes from, where the descriptor does not tell: there is none yet, or
// it is so old that the leader is not in it.
func (st *replicaState) notePeer(env *locuspb.RaftEnvelope) {
	from, store := ids.ReplicaID(env.FromReplica), ids.StoreID(env.FromStore)
	if st.peers[from] == store || len(st.peers) >= maxPeers {
		return
	}
	if st.desc != nil {
		if _, ok := st.desc.Replica(from); ok {
			return
		}
	}
	peers := make(map[ids.ReplicaID]ids.StoreID, len(st.peers)+1) // a new one: copies of the state share the old
	maps.Copy(peers, st.peers)
	peers[from] = store
	st.peers = peers
}
