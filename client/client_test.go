package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

var ctx = context.Background()

func TestReadsAndWrites(t *testing.T) {
	f := newFake(t, 3)
	ks := f.open().Keyspace("default")

	_, err := ks.Get(ctx, []byte("a"))
	require.ErrorIs(t, err, ErrNotFound)
	ts, err := ks.Put(ctx, []byte("a"), []byte("1"))
	require.NoError(t, err)
	item, err := ks.Get(ctx, []byte("a"))
	require.NoError(t, err)
	require.Equal(t, Item{Key: []byte("a"), Value: []byte("1"), Timestamp: ts}, item)

	later, err := ks.Put(ctx, []byte("a"), []byte("2"), IfTimestamp(ts), TTL(time.Hour))
	require.NoError(t, err)
	require.Greater(t, later, ts)
	item, err = ks.Get(ctx, []byte("a"))
	require.NoError(t, err)
	require.Equal(t, later.Add(time.Hour), item.Expires)
	old, err := ks.Get(ctx, []byte("a"), AtTimestamp(ts))
	require.NoError(t, err)
	require.Equal(t, "1", string(old.Value))

	_, err = ks.CompareAndSwap(ctx, []byte("a"), []byte("1"), []byte("3"))
	var cond *ConditionError
	require.ErrorAs(t, err, &cond)
	require.True(t, cond.Exists)
	require.Equal(t, Item{Key: []byte("a"), Value: []byte("2"), Timestamp: later}, cond.Current)
	_, err = ks.CompareAndSwap(ctx, []byte("a"), []byte("2"), nil)
	require.NoError(t, err)
	_, err = ks.Get(ctx, []byte("a"))
	require.ErrorIs(t, err, ErrNotFound)
	_, err = ks.CompareAndSwap(ctx, []byte("a"), nil, []byte("new"))
	require.NoError(t, err)
	_, err = ks.Put(ctx, []byte("a"), []byte("x"), IfAbsent())
	require.ErrorAs(t, err, &cond)
	_, err = ks.Delete(ctx, []byte("a"))
	require.NoError(t, err)
}

func TestWhatIsRefusedBeforeItIsSent(t *testing.T) {
	f := newFake(t, 1)
	f.createKeyspace(&locuspb.Keyspace{Name: "grouped", Group: &locuspb.GroupRule{Delimiter: '/', Depth: 1}})
	db := f.open()
	ks, grouped := db.Keyspace("default"), db.Keyspace("grouped")
	_, err := ks.Get(ctx, []byte("warm"))
	require.ErrorIs(t, err, ErrNotFound)
	_, err = grouped.Get(ctx, []byte("warm"))
	require.ErrorIs(t, err, ErrNotFound)
	before := db.Stats().Requests

	var limit *LimitError
	var invalid *InvalidArgumentError
	_, err = ks.Put(ctx, make([]byte, keys.MaxKeyLen+1), nil)
	require.ErrorAs(t, err, &limit)
	require.Equal(t, LimitError{What: "key length", Limit: keys.MaxKeyLen, Got: keys.MaxKeyLen + 1}, *limit)
	_, err = ks.Put(ctx, []byte("k"), make([]byte, keys.MaxValueLen+1))
	require.ErrorAs(t, err, &limit)
	require.Equal(t, "value length", limit.What)
	_, err = ks.Get(ctx, nil)
	require.ErrorAs(t, err, &invalid)
	_, err = ks.Put(ctx, []byte("k"), nil, TTL(time.Microsecond))
	require.ErrorAs(t, err, &invalid)

	var b Batch
	b.Put([]byte("u1/a"), []byte("1"))
	b.Put([]byte("u2/a"), []byte("1"))
	_, err = grouped.Apply(ctx, grouped.Group([]byte("u1/")), &b)
	require.ErrorIs(t, err, ErrNotOneGroup)
	_, err = ks.Apply(ctx, grouped.Group([]byte("u1/")), &b)
	require.ErrorAs(t, err, &invalid)
	_, err = NewFunc[int, int]("").Call(ctx, db, 1)
	require.ErrorAs(t, err, &invalid)
	_, err = NewFunc[int, int]("f").Call(ctx, Key{}, 1)
	require.ErrorAs(t, err, &invalid)
	_, err = NewFunc[int, int]("f", Raw).Call(ctx, db, 1)
	require.ErrorAs(t, err, &invalid)
	require.Equal(t, before, db.Stats().Requests, "something was sent")

	_, err = Open(ctx, Options{})
	require.ErrorAs(t, err, &invalid)
	_, err = Open(ctx, Options{Addrs: []string{"nonsense"}})
	require.ErrorAs(t, err, &invalid)
}

