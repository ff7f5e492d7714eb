package placement

import (
	"time"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/topology"
)

// Liveness is what the driver believes of a node, from its heartbeats alone.
type Liveness uint8

// The states of a node.
const (
	// Up: heard from within SuspectAfter.
	Up Liveness = iota
	// Suspect: silent for a while. It gets nothing new, and nothing is taken from it.
	Suspect
	// Dead: silent for so long that its replicas are replaced.
	Dead
)

func (l Liveness) String() string { return [...]string{"up", "suspect", "dead"}[l] }

// View is the cluster at one moment: all that the allocator decides on. It is a value; the allocator
// neither keeps nor changes it.
type View struct {
	Stores []StoreView
	// Ranges in a fixed order (the driver sorts by id), so that equal views give equal plans.
	Ranges []RangeView
	// Settled says that the view is complete enough to balance on: every range has been heard of and the
	// driver has not just taken office. Repair does not wait for it.
	Settled bool
}

// StoreView is one store.
type StoreView struct {
	ID    ids.StoreID
	State Liveness
	// Capacity and Available are bytes of its disk; a Capacity of 0 means they are not known.
	Capacity, Available uint64
	// Requests is how many it serves per second.
	Requests uint64
	// NearlyFull: the store refuses new data, by its own word. It gets no new replicas.
	NearlyFull bool
	// ClockOff: the store leads nothing, by its own word, because its clock is off. It gets no leases.
	ClockOff bool
}

// RangeView is one range, as its leader reported it.
type RangeView struct {
	Desc   *topology.Descriptor
	Leader ids.StoreID // the leaseholder; 0: not known, and nothing is planned for the range
	// Applied is the leader's applied index, Progress what it knows of every replica at that moment.
	Applied  ids.Index
	Progress []Progress
	Bytes    uint64 // approximate size
	Wanted   int    // voters that its keyspace asks for; 0 means Limits.Replicas
	// Split is where its leaseholder wants it split, and why; nil: nowhere.
	Split *locuspb.SplitWish
	// Pending is the operator that is under way; it is counted as if done and nothing else is planned.
	Pending *locuspb.Operator
	// Held: an operator had no effect a moment ago; nothing is planned for now.
	Held bool
	// Kept are replicas whose removal the leaseholder refused a moment ago: others go in their place. A dead one is not kept.
	Kept []ids.ReplicaID
	// LeaseHeld: the lease moved a moment ago; it is not moved again merely for balance.
	LeaseHeld bool
}

// Progress is a leader's knowledge of one replica.
type Progress struct {
	Replica ids.ReplicaID
	Match   ids.Index
	Active  bool // heard from within an election timeout
}

// Limits bound what the allocator asks for at once. The zero value is the default of each.
type Limits struct {
	// Replicas is the number of voters of a range whose keyspace names none. Default 3.
	Replicas int
	// CatchUp is how many log entries a replica may be behind its leader's applied index and still count as
	// caught up. Larger promotes sooner on a busy range and leaves a thinner quorum for a moment. Default 256.
	CatchUp uint64
	// FillsPerStore is how many learners of large ranges one store is filled with at a time. Default 2.
	FillsPerStore int
	// SmallRange is the size in bytes up to which a range's learner costs an eighth of a large one's: small
	// clusters come together at once, large snapshots don't pile up. Default 1 MiB.
	SmallRange uint64
	// Moves is how many ranges of the whole cluster change stores for balance at a time. Default 4.
	Moves int
	// Transfers is how many leases of the whole cluster are moved for balance at a time. Default 8.
	Transfers int
	// BusyPercent is how much more load than the average of all stores, in percent, a store must have for ranges that it
	// leads to be split for theirs. Default 10.
	BusyPercent int
	// Splits is how many ranges of the whole cluster are split at their leaseholders' wish at a time. A split moves no
	// data, but stops the range's writes until it is applied, and adds a range to a map that goes to every node.
	// Default 16.
	Splits int
	// TolerancePercent is the difference between two stores, in percent of the mean, that balance leaves
	// alone; a difference of 1 always stays. Default 5.
	TolerancePercent int
}

// fillSmall and fillLarge are the costs of filling a learner: Limits.FillsPerStore counts large ones.
const (
	fillSmall = 1
	fillLarge = 8
)

func (l Limits) withDefaults() Limits {
	def(&l.Replicas, 3)
	def(&l.CatchUp, 256)
	def(&l.FillsPerStore, 2)
	def(&l.SmallRange, 1<<20)
	def(&l.Moves, 4)
	def(&l.Transfers, 8)
	def(&l.BusyPercent, 10)
	def(&l.Splits, 16)
	def(&l.TolerancePercent, 5)
	return l
}

// def sets a field that was left at its zero value.
func def[T int | uint64 | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}
