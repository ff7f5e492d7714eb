package placement

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// Driver is the placement driver for one term of office. It is safe for concurrent use, starts no
// goroutine, has no clock but Options.Now and does no I/O but through Options.Records and Options.Eraser.
//
// Methods with a done parameter call it exactly once: at once, or when the records have been written, from
// whatever goroutine completes that; also when the office ends (*api.NotDriverError). Await makes them
// blocking.
type Driver struct {
	mu   sync.Mutex
	core core
}

// phase is where a driver is in its life.
type phase uint8

const (
	loading phase = iota // taking office: claims it, then reads the records
	serving
	lost // never again
)

// core is the state machine behind Driver's lock. What it wants done outside (I/O, callbacks) it collects as
// effects, which run after the lock has been released, in order.
type core struct {
	o       Options
	locked  func(f func())
	effects []func()

	phase   phase
	err     error
	since   time.Duration // begin of serving
	planned time.Duration // of the last plan
	// plannedFor is the cluster's version that the last plan saw; stirred: it has not seen the newest reports.
	plannedFor uint64
	stirred    bool
	began      time.Duration // of the newest operator; 0: there was none

	cat     catalog
	cl      cluster
	running map[ids.RangeID]*rangeState // those with an operator

	jobs    []job
	writing bool
	writes  *job // whose write is under way; nil while there is none, or it is of no job

	pool    idPool
	births  map[ids.KeyspaceID]*birth
	burials map[ids.KeyspaceID]*burial
	wishes  []*wish

	clock       hlc.Timestamp      // the highest of all heartbeats and requests for holds
	holdsChange uint64             // counts the changes of holds in this office
	untold      map[string]*notice // by id: holds that not every store is known to keep to
	tellings    []*notice          // of the map: see AwaitMap
}

// NewDriver makes a driver that does nothing before Start.
func NewDriver(o Options) (*Driver, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	d := &Driver{}
	d.core = core{
		o: o.withDefaults(), cat: newCatalog(), cl: newCluster(),
		running: map[ids.RangeID]*rangeState{}, births: map[ids.KeyspaceID]*birth{}, burials: map[ids.KeyspaceID]*burial{},
		untold: map[string]*notice{},
	}
	d.core.locked = func(f func()) { d.step(func(*core) { f() }) }
	return d, nil
}

// step runs f under the lock, then what f wants done outside.
func (d *Driver) step(f func(*core)) {
	d.mu.Lock()
	f(&d.core)
	effects := d.core.effects
	d.core.effects = nil
	d.mu.Unlock()
	for _, e := range effects {
		e()
	}
}

// effect has f run after the lock is released.
func (d *core) effect(f func()) { d.effects = append(d.effects, f) }

// Start takes office: it claims the next office number, which shuts out every earlier driver, and only then
// reads the records, so that nothing an earlier one still wrote is missed. Until that is done every method
// answers *api.UnavailableError.
func (d *Driver) Start() { d.step((*core).takeOffice) }

// Stop ends the office: whoever waits gets *api.NotDriverError. Writes under way may still take effect; the
// next driver finds them.
func (d *Driver) Stop() { d.step((*core).resign) }

// Serving says whether the driver has taken office and not lost it.
func (d *Driver) Serving() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.phase == serving
}

// Err is why the driver can't go on; nil while it can.
func (d *Driver) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.core.err
}

// Tick judges liveness, ends operators that had their effect or took too long, and plans if something has changed, or once a
// second. The owner calls it a few times a second; more often than Options.PlanInterval is of no use.
func (d *Driver) Tick() {
	d.step(func(c *core) {
		if c.phase == serving {
			now := c.o.Now()
			c.advance(now)
			c.spread(now)
			c.bury(now)
			c.expire()
		}
	})
}

// Heartbeat takes a node's report and answers with the map, if the node's is not the newest, and with the
// operators for ranges that it leads. The answer's Clock and Functions are left to the caller.
//
// Messages in the answer are shared and must not be changed.
func (d *Driver) Heartbeat(req *locuspb.HeartbeatRequest) (resp *locuspb.HeartbeatResponse, err error) {
	d.step(func(c *core) {
		if err = c.ready(); err == nil {
			resp, err = c.heartbeat(c.o.Now(), req)
		}
	})
	return resp, err
}

// Office is a condition that holds for as long as this term of office lasts, and never again: a write that has it, to the range
// of the driver's records, does nothing once another driver has begun. An error says that there is no term, or not yet.
func (d *Driver) Office() (*locuspb.Condition, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.core.ready(); err != nil {
		return nil, err
	}
	return d.core.inOffice(), nil
}

// Await makes a method with a done parameter blocking:
//
//	resp, err := placement.Await(ctx, func(done func(*locuspb.JoinResponse, error)) { d.Join(req, done) })
//
// When ctx ends first the driver goes on without the caller.
func Await[T any](ctx context.Context, start func(done func(T, error))) (T, error) {
	type result struct {
		value T
		err   error
	}
	ch := make(chan result, 1)
	start(func(v T, err error) { ch <- result{v, err} })
	select {
	case r := <-ch:
		return r.value, r.err
	case <-ctx.Done():
		var zero T
		return zero, ctx.Err()
	}
}

// Depose ends the office: its owner has seen that another driver has taken it.
func (d *Driver) Depose() { d.step(func(c *core) { c.lose(errReplaced) }) }

