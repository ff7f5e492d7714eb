package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/clientcore"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// completer hears how an operation ended. It is called once, by whoever brought the news, and must not
// block.
type completer interface{ complete(clientcore.Done) }

// carrier takes requests to stores, and fetches routes. Its methods are called with the driver's lock held
// and must not block or call back.
type carrier interface {
	// carry takes a request; the returned link names the connection, and the error says that there is none.
	carry(store ids.StoreID, req *locuspb.Request) (link uint64, err error)
	// fetch answers later, by driver.routesArrived or routesFailed.
	fetch(span keys.Span, limit uint64)
}

// driver gives a clientcore.Core what it lacks: a lock, a clock, a timer, and somebody to carry out its
// effects. There is no goroutine per operation: callers submit on their own goroutine, and whoever
// receives answers hands them to those who wait.
type driver struct {
	begin   time.Time // origin of the core's clock
	carrier carrier

	// mu guards all below. The carrier's locks come after it.
	mu     sync.Mutex
	core   *clientcore.Core
	timer  *time.Timer
	wakeAt clientcore.Instant // when timer fires; 0: it is not running
	closed bool
	failed []failedSend // scratch
}

type failedSend struct {
	id  uint64
	err error
}

func newDriver(o clientcore.Options, c carrier) *driver {
	// The origin lies a moment back, so that no event happens at instant 0.
	d := &driver{begin: time.Now().Add(-time.Millisecond), carrier: c, core: clientcore.New(o)}
	d.timer = time.AfterFunc(time.Hour, d.tick)
	d.timer.Stop()
	return d
}

func (d *driver) now() clientcore.Instant { return time.Since(d.begin) }

var effects = sync.Pool{New: func() any { return new(clientcore.Effects) }}

// event lets f act on the core and carries out what follows. What is done is told after the lock is free.
func (d *driver) event(f func(core *clientcore.Core, now clientcore.Instant)) {
	e := effects.Get().(*clientcore.Effects)
	d.mu.Lock()
	f(d.core, d.now())
	d.core.Take(e)
	d.carryOut(e)
	d.mu.Unlock()
	for i := range e.Done {
		if c, ok := e.Done[i].Tag.(completer); ok {
			c.complete(e.Done[i])
		}
	}
	clear(e.Done)
	effects.Put(e)
}

// carryOut hands e's requests over. Those that find no connection fail at once, which leads to further
// effects; it ends because the core tries only one other store before it waits.
func (d *driver) carryOut(e *clientcore.Effects) {
	for {
		d.failed = d.failed[:0]
		for i := range e.Sends {
			s := &e.Sends[i]
			link, err := d.carrier.carry(s.Store, s.Request)
			if err != nil {
				d.failed = append(d.failed, failedSend{s.Request.Id, err})
				continue
			}
			s.OnLink(link)
		}
		if e.Routes != nil && !d.closed {
			d.carrier.fetch(*e.Routes, e.RoutesLimit)
		}
		if len(d.failed) == 0 {
			break
		}
		for _, f := range d.failed {
			d.core.Fail(d.now(), f.id, false, f.err)
		}
		var more clientcore.Effects
		d.core.Take(&more)
		e.Sends, e.Routes, e.RoutesLimit = more.Sends, more.Routes, more.RoutesLimit
		e.Done = append(e.Done, more.Done...)
	}
	if at, ok := d.core.Wake(); ok && (d.wakeAt == 0 || at < d.wakeAt) && !d.closed {
		d.wakeAt = at
		d.timer.Reset(at - d.now())
	}
}

func (d *driver) tick() {
	d.event(func(core *clientcore.Core, now clientcore.Instant) {
		d.wakeAt = 0
		core.Tick(now)
	})
}

func (d *driver) delivered(m *locuspb.BatchResponse) {
	d.event(func(core *clientcore.Core, now clientcore.Instant) { core.Deliver(now, m) })
}

func (d *driver) routesArrived(m *locuspb.RoutesResponse) {
	d.event(func(core *clientcore.Core, now clientcore.Instant) { core.RoutesArrived(now, m) })
}