func TestBatch(t *testing.T) {
	f := newFake(t, 3)
	f.createKeyspace(&locuspb.Keyspace{Name: "grouped", Group: &locuspb.GroupRule{Delimiter: '/', Depth: 1}})
	ks := f.open().Keyspace("grouped")
	var b Batch
	b.Put([]byte("u1/a"), []byte("1"), IfAbsent())
	b.Put([]byte("u1/b"), []byte("2"))
	ts, err := ks.Apply(ctx, ks.Group([]byte("u1/anything")), &b)
	require.NoError(t, err)
	for _, k := range []string{"u1/a", "u1/b"} {
		item, err := ks.Get(ctx, []byte(k))
		require.NoError(t, err)
		require.Equal(t, ts, item.Timestamp)
	}
	var c Batch
	c.Require([]byte("u1/b"), IfValue([]byte("other")))
	c.Delete([]byte("u1/a"))
	_, err = ks.Apply(ctx, ks.Group([]byte("u1/")), &c)
	var cond *ConditionError
	require.ErrorAs(t, err, &cond)
	require.Equal(t, "u1/b", string(cond.Key))
	_, err = ks.Get(ctx, []byte("u1/a"))
	require.NoError(t, err, "a batch that failed did something")
}

func TestKeyspaces(t *testing.T) {
	f := newFake(t, 3)
	db := f.open()
	var missing *KeyspaceNotFoundError
	_, err := db.Keyspace("nope").Get(ctx, []byte("a"))
	require.ErrorAs(t, err, &missing)
	require.Equal(t, "nope", missing.Name)

	o := KeyspaceOptions{Group: GroupRule{Length: 2}, SplitAt: [][]byte{[]byte("g"), []byte("p")}}
	require.NoError(t, db.CreateKeyspace(ctx, "nope", o), "the handle must not remember that it did not exist")
	_, err = db.Keyspace("nope").Put(ctx, []byte("a"), nil)
	require.NoError(t, err)
	var exists *KeyspaceExistsError
	require.ErrorAs(t, db.CreateKeyspace(ctx, "nope", o), &exists)
	info, err := db.Keyspace("nope").Info(ctx)
	require.NoError(t, err)
	require.Equal(t, KeyspaceInfo{Name: "nope", ID: 2, Group: GroupRule{Length: 2}}, info)

	ranges, err := db.Keyspace("nope").Ranges(ctx)
	require.NoError(t, err)
	require.Len(t, ranges, 3)
	require.Nil(t, ranges[0].Start)
	require.Equal(t, "g", string(ranges[0].End))
	require.Equal(t, "p", string(ranges[2].Start))
	require.Nil(t, ranges[2].End)
	require.Equal(t, "nope", ranges[1].Keyspace)
	require.Len(t, ranges[1].Replicas, 3)

	require.NoError(t, db.DropKeyspace(ctx, "nope"))
	_, err = db.Keyspace("nope").Put(ctx, []byte("a"), nil)
	require.ErrorAs(t, err, &missing)
	all, err := db.Keyspaces(ctx)
	require.NoError(t, err)
	require.Len(t, all, 2)
}

// TestSplitRange: a range is split at the middle of its records, and at the start of a group.
func TestSplitRange(t *testing.T) {
	f := newFake(t, 1)
	db := f.open()
	ks := db.Keyspace("default")
	of := func() (out []RangeInfo) {
		ranges, err := ks.Ranges(ctx)
		require.NoError(t, err)
		return ranges
	}
	var invalid *InvalidArgumentError
	first := of()[0].ID
	_, err := db.SplitRange(ctx, first)
	require.ErrorAs(t, err, &invalid)
	require.ErrorContains(t, err, "has no two groups of keys to split between")
	_, err = db.SplitRange(ctx, 99)
	require.ErrorContains(t, err, "range r99 is not known")
	for i := range 10 {
		_, err := ks.Put(ctx, fmt.Appendf(nil, "k%d", i), []byte("v"))
		require.NoError(t, err)
	}
	split, err := db.SplitRange(ctx, first)
	require.NoError(t, err)
	require.Equal(t, "k5", string(split.Key))
	require.Len(t, of(), 2)
	second := of()[1].ID
	split, err = db.SplitRange(ctx, second)
	require.NoError(t, err)
	require.Equal(t, "k7", string(split.Key), "of the second half")
	all, err := db.Ranges(ctx)
	require.NoError(t, err)
	_, err = db.SplitRange(ctx, all[len(all)-1].ID)
	require.ErrorContains(t, err, "is of no keyspace and can't be split")
}

