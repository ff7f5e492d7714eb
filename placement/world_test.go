package placement

import (
	"bytes"
	"container/heap"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
)

// world is a toy cluster: stores, ranges with true descriptors, a network that delays, loses, doubles and
// reorders, one goroutine, virtual time, and the real Driver wherever range 1 is led. It executes operators
// as a range would: only at the epochs they name, learners are filled after a while, joint configurations
// last a moment.
type world struct {
	t      testing.TB
	seed   uint64
	rng    *rand.Rand
	now    time.Duration
	queue  eventQueue
	serial uint64

	stores  map[ids.StoreID]*simStore
	ranges  map[ids.RangeID]*simRange
	records map[string][]byte
	erased  uint64 // keys of user data left to erase, per world

	driver   *Driver
	home     ids.StoreID // where the driver runs
	offices  int
	zombies  []*Driver
	options  Options
	lossy    bool
	density  uint64                         // bytes in each bucket of each keyspace; see wishOf
	epochs   map[ids.RangeID]topology.Epoch // that the driver in office has known
	newest   *office                        // whoever claimed last
	lastPlan time.Duration                  // of any operator by the driver in office
	lastAdd  time.Duration                  // of a learner
	trace    []string
}

type simStore struct {
	info     *locuspb.NodeInfo
	up       bool
	downAt   time.Duration
	clock    uint64
	version  uint64
	holding  map[ids.RangeID]ids.ReplicaID
	sentNext uint64 // invalidates older timers
	// base is the last report that a driver has taken, by its own word, and told what it said of the ranges led.
	base uint64
	held []uint64
	told map[uint64]*locuspb.RangeReport
}

type simRange struct {
	desc    *topology.Descriptor
	leader  ids.StoreID
	term    uint64
	applied uint64
	match   map[ids.ReplicaID]uint64
	filled  map[ids.ReplicaID]bool
}

type event struct {
	at  time.Duration
	seq uint64
	f   func()
}
type eventQueue []event

func (q eventQueue) Len() int { return len(q) }
func (q eventQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || (q[i].at == q[j].at && q[i].seq < q[j].seq)
}
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *eventQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

const simCluster = "sim"

// newWorld is one fresh store with the three ranges of a bootstrap.
func newWorld(t testing.TB, seed uint64, lossy bool) *world {
	w := &world{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 7)), lossy: lossy,
		stores: map[ids.StoreID]*simStore{}, ranges: map[ids.RangeID]*simRange{}, records: map[string][]byte{},
	}
	w.addStore(1, "node-1")
	bounds := [][]byte{nil, keys.KeyspacePrefix(1), keys.KeyspacePrefix(2), nil}
	for i := range 3 {
		id := ids.RangeID(i + 1)
		d := &topology.Descriptor{
			ID: id, Span: keys.Span{Start: bounds[i], End: bounds[i+1]}, Epoch: topology.Epoch{Conf: 1, Bounds: 1},
			Replicas: []topology.Replica{{Store: 1, ID: 1, Role: topology.Voter}}, NextReplica: 2,
		}
		w.ranges[id] = &simRange{desc: d, leader: 1, term: 5, applied: 10,
			match: map[ids.ReplicaID]uint64{1: 10}, filled: map[ids.ReplicaID]bool{1: true}}
		w.stores[1].holding[id] = 1
	}
	w.every(100*time.Millisecond, w.progress)
	w.every(200*time.Millisecond, func() {
		w.followLease()
		if w.driver != nil {
			w.driver.Tick()
		}
		for _, z := range w.zombies {
			z.Tick()
		}
	})
	return w
}

func (w *world) after(d time.Duration, f func()) {
	w.serial++
	heap.Push(&w.queue, event{at: w.now + d, seq: w.serial, f: f})
}

func (w *world) every(d time.Duration, f func()) {
	w.after(d, func() { f(); w.every(d, f) })
}

