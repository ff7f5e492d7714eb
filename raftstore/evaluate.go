package raftstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
)

// closeLag is how far behind its timestamp an ordinary entry closes: reads that are this stale need no
// coordination, and commands never wait for them.
const closeLag = time.Second

// batch is one evaluation: some commands, one view, one entry.
type batch struct {
	q       *sequencer
	view    *view
	desc    *topology.Descriptor
	entry   *batchEntry
	answers []answer
	// at says where a key stands in entry.Data: of several writes to one key the last remains (rule A5).
	at map[string]int
	// deltas are what the batch adds to sessions, in the order of their first command.
	deltas  map[sessionID]*sessionDelta
	order   []sessionID
	closing bool
	bytes   int   // of the entry so far, about
	failed  error // of the engine: fatal
}

// empty says that the batch needs no entry.
func (b *batch) empty() bool {
	return b.entry.Kind == entryBatch && len(b.entry.Data) == 0 && len(b.entry.Local) == 0 && !b.closing
}

// command evaluates one command.
func (b *batch) command(c *command) {
	if b.failed != nil {
		return
	}
	if c.closeTo != 0 || c.closeNow {
		b.close(c)
		return
	}
	if err := b.routed(c.req); err != nil {
		c.fail(err)
		return
	}
	sess := c.req.Session
	if c.req.GetCall().GetDryRun() {
		// It has the session's number for its call's id alone, and leaves nothing under it: the same number may be that of the
		// real call, before or after.
		sess = nil
	}
	if sess != nil {
		prior, err := b.q.sessions.check(sess, b.entry.TS, b.q.r.store.clock.MaxOffset(), b.q.r.store.opts.MaxSessionBytes)
		if err != nil {
			b.release(sess, err)
			c.fail(err)
			return
		}
		if prior == nil {
			prior = b.sameBatch(sess)
		}
		if prior != nil {
			b.repeat(c, prior)
			return
		}
	}
	if c.attempt != nil {
		ok, err := b.holds(c.attempt)
		if err != nil {
			b.failed = err
			return
		}
		if !ok {
			// Once what changed is applied, which the next snapshot has to show. If this batch is given up, so is the change.
			b.settle(&command{done: func(*locuspb.Response) { c.attempt.again() }}, &locuspb.Response{})
			return
		}
	}
	resp, writes, err := b.run(c)
	switch {
	case b.failed != nil:
		return
	case err != nil:
		resp = &locuspb.Response{Error: api.ToProto(err)}
		if sess.GetRetry() && !repeats(err) {
			b.remember(sess, resultRefused, mustMarshal(resp.Error))
		}
	default:
		resp.Timestamp, resp.Place = uint64(b.entry.TS), uint32(len(b.answers))
		// A retry that found nothing to do is remembered like a refused one: an earlier attempt may still arrive, and
		// must not find something after the client was told that there was nothing.
		if len(writes) > 0 || sess.GetRetry() {
			b.add(writes)
			b.remember(sess, resultApplied, resultOf(resp))
		}
	}
	b.settle(c, resp)
}

// repeats says that an error is no outcome: whoever gets it sends the command again, and would get it for ever if it were
// remembered.
func repeats(err error) bool { return api.CodeOf(err) == api.CodeRetry }

// routed refuses a command that was queued for other bounds, or that another range holds the first key of.
func (b *batch) routed(req *locuspb.Request) error {
	if req.BoundsEpoch == b.desc.Epoch.Bounds && b.desc.Span.Contains(firstKey(req)) {
		return nil
	}
	return &api.EpochMismatchError{Range: b.q.r.id, Routes: b.q.r.store.routesOf(b.desc)}
}

// full says that the entry should take no further command.
func (b *batch) full() bool { return b.bytes >= b.q.r.store.opts.MaxEntryBytes }

// settle notes the answer that a command gets when the batch is decided. An answer that depends on what
// was read must wait as well: it may have seen the overlay (rule A3).
func (b *batch) settle(c *command, resp *locuspb.Response) {
	b.answers = append(b.answers, answer{cmd: c, resp: resp})
}