func TestSampleFindsTheMiddle(t *testing.T) {
	for _, n := range []int{1, 2, 3, 511, 512, 513, 10_000, 100_003} {
		var s sample
		for i := range n {
			s.add(fmt.Appendf(nil, "%d", i), i > 0 || n == 1)
		}
		got, err := strconv.Atoi(string(s.middle()))
		require.NoError(t, err)
		require.Less(t, len(s.keys), sampleSize)
		require.InDelta(t, n/2, got, float64(n)/100+1, "of %d", n)
	}
	var late sample // only the last group fits
	for i := range 100_000 {
		late.add(fmt.Appendf(nil, "%d", i), i >= 99_990)
	}
	require.Equal(t, "99990", string(late.middle()))
}

func TestAdmin(t *testing.T) {
	f := newFake(t, 3)
	db := f.open()
	nodes, err := db.Nodes(ctx)
	require.NoError(t, err)
	require.Len(t, nodes, 3)
	require.Equal(t, 40*time.Millisecond, nodes[0].SinceHeartbeat)
	s, err := db.Status(ctx)
	require.NoError(t, err)
	require.Equal(t, uint64(3), s.LiveNodes)
	split, err := db.Keyspace("default").Split(ctx, []byte("m"))
	require.NoError(t, err)
	require.Equal(t, "m", string(split.Key))
	ranges, err := db.Ranges(ctx)
	require.NoError(t, err)
	require.Len(t, ranges, 4)
	require.Equal(t, "(system)", ranges[0].Keyspace)
	require.Empty(t, ranges[3].Keyspace)
	require.NoError(t, db.TransferRange(ctx, ranges[1].ID, 3))
	fn, err := db.RegisterFunction(ctx, "f", []byte("module"))
	require.NoError(t, err)
	require.Equal(t, FunctionInfo{Name: "f", Version: 1, Runtime: "wasm", Active: true}, fn)
	_, err = db.RegisterFunction(ctx, "f", nil)
	var invalid *InvalidArgumentError
	require.ErrorAs(t, err, &invalid)
	fns, err := db.Functions(ctx)
	require.NoError(t, err)
	require.Len(t, fns, 1)
}

func TestFunctions(t *testing.T) {
	f := newFake(t, 3)
	db := f.open()
	ks := db.Keyspace("default")
	square := NewFunc[int64, int64]("square")
	r, err := square.Call(ctx, db, 5)
	require.NoError(t, err)
	require.EqualValues(t, 25, r)
	do, err := NewFunc[int64, int64]("square", Version(4)).Do(ctx, db, 6)
	require.NoError(t, err)
	require.Equal(t, Result[int64]{Value: 36, Fuel: 3, Version: 4}, do)

	raw, err := NewFunc[[]byte, string]("echo", Raw).Call(ctx, db, []byte{1, 2})
	require.NoError(t, err)
	require.Equal(t, "\x01\x02", raw)
	msg, err := NewFunc[*locuspb.GetRequest, *locuspb.GetRequest]("echo", Proto).Call(ctx, db, &locuspb.GetRequest{Key: []byte("k")})
	require.NoError(t, err)
	require.Equal(t, "k", string(msg.Key))
	var result *ResultError
	_, err = NewFunc[string, int]("echo").Call(ctx, db, "text")
	require.ErrorAs(t, err, &result)

	var failed *FunctionError
	_, err = NewFunc[int, int]("fail").Call(ctx, db, 1)
	require.ErrorAs(t, err, &failed)
	require.Equal(t, FunctionError{Function: "fail", Code: 7, Message: "no"}, *failed)
	var missing *FunctionNotFoundError
	_, err = NewFunc[int, int]("none").Call(ctx, db, 1)
	require.ErrorAs(t, err, &missing)

	add := NewFunc[int, int]("add")
	sum, err := add.Call(ctx, ks.Key([]byte("n")), 3)
	require.NoError(t, err)
	require.Equal(t, 3, sum)
	sum, err = add.Call(ctx, ks.Key([]byte("n")), 4, DryRun())
	require.NoError(t, err)
	require.Equal(t, 7, sum)
	sum, err = add.Call(ctx, ks.Group([]byte("n")), 1)
	require.NoError(t, err)
	require.Equal(t, 4, sum)
}