// run lets time pass.
func (w *world) run(d time.Duration) { w.until(d, func() bool { return false }) }

// until lets time pass until the condition holds, for at most d.
func (w *world) until(d time.Duration, ok func() bool) bool {
	for end := w.now + d; len(w.queue) > 0 && w.queue[0].at <= end; {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.f()
		if ok() {
			return true
		}
	}
	return false
}

// must is until with a verdict.
func (w *world) must(d time.Duration, what string, ok func() bool) {
	w.t.Helper()
	if !w.until(d, ok) {
		w.fail("not within %s: %s", d, what)
	}
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	for _, r := range w.sortedRanges() {
		w.t.Logf("%s leader %s term %d applied %d match %v", r.desc, r.leader, r.term, r.applied, r.match)
	}
	for _, line := range w.trace[max(0, len(w.trace)-40):] {
		w.t.Log(line)
	}
	w.t.Fatalf("seed %d at %s: %s", w.seed, w.now, fmt.Sprintf(format, args...))
}

func (w *world) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf("%12s %s", w.now, fmt.Sprintf(format, args...)))
}

// delay is one crossing of the network; false: lost.
func (w *world) delay() (time.Duration, bool) {
	d := time.Duration(1+w.rng.IntN(30)) * time.Millisecond
	if w.lossy {
		switch w.rng.IntN(20) {
		case 0:
			return 0, false
		case 1:
			d += time.Duration(w.rng.IntN(3000)) * time.Millisecond
		}
	}
	return d, true
}

func (w *world) addStore(id ids.StoreID, node string) {
	w.stores[id] = &simStore{
		info: &locuspb.NodeInfo{StoreId: uint64(id), NodeId: node, Address: node + ":1"},
		up:   true, holding: map[ids.RangeID]ids.ReplicaID{},
	}
	w.heartbeatLater(id, 0)
}

// join brings a new node in through the driver, trying again until it answers.
func (w *world) join(node string) {
	retry := func() { w.after(300*time.Millisecond, func() { w.join(node) }) }
	if w.driver == nil {
		retry()
		return
	}
	req := &locuspb.JoinRequest{Node: &locuspb.NodeInfo{NodeId: node, Address: node + ":1"}}
	to := w.driver
	if n := len(w.zombies); n > 0 && w.rng.IntN(2) == 0 {
		to = w.zombies[w.rng.IntN(n)]
	}
	to.Join(req, func(resp *locuspb.JoinResponse, err error) {
		if err != nil {
			retry()
			return
		}
		if s := w.stores[ids.StoreID(resp.StoreId)]; s == nil {
			w.addStore(ids.StoreID(resp.StoreId), node)
		} else if s.info.NodeId != node {
			w.fail("store id %d given to %s and %s", resp.StoreId, s.info.NodeId, node)
		}
	})
}

func (w *world) kill(id ids.StoreID) {
	w.note("kill %s", id)
	w.stores[id].up, w.stores[id].downAt = false, w.now
}

// revive: the store's replicas take a while to catch up.
func (w *world) revive(id ids.StoreID) {
	w.note("revive %s", id)
	w.stores[id].up = true
	for _, r := range w.sortedRanges() {
		if rep, ok := r.desc.On(id); ok && r.filled[rep.ID] && r.leader != id {
			r.filled[rep.ID] = false
			w.after(time.Duration(w.rng.IntN(5000))*time.Millisecond, func() { r.filled[rep.ID] = true })
		}
	}
	w.heartbeatLater(id, 0)
}

// followLease keeps the driver where range 1 is led. The deposed one lives on for a while, unaware.
func (w *world) followLease() {
	leader := w.ranges[1].leader
	if !w.stores[leader].up || !w.quorumUp(w.ranges[1]) {
		leader = 0
	}
	if leader == w.home && (w.driver == nil || w.driver.Err() == nil) {
		return
	}
	if old := w.driver; old != nil {
		w.zombies = append(w.zombies, old)
		w.after(5*time.Second, func() {
			w.zombies = slices.DeleteFunc(w.zombies, func(d *Driver) bool { return d == old })
			old.Stop()
		})
	}
	w.driver, w.home = nil, leader
	if leader != 0 {
		w.offices++
		w.note("office %d on %s", w.offices, leader)
		w.driver = w.newDriver(leader)
		w.driver.Start()
	}
}