// close serves a command that wants a timestamp closed.
func (b *batch) close(c *command) {
	if c.closeTo >= b.entry.TS {
		c.fail(&api.ClockOffsetError{Remote: c.closeTo, Local: b.entry.TS})
		return
	}
	b.entry.Closed = max(b.entry.Closed, c.closeTo)
	if c.closeNow {
		b.entry.Closed = b.entry.TS
	}
	b.closing = true
	b.settle(c, &locuspb.Response{Timestamp: uint64(b.entry.TS)})
}

// sameBatch finds a command that this batch has evaluated already: a retry that overtook nothing.
func (b *batch) sameBatch(p *locuspb.Session) *sessionResult {
	d := b.deltas[sessionID(p.Id)]
	if d == nil {
		return nil
	}
	for i := range d.Results {
		if d.Results[i].Number == p.Number {
			return &d.Results[i]
		}
	}
	return nil
}

// repeat answers a command that took effect before, with its first result. While that is in the overlay,
// the answer waits with this batch (rule B4).
func (b *batch) repeat(c *command, prior *sessionResult) {
	resp := &locuspb.Response{Timestamp: uint64(prior.TS), Place: prior.Place}
	var err error
	switch {
	case prior.Kind == resultLost:
		resp.Error = api.ToProto(api.ErrResultNotKept)
	case prior.Kind == resultRefused:
		resp.Error = &locuspb.Error{}
		err = proto.Unmarshal(prior.Result, resp.Error)
	case c.req.GetCall() != nil:
		call := &locuspb.CallResponse{}
		err = proto.Unmarshal(prior.Result, call)
		resp.Result = &locuspb.Response_Call{Call: call}
	default:
		write := &locuspb.WriteResponse{}
		err = proto.Unmarshal(prior.Result, write)
		resp.Result = &locuspb.Response_Write{Write: write}
	}
	if err != nil {
		b.failed = fmt.Errorf("raftstore: session result of range %s: %w", b.q.r.id, err)
		return
	}
	b.settle(c, resp)
}

// release makes room in a full table: the refused command's floor says which results its client no longer waits for.
func (b *batch) release(p *locuspb.Session, refused error) {
	var full *api.OverloadedError
	if errors.As(refused, &full) && b.q.sessions.frees(sessionID(p.Id), p.Floor) {
		d := b.delta(sessionID(p.Id))
		d.Floor = max(d.Floor, p.Floor)
		b.bytes += sessionOverhead
	}
}

// delta is what the batch adds to a session.
func (b *batch) delta(id sessionID) *sessionDelta {
	d := b.deltas[id]
	if d == nil {
		if b.deltas == nil {
			b.deltas = make(map[sessionID]*sessionDelta)
		}
		d = &sessionDelta{TS: b.entry.TS}
		b.deltas[id] = d
		b.order = append(b.order, id)
	}
	return d
}

// resultOf is what a session keeps of an answer.
func resultOf(resp *locuspb.Response) []byte {
	if call := resp.GetCall(); call != nil {
		return mustMarshal(call)
	}
	return mustMarshal(resp.GetWrite())
}

// remember adds a command's result to its session.
func (b *batch) remember(p *locuspb.Session, kind resultKind, result []byte) {
	if p == nil {
		return
	}
	d := b.delta(sessionID(p.Id))
	d.Floor = max(d.Floor, p.Floor)
	if len(result) > maxKeptResult {
		result = nil
		if kind == resultApplied {
			kind = resultLost
		} else {
			result = mustMarshal(api.ToProto(&api.InternalError{Reason: "refused; the reason was too long to keep"}))
		}
	}
	d.Results = append(d.Results, sessionResult{
		Number: p.Number, Place: uint32(len(b.answers)), Kind: kind, Result: result, TS: b.entry.TS, base: b.entry.Base,
	})
	b.bytes += sessionOverhead + len(result)
}