// TestBalance: calls that touch no key reach all nodes, by each policy.
func TestBalance(t *testing.T) {
	for _, policy := range []BalancePolicy{LeastOutstanding, Random, RoundRobin} {
		f := newFake(t, 3)
		db := f.open(func(o *Options) {
			o.Balance.Policy = policy
			o.Balance.Weights = map[string]int{f.nodes[2].addr: 3}
		})
		square := NewFunc[int, int]("square")
		for range 100 {
			_, err := square.Call(ctx, db, 2)
			require.NoError(t, err)
		}
		for s := ids.StoreID(1); s <= 3; s++ {
			require.Greater(t, f.calls[s], 10, "policy %d store %d", policy, s)
		}
		if policy == RoundRobin {
			require.Equal(t, map[ids.StoreID]int{1: 20, 2: 20, 3: 60}, f.calls)
		}
	}
}

func TestRangeFunction(t *testing.T) {
	f := newFake(t, 3)
	db := f.open()
	ks := db.Keyspace("default")
	f.split(keys.Layout{ID: 1}.Encode([]byte("k5")))
	for i := range 10 {
		_, err := ks.Put(ctx, fmt.Append(nil, "k", i), nil)
		require.NoError(t, err)
	}
	count := NewRangeFunc[struct{}, int]("count")
	var seen []Progress
	n, err := count.Run(ctx, ks.All(), struct{}{}, OnProgress(func(p Progress) { seen = append(seen, p) }))
	require.NoError(t, err)
	require.Equal(t, 10, n)
	require.Equal(t, Progress{RangesDone: 2, RangesTotal: 2, Records: 10, Fuel: 1}, seen[1])
	n, err = count.Run(ctx, ks.Span([]byte("k2"), []byte("k5")), struct{}{})
	require.NoError(t, err)
	require.Equal(t, 3, n)
	n, err = count.Run(ctx, ks.All(), struct{}{}, AtTimestamp(1))
	require.NoError(t, err)
	require.Zero(t, n)
	var missing *FunctionNotFoundError
	_, err = NewRangeFunc[int, int]("none").Run(ctx, ks.All(), 1)
	require.ErrorAs(t, err, &missing)

	// The gateway's death only moves the run to another.
	f.nodes[0].srv.Stop()
	f.nodes[1].srv.Stop()
	n, err = count.Run(ctx, ks.All(), struct{}{})
	require.NoError(t, err)
	require.Equal(t, 10, n)
}

// TestLostAnswer: the answer to a command is lost; the client asks again under the same session and number
// and gets the first result, so the command took effect once.
func TestLostAnswer(t *testing.T) {
	f := newFake(t, 3)
	ks := f.open(func(o *Options) { o.Retry.Attempt = 20 * time.Millisecond }).Keyspace("default")
	_, err := ks.Get(ctx, []byte("warm"))
	require.ErrorIs(t, err, ErrNotFound)
	var seen []*locuspb.Session
	var lost atomic.Bool
	f.intercept = func(store ids.StoreID, r *locuspb.Request) (*locuspb.Response, bool) {
		if r.GetWrite() != nil {
			seen = append(seen, r.Session)
			if lost.CompareAndSwap(false, true) {
				keep := f.intercept
				f.intercept = nil
				f.serve(store, r)
				f.intercept = keep
				return nil, false
			}
		}
		return nil, true
	}
	ts, err := ks.Put(ctx, []byte("a"), []byte("1"))
	require.NoError(t, err)
	f.mu.Lock()
	defer f.mu.Unlock()
	require.GreaterOrEqual(t, len(seen), 2)
	for _, s := range seen {
		require.Equal(t, seen[0].Id, s.Id)
		require.Equal(t, seen[0].Number, s.Number)
		require.Equal(t, seen[0].FirstAttempt, s.FirstAttempt)
	}
	key := keys.Layout{ID: 1}.Encode([]byte("a"))
	require.Equal(t, 1, f.applied[string(key)])
	require.Equal(t, Timestamp(f.data[string(key)].versions[0].ts), ts)
}