func (w *world) newDriver(home ids.StoreID) *Driver {
	o := w.options
	w.epochs = map[ids.RangeID]topology.Epoch{}
	o.ClusterID, o.Self, o.Records, o.Eraser = simCluster, w.stores[home].info, &office{world: w}, w
	o.Now = func() time.Duration { return w.now }
	var self *Driver
	o.OnOperator = func(op *locuspb.Operator) { w.checkOperator(self, op) }
	d, err := NewDriver(o)
	if err != nil {
		w.t.Fatal(err)
	}
	self = d
	return d
}

// heartbeatLater schedules a store's next heartbeat; timers set before are void.
func (w *world) heartbeatLater(id ids.StoreID, d time.Duration) {
	s := w.stores[id]
	s.sentNext++
	mine := s.sentNext
	w.after(d, func() {
		if s.up && s.sentNext == mine {
			w.heartbeat(id)
		}
	})
}

func (w *world) heartbeat(id ids.StoreID) {
	w.heartbeatLater(id, time.Second)
	s := w.stores[id]
	s.clock++
	req := &locuspb.HeartbeatRequest{Node: s.info, Clock: s.clock, MapVersion: s.version}
	for _, r := range w.sortedRanges() {
		if _, has := s.holding[r.desc.ID]; has {
			req.Holding = append(req.Holding, uint64(r.desc.ID))
		}
		if r.leader == id && w.quorumUp(r) {
			req.Leading = append(req.Leading, w.report(r))
		}
	}
	whole := &locuspb.HeartbeatRequest{Clock: req.Clock, Leading: req.Leading, Holding: req.Holding}
	s.shorten(req)
	copies := 1
	if w.lossy && w.rng.IntN(10) == 0 {
		copies = 2
	}
	for range copies {
		if d, ok := w.delay(); ok {
			w.after(d, func() { w.deliver(id, req, whole) })
		}
	}
}

func (w *world) report(r *simRange) *locuspb.RangeReport {
	m := &locuspb.RangeReport{Descriptor_: api.DescriptorToProto(r.desc), Term: r.term, Applied: r.applied}
	for _, rep := range r.desc.Replicas {
		m.Progress = append(m.Progress, &locuspb.ReplicaProgress{
			ReplicaId: uint64(rep.ID), Match: r.match[rep.ID], Active: w.stores[rep.Store].up,
		})
	}
	m.Split = w.wishOf(r)
	return m
}

// simMaxRange is the size in bytes above which a range wants to be split.
const simMaxRange = 1 << 20

// size is the number of buckets in a range of a keyspace, and what they hold.
func (w *world) size(r *simRange) (first, buckets, bytes uint64) {
	bucket := func(key []byte) uint64 {
		var b [8]byte
		copy(b[2:], key) // keyspace and bucket
		return binary.BigEndian.Uint64(b[:])
	}
	if r.desc.Span.End == nil || r.desc.ID == ids.SystemRange {
		return 0, 0, 0
	}
	first = bucket(r.desc.Span.Start)
	buckets = bucket(r.desc.Span.End) - first
	return first, buckets, buckets * w.density
}

// wishOf: a range above simMaxRange wants to be split at its middle bucket.
func (w *world) wishOf(r *simRange) *locuspb.SplitWish {
	first, buckets, bytes := w.size(r)
	if bytes <= simMaxRange || buckets < 2 {
		return nil
	}
	var key [8]byte
	binary.BigEndian.PutUint64(key[:], (first+buckets/2)<<16)
	return &locuspb.SplitWish{Key: key[:6], Reason: "too large"}
}

