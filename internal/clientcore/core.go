package clientcore

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// Options of a Core. The zero value of every field but Rand is its default.
type Options struct {
	// Session names the sessions of this Core: 16 random bytes that no other Core has. The zero value is
	// drawn from Rand.
	Session SessionID
	// Rand is the source of jitter and of choices. Required.
	Rand *rand.Rand

	// MaxOps and MaxBytes bound what is submitted and not done; above them Submit refuses. Defaults: 32,768
	// operations and 128 MiB of keys, values and arguments.
	MaxOps   int
	MaxBytes int
	// RetryMin and RetryMax are the first and the longest delay before a retry. Defaults: 4 ms, 250 ms.
	RetryMin, RetryMax time.Duration
	// AttemptTimeout is how long an answer may take before the request is sent again, to another replica if
	// there is doubt; calls of functions get four times as long. Default: 3 s.
	AttemptTimeout time.Duration
	// ClockAge is the age of Locus's last reply up to which its clock serves as the time of a first attempt.
	// It must be far below the session window, or a client that was idle would be refused. Default: 1 min.
	ClockAge time.Duration
	// Sessions and Window: how many sessions, and how many numbers of each may be in use at once. Together
	// they bound the commands in flight. Defaults: 16 and 1,024.
	Sessions, Window int

	// Policy and Weight choose stores for work that more than one can do. A nil Weight is 1 for all.
	Policy Policy
	Weight func(*locuspb.NodeInfo) int
}

func (o *Options) setDefaults() {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	dur := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&o.MaxOps, 32<<10)
	def(&o.MaxBytes, 128<<20)
	def(&o.Sessions, 16)
	def(&o.Window, 1024)
	dur(&o.RetryMin, 4*time.Millisecond)
	dur(&o.RetryMax, 250*time.Millisecond)
	dur(&o.AttemptTimeout, 3*time.Second)
	dur(&o.ClockAge, time.Minute)
	o.RetryMax = max(o.RetryMax, o.RetryMin)
	o.Sessions = min(o.Sessions, 256)
	if o.Session == (SessionID{}) {
		for i := range o.Session {
			o.Session[i] = byte(o.Rand.Uint32())
		}
	}
}

// Send is a request for a store. When the driver knows on which connection it goes, it says so with OnLink.
type Send struct {
	Store   ids.StoreID
	Request *locuspb.Request
	op      *op
}

// OnLink names the connection that the request goes out on, for Core.LinkDown. It must be called before
// the Core is used again.
func (s *Send) OnLink(link uint64) { s.op.link = link }

// Effects is what the driver has to do, in this order of fields.
type Effects struct {
	Sends []Send
	Done  []Done
	// Routes, if not nil, asks for the routes of a span (at most RoutesLimit of them, from its start; 0: all)
	// by RoutesArrived or RoutesFailed. No other is asked for before one of them was called.
	Routes      *keys.Span
	RoutesLimit uint64
}

// Stats counts since the Core was made.
type Stats struct {
	Requests uint64 // attempts sent
	Retries  uint64 // attempts after an operation's first
}

// Core is the routing, retry and session logic of one client.
type Core struct {
	o      Options
	routes routeCache
	stores map[ids.StoreID]*store
	order  []*store // the same, in order of first mention

	ops    map[OpID]*op
	live   opList
	timers timers
	lastID OpID
	bytes  int

	sessions sessions
	held     []*op // in phaseHeld, oldest first; may hold some that are done
	parked   []*op // in phaseRouting, oldest first; may hold some that are done

	token   hlc.Timestamp // highest timestamp that an answer has shown
	clock   hlc.Timestamp // of Locus's replies, the highest
	clockAt Instant       // when the last reply came
	budget  budget
	stats   Stats

	now          Instant    // of the event that is being handled
	asked        *keys.Span // routes asked for and not yet arrived
	routesSoonAt Instant    // no refresh before this
	out          Effects
	candidates   []*store // scratch
}

// New makes a Core.
func New(o Options) *Core {
	o.setDefaults()
	return &Core{
		o:        o,
		stores:   make(map[ids.StoreID]*store),
		ops:      make(map[OpID]*op),
		sessions: newSessions(o.Session, o.Sessions, o.Window),
		budget:   budget{tokens: budgetMax},
	}
}

// Submit starts an operation. It ends as a Done with the returned id, unless an error is returned:
// *api.OverloadedError when the Core is full, *api.InvalidArgumentError for an Op that makes no sense.
func (c *Core) Submit(now Instant, in Op) (OpID, error) {
	o := &op{slot: -1, tmpl: in.Request, deadline: in.Deadline, identity: in.Identity, token: in.Token, tag: in.Tag}
	if !classify(o, &in) {
		return 0, &api.InvalidArgumentError{Reason: "the operation names no key, or none at all"}
	}
	if len(c.ops) >= c.o.MaxOps || c.bytes+o.size > c.o.MaxBytes && c.bytes > 0 {
		return 0, &api.OverloadedError{What: "the client's queue", RetryAfter: c.o.RetryMax}
	}
	c.now = now
	c.add(o)
	c.dispatch(o)
	c.settle()
	return o.id, nil
}

