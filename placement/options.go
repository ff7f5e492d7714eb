package placement

import (
	"errors"
	"time"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/keys"
)

// Record is one key of the system keyspace. Key is a global key.
type Record struct{ Key, Value []byte }

// Records is the driver's durable state: the system range, read linearizably and written conditionally. Its
// methods start the work and return; done is called exactly once, at any time, also before the method
// returns. Between Write and its done the driver starts no other Write.
type Records interface {
	// Load reads all records of a span.
	Load(span keys.Span, done func([]Record, error))
	// Write applies the mutations atomically if the conditions hold: all keys lie in the system range, which is
	// never split. A retry must not apply it twice (a session); an error that is neither *api.OverloadedError nor
	// *api.UnavailableError (both: certainly nothing was done) ends the driver's office.
	Write(w *locuspb.WriteRequest, done func(error))
}

// Eraser deletes the data of dropped keyspaces.
type Eraser interface {
	// Erase deletes up to limit keys of a span that lies in one range, as far as the driver knows, and says
	// whether keys are left. Same rules for done as in Records.
	Erase(span keys.Span, limit uint64, done func(more bool, err error))
}

// Options configure a Driver. Zero values are the defaults.
type Options struct {
	ClusterID string
	// Self is the node that the driver runs on, with its StoreId: the first node of a new cluster enters the
	// records this way.
	Self    *locuspb.NodeInfo
	Records Records
	Eraser  Eraser
	// Now is a monotonic clock; only differences count. It must not jump: silence is measured with it.
	Now func() time.Duration

	// SuspectAfter is the silence after which a node gets nothing new. Default 5 s.
	SuspectAfter time.Duration
	// DeadAfter is the silence after which a node's replicas are replaced. Shorter repairs sooner and copies data
	// needlessly when a node merely restarts. Default 30 s.
	DeadAfter time.Duration
	// Grace is how long after taking office nobody is declared dead. Default 10 s.
	Grace time.Duration
	// OperatorTimeout is how long an operator may be without effect before it is given up and planned afresh.
	// Default 5 s.
	OperatorTimeout time.Duration
	// LeaseHold is how long a lease that was moved is left where it is. Default 10 s; a lease that a user moved
	// is left for 6 times as long.
	LeaseHold time.Duration
	// PlanInterval is the shortest time between two plans. Default 100 ms.
	PlanInterval time.Duration
	// HurryInterval is after what time a node with work under way is asked to report again. Default 100 ms.
	HurryInterval time.Duration
	// DropDelay is the time between dropping a keyspace and deleting its data: nodes learn of it. Default 5 s.
	DropDelay time.Duration
	// EraseLimit is the number of keys that one step of deletion takes. Default 1,000.
	EraseLimit uint64
	// IDBatch is how many range ids one record write reserves. Default 64.
	IDBatch uint64
	Limits  Limits

	// OnLost, if set, is called once when the driver can't go on: throw it away, and if this node still leads
	// the system range, make another.
	OnLost func(error)
	// OnOperator, if set, is called with each operator when it is planned. It must not change it.
	OnOperator func(*locuspb.Operator)
	// OnRefused, if set, is called when a range's leaseholder refuses what was planned, and says why: once for each reason
	// in a row. It must not change the operator.
	OnRefused func(op *locuspb.Operator, reason error)
}

// Validate says what is missing or contradictory.
func (o *Options) Validate() error {
	switch {
	case o.ClusterID == "":
		return errors.New("placement: ClusterID is missing")
	case o.Self.GetNodeId() == "" || o.Self.GetStoreId() == 0:
		return errors.New("placement: Self needs a node id and a store id")
	case o.Records == nil || o.Eraser == nil || o.Now == nil:
		return errors.New("placement: Records, Eraser and Now are needed")
	case o.SuspectAfter < 0 || o.DeadAfter < 0 || o.Grace < 0:
		return errors.New("placement: SuspectAfter, DeadAfter and Grace must not be negative")
	}
	d := o.withDefaults()
	if d.DeadAfter < d.SuspectAfter {
		return errors.New("placement: DeadAfter must not be shorter than SuspectAfter")
	}
	return nil
}

func (o Options) withDefaults() Options {
	def(&o.DeadAfter, 30*time.Second)
	def(&o.SuspectAfter, min(5*time.Second, o.DeadAfter))
	def(&o.Grace, 10*time.Second)
	def(&o.OperatorTimeout, 5*time.Second)
	def(&o.LeaseHold, 10*time.Second)
	def(&o.PlanInterval, 100*time.Millisecond)
	def(&o.HurryInterval, 100*time.Millisecond)
	def(&o.DropDelay, 5*time.Second)
	def(&o.EraseLimit, 1000)
	def(&o.IDBatch, 64)
	o.Limits = o.Limits.withDefaults()
	return o
}

// Bounds of what callers can make the driver hold.
const (
	maxJobs     = 1024 // record writes waiting their turn
	maxWaiters  = 1024 // callers waiting for a keyspace, a split or a transfer
	maxIDs      = 4096 // ids of one allocation
	maxSplits   = 4096 // first ranges of one keyspace
	maxReplicas = 7
	maxGone     = 64 // gone replicas named in one answer
	maxBackoff  = time.Minute
	keptFor     = time.Minute // a replica whose removal was refused is left where it is
	// transferRefusal is for leads: a successor that was not heard, or lacked a part of the log, is there a moment later.
	transferRefusal = 500 * time.Millisecond
	maxRefusal      = 10 * time.Second // between attempts that a range refuses: what was in the way may be gone, or repair be due
)