// deliver gives a heartbeat to the driver (and now and then to a deposed one, as nodes that have not heard).
// shorten makes a report one of what has changed, if a driver has one that it can build on.
func (s *simStore) shorten(req *locuspb.HeartbeatRequest) {
	if s.base == 0 || !slices.Equal(s.held, req.Holding) {
		return
	}
	req.Base, req.Holding = s.base, nil
	var leading []*locuspb.RangeReport
	led := make(map[uint64]bool)
	for _, m := range req.Leading {
		led[m.Descriptor_.RangeId] = true
		if !proto.Equal(m, s.told[m.Descriptor_.RangeId]) {
			leading = append(leading, m)
		}
	}
	req.Leading = leading
	for id := range s.told {
		if !led[id] {
			req.Released = append(req.Released, id)
		}
	}
	slices.Sort(req.Released)
}

// answered takes the driver's word on what it has; answers may come late, twice and out of order.
func (s *simStore) answered(whole *locuspb.HeartbeatRequest, taken uint64) {
	if s.base = 0; taken != whole.Clock {
		return
	}
	s.base, s.held, s.told = taken, whole.Holding, make(map[uint64]*locuspb.RangeReport)
	for _, m := range whole.Leading {
		s.told[m.Descriptor_.RangeId] = m
	}
}

func (w *world) deliver(from ids.StoreID, req, whole *locuspb.HeartbeatRequest) {
	to := w.driver
	if len(w.zombies) > 0 && w.rng.IntN(3) == 0 {
		to = w.zombies[w.rng.IntN(len(w.zombies))]
	}
	if to == nil {
		return
	}
	resp, err := to.Heartbeat(req)
	if err != nil {
		return
	}
	if to == w.driver {
		w.checkEpochs()
	}
	if d, ok := w.delay(); ok {
		w.after(d, func() { w.answer(from, whole, resp) })
	}
}

func (w *world) answer(id ids.StoreID, whole *locuspb.HeartbeatRequest, resp *locuspb.HeartbeatResponse) {
	s := w.stores[id]
	if !s.up {
		return
	}
	s.answered(whole, resp.Taken)
	if resp.MapVersion != 0 {
		s.version = resp.MapVersion
	}
	for _, g := range resp.Gone {
		w.removeGone(s, g)
	}
	for _, op := range resp.Operators {
		w.after(time.Duration(w.rng.IntN(100))*time.Millisecond, func() { w.execute(id, op) })
	}
	if resp.NextMs > 0 {
		w.heartbeatLater(id, time.Duration(resp.NextMs)*time.Millisecond)
	}
}

func (w *world) removeGone(s *simStore, g *locuspb.GoneReplica) {
	id := ids.RangeID(g.RangeId)
	have, ok := s.holding[id]
	if !ok || uint64(have) >= g.NextReplicaId {
		return
	}
	if _, in := w.ranges[id].desc.On(ids.StoreID(s.info.StoreId)); in {
		w.fail("driver told store %d to remove its replica %s of %s, which is in the descriptor", s.info.StoreId, have, w.ranges[id].desc)
	}
	delete(s.holding, id)
}

// execute is what a range's leader does with an operator.
func (w *world) execute(on ids.StoreID, op *locuspb.Operator) {
	r := w.ranges[ids.RangeID(op.RangeId)]
	epoch := topology.Epoch{Conf: op.ConfEpoch, Bounds: op.BoundsEpoch}
	if !w.stores[on].up || r.leader != on || r.desc.Epoch != epoch || !w.quorumUp(r) {
		return // refused
	}
	w.note("execute %v", op)
	switch step := op.Step.(type) {
	case *locuspb.Operator_AddLearner:
		w.execAdd(r, ids.StoreID(step.AddLearner.StoreId))
	case *locuspb.Operator_Replace:
		w.execReplace(r, step.Replace)
	case *locuspb.Operator_Remove:
		w.execRemove(r, ids.ReplicaID(step.Remove.ReplicaId))
	case *locuspb.Operator_Transfer:
		r.leader = ids.StoreID(step.Transfer.StoreId)
		r.term++
		w.heartbeatLater(r.leader, 0)
	case *locuspb.Operator_Split:
		w.execSplit(r, step.Split)
	}
	w.heartbeatLater(on, 0)
}

