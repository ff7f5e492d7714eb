package raftstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/boottime"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/vfs"
	"github.com/locuskv/locus/raftstore/engine"
	"github.com/locuskv/locus/raftstore/raftlog"
)

// What runs in steps under a seed everywhere else runs here on production's workers: three stores on a Pool each, with
// a transport of channels, clients that write, compare and swap, call and read, and a driver that splits and transfers.
// It is meant for the race detector, and checks that nothing acknowledged is lost or done twice.

// racing is the cluster of the race test.
type racing struct {
	t      *testing.T
	stores []*Store
	inbox  []chan func(*Store)
	wg     sync.WaitGroup
	done   chan struct{}
	failed atomic.Pointer[error]
	splits atomic.Int64
	moves  atomic.Int64
}

func (r *racing) fail(err error) { r.failed.CompareAndSwap(nil, &err) }

func (r *racing) ok() bool { return r.failed.Load() == nil }

// channels is a Transport. What finds a full channel is lost.
type channels struct{ r *racing }

func (c channels) Send(to ids.StoreID, envs []*locuspb.RaftEnvelope) {
	copies := make([]*locuspb.RaftEnvelope, len(envs))
	for i, e := range envs {
		copies[i] = proto.Clone(e).(*locuspb.RaftEnvelope)
	}
	select {
	case c.r.inbox[to-1] <- func(s *Store) { s.HandleRaft(ids.StoreID(copies[0].FromStore), copies) }:
	default:
	}
}

func (c channels) SendSnapshot(to ids.StoreID, h *locuspb.SnapshotHeader, sr SnapshotReader, done func(error)) {
	deliver := func(s *Store) {
		defer sr.Close()
		done(streamSnapshot(s, h, sr))
	}
	select {
	case c.r.inbox[to-1] <- deliver:
	default:
		sr.Close()
		done(errors.New("lost"))
	}
}

func newRacing(t *testing.T) *racing {
	r := &racing{t: t, done: make(chan struct{})}
	for range 3 {
		r.inbox = append(r.inbox, make(chan func(*Store), 4096))
	}
	for i := range 3 {
		eng, files := engine.NewMemory(engine.Limits{}), vfs.NewMemory()
		l, err := raftlog.Open(raftlog.Options{FS: files, Dir: "/log", SegmentSize: 64 << 10})
		if err != nil {
			t.Fatal(err)
		}
		id := Ident{ClusterID: "11111111-1111-4111-8111-111111111111", NodeID: fmt.Sprint("node-", i+1), StoreID: ids.StoreID(i + 1)}
		if i == 0 {
			err = Bootstrap(eng, l, id, hlc.FromTime(time.Now()))
		} else {
			err = WriteIdent(l, id)
		}
		if err != nil {
			t.Fatal(err)
		}
		pool := NewPool(PoolOptions{Raft: 3, Eval: 2, Read: 4})
		t.Cleanup(pool.Close)
		s, err := Open(Options{
			Ident: id, Engine: eng, Log: l, Files: files, SnapshotDir: "/snapshots", Clock: hlc.NewClock(time.Now, 0),
			Monotonic: boottime.Now, TickInterval: 5 * time.Millisecond,
			Executor: pool, Transport: channels{r}, Evaluator: racingFunctions{}, Rand: rand.New(rand.NewPCG(uint64(i), 1)),
			OnFatal:       func(err error) { r.fail(fmt.Errorf("store %s stopped: %w", id.StoreID, err)) },
			ElectionTicks: 20, CheckpointTicks: 20, RetainedEntries: 20, MaxEntryCommands: 16,
		})
		if err != nil {
			t.Fatal(err)
		}
		r.stores = append(r.stores, s)
	}
	for i, s := range r.stores {
		r.wg.Go(func() {
			for {
				select {
				case f := <-r.inbox[i]:
					f(s)
				case <-r.done:
					return
				}
			}
		})
		r.wg.Go(func() {
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					s.Tick()
				case <-r.done:
					return
				}
			}
		})
	}
	return r
}