func (d *driver) routesFailed(err error) {
	d.event(func(core *clientcore.Core, now clientcore.Instant) { core.RoutesFailed(now, err) })
}

// linkDown reports a connection's end: unsent never left this process.
func (d *driver) linkDown(link uint64, unsent []*locuspb.Request, err error) {
	d.event(func(core *clientcore.Core, now clientcore.Instant) {
		for _, r := range unsent {
			core.Fail(now, r.Id, false, err)
		}
		core.LinkDown(now, link, err)
	})
}

// close ends all operations with ErrClosed.
func (d *driver) close() {
	d.event(func(core *clientcore.Core, now clientcore.Instant) {
		d.closed = true
		d.timer.Stop()
		core.Close(now, ErrClosed)
	})
}

// submitAll submits many operations at once. It returns nil if all were taken, or an error for each.
func (d *driver) submitAll(ops []clientcore.Op) (errs []error) {
	d.event(func(core *clientcore.Core, now clientcore.Instant) {
		for i, op := range ops {
			err := ErrClosed
			if !d.closed {
				op.Deadline += now
				_, err = core.Submit(now, op)
			}
			if err != nil {
				if errs == nil {
					errs = make([]error, len(ops))
				}
				errs[i] = err
			}
		}
	})
	return errs
}

// submit starts an operation; its tag hears how it ended, unless an error is returned. op.Deadline is how
// much time there is.
func (d *driver) submit(op clientcore.Op) (id clientcore.OpID, err error) {
	d.event(func(core *clientcore.Core, now clientcore.Instant) {
		if d.closed {
			err = ErrClosed
			return
		}
		op.Deadline += now
		id, err = core.Submit(now, op)
	})
	return id, err
}

func (d *driver) cancel(id clientcore.OpID, cause error) {
	d.event(func(core *clientcore.Core, now clientcore.Instant) { core.Cancel(now, id, cause) })
}

// waiter is a completer that one goroutine waits on.
type waiter struct {
	ready chan struct{} // of capacity 1
	done  clientcore.Done
}

func (w *waiter) complete(d clientcore.Done) {
	w.done = d
	w.ready <- struct{}{}
}

var waiters = sync.Pool{New: func() any { return &waiter{ready: make(chan struct{}, 1)} }}

// do submits an operation and waits for its end.
func (d *driver) do(ctx context.Context, op clientcore.Op) clientcore.Done {
	if err := ctx.Err(); err != nil {
		return clientcore.Done{Err: err}
	}
	w := waiters.Get().(*waiter)
	op.Tag = w
	id, err := d.submit(op)
	if err != nil {
		waiters.Put(w)
		return clientcore.Done{Err: err}
	}
	return d.await(ctx, id, w)
}

// await waits for a submitted operation. It is told its end in any case: a context that ends first ends
// the operation.
func (d *driver) await(ctx context.Context, id clientcore.OpID, w *waiter) clientcore.Done {
	select {
	case <-w.ready:
	case <-ctx.Done():
		d.cancel(id, reason(ctx))
		<-w.ready
	}
	done := w.done
	w.done = clientcore.Done{}
	waiters.Put(w)
	return done
}

// budget is how much time an operation has: up to the context's deadline, or def without one.
func budget(ctx context.Context, def time.Duration) time.Duration {
	if at, ok := ctx.Deadline(); ok {
		return time.Until(at)
	}
	return def
}

type tokenKey struct{}

// Token is a point in Locus's time: that of everything its holder has seen. A service passes it on with a
// message, so that whoever receives it reads nothing older.
type Token uint64

// WithToken makes operations come after everything that the token's issuer had seen.
func WithToken(ctx context.Context, t Token) context.Context {
	return context.WithValue(ctx, tokenKey{}, t)
}

func tokenOf(ctx context.Context) hlc.Timestamp {
	t, _ := ctx.Value(tokenKey{}).(Token)
	return hlc.Timestamp(t)
}

// errNoResponse would be a bug of the core.
var errNoResponse = &api.InternalError{Reason: "an operation ended without an answer"}

// reason is why a context ended: its error, and the cause that was given for it.
func reason(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if err == nil || errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}