var errReplaced = errors.New("placement: another driver has taken office")

// ready says why the driver can't answer.
func (d *core) ready() error {
	switch d.phase {
	case loading:
		return &api.UnavailableError{Reason: "the placement driver is taking office"}
	case lost:
		return &api.NotDriverError{}
	}
	return nil
}

// lose ends the office because of an error.
func (d *core) lose(err error) {
	if d.phase == lost {
		return
	}
	d.err = err
	d.resign()
	if f := d.o.OnLost; f != nil {
		d.effect(func() { f(err) })
	}
}

func (d *core) resign() {
	if d.phase == lost {
		return
	}
	d.phase = lost
	notDriver := &api.NotDriverError{}
	if d.err == nil {
		d.err = notDriver
	}
	if d.writes != nil {
		d.finish(*d.writes, notDriver)
	}
	for _, j := range d.jobs {
		d.finish(j, notDriver)
	}
	d.writes, d.jobs = nil, nil
	for _, r := range d.running {
		if f := r.op; f.done != nil {
			d.effect(func() { f.done(notDriver) })
		}
	}
	for _, w := range d.wishes {
		d.effect(func() { w.done(notDriver) })
	}
	for _, b := range d.births {
		b.tell(d, nil, notDriver)
	}
	for _, b := range d.burials {
		b.notice.tell(d, notDriver)
	}
	for _, t := range d.untold {
		t.tell(d, notDriver)
	}
	for _, t := range d.tellings {
		t.tell(d, notDriver)
	}
	d.running, d.wishes, d.births, d.tellings = nil, nil, nil, nil
}

// takeOffice: read the office number, claim the next one, read the records.
func (d *core) takeOffice() {
	key := recordKey(keyOffice)
	d.load(keys.Span{Start: key, End: keys.Next(key)}, func() {
		absent := &locuspb.Condition{Key: key, Kind: locuspb.Condition_ABSENT}
		condition := absent
		if d.cat.office > 0 {
			condition = d.inOffice()
		}
		mine := d.cat.office + 1
		w := &locuspb.WriteRequest{
			Mutations:  []*locuspb.Mutation{putNumber(keyOffice, mine)},
			Conditions: []*locuspb.Condition{condition},
		}
		d.effect(func() { d.o.Records.Write(w, d.loaded(func() { d.loadAll(mine, prefixes) })) })
	})
}

// loaded wraps a continuation of the loading phase: an error ends the office before it began.
func (d *core) loaded(then func()) func(error) {
	return func(err error) {
		d.locked(func() {
			switch {
			case d.phase == lost:
			case err != nil:
				d.lose(err)
			default:
				then()
			}
		})
	}
}

func (d *core) load(span keys.Span, then func()) {
	d.effect(func() {
		d.o.Records.Load(span, func(records []Record, err error) {
			d.loaded(func() {
				for _, r := range records {
					if err := d.cat.read(r); err != nil {
						d.lose(err)
						return
					}
				}
				then()
			})(err)
		})
	})
}

func (d *core) loadAll(mine uint64, rest []string) {
	switch {
	case len(rest) > 0:
		d.load(recordSpan(rest[0]), func() { d.loadAll(mine, rest[1:]) })
	case d.cat.office != mine:
		d.lose(&api.NotDriverError{}) // deposed between the claim and here
	case d.cat.nextRange == 0:
		d.write(d.firstRecords(), d.loadedFirst)
	default:
		d.serve()
	}
}

// Ids that the first node gives away before there is a driver: ranges 1 to 3, keyspaces 0 and 1.
const (
	firstFreeRange    = 4
	firstFreeKeyspace = 2
	defaultKeyspaceID = 1
	defaultKeyspace   = "default"
)

// firstRecords are the records of a new cluster.
func (d *core) firstRecords() []*locuspb.Mutation {
	self := d.o.Self
	return []*locuspb.Mutation{
		putNumber(keyNextRange, firstFreeRange),
		putNumber(keyNextStore, self.StoreId+1),
		putNumber(keyNextKeyspace, firstFreeKeyspace),
		putMessage(storeKey(self.StoreId), lasting(self)),
		putMessage(spaceKey(defaultKeyspace), &locuspb.Keyspace{Name: defaultKeyspace, Id: defaultKeyspaceID}),
	}
}

func (d *core) loadedFirst(err error) {
	if err != nil {
		d.lose(err)
		return
	}
	d.cat.nextRange, d.cat.nextStore, d.cat.nextKeyspace = firstFreeRange, d.o.Self.StoreId+1, firstFreeKeyspace
	d.cat.putStore(lasting(d.o.Self))
	d.cat.putSpace(&locuspb.Keyspace{Name: defaultKeyspace, Id: defaultKeyspaceID})
	d.serve()
}

// serve begins the office proper, and takes up what the last one left half done.
func (d *core) serve() {
	now := d.o.Now()
	d.phase, d.since, d.planned = serving, now, now
	for _, info := range d.cat.stores {
		d.cl.admit(now, info)
	}
	d.cl.judge(now, now, &d.o)
	for id, ks := range d.cat.byID {
		if ks.Creating {
			d.births[id] = &birth{}
		}
	}
	for id, ks := range d.cat.dropped {
		d.burials[id] = d.newBurial(ks.Name, now)
	}
}