// ending is a context that is over when end is called, as if its deadline had passed then.
type ending struct {
	context.Context
	over chan struct{}
	end  func()
}

func newEnding() *ending {
	e := &ending{Context: ctx, over: make(chan struct{})}
	e.end = sync.OnceFunc(func() { close(e.over) })
	return e
}

func (e *ending) Done() <-chan struct{} { return e.over }

func (e *ending) Err() error {
	select {
	case <-e.over:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// brief is a context that leaves so much time, counted from when it is asked how much, and does not end.
type brief struct {
	context.Context
	left time.Duration
}

func (b brief) Deadline() (time.Time, bool) { return time.Now().Add(b.left), true }

// TestAmbiguous: a write that nobody answers ends as ambiguous, wrapping the context's error; one that was
// never sent, and a read, end otherwise.
func TestAmbiguous(t *testing.T) {
	f := newFake(t, 1)
	db := f.open()
	ks := db.Keyspace("default")
	_, err := ks.Get(ctx, []byte("warm"))
	require.ErrorIs(t, err, ErrNotFound)
	// lose makes the node say nothing, and calls then when it has got a write.
	lose := func(then func()) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.intercept = func(_ ids.StoreID, r *locuspb.Request) (*locuspb.Response, bool) {
			if r.GetWrite() != nil {
				then()
			}
			return nil, false
		}
	}

	var ambiguous *AmbiguousError
	late := newEnding()
	lose(late.end)
	_, err = ks.Put(late, []byte("a"), nil)
	require.ErrorAs(t, err, &ambiguous)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	lose(func() {})
	_, err = ks.Put(brief{ctx, 30 * time.Millisecond}, []byte("a"), nil)
	require.ErrorAs(t, err, &ambiguous)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	stopped, stop := context.WithCancel(ctx)
	lose(stop)
	_, err = ks.Put(stopped, []byte("a"), nil)
	require.ErrorAs(t, err, &ambiguous)
	require.ErrorIs(t, err, context.Canceled)
	_, err = ks.Put(stopped, []byte("a"), nil)
	require.False(t, errors.As(err, &ambiguous), "it was never sent: %v", err)
	require.ErrorIs(t, err, context.Canceled)

	short, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
	defer cancel()
	_, err = ks.Get(short, []byte("a"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.False(t, errors.As(err, &ambiguous))

	cause := errors.New("shutting down")
	given, give := context.WithCancelCause(ctx)
	lose(func() { give(cause) })
	_, err = ks.Put(given, []byte("a"), nil)
	require.ErrorAs(t, err, &ambiguous)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, cause)

	// Refusals that promise to have done nothing leave no doubt. The client is told
	// to come back after the deadline, so that this finds it waiting, not asking again: what it asks behind the write
	// is answered behind it.
	refused := make(chan struct{})
	f.mu.Lock()
	f.intercept = func(_ ids.StoreID, r *locuspb.Request) (*locuspb.Response, bool) {
		if r.GetWrite() == nil {
			return nil, true
		}
		close(refused)
		return refuse(&api.OverloadedError{What: "range", RetryAfter: time.Hour}), true
	}
	f.mu.Unlock()
	late = newEnding()
	go func() {
		defer late.end()
		<-refused
		_, err := ks.Get(ctx, []byte("behind"))
		assert.ErrorIs(t, err, ErrNotFound)
	}()
	_, err = ks.Put(late, []byte("a"), nil)
	require.False(t, errors.As(err, &ambiguous), "%v", err)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// TestErrorsOfTheCluster: what a node answers, callers find with errors.Is and errors.As.
func TestErrorsOfTheCluster(t *testing.T) {
	f := newFake(t, 1)
	ks := f.open().Keyspace("default")
	_, err := ks.Get(ctx, []byte("warm"))
	require.ErrorIs(t, err, ErrNotFound)
	answer := func(err error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.intercept = func(ids.StoreID, *locuspb.Request) (*locuspb.Response, bool) { return refuse(err), true }
	}
	for _, want := range []error{ErrSessionExpired, ErrResultNotKept, ErrPermission, ErrFuelExhausted, ErrNotOneGroup} {
		answer(want)
		_, err := ks.Put(ctx, []byte("a"), nil)
		require.ErrorIs(t, err, want)
	}
	answer(&api.TimestampUnavailableError{Timestamp: 5, Oldest: 9, Reason: "gone"})
	_, err = ks.Get(ctx, []byte("a"), AtTimestamp(5))
	var gone *TimestampUnavailableError
	require.ErrorAs(t, err, &gone)
	require.Equal(t, TimestampUnavailableError{Timestamp: 5, Oldest: 9, Reason: "gone"}, *gone)
	answer(&api.KeyspaceNotFoundError{Name: "#7"})
	_, err = ks.Get(ctx, []byte("a"))
	var missing *KeyspaceNotFoundError
	require.ErrorAs(t, err, &missing)
	require.Equal(t, "default", missing.Name, "nodes know it by its number, callers by its name")
	answer(&api.InternalError{Reason: "disk"})
	_, err = ks.Put(ctx, []byte("a"), nil)
	var ambiguous *AmbiguousError
	var internal *InternalError
	require.ErrorAs(t, err, &ambiguous, "a write that ended in an internal error may have taken effect")
	require.ErrorAs(t, err, &internal)
	_, err = ks.Get(ctx, []byte("a"))
	require.False(t, errors.As(err, &ambiguous))
	require.ErrorAs(t, err, &internal)
}

// TestRequestID: a command repeated under its own name by another process gets the first result.
func TestRequestID(t *testing.T) {
	f := newFake(t, 3)
	db := f.open()
	id, err := db.NewRequestID(ctx)
	require.NoError(t, err)
	first, err := db.Keyspace("default").Put(ctx, []byte("a"), []byte("1"), WithRequestID(id))
	require.NoError(t, err)

	again, err := ParseRequestID(id.String())
	require.NoError(t, err)
	require.Equal(t, id, again)
	other := f.open()
	second, err := other.Keyspace("default").Put(ctx, []byte("a"), []byte("1"), WithRequestID(again))
	require.NoError(t, err)
	require.Equal(t, first, second)
	require.Equal(t, 1, f.applied[string(keys.Layout{ID: 1}.Encode([]byte("a")))])

	add := NewFunc[int, int]("add")
	id, err = db.NewRequestID(ctx)
	require.NoError(t, err)
	for range 3 {
		sum, err := add.Call(ctx, db.Keyspace("default").Key([]byte("n")), 5, WithRequestID(id))
		require.NoError(t, err)
		require.Equal(t, 5, sum)
	}
	for _, bad := range []string{"", "zz", strings.Repeat("0", 48), strings.Repeat("1", 47)} {
		_, err := ParseRequestID(bad)
		require.Error(t, err, bad)
	}
}

func TestToken(t *testing.T) {
	f := newFake(t, 3)
	a, b := f.open(), f.open()
	ts, err := a.Keyspace("default").Put(ctx, []byte("a"), nil)
	require.NoError(t, err)
	require.GreaterOrEqual(t, uint64(a.Token()), uint64(ts))
	var got uint64
	f.intercept = func(_ ids.StoreID, r *locuspb.Request) (*locuspb.Response, bool) {
		got = r.Token
		return nil, true
	}
	_, err = b.Keyspace("default").Get(WithToken(ctx, a.Token()), []byte("b"))
	require.ErrorIs(t, err, ErrNotFound)
	require.Equal(t, uint64(a.Token()), got)
}

// TestNodesComeAndGo: nodes are killed and started again while writers write; every acknowledged write is
// there, and none was applied twice.
func TestNodesComeAndGo(t *testing.T) {
	f := newFake(t, 3)
	db := f.open(func(o *Options) {
		o.Addrs = []string{f.nodes[0].addr, f.nodes[1].addr, f.nodes[2].addr}
	})
	ks := db.Keyspace("default")
	const writers, each = 8, 150
	var wg sync.WaitGroup
	var done atomic.Int64
	for w := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range each {
				if _, err := ks.Put(ctx, fmt.Appendf(nil, "w%d-%d", w, i), []byte("v")); err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
				done.Add(1)
			}
		}()
	}
	for i := range 6 {
		want := int64((i + 1) * writers * each / 8)
		require.Eventually(t, func() bool { return done.Load() >= want || t.Failed() }, time.Minute, time.Millisecond)
		n := f.nodes[i%3]
		n.srv.Stop()
		f.elect()
		f.split(keys.Layout{ID: 1}.Encode(fmt.Appendf(nil, "w%d", i)))
		require.Eventually(t, func() bool { return done.Load() > want || f.leads(n.store) }, time.Minute, time.Millisecond)
		n.start(n.addr)
	}
	wg.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range writers {
		for i := range each {
			require.Equal(t, 1, f.applied[string(keys.Layout{ID: 1}.Encode(fmt.Appendf(nil, "w%d-%d", w, i)))])
		}
	}
	require.Positive(t, db.Stats().Retries)
}

func (f *fake) leads(s ids.StoreID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.ranges {
		if r.leader == s {
			return true
		}
	}
	return false
}

func TestBulkWriter(t *testing.T) {
	f := newFake(t, 3)
	for _, k := range []string{"k2", "k5", "k7"} {
		f.split(keys.Layout{ID: 1}.Encode([]byte(k)))
	}
	db := f.open()
	ks := db.Keyspace("default")
	const n = 20_000
	for _, o := range []BulkOptions{{}, {MaxInFlight: 3}, {MaxBytes: 100}} {
		total := n
		if o.MaxInFlight > 0 || o.MaxBytes > 0 {
			total = 300
		}
		w := ks.BulkWriter(ctx, o)
		f.mu.Lock()
		before := len(f.applied)
		f.mu.Unlock()
		buf := make([]byte, 0, 32)
		for i := range total {
			buf = fmt.Appendf(buf[:0], "k%d-%d-%d-%d", i%10, i, o.MaxInFlight, o.MaxBytes)
			require.NoError(t, w.Put(buf, buf))
		}
		require.NoError(t, w.Flush())
		require.EqualValues(t, total, w.Written())
		f.mu.Lock()
		require.Len(t, f.applied, before+total)
		f.mu.Unlock()
		require.NoError(t, w.Close())
		require.NoError(t, w.Close())
		require.ErrorIs(t, w.Put([]byte("a"), nil), ErrClosed)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for k, times := range f.applied {
		require.Equal(t, 1, times, "%q", k)
		v, _ := f.at([]byte(k), f.ts)
		require.Equal(t, k[4:], string(v.value), "the caller's buffer was kept")
	}
	require.Greater(t, f.requests, 3*f.frames, "requests do not share frames")
	s := db.Stats()
	require.Greater(t, s.BytesSent, uint64(n*20))
	require.Positive(t, s.BytesReceived)
}

func TestBulkWriterKeepsTheFirstError(t *testing.T) {
	f := newFake(t, 1)
	ks := f.open().Keyspace("default")
	f.intercept = func(_ ids.StoreID, r *locuspb.Request) (*locuspb.Response, bool) {
		if w := r.GetWrite(); w != nil && strings.HasSuffix(string(w.Mutations[0].Key), "bad") {
			return refuse(api.ErrPermission), true
		}
		return nil, true
	}
	w := ks.BulkWriter(ctx, BulkOptions{})
	require.NoError(t, w.Put([]byte("good"), nil))
	require.NoError(t, w.Put([]byte("bad"), nil))
	require.ErrorIs(t, w.Flush(), ErrPermission)
	require.ErrorIs(t, w.Put([]byte("good"), nil), ErrPermission)
	require.ErrorIs(t, w.Close(), ErrPermission)

	gone, cancel := context.WithCancel(ctx)
	f.mu.Lock()
	f.intercept = func(ids.StoreID, *locuspb.Request) (*locuspb.Response, bool) { return nil, false }
	f.mu.Unlock()
	w = ks.BulkWriter(gone, BulkOptions{MaxInFlight: 1})
	require.NoError(t, w.Put([]byte("a"), nil))
	time.AfterFunc(10*time.Millisecond, cancel)
	require.ErrorIs(t, w.Put([]byte("b"), nil), context.Canceled)
	require.ErrorIs(t, w.Close(), context.Canceled)
}

// TestOverload: what does not fit into the client's queue fails at once, and a bulk writer waits instead.
func TestOverload(t *testing.T) {
	f := newFake(t, 1)
	db := f.open(func(o *Options) { o.MaxInFlight = 2 })
	ks := db.Keyspace("default")
	_, err := ks.Get(ctx, []byte("warm"))
	require.ErrorIs(t, err, ErrNotFound)
	f.mu.Lock()
	f.intercept = func(ids.StoreID, *locuspb.Request) (*locuspb.Response, bool) { return nil, false }
	f.mu.Unlock()
	before := db.Stats().Requests
	stuck, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for range 2 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			_, err := ks.Get(stuck, []byte("a"))
			require.ErrorIs(t, err, context.Canceled)
		}()
	}
	require.Eventually(t, func() bool { return db.Stats().Requests >= before+2 }, time.Minute, time.Millisecond)
	_, err = ks.Get(stuck, []byte("b"))
	var full *OverloadedError
	require.ErrorAs(t, err, &full)
	w := ks.BulkWriter(ctx, BulkOptions{})
	for i := range 100 {
		require.NoError(t, w.Put(fmt.Append(nil, i), nil))
	}
	f.mu.Lock()
	f.intercept = nil
	f.mu.Unlock()
	stop()
	wg.Wait()
	require.NoError(t, w.Close())
}