// Cancel ends an operation for its caller's reason; it does nothing if the operation is done.
func (c *Core) Cancel(now Instant, id OpID, cause error) {
	c.now = now
	if o := c.ops[id]; o != nil {
		c.end(o, cause)
	}
	c.settle()
}

// Close ends all operations for one reason, and stops nothing else: the driver submits no more.
func (c *Core) Close(now Instant, cause error) {
	c.now = now
	for c.live.first != nil {
		c.end(c.live.first, cause)
	}
}

// Tick does what is due. It may be called at any time and must be called when Wake says so.
func (c *Core) Tick(now Instant) {
	c.now = now
	c.settle()
}

// settle does what is due now. It ends every event, so that Wake is always in the future.
func (c *Core) settle() {
	for o := c.timers.first(); o != nil && o.when <= c.now; o = c.timers.first() {
		switch {
		case o.deadline <= c.now:
			c.end(o, deadlineError(o))
		case o.phase == phaseSent:
			c.attemptTimedOut(o)
		case o.phase == phaseWaiting:
			c.dispatch(o)
		default:
			c.timers.set(o, o.deadline)
		}
	}
}

// Wake is when Tick is due; false if nothing is.
func (c *Core) Wake() (Instant, bool) {
	if o := c.timers.first(); o != nil {
		return o.when, true
	}
	return 0, false
}

// Take moves the effects of all events so far into e, whose slices are used again.
func (c *Core) Take(e *Effects) {
	clear(e.Sends)
	clear(e.Done)
	old := *e
	*e = c.out
	c.out = Effects{Sends: old.Sends[:0], Done: old.Done[:0]}
}

// Token is the highest timestamp that an answer has shown to this client.
func (c *Core) Token() hlc.Timestamp { return c.token }

// Stats counts what was sent.
func (c *Core) Stats() Stats { return c.stats }

// Live is the number of operations that are not done.
func (c *Core) Live() int { return len(c.ops) }

// NewIdentity makes a name for a command that is still to be submitted; false while no recent clock of
// Locus is known (any answered operation brings one).
func (c *Core) NewIdentity(now Instant) (Identity, bool) {
	c.now = now
	if !c.clockIsFresh() {
		return Identity{}, false
	}
	id := Identity{FirstAttempt: c.clock}
	for i := range id.Session {
		id.Session[i] = byte(c.o.Rand.Uint32())
	}
	return id, true
}

func (c *Core) add(o *op) {
	c.lastID++
	o.id = c.lastID
	c.ops[o.id] = o
	c.live.add(o)
	c.bytes += o.size
	c.timers.set(o, o.deadline)
}

// end finishes an operation without an answer. What was sent may have taken effect, unless each attempt's
// answer said otherwise.
func (c *Core) end(o *op, cause error) {
	if o.kind == kindCommand && o.inDoubt() {
		cause = &api.AmbiguousError{Cause: cause}
	}
	c.finish(o, Done{Err: cause})
}

// finish reports an operation and forgets it.
func (c *Core) finish(o *op, d Done) {
	if o.phase == phaseDone {
		return
	}
	c.leaveStore(o)
	o.phase = phaseDone
	delete(c.ops, o.id)
	c.live.remove(o)
	c.timers.remove(o)
	c.bytes -= o.size
	if o.kind == kindFresh {
		c.dropChildren(o)
	}
	if o.lane != nil && o.lane.answer(o.number) {
		c.releaseHeld()
	}
	if o.parent != nil {
		c.childDone(o, d)
		return
	}
	d.ID, d.Tag = o.id, o.tag
	c.out.Done = append(c.out.Done, d)
}

// inDoubt says whether some attempt of a command may have taken effect.
func (o *op) inDoubt() bool { return o.maybe || o.attempt > 0 && !o.refused }

// leaveStore ends the current attempt's claim on its store.
func (c *Core) leaveStore(o *op) {
	if o.phase == phaseSent {
		o.store.outstanding--
		o.phase = phaseNew
	}
}

// deadlineError names what the operation waited for when its time was over; it wraps the last error, and what replicas said
// that can't show the timestamp: another one, which did not answer, might.
func deadlineError(o *op) error {
	reason := "no answer yet"
	switch o.phase {
	case phaseRouting:
		reason = "no route to the key's range is known"
	case phaseHeld:
		reason = "too many commands were waiting"
	}
	if o.lastErr == nil {
		return &api.DeadlineError{Reason: reason}
	}
	if o.refusals.Any() {
		return fmt.Errorf("%w; not all replicas could be asked: %w; of the others: %w",
			&api.DeadlineError{Reason: "the operation's time is over"}, o.lastErr, o.refusals.Err())
	}
	return fmt.Errorf("%w; the last error was: %w", &api.DeadlineError{Reason: "the operation's time is over"}, o.lastErr)
}