// await looks at every tick whether something is so.
func (r *racing) await(what string, cond func() bool) bool {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	for !cond() {
		select {
		case <-tick.C:
		case <-limit:
			r.fail(errors.New("waited in vain: " + what))
		}
		if !r.ok() {
			return false
		}
	}
	return true
}

// lead finds the leaseholder of a key's range.
func (r *racing) lead(key []byte) (*Store, RangeInfo, bool) {
	for _, s := range r.stores {
		if i, ok := s.Lookup(key); ok && i.Leaseholder {
			return s, i, true
		}
	}
	return nil, RangeInfo{}, false
}

// do runs a request until it is decided: retries go under the same session and number.
func (r *racing) do(key []byte, req *locuspb.Request) (*locuspb.Response, error) {
	var resp *locuspb.Response
	var err error
	tries := 0
	r.await(fmt.Sprintf("%q", key), func() bool {
		s, info, ok := r.lead(key)
		if !ok {
			return false
		}
		attempt := proto.Clone(req).(*locuspb.Request)
		attempt.RangeId, attempt.BoundsEpoch = uint64(info.Descriptor.ID), info.Descriptor.Epoch.Bounds
		if attempt.Session != nil {
			attempt.Session.Retry = tries > 0
		}
		tries++
		answer := make(chan *locuspb.Response, 1)
		s.Do(attempt, func(p *locuspb.Response) { answer <- p })
		select {
		case resp = <-answer:
		case <-time.After(time.Minute):
			r.fail(fmt.Errorf("a request to store %s was never answered: %v", s.opts.StoreID, req))
			return true
		}
		err = api.FromProto(resp.Error)
		return !routing(err)
	})
	if f := r.failed.Load(); f != nil {
		return nil, *f
	}
	return resp, err
}

func routing(err error) bool {
	return is[*api.RetryError](err) || is[*api.NotLeaseholderError](err) || is[*api.EpochMismatchError](err) ||
		is[*api.RangeNotFoundError](err) || is[*api.OverloadedError](err)
}

// racingFunctions: "add" adds 1 to its key; "move" moves 1 between the two accounts of its key's group.
type racingFunctions struct{}

func (racingFunctions) Evaluate(call *locuspb.CallRequest, tx Tx) (*locuspb.CallResponse, error) {
	if call.Function == "add" {
		return addOne(call, tx)
	}
	from, to := append(call.Key[:len(call.Key):len(call.Key)], '1'), append(call.Key[:len(call.Key):len(call.Key)], '2')
	a, _, err := tx.Get(from)
	if err != nil {
		return nil, err
	}
	b, _, err := tx.Get(to)
	if err != nil {
		return nil, err
	}
	x, y := uint64(len(a)), uint64(len(b))
	if x == 0 {
		from, to, x, y = to, from, y, x
	}
	if x+y == 0 {
		x = accounts
	}
	if err := tx.Put(from, make([]byte, x-1), 0); err != nil {
		return nil, err
	}
	return &locuspb.CallResponse{}, tx.Put(to, make([]byte, y+1), 0)
}

// accounts is the sum of the two accounts of a group, kept as the lengths of two values.
const accounts = 10

var raceGroups = []string{"c", "h", "p", "w"}

