package raftstore

import (
	"bytes"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/packed"
	"github.com/locuskv/locus/internal/vfs"
	"github.com/locuskv/locus/raftstore/engine"
	"github.com/locuskv/locus/raftstore/raftlog"
)

// The tests of this package play executions by hand: every store runs on a stepper, whose queues can be held and
// let go, messages wait in a mailbox until they are carried, clocks stand still until they are moved. Nothing
// happens beside the test, so each execution is exact.

// chance stands for crypto/rand.Reader, from which the Raft library draws its election timeouts: those of each cluster are the
// same in every run. What other timeouts do is for the simulation to find.
type chance struct {
	mu  sync.Mutex
	rng *rand.Rand
}

var lots = &chance{rng: rand.New(rand.NewPCG(1, 1))}

func init() { crand.Reader = lots }

func (c *chance) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rng = rand.New(rand.NewPCG(1, 1))
}

func (c *chance) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range b {
		b[i] = byte(c.rng.Uint32())
	}
	return len(b), nil
}

// stepper is an Executor whose steps run when the test says so.
type stepper struct {
	queues []*stepQueue
	loose  []*stepQueue // one per kind, for Go
	dead   bool
}

type stepQueue struct {
	kind  QueueKind
	steps []func()
	held  bool
}

func newStepper() *stepper {
	s := &stepper{}
	for kind := range QueueKind(queueKinds) {
		q := &stepQueue{kind: kind}
		s.loose = append(s.loose, q)
		s.queues = append(s.queues, q)
	}
	return s
}

func (s *stepper) NewQueue(kind QueueKind) Queue {
	q := &stepQueue{kind: kind}
	s.queues = append(s.queues, q)
	return q
}

func (s *stepper) Go(kind QueueKind, step func()) { s.loose[kind].Post(step) }

func (q *stepQueue) Post(step func()) { q.steps = append(q.steps, step) }

// step runs one step of a queue; false if it has none.
func (q *stepQueue) step() bool {
	if len(q.steps) == 0 {
		return false
	}
	f := q.steps[0]
	q.steps = q.steps[1:]
	f()
	return true
}

// run lets every queue that is not held go on until nothing is left.
func (s *stepper) run() (ran bool) {
	for again := true; again && !s.dead; {
		again = false
		for i := 0; i < len(s.queues) && !s.dead; i++ {
			if q := s.queues[i]; !q.held && q.step() {
				again, ran = true, true
			}
		}
	}
	return ran
}

func (s *stepper) hold(held bool, kinds ...QueueKind) {
	for _, q := range s.queues {
		for _, k := range kinds {
			if q.kind == k {
				q.held = held
			}
		}
	}
}

// testEpoch is the wall clock at the beginning of every test.
var testEpoch = time.UnixMilli(1_700_000_000_000)

const testRange = DefaultRange

// testNode is one store with its disks and clock.
type testNode struct {
	*Store
	c     *testCluster
	id    ids.StoreID
	files *vfs.Memory
	eng   *engine.Memory
	wall  time.Time
	mono  time.Duration
	exec  *stepper
	wal   raftlog.Log
	tune  func(*Options)
	fatal error
	lives uint64
}

// letter is a message on its way.
type letter struct {
	from, to ids.StoreID
	env      *locuspb.RaftEnvelope
	snap     *sentSnapshot
}

type sentSnapshot struct {
	header *locuspb.SnapshotHeader
	r      SnapshotReader
	done   func(error)
}

type testCluster struct {
	t     testing.TB
	nodes []*testNode
	mail  []letter
	// drop says which messages are lost.
	drop map[[2]ids.StoreID]bool
	// lose, if set, may lose more of them.
	lose func(letter) bool
	// eval is the function that calls run.
	eval func(call *locuspb.CallRequest, tx Tx) (*locuspb.CallResponse, error)
}

// newTestCluster starts n stores; every range has a voter on each.
func newTestCluster(t testing.TB, n int, tune ...func(*Options)) *testCluster {
	t.Helper()
	lots.begin()
	c := &testCluster{t: t, drop: make(map[[2]ids.StoreID]bool)}
	for i := range n {
		node := &testNode{c: c, id: ids.StoreID(i + 1), files: vfs.NewMemory(), eng: engine.NewMemory(engine.Limits{}), wall: testEpoch}
		if len(tune) > 0 {
			node.tune = tune[0]
		}
		l := node.openLog()
		if i == 0 {
			c.must(Bootstrap(node.eng, l, node.ident(), hlc.FromTime(testEpoch)))
		} else {
			c.must(WriteIdent(l, node.ident()))
		}
		c.must(l.Close())
		c.nodes = append(c.nodes, node)
		node.start()
	}
	c.settle()
	for i := 2; i <= n; i++ {
		c.addVoter(testRange, ids.StoreID(i))
	}
	return c
}