// finish turns the batch's sessions into writes of its entry.
func (b *batch) finish() {
	for _, id := range b.order {
		b.entry.Local = append(b.entry.Local, b.q.sessions.record(id, b.entry.Base, b.deltas[id])...)
	}
	// A full table refuses every command: then there are no writes to go with, and the room is made all the same.
	if len(b.entry.Data) > 0 || b.q.sessions.bytes > b.q.r.store.opts.MaxSessionBytes {
		b.entry.Local = append(b.entry.Local, b.q.sessions.expire(b.entry.TS, b.q.r.store.clock.MaxOffset())...)
	}
}

// add puts writes into the entry and the overlay.
func (b *batch) add(writes []dataWrite) {
	if b.at == nil {
		b.at = make(map[string]int)
	}
	for _, w := range writes {
		key := string(w.Key)
		if i, ok := b.at[key]; ok {
			b.entry.Data[i] = w
		} else {
			b.at[key] = len(b.entry.Data)
			b.entry.Data = append(b.entry.Data, w)
		}
		b.view.overlay.putAt(key, w, b.entry.TS, b.entry.Base)
		b.bytes += w.size()
	}
}

// run evaluates a write or a call against the view. It changes nothing.
func (b *batch) run(c *command) (*locuspb.Response, []dataWrite, error) {
	switch op := c.req.Op.(type) {
	case *locuspb.Request_Write:
		return b.write(op.Write)
	case *locuspb.Request_Call:
		if c.attempt != nil {
			return b.conclude(c.attempt, op.Call.DryRun)
		}
		return b.call(c, op.Call)
	}
	return nil, nil, &api.InvalidArgumentError{Reason: "the request is not a command"}
}

func (b *batch) write(w *locuspb.WriteRequest) (*locuspb.Response, []dataWrite, error) {
	resp := &locuspb.Response{Result: &locuspb.Response_Write{Write: &locuspb.WriteResponse{}}}
	if w.DeleteSpan {
		return b.deleteSpan(w, resp)
	}
	for _, cond := range w.Conditions {
		if err := b.condition(cond); err != nil {
			return nil, nil, err
		}
	}
	writes := make([]dataWrite, 0, len(w.Mutations))
	for _, m := range w.Mutations {
		if !b.desc.Span.Contains(m.Key) {
			return nil, nil, api.ErrNotOneGroup
		}
		writes = append(writes, dataWrite{Key: m.Key, Value: m.Value, Delete: m.Delete, Expires: b.expiry(m.TtlMs, m.Delete)})
	}
	return resp, writes, nil
}

// expiry is a time to live counted from the entry's timestamp: never from a clock (rule C7).
func (b *batch) expiry(ttlMillis int64, deleted bool) hlc.Timestamp {
	if ttlMillis <= 0 || deleted {
		return 0
	}
	return b.entry.TS.AddMillis(ttlMillis)
}

func (b *batch) condition(c *locuspb.Condition) error {
	if !b.desc.Span.Contains(c.Key) {
		return api.ErrNotOneGroup
	}
	rec, found, err := b.view.get(c.Key)
	if err != nil {
		b.failed = err
		return err
	}
	ok := false
	switch c.Kind {
	case locuspb.Condition_ABSENT:
		ok = !found
	case locuspb.Condition_VALUE:
		ok = found && bytes.Equal(rec.Value, c.Value)
	case locuspb.Condition_TIMESTAMP:
		ok = found && uint64(rec.TS) == c.Timestamp
	}
	if ok {
		return nil
	}
	return &api.ConditionError{Key: c.Key, Exists: found, Value: rec.Value, Timestamp: rec.TS}
}

// deleteSpan deletes up to a limit of keys.
func (b *batch) deleteSpan(w *locuspb.WriteRequest, resp *locuspb.Response) (*locuspb.Response, []dataWrite, error) {
	span := api.SpanFromProto(w.Span).Intersect(b.desc.Span)
	limit := int(min(w.Limit, maxDeleteSpan))
	if limit <= 0 || span.Empty() {
		return nil, nil, &api.InvalidArgumentError{Reason: "deleting a span needs a span of the range and a limit"}
	}
	var writes []dataWrite
	more, size := false, 0
	err := b.view.scan(span, func(r record) bool {
		if len(writes) == limit || size > b.q.r.store.opts.MaxEntryBytes {
			more = true
			return false
		}
		w := dataWrite{Key: bytes.Clone(r.Key), Delete: true}
		writes, size = append(writes, w), size+w.size()
		return true
	})
	if err != nil {
		b.failed = err
		return nil, nil, err
	}
	resp.GetWrite().More = more
	return resp, writes, nil
}