func TestClose(t *testing.T) {
	f := newFake(t, 1)
	db := f.open()
	ks := db.Keyspace("default")
	_, err := ks.Get(ctx, []byte("warm"))
	require.ErrorIs(t, err, ErrNotFound)
	f.mu.Lock()
	f.intercept = func(ids.StoreID, *locuspb.Request) (*locuspb.Response, bool) { return nil, false }
	f.mu.Unlock()
	result := make(chan error)
	go func() {
		_, err := ks.Put(ctx, []byte("a"), nil)
		result <- err
	}()
	require.Eventually(t, func() bool { return db.Stats().Requests >= 2 }, time.Minute, time.Millisecond)
	require.NoError(t, db.Close())
	err = <-result
	var ambiguous *AmbiguousError
	require.ErrorAs(t, err, &ambiguous)
	require.ErrorIs(t, err, ErrClosed)
	_, err = ks.Get(ctx, []byte("a"))
	require.ErrorIs(t, err, ErrClosed)
	_, err = db.Status(ctx)
	require.ErrorIs(t, err, ErrClosed)
	require.NoError(t, db.Close())
}

// TestTheLastReasonIsTold: why nodes could not be asked is told when the time is up, and not that an attempt which was cut
// short by that came to nothing.
func TestTheLastReasonIsTold(t *testing.T) {
	db := newFake(t, 1).open()
	ctx, cancel := context.WithCancel(ctx)
	attempts := 0
	_, err := call(ctx, db, true, func(context.Context, locuspb.LocusClient) (int, error) {
		if attempts++; attempts == 1 {
			return 0, &UnavailableError{Reason: "the disk is away"}
		}
		cancel()
		return 0, &UnavailableError{Reason: "cut short"}
	})
	require.ErrorContains(t, err, "the disk is away")
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 2, attempts)

	_, err = call(ctx, db, true, func(context.Context, locuspb.LocusClient) (int, error) {
		return 0, &UnavailableError{Reason: "cut short"}
	})
	require.ErrorIs(t, err, context.Canceled)
}

