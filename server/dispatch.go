package server

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/server/clustermap"
	"github.com/locuskv/locus/udf"
)

// defaultTimeout bounds requests that state none.
const defaultTimeout = 30 * time.Second

// dispatcher admits data-plane requests: it judges what can be judged without the range, has ready what the
// range's sequencer must not wait for (the keyspace's layout, the compiled function), and hands over.
//
// What is at hand is checked on the caller's goroutine; what has to be asked for, on one of its own, of
// which there are as many as callers allow requests in flight.
type dispatcher struct {
	store     store
	clock     *hlc.Clock
	cmap      *clustermap.Map
	functions *functions
	// refetch asks the driver for the keyspaces.
	refetch func(ctx context.Context) error
	// pure bounds how many pure calls run at a time.
	pure chan struct{}
	// room refuses what adds data while a disk is nearly full.
	room *room
	// loads sees every request.
	loads *loads
	// underWay counts requests that are not answered yet.
	underWay atomic.Int64
}

// origin says whom a request comes from, which decides what it may touch.
type origin int

const (
	fromClient origin = iota
	fromNode          // may write the system keyspace, and read its secrets
)

// dispatch executes one request; done is called exactly once, on any goroutine.
func (d *dispatcher) dispatch(ctx context.Context, req *locuspb.Request, from origin, done func(*locuspb.Response)) {
	d.underWay.Add(1)
	finish := func(resp *locuspb.Response) {
		d.underWay.Add(-1)
		done(d.enrich(req, resp))
	}
	// A token is the highest timestamp that a session has seen: a fact, unless it is too far ahead.
	if err := d.clock.Update(hlc.Timestamp(req.Token)); err != nil {
		finish(failed(err))
		return
	}
	d.loads.note(req)
	switch op := req.Op.(type) {
	case *locuspb.Request_Get:
		d.read(ctx, req, keys.KeySpan(op.Get.GetKey()), from, finish)
	case *locuspb.Request_Scan:
		d.read(ctx, req, api.SpanFromProto(op.Scan.GetSpan()), from, finish)
	case *locuspb.Request_ClockAt:
		d.store.Do(req, finish)
	case *locuspb.Request_Write:
		d.admit(ctx, finish, func(ctx context.Context, wait bool) (bool, error) {
			if req.Session == nil {
				return false, errNoSession
			}
			ready, err := d.admitWrite(ctx, op.Write, from, wait)
			if err == nil && ready && addsData(op.Write) {
				err = d.room.check(ids.RangeID(req.RangeId))
			}
			return ready, err
		}, func() { d.store.Do(req, finish) })
	case *locuspb.Request_Call:
		if len(op.Call.GetKey()) == 0 {
			go d.callPure(ctx, req, op.Call, finish)
			return
		}
		// The function is held until the call has its answer: who runs the call finds it, whatever is removed or evicted meanwhile.
		var held function
		end := func(resp *locuspb.Response) {
			held.release()
			finish(resp)
		}
		d.admit(ctx, end, func(ctx context.Context, wait bool) (ready bool, err error) {
			held, ready, err = d.admitCall(ctx, req, op.Call, wait)
			return ready, err
		}, func() { d.store.Do(req, end) })
	default:
		finish(failed(&api.InvalidArgumentError{Reason: "the request names no operation"}))
	}
}

// read executes a get or a scan of a keyspace that lives.
func (d *dispatcher) read(ctx context.Context, req *locuspb.Request, span keys.Span, from origin, finish func(*locuspb.Response)) {
	id, ok := keys.KeyspaceOf(span.Start)
	if ok && id == systemKeyspace && from != fromNode {
		if err := checkSecret(span); err != nil {
			finish(failed(err))
			return
		}
	}
	if ok && (id == systemKeyspace || d.cmap.Living(id)) && keys.KeyspaceSpan(id).ContainsSpan(span) {
		d.store.Do(req, finish) // the short way
		return
	}
	d.admit(ctx, finish, func(ctx context.Context, wait bool) (bool, error) {
		_, ready, err := d.layout(ctx, span.Start, wait)
		if err == nil && !keys.KeyspaceSpan(id).ContainsSpan(span) {
			err = &api.InvalidArgumentError{Reason: fmt.Sprintf("the span %s is not inside one keyspace", span)}
		}
		return ready, err
	}, func() { d.store.Do(req, finish) })
}

