package client

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/clientcore"
	"github.com/locuskv/locus/internal/keys"
)

// BulkOptions bound a BulkWriter.
type BulkOptions struct {
	// MaxInFlight and MaxBytes bound what was given to Put and Delete and is not acknowledged; above them the
	// two wait. Defaults: 8,192 writes and 16 MiB of keys and values.
	MaxInFlight int
	MaxBytes    int
	// Timeout ends a single write that the cluster does not take for so long. Default: 60 s, or the context's
	// deadline.
	Timeout time.Duration
}

// BulkWriter writes many keys of many groups as fast as the cluster takes them. Each write is atomic and
// takes effect exactly once; together they are not atomic, and writes to different keys have no order. Of
// several writes to one key in flight the order is not defined either: Flush between them.
//
// A writer is of the keyspace that has the name at its first write. When that is dropped, the writer ends with
// *KeyspaceNotFoundError: it does not go on in another that gets the name.
//
// Its methods may be called concurrently. The first error ends it: all methods return it from then on.
type BulkWriter struct {
	ks   *Keyspace
	ctx  context.Context // ends with Close, or with the context that BulkWriter was made with
	stop context.CancelFunc
	o    BulkOptions
	// layout is what the cluster said about the keyspace at the first write.
	layout atomic.Pointer[keys.Layout]

	mu struct {
		sync.Mutex
		count, bytes int // accepted and not acknowledged, the waiting included
		waiting      []bulkWrite
		written      uint64
		err          error
		closed       bool
		// room and drained are made by who waits for them, and closed by the write that brings them about, or
		// by the first error.
		room, drained chan struct{}
	}
}

// bulkChunk is how many writes are handed to the driver at once, to take its lock less often.
const bulkChunk = 64

// bulkWrite is one write, and hears its end.
type bulkWrite struct {
	w    *BulkWriter
	req  *locuspb.Request
	size int
}

func (b *bulkWrite) complete(d clientcore.Done) { b.w.finished(b, d.Err) }

// BulkWriter makes a writer; ctx ends all its waiting. Close it.
func (k *Keyspace) BulkWriter(ctx context.Context, o BulkOptions) *BulkWriter {
	if o.MaxInFlight <= 0 {
		o.MaxInFlight = 8192
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 16 << 20
	}
	if o.Timeout <= 0 {
		o.Timeout = time.Minute
	}
	w := &BulkWriter{ks: k, o: o}
	w.ctx, w.stop = context.WithCancel(ctx)
	return w
}

// Put adds a write; of the options only TTL applies. It waits while too much is in flight. The slices are
// the caller's again when it returns. An error may be an earlier write's.
func (w *BulkWriter) Put(key, value []byte, opts ...WriteOption) error {
	if err := checkValue(value); err != nil {
		return err
	}
	return w.add(key, &locuspb.Mutation{Value: bytes.Clone(value)}, opts)
}

// Delete adds a deletion, like Put.
func (w *BulkWriter) Delete(key []byte) error {
	return w.add(key, &locuspb.Mutation{Delete: true}, nil)
}

// Written is how many writes are acknowledged.
func (w *BulkWriter) Written() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.written
}

// Flush waits until every write added before it is acknowledged, and returns the first error.
func (w *BulkWriter) Flush() error {
	w.submit(w.takeWaiting())
	for {
		w.mu.Lock()
		err, done := w.mu.err, w.mu.count == 0
		if w.mu.drained == nil {
			w.mu.drained = make(chan struct{})
		}
		drained := w.mu.drained
		w.mu.Unlock()
		if err != nil || done {
			return err
		}
		select {
		case <-drained:
		case <-w.ctx.Done():
			return w.fail(reason(w.ctx))
		}
	}
}

// Close flushes and gives the writer up.
func (w *BulkWriter) Close() error {
	err := w.Flush()
	w.mu.Lock()
	already := w.mu.closed
	w.mu.closed = true
	if w.mu.err == nil {
		w.mu.err = ErrClosed
	}
	w.mu.Unlock()
	w.stop()
	if already && errors.Is(err, ErrClosed) {
		return nil
	}
	return err
}

func (w *BulkWriter) add(key []byte, m *locuspb.Mutation, opts []WriteOption) error {
	if err := checkKey(key); err != nil {
		return err
	}
	l, err := w.resolve()
	if err != nil {
		return w.fail(err)
	}
	req, err := bulkRequest(l, key, m, opts)
	if err != nil {
		return err
	}
	b := bulkWrite{w: w, req: req, size: len(m.Key) + len(m.Value)}
	for {
		room, err := w.accept(b)
		if err != nil || room == nil {
			return err
		}
		// Full. What is still here has to go out, or nothing would make room.
		w.submit(w.takeWaiting())
		select {
		case <-room:
		case <-w.ctx.Done():
			return w.fail(reason(w.ctx))
		}
	}
}

// resolve is the writer's keyspace. It is looked up even if a name for it is at hand, which may be out of
// date: later there is no telling which of the writes would have to be done again.
func (w *BulkWriter) resolve() (*keys.Layout, error) {
	if l := w.layout.Load(); l != nil {
		return l, nil
	}
	m, err := w.ks.lookup(w.ctx)
	if err != nil {
		return nil, err
	}
	w.layout.CompareAndSwap(nil, layoutOf(m))
	return w.layout.Load(), nil
}