func (w *world) execAdd(r *simRange, to ids.StoreID) {
	d := r.desc.Clone()
	id := d.NextReplica
	d.NextReplica++
	d.Epoch.Conf++
	d.Replicas = append(d.Replicas, topology.Replica{Store: to, ID: id, Role: topology.Learner})
	r.desc = d
	w.stores[to].holding[d.ID] = id
	w.after(time.Duration(50+w.rng.IntN(1000))*time.Millisecond, func() { r.filled[id] = true })
}

func (w *world) execReplace(r *simRange, step *locuspb.ReplaceVoters) {
	d := r.desc.Clone()
	d.Epoch.Conf++
	for i := range d.Replicas {
		rep := &d.Replicas[i]
		if slices.Contains(step.Promote, uint64(rep.ID)) {
			if rep.Role != topology.Learner {
				w.fail("promote of %s in %s", rep.ID, r.desc)
			}
			rep.Role = topology.VoterIncoming
		}
		if slices.Contains(step.Remove, uint64(rep.ID)) {
			if rep.Role != topology.Voter || rep.Store == r.leader {
				w.fail("removal of %s in %s led by %s", rep.ID, r.desc, r.leader)
			}
			rep.Role = topology.VoterOutgoing
		}
	}
	r.desc = d
	w.after(time.Duration(w.rng.IntN(200))*time.Millisecond, func() { w.leaveJoint(r) })
}

func (w *world) leaveJoint(r *simRange) {
	if !w.quorumUp(r) || !w.stores[r.leader].up {
		w.after(time.Second, func() { w.leaveJoint(r) })
		return
	}
	d := r.desc.Clone()
	d.Epoch.Conf++
	for i := range d.Replicas {
		if d.Replicas[i].Role == topology.VoterIncoming {
			d.Replicas[i].Role = topology.Voter
		}
	}
	d.Replicas = slices.DeleteFunc(d.Replicas, func(rep topology.Replica) bool {
		out := rep.Role == topology.VoterOutgoing
		if out {
			w.forget(d.ID, rep)
		}
		return out
	})
	r.desc = d
	w.heartbeatLater(r.leader, 0)
}

// forget: the store of a removed replica may or may not learn of it from its peers.
func (w *world) forget(id ids.RangeID, rep topology.Replica) {
	if s := w.stores[rep.Store]; s.up && w.rng.IntN(2) == 0 && s.holding[id] == rep.ID {
		delete(s.holding, id)
	}
}

func (w *world) execRemove(r *simRange, id ids.ReplicaID) {
	d := r.desc.Clone()
	d.Epoch.Conf++
	d.Replicas = slices.DeleteFunc(d.Replicas, func(rep topology.Replica) bool {
		if rep.ID == id {
			w.forget(d.ID, rep)
		}
		return rep.ID == id
	})
	r.desc = d
}

func (w *world) execSplit(r *simRange, step *locuspb.SplitAt) {
	id := ids.RangeID(step.NewRangeId)
	if w.ranges[id] != nil {
		w.fail("range id %s used twice", id)
	}
	if !r.desc.Span.Contains(step.Key) || bytes.Equal(r.desc.Span.Start, step.Key) {
		w.fail("split of %s at %q", r.desc, step.Key)
	}
	left := r.desc.Clone()
	left.Epoch.Bounds++
	right := left.Clone()
	right.ID, right.Span.Start, left.Span.End = id, bytes.Clone(step.Key), bytes.Clone(step.Key)
	r.desc = left
	child := &simRange{desc: right, leader: r.leader, term: 6, applied: 10, match: map[ids.ReplicaID]uint64{}, filled: map[ids.ReplicaID]bool{}}
	for _, rep := range right.Replicas {
		child.filled[rep.ID] = true
		w.stores[rep.Store].holding[id] = rep.ID
	}
	w.ranges[id] = child
}