// known refuses a key of a keyspace that does not exist, asking the driver if need be.
func (d *dispatcher) known(ctx context.Context, key []byte) error {
	_, _, err := d.layout(ctx, key, true)
	return err
}

// admit runs check, at once if what it needs is at hand, else where it may wait; then execute, or finish
// with the error.
func (d *dispatcher) admit(ctx context.Context, finish func(*locuspb.Response), check func(ctx context.Context, wait bool) (ready bool, err error), execute func()) {
	ready, err := check(ctx, false)
	if err != nil {
		finish(failed(err))
		return
	}
	if ready {
		execute()
		return
	}
	go func() {
		if _, err := check(ctx, true); err != nil {
			finish(failed(err))
			return
		}
		execute()
	}()
}

// layout of the keyspace that a key is in; *api.KeyspaceNotFoundError if it was dropped or never existed.
// With wait false and nothing known, ready is false.
func (d *dispatcher) layout(ctx context.Context, key []byte, wait bool) (l keys.Layout, ready bool, err error) {
	id, ok := keys.KeyspaceOf(key)
	if !ok {
		return l, false, &api.InvalidArgumentError{Reason: "a key names no keyspace"}
	}
	if l, ok := d.cmap.Layout(id); ok {
		return l, true, nil
	}
	if id == systemKeyspace {
		return systemLayout, true, nil
	}
	notFound := &api.KeyspaceNotFoundError{Name: "#" + uitoa(uint64(id))}
	if d.cmap.Gone(id) {
		return l, false, notFound
	}
	if !wait {
		return l, false, nil
	}
	if err := d.refetch(ctx); err != nil {
		return l, false, err
	}
	if l, ok := d.cmap.Layout(id); ok {
		return l, true, nil
	}
	return l, false, notFound
}

// systemKeyspace holds what the cluster knows of itself; clients may not write it.
const systemKeyspace ids.KeyspaceID = 0

var systemLayout = keys.Layout{ID: systemKeyspace}

// admitWrite checks that a write is of one group, and within the limits of keys and values.
func (d *dispatcher) admitWrite(ctx context.Context, w *locuspb.WriteRequest, from origin, wait bool) (ready bool, err error) {
	if w.GetDeleteSpan() {
		if from != fromNode {
			return false, api.ErrPermission
		}
		return true, nil
	}
	first := firstKey(w)
	if first == nil {
		return false, &api.InvalidArgumentError{Reason: "the write has no key"}
	}
	l, ready, err := d.layout(ctx, first, wait)
	if err != nil || !ready {
		return false, err
	}
	if l.ID == systemKeyspace {
		if from != fromNode {
			return false, api.ErrPermission
		}
		// The system range is never split: all of its keys are one group for the nodes.
		return true, nil
	}
	group := l.GroupSpanOf(first)
	for _, m := range w.Mutations {
		if err := checkKey(l, group, m.GetKey()); err != nil {
			return false, err
		}
		if err := keys.CheckValue(m.GetValue()); err != nil {
			return false, err
		}
		if m.GetTtlMs() < 0 {
			return false, &api.InvalidArgumentError{Reason: "a time to live is negative"}
		}
	}
	for _, c := range w.Conditions {
		if err := checkKey(l, group, c.GetKey()); err != nil {
			return false, err
		}
	}
	return true, nil
}

func firstKey(w *locuspb.WriteRequest) []byte {
	switch {
	case len(w.GetMutations()) > 0:
		return w.Mutations[0].GetKey()
	case len(w.GetConditions()) > 0:
		return w.Conditions[0].GetKey()
	}
	return nil
}

// checkKey checks one key of a write whose group is known.
func checkKey(l keys.Layout, group keys.Span, key []byte) error {
	if id, ok := keys.KeyspaceOf(key); ok && id != l.ID {
		return api.ErrNotOneGroup
	}
	if err := l.CheckGlobalKey(key); err != nil {
		return err
	}
	if !group.Contains(key) {
		return api.ErrNotOneGroup
	}
	return nil
}