func bulkRequest(l *keys.Layout, key []byte, m *locuspb.Mutation, opts []WriteOption) (*locuspb.Request, error) {
	m.Key = l.Encode(key)
	write := &locuspb.WriteRequest{Mutations: []*locuspb.Mutation{m}}
	if len(opts) > 0 {
		o := writeOptionsOf(opts)
		if o.condition != nil || o.id != nil {
			return nil, &InvalidArgumentError{Reason: "of the options of a write a bulk writer takes only a time to live"}
		}
		if err := o.put(write, m); err != nil {
			return nil, err
		}
	}
	return &locuspb.Request{Op: &locuspb.Request_Write{Write: write}}, nil
}

// accept takes a write in, if there is room; else it returns what to wait for.
func (w *BulkWriter) accept(b bulkWrite) (<-chan struct{}, error) {
	w.mu.Lock()
	if w.mu.err != nil {
		defer w.mu.Unlock()
		return nil, w.mu.err
	}
	full := w.mu.count >= w.o.MaxInFlight || w.mu.bytes+b.size > w.o.MaxBytes && w.mu.count > 0
	if full {
		defer w.mu.Unlock()
		if w.mu.room == nil {
			w.mu.room = make(chan struct{})
		}
		return w.mu.room, nil
	}
	w.mu.count++
	w.mu.bytes += b.size
	w.mu.waiting = append(w.mu.waiting, b)
	// When nothing is on its way, nothing would take the waiting along later.
	flush := len(w.mu.waiting) >= bulkChunk || w.mu.count == len(w.mu.waiting)
	w.mu.Unlock()
	if flush {
		w.submit(w.takeWaiting())
	}
	return nil, nil
}

// takeWaiting takes the writes that have not been submitted.
func (w *BulkWriter) takeWaiting() []bulkWrite {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.mu.waiting
	w.mu.waiting = nil
	return out
}

// submit hands writes to the driver. Those that the driver has no room for, because others fill its queue,
// are handed over again a little later.
func (w *BulkWriter) submit(writes []bulkWrite) {
	if len(writes) == 0 {
		return
	}
	ops := make([]clientcore.Op, len(writes))
	deadline := budget(w.ctx, w.o.Timeout)
	for i := range writes {
		ops[i] = clientcore.Op{Request: writes[i].req, Deadline: deadline, Tag: &writes[i]}
	}
	errs := w.ks.db.driver.submitAll(ops)
	if errs == nil {
		return
	}
	var again []bulkWrite
	for i, err := range errs {
		var full *OverloadedError
		if errors.As(err, &full) {
			again = append(again, writes[i])
		} else if err != nil {
			w.finished(&writes[i], err)
		}
	}
	if len(again) > 0 {
		w.submitLater(again)
	}
}

func (w *BulkWriter) submitLater(again []bulkWrite) {
	ok := w.ks.db.spawn(func(ctx context.Context) {
		t := time.NewTimer(bulkRetry)
		defer t.Stop()
		select {
		case <-t.C:
			w.submit(again)
		case <-w.ctx.Done():
			w.finishAll(again, reason(w.ctx))
		case <-ctx.Done():
			w.finishAll(again, ErrClosed)
		}
	})
	if !ok {
		w.finishAll(again, ErrClosed)
	}
}

const bulkRetry = 5 * time.Millisecond

func (w *BulkWriter) finishAll(writes []bulkWrite, err error) {
	for i := range writes {
		w.finished(&writes[i], err)
	}
}

// finished takes note of a write's end, and sends on what waits when nothing else is under way.
func (w *BulkWriter) finished(b *bulkWrite, err error) {
	if err != nil {
		w.ks.doubt(err)
	}
	w.mu.Lock()
	w.mu.count--
	w.mu.bytes -= b.size
	if err == nil {
		w.mu.written++
	} else if w.mu.err == nil {
		w.mu.err = public(err, w.ks)
	}
	idle := len(w.mu.waiting) > 0 && w.mu.count == len(w.mu.waiting)
	w.wake()
	w.mu.Unlock()
	if idle {
		w.submit(w.takeWaiting())
	}
}

// wake tells those who wait what came about. Room is an eighth of all, so that a writer that fills the
// window isn't woken for each write. The lock has to be held.
func (w *BulkWriter) wake() {
	room := w.mu.count <= w.o.MaxInFlight-w.o.MaxInFlight/8 && w.mu.bytes <= w.o.MaxBytes-w.o.MaxBytes/8
	if w.mu.room != nil && (room || w.mu.count == 0 || w.mu.err != nil) {
		close(w.mu.room)
		w.mu.room = nil
	}
	if w.mu.drained != nil && (w.mu.count == 0 || w.mu.err != nil) {
		close(w.mu.drained)
		w.mu.drained = nil
	}
}

// fail ends the writer, unless an earlier error did, and returns the error that did.
func (w *BulkWriter) fail(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.err == nil {
		w.mu.err = public(err, w.ks)
	}
	w.wake()
	return w.mu.err
}