// client runs some operations and returns how often it counted in each group.
func (r *racing) client(id, ops int, counted []atomic.Int64) {
	rng := rand.New(rand.NewPCG(uint64(id), 9))
	session := newTestSession(byte(id), 0)
	next := uint64(0)
	command := func(req *locuspb.Request) *locuspb.Request {
		next++
		session.first, session.floor = hlc.FromTime(time.Now()), next
		return session.with(next, req)
	}
	last := map[string]string{}
	for i := 0; i < ops && r.ok(); i++ {
		g := rng.IntN(len(raceGroups))
		group := raceGroups[g]
		own := fmt.Sprintf("%s-own-%d", group, id)
		value := fmt.Sprint(i)
		var err error
		switch rng.IntN(7) {
		case 0:
			_, err = r.do(key(own), command(put(own, value)))
			last[own] = value
		case 1:
			_, err = r.do(key(own), command(cas(own, last[own], value)))
			last[own] = value
		case 2:
			_, err = r.do(key(group+"-n"), command(call("add", group+"-n", "")))
			counted[g].Add(1)
		case 3:
			_, err = r.do(key(group+"-"), command(call("move", group+"-", "")))
		case 4:
			var resp *locuspb.Response
			if resp, err = r.do(key(own), get(own)); err == nil && string(resp.GetGet().GetValue()) != last[own] {
				err = fmt.Errorf("client %d reads %s=%q after writing %q", id, own, resp.GetGet().GetValue(), last[own])
			}
		case 5:
			err = r.balance(group)
		case 6:
			_, err = r.do(key(group), scan(group+"-a", group+"-z"))
		}
		if err != nil {
			r.fail(fmt.Errorf("client %d: %w", id, err))
		}
	}
	for own, value := range last {
		if resp, err := r.do(key(own), get(own)); err != nil || string(resp.GetGet().GetValue()) != value {
			r.fail(fmt.Errorf("client %d: %s=%q in the end, %q was acknowledged (%v)", id, own, resp.GetGet().GetValue(), value, err))
		}
	}
}

// balance reads two accounts at one fresh timestamp: their sum never changes.
func (r *racing) balance(group string) error {
	at, err := r.do(key(group), &locuspb.Request{Op: &locuspb.Request_ClockAt{ClockAt: &locuspb.ClockRequest{}}})
	if err != nil {
		return err
	}
	sum := 0
	for _, k := range []string{group + "-1", group + "-2"} {
		resp, err := r.do(key(k), getAt(k, hlc.Timestamp(at.Timestamp)))
		if err != nil {
			return err
		}
		sum += len(resp.GetGet().GetValue())
	}
	if sum != accounts && sum != 0 {
		return fmt.Errorf("the accounts of %s hold %d at %s", group, sum, hlc.Timestamp(at.Timestamp))
	}
	return nil
}

// operator proposes a step for the range of a key to its leaseholder.
func (r *racing) operator(key []byte, step func(RangeInfo, *locuspb.Operator) bool) bool {
	s, info, ok := r.lead(key)
	if !ok {
		return false
	}
	e := info.Descriptor.Epoch
	op := &locuspb.Operator{RangeId: uint64(info.Descriptor.ID), ConfEpoch: e.Conf, BoundsEpoch: e.Bounds}
	if !step(info, op) {
		return false
	}
	done := make(chan error, 1)
	s.RunOperator(op, func(err error) { done <- err })
	select {
	case err := <-done:
		return err == nil
	case <-time.After(time.Minute):
		r.fail(errors.New("an operator was never answered"))
		return false
	}
}

// replicate gives the range of a key a voter on each store.
func (r *racing) replicate(k []byte) {
	r.await("three replicas", func() bool {
		_, info, ok := r.lead(k)
		if !ok || info.Descriptor.Joint() {
			return false
		}
		if len(info.Descriptor.Voters()) == 3 {
			return true
		}
		r.operator(k, func(info RangeInfo, op *locuspb.Operator) bool {
			if learners := info.Descriptor.Learners(); len(learners) > 0 {
				l := learners[0]
				for _, p := range info.Progress {
					if p.Replica == l.ID && p.Match > 0 {
						op.Step = &locuspb.Operator_Replace{Replace: &locuspb.ReplaceVoters{Promote: []uint64{uint64(l.ID)}}}
						return true
					}
				}
				return false
			}
			store := uint64(len(info.Descriptor.Replicas) + 1)
			op.Step = &locuspb.Operator_AddLearner{AddLearner: &locuspb.AddLearner{StoreId: store}}
			return true
		})
		return false
	})
}