// progress is a tenth of a second of writing, catching up and electing.
func (w *world) progress() {
	for _, r := range w.sortedRanges() {
		if !w.quorumUp(r) {
			continue
		}
		if !w.stores[r.leader].up {
			w.elect(r)
			continue
		}
		r.applied += uint64(w.rng.IntN(20))
		for _, rep := range r.desc.Replicas {
			if w.stores[rep.Store].up && r.filled[rep.ID] {
				r.match[rep.ID] = r.applied - uint64(w.rng.IntN(10))
			}
		}
	}
}

// elect makes the most advanced live voter the leader, some ticks after the old one died.
func (w *world) elect(r *simRange) {
	if w.now-w.stores[r.leader].downAt < time.Second || w.rng.IntN(10) > 0 {
		return
	}
	var best topology.Replica
	for _, rep := range r.desc.Voters() {
		if w.stores[rep.Store].up && (best.ID == 0 || r.match[rep.ID] > r.match[best.ID]) {
			best = rep
		}
	}
	r.leader = best.Store
	r.term += 1 + uint64(w.rng.IntN(2))
	w.note("%s elects %s", r.desc.ID, r.leader)
}

// quorumUp: a majority of every configuration in force is up.
func (w *world) quorumUp(r *simRange) bool {
	var up, all [2]int
	for _, rep := range r.desc.Replicas {
		in := [2]bool{
			rep.Role == topology.Voter || rep.Role == topology.VoterIncoming,
			rep.Role == topology.Voter || rep.Role == topology.VoterOutgoing,
		}
		for i := range in {
			if in[i] {
				all[i]++
				if w.stores[rep.Store].up {
					up[i]++
				}
			}
		}
	}
	return up[0] >= quorum(all[0]) && (!r.desc.Joint() || up[1] >= quorum(all[1]))
}

func (w *world) sortedRanges() []*simRange {
	out := make([]*simRange, 0, len(w.ranges))
	for _, id := range slices.Sorted(maps.Keys(w.ranges)) {
		out = append(out, w.ranges[id])
	}
	return out
}

// checkOperator asserts what must hold of every operator, against the truth of the toy cluster.
func (w *world) checkOperator(by *Driver, op *locuspb.Operator) {
	if by != w.driver {
		return // a deposed driver's view may be old; the epochs keep its operators from doing harm
	}
	w.note("plan %v", op)
	w.lastPlan = w.now
	if op.GetAddLearner() != nil {
		w.lastAdd = w.now
	}
	r := w.ranges[ids.RangeID(op.RangeId)]
	if by.core.running[ids.RangeID(op.RangeId)].op.op != op {
		w.fail("operator %v for a range that has another under way", op)
	}
	epoch := topology.Epoch{Conf: op.ConfEpoch, Bounds: op.BoundsEpoch}
	if epoch != r.desc.Epoch {
		return // it will be refused
	}
	if step := op.GetReplace(); step != nil {
		w.checkQuorum(r, step)
	}
	if step := op.GetTransfer(); step != nil {
		rep, ok := r.desc.On(ids.StoreID(step.StoreId))
		if !ok || rep.Role != topology.Voter || r.match[rep.ID]+1000 < r.applied {
			k := by.core.cl.ranges[r.desc.ID]
			w.fail("lease of %s to store %d; the driver knows applied %d, progress %v", r.desc, step.StoreId, k.applied, k.progress)
		}
	}
}