// maxDeleteSpan bounds the keys that one command may delete.
const maxDeleteSpan = 4096

// call runs a function on the sequencer. Its writes stay its own until it has returned without an error.
func (b *batch) call(c *command, call *locuspb.CallRequest) (*locuspb.Response, []dataWrite, error) {
	shared := b.view.overlay
	defer func() { b.view.overlay = shared }()
	own := &overlay{writes: *shared.writes.Copy()}
	b.view.overlay = own
	tx := &evalTx{batch: b, checkedTx: checkedTx{r: b.q.r, desc: b.desc, session: c.req.Session, limit: b.q.r.store.opts.MaxCommandBytes}}
	result, err := b.q.r.store.opts.Evaluator.Evaluate(call, tx)
	tx.closed = true
	switch {
	case tx.failed != nil:
		b.failed = tx.failed
		return nil, nil, tx.failed
	case err != nil:
		return nil, nil, err
	}
	resp := &locuspb.Response{Result: &locuspb.Response_Call{Call: result}}
	if call.DryRun {
		var planned []optimisticWrite
		for _, w := range tx.writes {
			ttl := int64(0)
			if w.Expires != 0 {
				ttl = w.Expires.Sub(b.entry.TS).Milliseconds()
			}
			planned = append(planned, optimisticWrite{dataWrite: w, ttlMillis: ttl})
		}
		result.Writes = dryWrites(planned)
		return resp, nil, nil
	}
	return resp, tx.writes, nil
}

// dryWrites is what a dry run tells of its writes: the last one to each key, by key. They are bounded as those of the real call
// are (Options.MaxCommandBytes).
func dryWrites(planned []optimisticWrite) []*locuspb.Mutation {
	last := make(map[string]*locuspb.Mutation, len(planned))
	for _, w := range planned {
		last[string(w.Key)] = &locuspb.Mutation{Key: w.Key, Value: w.Value, Delete: w.Delete, TtlMs: w.ttlMillis}
	}
	out := make([]*locuspb.Mutation, 0, len(last))
	for _, key := range slices.Sorted(maps.Keys(last)) {
		out = append(out, last[key])
	}
	return out
}

// checkedTx is what the two kinds of Tx share: what a call may touch and write.
type checkedTx struct {
	r       *Replica
	desc    *topology.Descriptor
	session *locuspb.Session
	bytes   int // written
	limit   int
	closed  bool
	failed  error // of the engine
}

func (t *checkedTx) check(key []byte) error {
	if t.closed {
		return &api.InvalidArgumentError{Reason: "the transaction of a call was used after the call"}
	}
	if !t.desc.Span.Contains(key) {
		return api.ErrNotOneGroup
	}
	return nil
}

// admit judges a write.
func (t *checkedTx) admit(w dataWrite) error {
	if err := t.check(w.Key); err != nil {
		return err
	}
	if err := checkRecord(w.Key, w.Value); err != nil {
		return err
	}
	if t.bytes += w.size(); t.bytes > t.limit {
		return &api.LimitError{What: "bytes written by one call", Limit: int64(t.limit), Got: int64(t.bytes)}
	}
	return nil
}

// CallID is the command's session and number: the same for every attempt.
func (t *checkedTx) CallID() [24]byte {
	var id [24]byte
	if t.session != nil {
		copy(id[:16], t.session.Id)
		binary.BigEndian.PutUint64(id[16:], t.session.Number)
	}
	return id
}

// Range is the range that evaluates the call.
func (t *checkedTx) Range() ids.RangeID { return t.r.id }

// evalTx is the Tx of a call on the sequencer.
type evalTx struct {
	checkedTx
	batch  *batch
	writes []dataWrite
}