// upheaval splits and transfers while the clients run.
func (r *racing) upheaval(stop <-chan struct{}) {
	splits := []string{"f", "m", "t"}
	tick := time.NewTicker(15 * time.Millisecond)
	defer tick.Stop()
	rng := rand.New(rand.NewPCG(1, 2))
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		k := key(raceGroups[rng.IntN(len(raceGroups))])
		if i%5 == 4 && len(splits) > 0 {
			at := key(splits[0])
			if r.operator(at, func(info RangeInfo, op *locuspb.Operator) bool {
				op.Step = &locuspb.Operator_Split{Split: &locuspb.SplitAt{Key: at, NewRangeId: uint64(100 + i)}}
				return true
			}) {
				splits = splits[1:]
				r.splits.Add(1)
			}
			continue
		}
		if r.operator(k, func(info RangeInfo, op *locuspb.Operator) bool {
			op.Step = &locuspb.Operator_Transfer{Transfer: &locuspb.TransferLease{StoreId: uint64(rng.IntN(3) + 1)}}
			return true
		}) {
			r.moves.Add(1)
		}
	}
}

// equal compares a range's replicas; false if they are not at one index.
func (r *racing) equal(id ids.RangeID) bool {
	var sums []string
	var applied []ids.Index
	for range 2 {
		for _, s := range r.stores {
			i, ok := s.Range(id)
			sum, err := s.Digest(id)
			if !ok || err != nil {
				return false
			}
			sums, applied = append(sums, string(sum)), append(applied, i.Applied)
		}
	}
	for i := range applied {
		if applied[i] != applied[0] {
			return false
		}
	}
	for i := range sums {
		if sums[i] != sums[0] {
			r.fail(fmt.Errorf("I2: replicas of range %s differ at index %d", id, applied[0]))
		}
	}
	return true
}

func TestWorkersUnderLoad(t *testing.T) {
	r := newRacing(t)
	defer func() { close(r.done); r.wg.Wait() }()
	r.replicate(key("a"))
	ops := 250
	if testing.Short() {
		ops = 60
	}
	counted := make([]atomic.Int64, len(raceGroups))
	stop := make(chan struct{})
	var clients, driver sync.WaitGroup
	driver.Go(func() { r.upheaval(stop) })
	// Rounds, until something has happened while clients ran: a quick machine is through before the first split.
	for round := 0; round == 0 || (r.ok() && (r.splits.Load() == 0 || r.moves.Load() == 0)); round++ {
		for id := range 6 {
			clients.Go(func() { r.client(round*6+id+1, ops, counted) })
		}
		clients.Wait()
	}
	close(stop)
	driver.Wait()
	for g, group := range raceGroups {
		if !r.ok() {
			break
		}
		resp, err := r.do(key(group+"-n"), get(group+"-n"))
		if err != nil {
			r.fail(err)
			break
		}
		if n := number(resp.GetGet().GetValue()); n != uint64(counted[g].Load()) {
			r.fail(fmt.Errorf("counter %s is %d after %d acknowledged increments", group, n, counted[g].Load()))
		}
	}
	// All replicas end with the same (I2). A range that goes quiet still writes an entry, so look again if one moved.
	r.await("replicas at one index", func() bool {
		for _, i := range r.stores[0].Ranges() {
			if len(i.Descriptor.Replicas) == 3 && !r.equal(i.Descriptor.ID) {
				return false
			}
		}
		return true
	})
	if err := r.failed.Load(); err != nil {
		t.Fatal(*err)
	}
	if r.splits.Load() == 0 || r.moves.Load() == 0 {
		t.Errorf("%d splits and %d transfers: the test does not do what it is for", r.splits.Load(), r.moves.Load())
	}
	t.Logf("%d splits, %d transfers", r.splits.Load(), r.moves.Load())
	// An orderly stop answers.
	for _, s := range r.stores {
		stopped := make(chan struct{})
		s.Stop(func() { close(stopped) })
		select {
		case <-stopped:
		case <-time.After(time.Minute):
			t.Fatal("a store does not stop")
		}
	}
}