// addsData says whether a write puts anything into a keyspace of users. What the cluster records of itself is little, and
// goes on: it takes records to make room by moving ranges.
func addsData(w *locuspb.WriteRequest) bool {
	id, _ := keys.KeyspaceOf(firstKey(w))
	return id != systemKeyspace && slices.ContainsFunc(w.Mutations, func(m *locuspb.Mutation) bool { return !m.GetDelete() })
}

// errNoSession refuses a command that could take effect twice: its sender would repeat it when the answer is
// lost, and nobody could know it again (promise P4).
var errNoSession = &api.InvalidArgumentError{Reason: "a command that writes needs a session"}

// admitCall has the function ready and pins its version, so that what was checked is what runs. The function is the
// caller's to release, also with an error.
func (d *dispatcher) admitCall(ctx context.Context, req *locuspb.Request, call *locuspb.CallRequest, wait bool) (f function, ready bool, err error) {
	l, ready, err := d.layout(ctx, call.Key, wait)
	if err != nil || !ready {
		return f, false, err
	}
	if l.ID == systemKeyspace {
		return f, false, api.ErrPermission
	}
	if err := l.CheckGlobalKey(call.Key); err != nil {
		return f, false, err
	}
	f, ready = d.functions.ready(call.Function, call.Version)
	if !ready {
		if !wait {
			return f, false, nil
		}
		if f, err = d.functions.resolve(ctx, call.Function, call.Version); err != nil {
			return f, false, err
		}
	}
	if err := udf.CheckCall(f.runnable, udf.KindReadWrite, udf.Codec(call.Codec)); err != nil {
		return f, false, err
	}
	if !call.DryRun && f.runnable.Kind() == udf.KindReadWrite {
		if req.Session == nil {
			return f, false, errNoSession
		}
		if err := d.room.check(ids.RangeID(req.RangeId)); err != nil {
			return f, false, err
		}
	}
	call.Version, call.ReadOnly = f.version, f.runnable.Kind() == udf.KindReadOnly
	return f, true, nil
}

// callPure runs a function that touches no data, here.
func (d *dispatcher) callPure(ctx context.Context, req *locuspb.Request, call *locuspb.CallRequest, finish func(*locuspb.Response)) {
	ctx, cancel := context.WithTimeout(ctx, timeoutOf(req.TimeoutMs))
	defer cancel()
	f, err := d.functions.resolve(ctx, call.Function, call.Version)
	if err != nil {
		finish(failed(err))
		return
	}
	defer f.release()
	select {
	case d.pure <- struct{}{}:
		defer func() { <-d.pure }()
	case <-ctx.Done():
		finish(failed(ctx.Err()))
		return
	}
	began := time.Now()
	out, err := f.runnable.CallPure(ctx, udf.Codec(call.Codec), call.Argument)
	d.functions.accounts.add(functionVersion{call.Function, f.version}, &usage{fuel: out.Fuel, time: time.Since(began), err: err})
	if err != nil {
		finish(failed(err))
		return
	}
	finish(&locuspb.Response{
		Timestamp: uint64(d.clock.Now()),
		Result: &locuspb.Response_Call{Call: &locuspb.CallResponse{
			Result: out.Result, Fuel: out.Fuel, Version: f.version,
		}},
	})
}

func timeoutOf(ms int64) time.Duration {
	if ms <= 0 {
		return defaultTimeout
	}
	return time.Duration(ms) * time.Millisecond
}

// failed is the answer that says nothing but an error.
func failed(err error) *locuspb.Response { return &locuspb.Response{Error: api.ToProto(err)} }

// enrich gives an answer its request's id and, to an error of routing without a cure, what this node's map
// knows.
func (d *dispatcher) enrich(req *locuspb.Request, resp *locuspb.Response) *locuspb.Response {
	resp.Id = req.Id
	if resp.Error == nil {
		return resp
	}
	switch api.Code(resp.Error.Code) {
	case api.CodeRangeNotFound, api.CodeNotLeaseholder, api.CodeEpochMismatch:
		if len(resp.Error.Routes) > 0 {
			d.cmap.Learn(api.RoutesFromProto(resp.Error.Routes))
		} else if r, ok := d.cmap.Range(ids.RangeID(req.RangeId)); ok {
			resp.Error.Routes = []*locuspb.Route{api.RouteToProto(r)}
		}
	}
	return resp
}
