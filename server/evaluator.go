package server

import (
	"context"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/packed"
	"github.com/locuskv/locus/raftstore"
	"github.com/locuskv/locus/server/clustermap"
	"github.com/locuskv/locus/udf"
)

// callLimit bounds one call on a key, which every other write of the range waits for if the function may write. The runtime
// of guests has its own, shorter bound, and says so with an error of its own; this one is for functions
// that wait for an instance, and for native ones that listen to their context.
const callLimit = 500 * time.Millisecond

// optimisticLimit bounds one run of a call in optimistic mode, which nobody but its caller waits for.
const optimisticLimit = 10 * time.Second

// evaluator runs calls: on the sequencers of ranges, and beside them those in optimistic mode and those that only read.
type evaluator struct {
	functions *functions
	cmap      *clustermap.Map
	node      string
}

var _ raftstore.Evaluator = (*evaluator)(nil)

// Evaluate runs one call. The dispatcher has resolved and compiled the function before the call was queued, and pinned its
// version: if another one has become active since, or this one was removed, the call runs all the same.
func (e *evaluator) Evaluate(call *locuspb.CallRequest, tx raftstore.Tx) (*locuspb.CallResponse, error) {
	f, ok := e.functions.pinned(call.Function, call.Version)
	switch {
	case !ok && call.Version == 0:
		return nil, &api.FunctionNotFoundError{Name: call.Function, Version: call.Version, Node: e.node}
	case !ok: // the dispatcher's hold is there to prevent it
		return nil, &api.RetryError{Reason: "function " + call.Function + " is not in memory any more"}
	}
	defer f.release()
	id, _ := keys.KeyspaceOf(call.Key)
	l, ok := e.cmap.Layout(id)
	if !ok {
		return nil, &api.KeyspaceNotFoundError{Name: "#" + uitoa(uint64(id))}
	}
	user, err := l.Decode(call.Key)
	if err != nil {
		return nil, err
	}
	ctx, limit := context.Background(), callLimit
	if call.Optimistic {
		ctx, limit = udf.Optimistic(ctx), optimisticLimit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	u := usage{rangeID: tx.Range()}
	view := &groupTx{tx: tx, layout: l, group: l.GroupSpanOf(call.Key), used: &u}
	info := udf.Info{ID: udf.CallID(tx.CallID()), Timestamp: udf.Timestamp(tx.Timestamp()), Key: user}
	began := time.Now()
	out, err := f.runnable.CallWrite(ctx, view, info, udf.Codec(call.Codec), call.Argument)
	u.fuel, u.time, u.err = out.Fuel, time.Since(began), err
	if err != nil || call.DryRun {
		u.recordsWritten, u.bytesWritten = 0, 0
	}
	e.functions.accounts.add(functionVersion{call.Function, f.version}, &u)
	if err != nil {
		return nil, err
	}
	return &locuspb.CallResponse{Result: out.Result, Fuel: out.Fuel, Version: f.version}, nil
}

// groupTx is what a function sees of a range's transaction: the user keys of one group.
type groupTx struct {
	tx     raftstore.Tx
	layout keys.Layout
	group  keys.Span
	used   *usage // what it reads and writes
}

var _ udf.StoreTx = (*groupTx)(nil)

// global is the key in the store; a key outside the group is an error.
func (t *groupTx) global(user []byte) ([]byte, error) {
	if err := t.layout.CheckUserKey(user); err != nil {
		return nil, err
	}
	key := t.layout.Encode(user)
	if !t.group.Contains(key) {
		return nil, api.ErrNotOneGroup
	}
	return key, nil
}

func (t *groupTx) Get(user []byte) (value []byte, found bool, err error) {
	key, err := t.global(user)
	if err != nil {
		return nil, false, err
	}
	value, found, err = t.tx.Get(key)
	if found {
		t.used.recordsRead++
		t.used.bytesRead += uint64(len(user) + len(value))
	}
	return value, found, err
}

func (t *groupTx) Put(user, value []byte, ttl time.Duration) error {
	key, err := t.global(user)
	if err != nil {
		return err
	}
	if err := keys.CheckValue(value); err != nil {
		return err
	}
	if ttl < 0 {
		return &api.InvalidArgumentError{Reason: "a time to live is negative"}
	}
	ms := ttl.Milliseconds()
	if ttl > 0 && ms == 0 {
		ms = 1 // 0 would be for ever
	}
	t.used.recordsWritten++
	t.used.bytesWritten += uint64(len(user) + len(value))
	return t.tx.Put(key, value, ms)
}

func (t *groupTx) Delete(user []byte) error {
	key, err := t.global(user)
	if err != nil {
		return err
	}
	t.used.recordsWritten++
	t.used.bytesWritten += uint64(len(user))
	return t.tx.Delete(key)
}

// Scan reads the part of a span that lies in the group; a span that reaches beyond it is cut, because a
// function that asks for everything means everything it may see.
func (t *groupTx) Scan(span udf.Span, f func(batch []byte) bool) error {
	s := t.globalSpan(span).Intersect(t.group)
	if s.Empty() {
		return nil
	}
	return t.tx.Scan(s, t.layout.HeaderLen(), func(batch []byte) bool {
		t.used.recordsRead += uint64(packed.Len(batch))
		t.used.bytesRead += uint64(len(batch))
		return f(batch)
	})
}

// globalSpan puts user keys behind the header of the group's own keys: inside one group that is the same
// for all, in a hash keyspace too.
func (t *groupTx) globalSpan(span udf.Span) keys.Span {
	header := t.group.Start[:t.layout.HeaderLen()]
	join := func(user []byte) []byte {
		return append(append(make([]byte, 0, len(header)+len(user)), header...), user...)
	}
	s := keys.Span{Start: join(span.Start), End: keys.PrefixEnd(header)}
	if len(span.End) > 0 {
		s.End = join(span.End)
	}
	return s
}