func (c *testCluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (n *testNode) ident() Ident {
	return Ident{ClusterID: "11111111-1111-4111-8111-111111111111", NodeID: fmt.Sprint("node-", n.id), StoreID: n.id}
}

func (n *testNode) openLog() raftlog.Log {
	l, err := raftlog.Open(raftlog.Options{FS: n.files, Dir: "/log", SegmentSize: 1 << 20, CacheBytes: 1 << 20})
	n.c.must(err)
	return l
}

func (n *testNode) start() {
	n.c.t.Helper()
	n.c.must(n.tryStart())
}

func (n *testNode) tryStart() error {
	n.lives++
	n.exec = newStepper()
	n.wal = n.openLog()
	n.fatal = nil
	o := Options{
		Ident: n.ident(), Engine: n.eng, Log: n.wal, Files: n.files, SnapshotDir: "/snapshots",
		Clock:     hlc.NewClock(func() time.Time { return n.wall }, 0),
		Monotonic: func() time.Duration { return n.mono },
		Executor:  n.exec, Transport: mailbox{n}, Evaluator: n.c, Rand: rand.New(rand.NewPCG(uint64(n.id), n.lives)),
		OnFatal: func(err error) { n.fatal = err },
	}
	o.commitAtOnce = true // a cluster at rest has applied everything, and followers may be ahead of their leader
	if n.tune != nil {
		n.tune(&o)
	}
	s, err := Open(o)
	n.Store = s
	return err
}

// crash ends the process and loses everything that was not synced; keepEngine keeps what the engine had.
func (n *testNode) crash(keepEngine bool) {
	if keepEngine {
		n.crashWith(&draws{of: drawn{1}})
	} else {
		n.crashWith(nil)
	}
}

// crashWith ends the process; rng decides what survives of the engine's batches that were not synced.
func (n *testNode) crashWith(rng engine.Random) {
	n.exec.dead = true
	n.Store = nil
	n.files = n.files.CrashClean()
	n.eng = n.eng.Crash(rng)
}

// drawn gives its first number, and after that its others in turn. For engine.Memory.Crash, 1 means that everything
// survives; 3 that the rest decides for each batch whether it does: 1 or 0.
type drawn []uint64

func (d *draws) Uint64() uint64 {
	v := d.of[0]
	if d.n > 0 && len(d.of) > 1 {
		v = d.of[1+(d.n-1)%(len(d.of)-1)]
	}
	d.n++
	return v
}

type draws struct {
	of drawn
	n  int
}

// Evaluate implements Evaluator.
func (c *testCluster) Evaluate(call *locuspb.CallRequest, tx Tx) (*locuspb.CallResponse, error) {
	if c.eval == nil {
		return nil, &api.FunctionNotFoundError{Name: call.Function}
	}
	return c.eval(call, tx)
}

// mailbox is a store's Transport.
type mailbox struct{ n *testNode }

func (m mailbox) Send(to ids.StoreID, envs []*locuspb.RaftEnvelope) {
	for _, e := range envs {
		m.n.c.mail = append(m.n.c.mail, letter{from: m.n.id, to: to, env: proto.Clone(e).(*locuspb.RaftEnvelope)})
	}
}

func (m mailbox) SendSnapshot(to ids.StoreID, h *locuspb.SnapshotHeader, r SnapshotReader, done func(error)) {
	m.n.c.mail = append(m.n.c.mail, letter{from: m.n.id, to: to, env: h.Envelope, snap: &sentSnapshot{h, r, done}})
}

func (c *testCluster) node(id ids.StoreID) *testNode { return c.nodes[id-1] }

// deliver carries one letter.
func (c *testCluster) deliver(l letter) {
	lost := c.drop[[2]ids.StoreID{l.from, l.to}] || (c.lose != nil && c.lose(l))
	n := c.node(l.to)
	if l.snap == nil {
		if !lost && n.Store != nil {
			n.HandleRaft(l.from, []*locuspb.RaftEnvelope{l.env})
		}
		return
	}
	defer l.snap.r.Close()
	if lost || n.Store == nil {
		l.snap.done(errors.New("lost"))
		return
	}
	l.snap.done(streamSnapshot(n.Store, l.snap.header, l.snap.r))
}

func streamSnapshot(s *Store, h *locuspb.SnapshotHeader, r SnapshotReader) error {
	sink, err := s.BeginSnapshot(proto.Clone(h).(*locuspb.SnapshotHeader))
	if err != nil {
		return err
	}
	for {
		chunk, err := r.Next()
		if err == io.EOF {
			return sink.Finish()
		}
		if err == nil {
			err = sink.Write(chunk)
		}
		if err != nil {
			sink.Abort()
			return err
		}
	}
}

// settle runs steps and carries messages until nothing moves.
func (c *testCluster) settle() {
	c.t.Helper()
	for round := 0; ; round++ {
		if round == 100_000 {
			c.t.Fatal("the cluster does not come to rest")
		}
		moved := false
		for _, n := range c.nodes {
			if n.Store != nil && n.exec.run() {
				moved = true
			}
		}
		mail := c.mail
		c.mail = nil
		for _, l := range mail {
			c.deliver(l)
		}
		if !moved && len(mail) == 0 {
			return
		}
	}
}

// run is settle without the mail.
func (c *testCluster) run() {
	for _, n := range c.nodes {
		if n.Store != nil {
			n.exec.run()
		}
	}
}

// healthy fails the test if a store has stopped.
func (c *testCluster) healthy() {
	c.t.Helper()
	for _, n := range c.nodes {
		if n.fatal != nil {
			c.t.Fatalf("store %s stopped: %v", n.id, n.fatal)
		}
	}
}

// tick moves the Raft clocks of some stores (all, if none is named), and settles. Time passes for all of them.
func (c *testCluster) tick(times int, stores ...ids.StoreID) {
	c.t.Helper()
	for range times {
		c.elapse(testTick)
		for _, n := range c.nodes {
			if n.Store == nil {
				continue
			}
			if len(stores) == 0 {
				n.Tick()
			}
			for _, s := range stores {
				if s == n.id {
					n.Tick()
				}
			}
		}
		c.settle()
	}
}

// elapse moves all clocks, and nothing else.
func (c *testCluster) elapse(d time.Duration) {
	for _, n := range c.nodes {
		n.mono += d
		n.wall = n.wall.Add(d)
	}
}

// testTick and testTimeout are the defaults of Options.TickInterval and the election timeout.
const (
	testTick    = 100 * time.Millisecond
	testTimeout = 10 * testTick
)

// pass moves all wall clocks.
func (c *testCluster) pass(d time.Duration) {
	for _, n := range c.nodes {
		n.wall = n.wall.Add(d)
	}
}

// cut loses all messages from and to a store; heal ends that.
func (c *testCluster) cut(id ids.StoreID) {
	for _, n := range c.nodes {
		if n.id != id {
			c.drop[[2]ids.StoreID{id, n.id}] = true
			c.drop[[2]ids.StoreID{n.id, id}] = true
		}
	}
}

func (c *testCluster) heal() { clear(c.drop) }

// elect makes a store's replica campaign, once no lease holds it back, and settles.
func (c *testCluster) elect(id ids.RangeID, store ids.StoreID) {
	c.t.Helper()
	c.campaign(id, store)
	c.settle()
	if info, ok := c.node(store).Range(id); !ok || !info.Leaseholder {
		c.t.Fatalf("store %s did not become leaseholder of range %s: %+v", store, id, info)
	}
}

func (c *testCluster) campaign(id ids.RangeID, store ids.StoreID) {
	c.elapse(testTimeout)
	r := c.node(store).replica(id)
	r.post(raftInput{run: func() {
		r.step(&raftpb.Message{Type: raftpb.MsgTimeoutNow.Enum(), From: new(uint64(r.snapshot().leader)), To: new(uint64(r.self)), Term: new(r.raft.node.BasicStatus().GetTerm())})
	}})
}

// leaseholder of a range, of those who think so the one with the highest term.
func (c *testCluster) leaseholder(id ids.RangeID) *testNode {
	c.t.Helper()
	var best *testNode
	var term ids.Term
	for _, n := range c.nodes {
		if n.Store == nil {
			continue
		}
		if i, ok := n.Range(id); ok && i.Leaseholder && i.Term > term {
			best, term = n, i.Term
		}
	}
	if best == nil {
		c.t.Fatalf("range %s has no leaseholder", id)
	}
	return best
}

func (c *testCluster) info(id ids.RangeID, store ids.StoreID) RangeInfo {
	c.t.Helper()
	i, ok := c.node(store).Range(id)
	if !ok {
		c.t.Fatalf("store %s has no range %s", store, id)
	}
	return i
}

func (c *testCluster) operator(id ids.RangeID) (*testNode, *locuspb.Operator) {
	c.t.Helper()
	n := c.leaseholder(id)
	e := c.info(id, n.id).Descriptor.Epoch
	return n, &locuspb.Operator{RangeId: uint64(id), ConfEpoch: e.Conf, BoundsEpoch: e.Bounds}
}

// operate runs an operator to its end.
func (c *testCluster) operate(n *testNode, op *locuspb.Operator) error {
	var err error = errors.New("not answered")
	n.RunOperator(op, func(e error) { err = e })
	c.settle()
	return err
}

func (c *testCluster) addLearner(id ids.RangeID, store ids.StoreID) ids.ReplicaID {
	c.t.Helper()
	n, op := c.operator(id)
	op.Step = &locuspb.Operator_AddLearner{AddLearner: &locuspb.AddLearner{StoreId: uint64(store)}}
	c.must(c.operate(n, op))
	// The first append fails, a snapshot follows; a tick or two may be needed to probe.
	for range 20 {
		if i, ok := c.node(store).Range(id); ok && i.Applied == c.info(id, n.id).Applied {
			break
		}
		c.tick(1)
	}
	rep, ok := c.info(id, n.id).Descriptor.On(store)
	if i, has := c.node(store).Range(id); !ok || !has || i.Replica != rep.ID {
		c.t.Fatalf("store %s did not get its replica of range %s", store, id)
	}
	return rep.ID
}

func (c *testCluster) addVoter(id ids.RangeID, store ids.StoreID) ids.ReplicaID {
	c.t.Helper()
	rep := c.addLearner(id, store)
	c.must(c.replace(id, []uint64{uint64(rep)}, nil))
	return rep
}

func (c *testCluster) replace(id ids.RangeID, promote, remove []uint64) error {
	c.t.Helper()
	if len(remove) > 0 {
		c.tellOldest(id)
	}
	n, op := c.operator(id)
	op.Step = &locuspb.Operator_Replace{Replace: &locuspb.ReplaceVoters{Promote: promote, Remove: remove}}
	err := c.operate(n, op)
	for range 20 {
		if !c.info(id, n.id).Descriptor.Joint() {
			break
		}
		c.tick(1)
	}
	return err
}

// tellOldest lets followers tell their leader how far back they can be read, without which none is removed (rule C9).
func (c *testCluster) tellOldest(id ids.RangeID) {
	c.t.Helper()
	lead := c.leaseholder(id).replica(id)
	for _, n := range c.nodes {
		if n.Store == nil {
			continue
		}
		if r := n.replica(id); r != nil && r != lead && r.snapshot().desc != nil {
			lead.update(func(st *replicaState) {
				st.noteOldest(&locuspb.RaftEnvelope{FromReplica: uint64(r.self), Oldest: uint64(r.oldestHere())})
			})
		}
	}
}

func (c *testCluster) removeOn(id ids.RangeID, store ids.StoreID) {
	c.t.Helper()
	c.tellOldest(id)
	n, op := c.operator(id)
	rep, ok := c.info(id, n.id).Descriptor.On(store)
	if !ok {
		c.t.Fatalf("range %s has no replica on store %s", id, store)
	}
	op.Step = &locuspb.Operator_Remove{Remove: &locuspb.RemoveReplica{ReplicaId: uint64(rep.ID)}}
	c.must(c.operate(n, op))
}

// beginSplit asks for a split at a user key without running it.
func (c *testCluster) beginSplit(id ids.RangeID, at string, child ids.RangeID) *error {
	c.t.Helper()
	n, op := c.operator(id)
	op.Step = &locuspb.Operator_Split{Split: &locuspb.SplitAt{Key: key(at), NewRangeId: uint64(child)}}
	err := errors.New("not answered")
	n.RunOperator(op, func(e error) { err = e })
	return &err
}

func (c *testCluster) split(id ids.RangeID, at string, child ids.RangeID) {
	c.t.Helper()
	err := c.beginSplit(id, at, child)
	c.settle()
	c.must(*err)
	c.awaitLead(child)
}

// awaitLead ticks until a range has a leaseholder: a child's leader may have campaigned before its peers were there.
func (c *testCluster) awaitLead(id ids.RangeID) {
	c.t.Helper()
	for range 100 {
		for _, n := range c.nodes {
			if n.Store == nil {
				continue
			}
			if i, ok := n.Range(id); ok && i.Leaseholder {
				return
			}
		}
		c.tick(1)
	}
	c.t.Fatalf("range %s elects no leader", id)
}

// takeCheckpoint takes a checkpoint on a store.
func (n *testNode) takeCheckpoint() {
	n.c.t.Helper()
	done := false
	n.checkpoint(raftlog.Batch{}, func() { done = true })
	n.c.settle()
	if !done {
		n.c.t.Fatalf("store %s: no checkpoint", n.id)
	}
}

func (c *testCluster) equal(id ids.RangeID) {
	c.t.Helper()
	var first []byte
	for _, rep := range c.info(id, c.leaseholder(id).id).Descriptor.Replicas {
		sum, err := c.node(rep.Store).Digest(id)
		c.must(err)
		if first == nil {
			first = sum
		} else if !bytes.Equal(first, sum) {
			c.t.Fatalf("I2: replicas of range %s differ on store %s", id, rep.Store)
		}
	}
}

// Requests.

func key(user string) []byte { return keys.Layout{ID: 1}.Encode([]byte(user)) }

// pending is a request on its way.
type pending struct {
	resp  *locuspb.Response
	calls int
}

func (p *pending) answered() bool { return p.calls > 0 }
func (p *pending) err() error {
	if p.calls == 0 {
		return errors.New("not answered")
	}
	return api.FromProto(p.resp.Error)
}
func (p *pending) ts() hlc.Timestamp { return hlc.Timestamp(p.resp.GetTimestamp()) }

// send hands a request to a store, at the bounds that the store knows unless it names its own.
func (n *testNode) send(id ids.RangeID, req *locuspb.Request) *pending {
	p := &pending{}
	req = proto.Clone(req).(*locuspb.Request)
	req.RangeId = uint64(id)
	if i, ok := n.Range(id); ok && req.BoundsEpoch == 0 {
		req.BoundsEpoch = i.Descriptor.Epoch.Bounds
	}
	n.Do(req, func(r *locuspb.Response) {
		p.resp = r
		if p.calls++; p.calls > 1 {
			n.c.t.Errorf("a request was answered %d times: %v", p.calls, r)
		}
	})
	return p
}

// do is send and settle; the request must end.
func (c *testCluster) do(n *testNode, id ids.RangeID, req *locuspb.Request) *pending {
	c.t.Helper()
	p := n.send(id, req)
	c.settle()
	if !p.answered() {
		c.t.Fatalf("not answered: %v", req)
	}
	return p
}

// ok is do on the leaseholder, without an error.
func (c *testCluster) ok(id ids.RangeID, req *locuspb.Request) *pending {
	c.t.Helper()
	p := c.do(c.leaseholder(id), id, req)
	if err := p.err(); err != nil {
		c.t.Fatalf("%v: %v", req, err)
	}
	return p
}

func put(k, v string) *locuspb.Request {
	return write(&locuspb.Mutation{Key: key(k), Value: []byte(v)})
}

func write(m *locuspb.Mutation, conds ...*locuspb.Condition) *locuspb.Request {
	return &locuspb.Request{Op: &locuspb.Request_Write{Write: &locuspb.WriteRequest{Mutations: []*locuspb.Mutation{m}, Conditions: conds}}}
}

func cas(k, old, v string) *locuspb.Request {
	cond := &locuspb.Condition{Key: key(k), Kind: locuspb.Condition_VALUE, Value: []byte(old)}
	if old == "" {
		cond = &locuspb.Condition{Key: key(k), Kind: locuspb.Condition_ABSENT}
	}
	return write(&locuspb.Mutation{Key: key(k), Value: []byte(v)}, cond)
}

func call(fn, k string, arg string) *locuspb.Request {
	return &locuspb.Request{Op: &locuspb.Request_Call{Call: &locuspb.CallRequest{Function: fn, Key: key(k), Argument: []byte(arg)}}}
}

func get(k string) *locuspb.Request {
	return &locuspb.Request{Op: &locuspb.Request_Get{Get: &locuspb.GetRequest{Key: key(k)}}}
}

func getAt(k string, ts hlc.Timestamp) *locuspb.Request {
	r := get(k)
	r.Consistency = &locuspb.Consistency{Level: locuspb.ConsistencyLevel_SNAPSHOT, Timestamp: uint64(ts)}
	return r
}

func scan(from, to string) *locuspb.Request {
	return &locuspb.Request{Op: &locuspb.Request_Scan{Scan: &locuspb.ScanRequest{Span: api.SpanToProto(keys.Span{Start: key(from), End: key(to)})}}}
}

// value is what a get found, "" for nothing.
func (p *pending) value() string { return string(p.resp.GetGet().GetValue()) }

// records are what a scan found, key=value each.
func (p *pending) records(t testing.TB) []string {
	t.Helper()
	var out []string
	for _, b := range p.resp.GetScan().GetBatches() {
		r := packed.NewReader(b)
		for r.Next() {
			out = append(out, string(r.Key()[4:])+"="+string(r.Value()))
		}
		if r.Err() != nil {
			t.Fatal(r.Err())
		}
	}
	return out
}

// session gives requests a session: numbers and first attempts.
type testSession struct {
	id    [16]byte
	first hlc.Timestamp
	floor uint64
}

func newTestSession(name byte, first hlc.Timestamp) *testSession {
	return &testSession{id: [16]byte{name}, first: first, floor: 1}
}

func (s *testSession) with(number uint64, req *locuspb.Request) *locuspb.Request {
	req = proto.Clone(req).(*locuspb.Request)
	req.Session = &locuspb.Session{Id: s.id[:], Number: number, Floor: s.floor, FirstAttempt: uint64(s.first)}
	return req
}

// addOne is a function that adds 1 to a number and returns the sum.
func addOne(call *locuspb.CallRequest, tx Tx) (*locuspb.CallResponse, error) {
	raw, _, err := tx.Get(call.Key)
	if err != nil {
		return nil, err
	}
	var n uint64
	if len(raw) == 8 {
		n = binary.BigEndian.Uint64(raw)
	}
	sum := binary.BigEndian.AppendUint64(nil, n+1)
	return &locuspb.CallResponse{Result: sum}, tx.Put(call.Key, sum, 0)
}

func number(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// want fails unless the error is of type E.
func want[E error](t testing.TB, what string, err error) E {
	t.Helper()
	var e E
	if !errors.As(err, &e) {
		t.Fatalf("%s: got %v (%T), want %T", what, err, err, e)
	}
	return e
}

// forge proposes an entry past all of the sequencer's care, as damage or another version might.
func (c *testCluster) forge(n *testNode, id ids.RangeID, e *batchEntry) {
	c.t.Helper()
	r := n.replica(id)
	r.post(raftInput{run: func() { c.must(r.raft.node.Propose(appendEntry(nil, e))) }})
	c.settle()
}

// nextEntry is an entry that would be accepted now.
func (n *testNode) nextEntry(id ids.RangeID, writes ...dataWrite) *batchEntry {
	s := n.replica(id).snapshot()
	return &batchEntry{
		Kind: entryBatch, Term: s.term, Base: s.applied.Count, Bounds: s.desc.Epoch.Bounds,
		TS: max(n.clock.Now(), s.applied.TS.Next()), Closed: s.applied.Closed, Data: writes,
	}
}

func kv(k, v string) dataWrite { return dataWrite{Key: key(k), Value: []byte(v)} }

// carry delivers what is in the mail from one store to another.
func (c *testCluster) carry(from, to ids.StoreID) {
	mail := c.mail
	c.mail = nil
	for _, l := range mail {
		if l.from == from && l.to == to {
			c.deliver(l)
		} else {
			c.mail = append(c.mail, l)
		}
	}
}

func messageType(t testing.TB, l letter) string {
	t.Helper()
	m, err := decodeMessage(l.env.Message)
	if err != nil {
		t.Fatal(err)
	}
	return m.GetType().String()
}
