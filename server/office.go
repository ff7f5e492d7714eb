package server

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/placement"
)

// officePeriod is how often the node looks whether it should run the placement driver, and lets it plan.
const officePeriod = 100 * time.Millisecond

// office runs the placement driver while this node is the leaseholder of the system range. Each term of that
// range is a term of office, with a driver of its own: what the last one knew may be old.
type office struct {
	store   store
	system  *system
	catalog *catalog
	options placement.Options // without Records, Eraser and Self
	self    func() *locuspb.NodeInfo
	// announce tells the others, by gossip, since which term the driver runs here; 0: it does not.
	announce func(term ids.Term)
	// hint is the address of the node that runs the driver, as far as is known.
	hint func() string
	log  *slog.Logger

	mu struct {
		sync.Mutex
		term   *term
		closed bool
	}
	wg sync.WaitGroup
}

// term is one driver.
type term struct {
	number ids.Term
	driver *placement.Driver
	cancel context.CancelFunc
	lost   bool // the driver gave up
}

// run looks after the office until ctx ends, and then closes it. It calls also each time: an idle node has one ticker less
// to wake for.
func (o *office) run(ctx context.Context, also func()) {
	ticker := time.NewTicker(officePeriod)
	defer ticker.Stop()
	for {
		o.look()
		if d, err := o.driver(); err == nil {
			d.Tick()
		}
		also()
		select {
		case <-ctx.Done():
			o.close()
			return
		case <-ticker.C:
		}
	}
}

// look opens or closes the office, as the lead of the system range says.
func (o *office) look() {
	info, ok := o.store.Range(ids.SystemRange)
	leads := ok && info.Leaseholder
	o.mu.Lock()
	t := o.mu.term
	switch {
	case t != nil && (!leads || t.number != info.Term || t.lost):
		o.mu.term = nil
		o.mu.Unlock()
		t.end()
		o.log.Info("placement driver stopped here", "term", t.number)
		o.announce(0)
		return // a new term begins with the next look
	case t == nil && leads && !o.mu.closed:
		t = o.open(info.Term)
		o.mu.term = t
	default:
		t = nil
	}
	o.mu.Unlock()
	if t != nil {
		o.log.Info("placement driver starts here", "term", t.number)
		t.driver.Start()
		o.announce(t.number)
	}
}

// open makes the driver of a term.
func (o *office) open(number ids.Term) *term {
	ctx, cancel := context.WithCancel(context.Background())
	t := &term{number: number, cancel: cancel}
	r := &records{ctx: ctx, system: o.system, spawn: o.wg.Go}
	began := time.Now()
	options := o.options
	options.Self, options.Records, options.Eraser = o.self(), r, r
	options.Now = func() time.Duration { return time.Since(began) }
	options.OnOperator = func(op *locuspb.Operator) {
		o.log.Debug("operator planned", "range", op.RangeId, "reason", op.Reason)
	}
	options.OnRefused = func(op *locuspb.Operator, reason error) {
		o.log.Info("operator refused; it is tried again later", "range", op.RangeId, "wanted", op.Reason, "why", reason)
	}
	options.OnLost = func(err error) {
		o.log.Info("placement driver gave up", "term", number, "error", err)
		o.mu.Lock()
		t.lost = true
		o.mu.Unlock()
	}
	driver, err := placement.NewDriver(options)
	if err != nil {
		// Invariant: Options.Validate and the identity on disk guarantee all that a driver asks for.
		panic("server: options of the placement driver: " + err.Error())
	}
	t.driver = driver
	return t
}

func (t *term) end() {
	t.driver.Stop()
	t.cancel()
}

// close ends the office for good and waits for what it had under way.
func (o *office) close() {
	o.mu.Lock()
	t := o.mu.term
	o.mu.term, o.mu.closed = nil, true
	o.mu.Unlock()
	if t != nil {
		t.end()
	}
	o.wg.Wait()
}

// driver is the one in office here, or *api.NotDriverError that names who may have it.
func (o *office) driver() (*placement.Driver, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.mu.term == nil {
		return nil, &api.NotDriverError{Address: o.hint()}
	}
	return o.mu.term.driver, nil
}

// heartbeat answers a node's report: the driver's part, and the functions.
func (o *office) heartbeat(ctx context.Context, req *locuspb.HeartbeatRequest) (*locuspb.HeartbeatResponse, error) {
	d, err := o.driver()
	if err != nil {
		return nil, err
	}
	resp, err := d.Heartbeat(req)
	if err != nil {
		return nil, err
	}
	office, err := d.Office()
	if err != nil {
		return nil, err
	}
	// After the driver's part. Invariant: an answer with a version of the map has the functions as they were when the map got
	// that version, or newer ones (placement.Driver.AwaitMap).
	if resp.Functions, err = o.catalog.list(ctx, office); err != nil {
		return nil, err
	}
	if resp.FunctionsUnconfirmed, err = o.unconfirmed(ctx, office, d.FunctionsNews(), req.FunctionsUsed); err != nil {
		return nil, err
	}
	if soon := officePeriod.Milliseconds(); resp.FunctionsUnconfirmed && req.FunctionsUsed && (resp.NextMs == 0 || resp.NextMs > soon) {
		resp.NextMs = soon // calls wait there
	}
	return resp, nil
}

// unconfirmed says whether this node is not known to have been in office a moment ago, no longer than news; it finds out if
// the functions are used. What it can't find out soon it tells the node without: the rest of the answer is needed, too.
func (o *office) unconfirmed(ctx context.Context, office *locuspb.Condition, news time.Duration, used bool) (bool, error) {
	since := o.catalog.boot() - news
	if !used {
		return !o.catalog.confirmedSince(office, since), nil
	}
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	err := o.confirm(ctx, office, since)
	var other *api.NotDriverError
	if errors.As(err, &other) {
		return false, err
	}
	return err != nil, nil
}

// confirm makes sure that the office was held at some moment after since; if it was not, it ends.
func (o *office) confirm(ctx context.Context, office *locuspb.Condition, since time.Duration) error {
	err := o.catalog.confirm(ctx, office, since)
	var other *api.NotDriverError
	if !errors.As(err, &other) {
		return err
	}
	if d, derr := o.driver(); derr == nil {
		if now, derr := d.Office(); derr == nil && bytes.Equal(now.Value, office.Value) {
			d.Depose()
		}
	}
	return err
}

// confirmTimeout bounds how long a report waits for the office to be confirmed.
const confirmTimeout = 500 * time.Millisecond