func (t *evalTx) Get(key []byte) ([]byte, bool, error) {
	if err := t.check(key); err != nil {
		return nil, false, err
	}
	rec, found, err := t.batch.view.get(key)
	if err != nil {
		t.failed = err
	}
	return rec.Value, found, err
}

func (t *evalTx) Scan(span keys.Span, strip int, f func(batch []byte) bool) error {
	if t.closed || !t.desc.Span.ContainsSpan(span) {
		return api.ErrNotOneGroup
	}
	_, err := t.batch.view.scanPacked(span, strip, f)
	if err != nil {
		t.failed = err
	}
	return err
}

func (t *evalTx) Put(key, value []byte, ttlMillis int64) error {
	return t.add(dataWrite{Key: bytes.Clone(key), Value: bytes.Clone(value), Expires: t.batch.expiry(ttlMillis, false)})
}

func (t *evalTx) Delete(key []byte) error {
	return t.add(dataWrite{Key: bytes.Clone(key), Delete: true})
}

func (t *evalTx) add(w dataWrite) error {
	if err := t.admit(w); err != nil {
		return err
	}
	t.writes = append(t.writes, w)
	t.batch.view.overlay.put(w, t.batch.entry.TS, t.batch.entry.Base)
	return nil
}

func (t *evalTx) Timestamp() hlc.Timestamp { return t.batch.entry.TS }

// change evaluates a descriptor change: alone, on an empty overlay (rule A2).
func (b *batch) change(c *command) {
	ch := c.change
	if b.desc.Epoch != ch.epoch {
		c.fail(&api.EpochMismatchError{Range: b.q.r.id, Routes: b.q.r.store.routesOf(b.desc)})
		return
	}
	left, right, err := ch.build(b.desc)
	if err != nil {
		c.fail(err)
		return
	}
	b.entry.Payload = encodeChange(left, right)
	if right != nil {
		b.entry.Kind = entrySplit
		b.entry.Closed = b.entry.TS // the child begins above it (rule C1)
		b.q.r.freeze()
	} else {
		b.entry.Kind = entryReplicas
	}
	b.settle(c, &locuspb.Response{Timestamp: uint64(b.entry.TS)})
}

// encodeChange packs the descriptors of a change.
func encodeChange(left, right *topology.Descriptor) []byte {
	out := appendBytes(nil, encodeDescriptor(left))
	if right != nil {
		out = appendBytes(out, encodeDescriptor(right))
	}
	return out
}

func decodeChange(payload []byte) (left, right *topology.Descriptor, err error) {
	d := decoder{b: payload}
	l := d.bytes()
	var r []byte
	if len(d.b) > 0 {
		r = d.bytes()
	}
	if err := d.end("descriptor change"); err != nil {
		return nil, nil, err
	}
	if left, err = decodeDescriptor(l); err != nil {
		return nil, nil, err
	}
	if r != nil {
		right, err = decodeDescriptor(r)
	}
	return left, right, err
}

// firstKey is the key that decides which range a command belongs to (rule B5).
func firstKey(req *locuspb.Request) []byte {
	switch op := req.Op.(type) {
	case *locuspb.Request_Get:
		return op.Get.GetKey()
	case *locuspb.Request_Scan:
		return op.Scan.GetSpan().GetStart()
	case *locuspb.Request_Call:
		return op.Call.GetKey()
	case *locuspb.Request_Write:
		switch w := op.Write; {
		case w.GetDeleteSpan():
			return w.GetSpan().GetStart()
		case len(w.GetMutations()) > 0:
			return w.Mutations[0].GetKey()
		}
	}
	return nil
}

// checkRecord judges the sizes of a record with a global key. The 6 bytes are the keyspace id and the
// bucket of a hash-partitioned keyspace.
func checkRecord(key, value []byte) error {
	if len(key) > keys.MaxKeyLen+6 {
		return &api.LimitError{What: "key length", Limit: keys.MaxKeyLen, Got: int64(len(key))}
	}
	if len(value) > keys.MaxValueLen {
		return &api.LimitError{What: "value length", Limit: keys.MaxValueLen, Got: int64(len(value))}
	}
	return nil
}