// checkQuorum: of the voters before a change, and of those after, a majority is alive (or died too recently
// to be known) and caught up (or was so a moment ago).
func (w *world) checkQuorum(r *simRange, step *locuspb.ReplaceVoters) {
	var well, all [2]int
	for _, rep := range r.desc.Replicas {
		in := [2]bool{
			rep.Role == topology.Voter,
			(rep.Role == topology.Voter || slices.Contains(step.Promote, uint64(rep.ID))) && !slices.Contains(step.Remove, uint64(rep.ID)),
		}
		s := w.stores[rep.Store]
		known := s.up || w.now-s.downAt < 9*time.Second // SuspectAfter and the slowest heartbeat
		for i := range in {
			if in[i] {
				all[i]++
				if known && r.match[rep.ID]+1000 > r.applied {
					well[i]++
				}
			}
		}
	}
	if well[0] < quorum(all[0]) || well[1] < quorum(all[1]) {
		w.fail("%v with %d of %d voters well before and %d of %d after in %s", step, well[0], all[0], well[1], all[1], r.desc)
	}
}

// checkEpochs asserts that what the driver knows of a range is never replaced by something older.
func (w *world) checkEpochs() {
	for id, r := range w.driver.core.cl.ranges {
		if w.epochs[id].Newer(r.desc.Epoch) {
			w.fail("driver went back from %s to %s of %s", w.epochs[id], r.desc.Epoch, id)
		}
		w.epochs[id] = r.desc.Epoch
	}
}

// office is the system range as one driver uses it: durable, conditional, slow at times. It asserts that
// nothing of a driver takes effect once another has claimed the office.
type office struct {
	*world
	claimed bool
}

func (w *office) Load(span keys.Span, done func([]Record, error)) {
	w.after(time.Duration(w.rng.IntN(20))*time.Millisecond, func() {
		var out []Record
		for _, k := range slices.Sorted(maps.Keys(w.records)) {
			if span.Contains([]byte(k)) {
				out = append(out, Record{Key: []byte(k), Value: w.records[k]})
			}
		}
		done(out, nil)
	})
}

func (w *office) Write(req *locuspb.WriteRequest, done func(error)) {
	req = proto.CloneOf(req)
	w.after(time.Duration(w.rng.IntN(40))*time.Millisecond, func() {
		if w.lossy && w.rng.IntN(30) == 0 {
			done(&api.OverloadedError{What: "the sequencer"})
			return
		}
		err := w.apply(req)
		if err == nil && bytes.Equal(req.Mutations[0].Key, recordKey(keyOffice)) && !w.claimed {
			w.claimed, w.newest = true, w
		}
		if err == nil && w.newest != w {
			w.fail("a deposed driver wrote %v", req)
		}
		if w.lossy && w.rng.IntN(100) == 0 {
			err = &api.AmbiguousError{Cause: fmt.Errorf("lost")}
		}
		done(err)
	})
}

func (w *world) apply(req *locuspb.WriteRequest) error {
	for _, c := range req.Conditions {
		v, ok := w.records[string(c.Key)]
		if (c.Kind == locuspb.Condition_ABSENT) == ok || (ok && !bytes.Equal(v, c.Value)) {
			return &api.ConditionError{Key: c.Key, Exists: ok, Value: v}
		}
	}
	for _, m := range req.Mutations {
		if m.Delete {
			delete(w.records, string(m.Key))
		} else {
			w.records[string(m.Key)] = m.Value
		}
	}
	return nil
}

// Erase deletes from one heap of keys, whatever the span.
func (w *world) Erase(span keys.Span, limit uint64, done func(bool, error)) {
	if id, _ := keys.KeyspaceOf(span.Start); id < 2 || span.End == nil {
		w.fail("erase of %s", span)
	}
	w.after(time.Duration(w.rng.IntN(100))*time.Millisecond, func() {
		if w.lossy && w.rng.IntN(10) == 0 {
			done(false, &api.UnavailableError{Reason: "range moved"})
			return
		}
		w.erased -= min(limit, w.erased)
		done(w.erased > 0, nil)
	})
}