// opening is how long tests try to open what can't be opened, beside each other: enough for a reason to be found.
const opening = 3 * time.Second

func TestOpenWithoutACluster(t *testing.T) {
	t.Parallel()
	short, cancel := context.WithTimeout(ctx, opening)
	defer cancel()
	_, err := Open(short, Options{Addrs: []string{"127.0.0.1:1"}})
	var unavailable *UnavailableError
	require.ErrorAs(t, err, &unavailable)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "no connection to 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused")
}

// TestOpenWithTheWrongTLS: what TLS has against a connection is told, on both sides of the mistake.
func TestOpenWithTheWrongTLS(t *testing.T) {
	t.Parallel()
	t.Run("client", func(t *testing.T) {
		t.Parallel()
		plain := newFake(t, 1).nodes[0].addr
		short, cancel := context.WithTimeout(ctx, opening)
		defer cancel()
		_, err := Open(short, Options{Addrs: []string{plain}, TLS: &tls.Config{}})
		require.ErrorContains(t, err, "first record does not look like a TLS handshake")
	})
	t.Run("node", func(t *testing.T) {
		t.Parallel()
		closing, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer closing.Close()
		go func() {
			for conn, err := closing.Accept(); err == nil; conn, err = closing.Accept() {
				_ = conn.Close() // as a node does with a client that it does not understand
			}
		}()
		short, cancel := context.WithTimeout(ctx, opening)
		defer cancel()
		_, err = Open(short, Options{Addrs: []string{closing.Addr().String()}})
		require.ErrorContains(t, err, "does it want TLS, or another certificate?")
	})
}
