package clientcore

import (
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// Instant is a point on a monotonic clock of the driver's choice, as the time since that clock's origin.
type Instant = time.Duration

// OpID names an operation of one Core; never reused. 0 is none.
type OpID uint64

// Op is what a caller wants. Exactly one of Request, Fresh and Locate is set.
type Op struct {
	// Request holds the operation (get, scan, write, call or clock_at) and, for reads, the consistency; the
	// Core fills in all other fields. A scan's span may cover many ranges: Done.Covered says which part
	// of it was asked. The request belongs to the Core from Submit on.
	Request *locuspb.Request
	// Key routes a clock_at; all other requests name their keys themselves.
	Key []byte
	// Fresh asks for a timestamp that every write acknowledged before Submit is at or below, on all ranges
	// of the span (rule C2). It arrives as Done.Timestamp.
	Fresh *keys.Span
	// Locate asks for the ranges that tile the span, as far as is known. They arrive as Done.Tiles.
	Locate *keys.Span
	// Deadline is when the operation ends at the latest. Required.
	Deadline Instant
	// Identity gives a command a name that outlives this Core; nil: a number of the Core's session.
	Identity *Identity
	// Token is a timestamp that the operation has to come after, beside what this client has seen; 0: none.
	Token hlc.Timestamp
	// Tag comes back in Done.
	Tag any
}

// Done tells how an operation ended.
type Done struct {
	ID  OpID
	Tag any
	// Response is the answer of the range; set if and only if Err is nil and the operation had a Request.
	Response *locuspb.Response
	// Covered is the part of a scan's span, or for a clock_at the range's span, that the answer is about.
	Covered keys.Span
	// Tiles answers Locate.
	Tiles []keys.Span
	// Timestamp answers Fresh.
	Timestamp hlc.Timestamp
	Err       error
}

// kind says how an operation is routed and retried.
type kind uint8

const (
	kindRead    kind = iota // get, scan, clock_at
	kindCommand             // write, call on a key: under a session
	kindPure                // call that touches no key: any store, retried like a read
	kindFresh
	kindLocate
)

// phase is where an operation stands.
type phase uint8

const (
	phaseNew     phase = iota
	phaseRouting       // parked until routes, or a first clock, arrive
	phaseHeld          // a command without a number: all session windows are full
	phaseWaiting       // until its next attempt
	phaseSent          // a request is out
	phaseGather        // a fresh timestamp, waiting for its children
	phaseDone
)

// op is an operation from Submit to Done.
//
//	new ──▶ routing ──▶ sent ──▶ done
//	          │  ▲        │ ▲
//	          ▼  │        ▼ │
//	         held       waiting
type op struct {
	id       OpID
	kind     kind
	phase    phase
	tmpl     *locuspb.Request
	key      []byte
	span     keys.Span // scans, fresh, locate; of a child of fresh, the part it answers for
	reverse  bool
	stale    bool // any replica may answer
	deadline Instant
	token    hlc.Timestamp // the caller's
	tag      any
	size     int // bytes that count against Options.MaxBytes

	// Session; of commands. Exactly one of lane and identity is set once the command was sent.
	identity     *Identity
	lane         *lane
	number       uint64
	firstAttempt hlc.Timestamp

	// The current attempt, or the last one.
	attempt  uint16
	store    *store
	link     uint64
	route    *route // that the attempt followed; may have left the cache since
	rangeID  ids.RangeID
	bounds   uint64
	term     ids.Term // of the leaseholder that the attempt went to; 0: sent on a guess
	covered  keys.Span
	pinned   bool // a stale read that a replica refused: to the leaseholder now
	refused  bool // the last attempt was answered: it certainly did nothing
	maybe    bool // some attempt may have taken effect
	redirect uint8
	backoffs uint8
	timeouts uint8        // attempts that got no answer in time
	patient  bool         // told to wait: better routes do not wake it
	misses   uint8        // routing mistakes in a row that brought no better route
	refusals api.Refusals // of replicas that can't be read as far back; the others are asked
	lastErr  error

	// Fresh: the parent waits for children, whose span is the part they answer for.
	parent  *op
	pending int
	clock   hlc.Timestamp

	when       Instant // in timers
	slot       int     // in timers; -1: not there
	prev, next *op     // all live operations, by age
}

// classify reads the routing out of an operation; false if it has none that makes sense.
func classify(o *op, in *Op) bool {
	switch {
	case in.Fresh != nil:
		o.kind, o.span, o.key = kindFresh, *in.Fresh, in.Fresh.Start
		return in.Request == nil && in.Locate == nil && !o.span.Empty()
	case in.Locate != nil:
		o.kind, o.span, o.key = kindLocate, *in.Locate, in.Locate.Start
		return in.Request == nil && !o.span.Empty()
	case in.Request == nil:
		return false
	}
	level := in.Request.Consistency.GetLevel()
	o.stale = level == locuspb.ConsistencyLevel_BOUNDED_STALENESS || level == locuspb.ConsistencyLevel_EVENTUAL
	switch x := in.Request.Op.(type) {
	case *locuspb.Request_Get:
		o.kind, o.key = kindRead, x.Get.GetKey()
	case *locuspb.Request_Scan:
		o.kind, o.reverse = kindRead, x.Scan.GetReverse()
		o.span = keys.Span{Start: x.Scan.GetSpan().GetStart(), End: x.Scan.GetSpan().GetEnd()}
		if len(o.span.End) == 0 {
			o.span.End = nil
		}
		o.key = o.span.Start
		return !o.span.Empty()
	case *locuspb.Request_ClockAt:
		o.kind, o.key = kindRead, in.Key
	case *locuspb.Request_Write:
		o.kind, o.key = kindCommand, firstKey(x.Write)
		o.size = writeSize(x.Write)
		return o.key != nil
	case *locuspb.Request_Call:
		o.kind, o.key = kindCommand, x.Call.GetKey()
		o.size = len(x.Call.GetArgument())
		if len(o.key) == 0 {
			o.kind = kindPure
		}
	default:
		return false
	}
	return true
}

// firstKey is the key that routes a write, at its first attempt and at every retry (rule B5).
func firstKey(w *locuspb.WriteRequest) []byte {
	switch {
	case w == nil:
		return nil
	case len(w.Mutations) > 0:
		return w.Mutations[0].GetKey()
	case len(w.Conditions) > 0:
		return w.Conditions[0].GetKey()
	}
	return w.Span.GetStart()
}

func writeSize(w *locuspb.WriteRequest) int {
	n := 0
	for _, m := range w.Mutations {
		n += len(m.GetKey()) + len(m.GetValue())
	}
	for _, c := range w.Conditions {
		n += len(c.GetKey()) + len(c.GetValue())
	}
	return n
}

// requestID names one attempt, so that an answer that comes late is known for what it is.
func (o *op) requestID() uint64 { return uint64(o.id)<<16 | uint64(o.attempt) }

func splitRequestID(id uint64) (OpID, uint16) { return OpID(id >> 16), uint16(id) }

// message builds the request of the current attempt. The first attempt is the caller's own message; later
// ones share with it what the caller gave and nothing else, because it may still be on its way out.
func (o *op) message(token hlc.Timestamp, timeout time.Duration) *locuspb.Request {
	m := o.tmpl
	s, scan := m.Op.(*locuspb.Request_Scan)
	if o.attempt > 1 || scan {
		m = &locuspb.Request{Consistency: o.tmpl.Consistency, Op: o.tmpl.Op}
	}
	m.Id = o.requestID()
	m.RangeId, m.BoundsEpoch = uint64(o.rangeID), o.bounds
	m.Token = uint64(token)
	m.TimeoutMs = max(timeout.Milliseconds(), 1)
	if o.kind == kindCommand {
		m.Session = o.session()
	}
	if scan {
		m.Op = &locuspb.Request_Scan{Scan: &locuspb.ScanRequest{
			Span:     &locuspb.Span{Start: o.covered.Start, End: o.covered.End},
			Reverse:  s.Scan.Reverse,
			Limit:    s.Scan.Limit,
			MaxBytes: s.Scan.MaxBytes,
			KeysOnly: s.Scan.KeysOnly,
		}}
	}
	return m
}

// opList is the list of live operations, oldest first. It exists so that going over all of them has one
// order: a map's would differ from run to run.
type opList struct{ first, last *op }

func (l *opList) add(o *op) {
	o.prev = l.last
	if l.last != nil {
		l.last.next = o
	} else {
		l.first = o
	}
	l.last = o
}

func (l *opList) remove(o *op) {
	if o.prev != nil {
		o.prev.next = o.next
	} else {
		l.first = o.next
	}
	if o.next != nil {
		o.next.prev = o.prev
	} else {
		l.last = o.prev
	}
	o.prev, o.next = nil, nil
}
