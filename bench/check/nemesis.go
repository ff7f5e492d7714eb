package check

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/locuskv/locus/bench/cluster"
	"github.com/locuskv/locus/client"
)

// Fault is a kind of thing that a Nemesis does.
type Fault string

// The faults. Transfers and splits are none, but what is under way when a fault comes is what breaks.
const (
	Kill      Fault = "kill"      // SIGKILL, of one node or all, and a start
	Pause     Fault = "pause"     // SIGSTOP, and SIGCONT
	Partition Fault = "partition" // links between nodes cut, slow or lossy (cluster.Links)
	Transfer  Fault = "transfer"  // a lease moves
	Split     Fault = "split"
)

// Faults are all of them.
func Faults() []Fault { return []Fault{Kill, Pause, Partition, Transfer, Split} }

// Pace is how fast a Nemesis works.
type Pace struct {
	// Between two faults passes up to so much time, and a victim stays dead for up to Down.
	Between, Down time.Duration
	// Paused is how long a process is stopped, or a network broken, at most, where nothing is waited for; elections take
	// one to two seconds.
	Paused time.Duration
	// MovesEvery is how often ranges are split and leases moved beside it all.
	MovesEvery time.Duration
	// Patience is how long a range may take no write before that counts as a failure of its own.
	Patience time.Duration
}

// DefaultPace lets clusters just come to rest between two faults.
func DefaultPace() Pace {
	return Pace{
		Between: 500 * time.Millisecond, Down: 500 * time.Millisecond, Paused: 2 * time.Second, MovesEvery: time.Second, Patience: time.Minute,
	}
}

// Nemesis hurts a cluster under load. Its methods are for one goroutine.
type Nemesis struct {
	Cluster *cluster.Cluster
	Load    *Load
	Rand    *rand.Rand
	Pace    Pace
	// Tell, if not nil, is told of each fault that is over.
	Tell func(string)

	incidents []Incident
	pauses    int
	moves     struct {
		splits, transfers, failed int
	}
}

// Incident is a fault that happened.
type Incident struct {
	Fault  Fault
	What   string        // it was done to whom
	At     time.Duration // since the load began
	Lasted time.Duration
	Serve  time.Duration // of a kill: from the victims' start until all said that they serve
	Ready  time.Duration // of a kill: from their start until /readyz; 0: not waited for
	Writes time.Duration // from its beginning until every range of the beginning had taken a write
	Most   time.Duration // longest pause of writes of a range
	Least  time.Duration // shortest of the ranges' longest pauses
}

func (i Incident) String() string {
	return fmt.Sprintf("%9s  %-9s %-36s %8s %8s %8s %8s %8s %8s", round(i.At), i.Fault, i.What,
		round(i.Lasted), round(i.Serve), round(i.Ready), round(i.Writes), round(i.Most), round(i.Least))
}

// Add keeps a fault that is over, with the pauses of writes since the load's last ResetPauses.
func (n *Nemesis) Add(i Incident) {
	i.Most, i.Least = n.Load.Pauses()
	n.incidents = append(n.incidents, i)
	if n.Tell != nil {
		n.Tell(i.String())
	}
}

// begin measures the next fault.
func (n *Nemesis) begin(f Fault) Incident {
	n.Load.ResetPauses()
	return Incident{Fault: f, At: time.Duration(n.Load.clock.Now())}
}

// UpTo is a random time up to d.
func (n *Nemesis) UpTo(d time.Duration) time.Duration { return time.Duration(n.Rand.Int64N(int64(d))) }

// AwaitWrites waits until every range of the beginning has taken a write after a moment.
func (n *Nemesis) AwaitWrites(ctx context.Context, since time.Time) error {
	return n.Load.AwaitWrites(ctx, since, n.Pace.Patience)
}

// Run makes faults of the given kinds until it is time to end.
func (n *Nemesis) Run(ctx context.Context, kinds []Fault, until time.Time) error {
	if err := n.AwaitWrites(ctx, time.Now()); err != nil {
		return err
	}
	var faults, moves []Fault
	for _, f := range kinds {
		if f == Transfer || f == Split {
			moves = append(moves, f)
		} else {
			faults = append(faults, f)
		}
	}
	defer n.MoveBeside(ctx, moves...)()
	for Pass(ctx, min(n.UpTo(n.Pace.Between), time.Until(until))) && time.Now().Before(until) {
		if len(faults) == 0 {
			continue
		}
		f := faults[n.Rand.IntN(len(faults))]
		both := slices.Contains(faults, Kill) && n.Rand.IntN(4) == 0 // of a partition: a node dies in it
		if err := n.once(ctx, f, both); err != nil {
			return fmt.Errorf("%s %d: %w", f, len(n.incidents)+1, err)
		}
	}
	return context.Cause(ctx)
}

func (n *Nemesis) once(ctx context.Context, f Fault, both bool) error {
	switch f {
	case Kill:
		nodes := n.Cluster.Nodes()
		if i := n.Rand.IntN(len(nodes) + 1); i < len(nodes) {
			nodes = nodes[i : i+1]
		}
		return n.KillAndStart(ctx, nodes)
	case Pause:
		return n.PauseOne(ctx)
	case Partition:
		return n.PartitionOnce(ctx, both)
	default:
		return fmt.Errorf("nobody knows the fault %q", f)
	}
}

// KillAndStart kills nodes and starts them again.
func (n *Nemesis) KillAndStart(ctx context.Context, victims []*cluster.Node) error {
	i := n.begin(Kill)
	i.What = names(victims)
	if err := cluster.KillAll(victims...); err != nil {
		return err
	}
	killed := time.Now() // what is acknowledged from now on was not done by the victims
	if !Pass(ctx, n.UpTo(n.Pace.Down)) {
		return context.Cause(ctx)
	}
	i.Lasted = time.Since(killed)
	return n.Restart(ctx, i, victims, killed)
}

// Restart starts victims of a fault, waits until writes go on, and keeps the incident.
func (n *Nemesis) Restart(ctx context.Context, i Incident, victims []*cluster.Node, killed time.Time) error {
	started := time.Now()
	if err := cluster.StartAll(ctx, victims...); err != nil {
		return err
	}
	i.Serve = time.Since(started)
	since := killed
	if len(victims) == len(n.Cluster.Nodes()) {
		since = started // answers may still lie in clients' sockets a moment after the kill
	}
	if err := n.AwaitWrites(ctx, since); err != nil {
		return err
	}
	i.Writes = time.Since(killed)
	// Once in three times the next fault finds the victims in the middle of catching up.
	if n.Rand.IntN(3) > 0 {
		if err := AwaitReady(ctx, n.Pace.Patience, victims...); err != nil {
			return err
		}
		i.Ready = time.Since(started)
	}
	n.Add(i)
	return nil
}

// PauseOne stops a node where it is and lets it go on: what it believed before, that it leads among it, may be
// false by then. Every other time it stays stopped until others have taken writes on all its ranges, and is asked
// for the newest of them by a client that does not know: the question waits in its socket.
func (n *Nemesis) PauseOne(ctx context.Context) error {
	nodes := n.Cluster.Nodes()
	victim := nodes[n.Rand.IntN(len(nodes))]
	i := n.begin(Pause)
	i.What = victim.Name()
	n.pauses++
	if n.pauses%2 == 0 {
		return n.briefly(ctx, i, victim)
	}
	sleeper, err := n.Load.newSleeper(ctx)
	if err != nil {
		return err
	}
	defer sleeper.close()
	if err := victim.Pause(); err != nil {
		return err
	}
	Pass(ctx, pollEvery) // what it had answered before is read
	paused := time.Now()
	answered := func() {}
	err = n.AwaitWrites(ctx, paused)
	if err == nil {
		i.Writes = time.Since(paused)
		answered = sleeper.readNewest(ctx)
		Pass(ctx, pollEvery)
	}
	i.Lasted = time.Since(paused)
	if err := errors.Join(err, victim.Resume()); err != nil {
		return err
	}
	answered()
	if err := n.AwaitWrites(ctx, time.Now()); err != nil {
		return err
	}
	n.Add(i)
	return nil
}

// briefly stops a node for longer than an election takes, or for less.
func (n *Nemesis) briefly(ctx context.Context, i Incident, victim *cluster.Node) error {
	paused := time.Now()
	if err := victim.Pause(); err != nil {
		return err
	}
	passed := Pass(ctx, n.UpTo(n.Pace.Paused))
	i.Lasted = time.Since(paused)
	if err := victim.Resume(); err != nil {
		return err
	}
	if !passed {
		return context.Cause(ctx)
	}
	if err := n.AwaitWrites(ctx, paused); err != nil {
		return err
	}
	i.Writes = time.Since(paused)
	n.Add(i)
	return nil
}

// AwaitReady waits until nodes say that they take part in their cluster.
func AwaitReady(ctx context.Context, within time.Duration, nodes ...*cluster.Node) error {
	for _, x := range nodes {
		if err := Poll(ctx, within, func() (bool, error) { err := x.Ready(ctx); return err == nil, err }); err != nil {
			return fmt.Errorf("%s is not ready: %w", x.Name(), err)
		}
	}
	return nil
}

// maxSplits bounds how many ranges the mover makes.
const maxSplits = 16

// MoveBeside splits ranges and moves leases until stop is called. That it fails while nodes are down is as it should be.
func (n *Nemesis) MoveBeside(ctx context.Context, kinds ...Fault) (stop func()) {
	if len(kinds) == 0 {
		return func() {}
	}
	rng := rand.New(rand.NewPCG(n.Rand.Uint64(), 1)) // of its own: n.Rand is the other goroutine's
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for Pass(ctx, time.Duration(rng.Int64N(int64(2*n.Pace.MovesEvery)))) {
			n.move(ctx, kinds, rng)
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// move makes one move. Splits are a third where there are both.
func (n *Nemesis) move(ctx context.Context, kinds []Fault, rng *rand.Rand) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	kind := kinds[0]
	if len(kinds) > 1 {
		kind = []Fault{Split, Transfer, Transfer}[rng.IntN(3)]
	}
	if kind == Split && n.moves.splits >= maxSplits {
		if len(kinds) == 1 {
			return
		}
		kind = Transfer
	}
	var err error
	if kind == Split {
		if err = n.split(ctx, rng); err == nil {
			n.moves.splits++
		}
	} else if err = n.transfer(ctx, rng); err == nil {
		n.moves.transfers++
	}
	if err != nil {
		n.moves.failed++
	}
}

func (n *Nemesis) split(ctx context.Context, rng *rand.Rand) error {
	id := rng.IntN(len(n.Load.writers))
	_, err := n.Load.admin.Keyspace(keyspace).Split(ctx, uniqueKey(id, rng.IntN(n.Load.writers[id].len()+1)))
	return err
}

func (n *Nemesis) transfer(ctx context.Context, rng *rand.Rand) error {
	ranges, err := n.Load.admin.Ranges(ctx)
	if err != nil {
		return err
	}
	r := ranges[rng.IntN(len(ranges))]
	return n.Load.admin.TransferRange(ctx, r.ID, r.Replicas[rng.IntN(len(r.Replicas))].Store)
}

// busiest is the node that leads most ranges of the load; ok is false if the cluster does not say.
func (n *Nemesis) busiest(ctx context.Context) (index int, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	ranges, err := n.Load.admin.Keyspace(keyspace).Ranges(ctx)
	if err != nil {
		return 0, false
	}
	leads := make(map[client.StoreID]int)
	for _, r := range ranges {
		leads[r.Leaseholder]++
	}
	for i, x := range n.Cluster.Nodes() {
		store := client.StoreID(x.Block().Store)
		if leads[store] > leads[client.StoreID(n.Cluster.Nodes()[index].Block().Store)] {
			index = i
		}
	}
	return index, true
}

// Counts are how often each fault happened. REQUIRES: the movers have stopped.
func (n *Nemesis) Counts() map[Fault]int {
	out := make(map[Fault]int)
	for _, i := range n.incidents {
		out[i.Fault]++
	}
	if n.moves.splits > 0 {
		out[Split] = n.moves.splits
	}
	if n.moves.transfers > 0 {
		out[Transfer] = n.moves.transfers
	}
	return out
}

// Report is a table of the faults. REQUIRES: the movers have stopped.
func (n *Nemesis) Report() string {
	var out strings.Builder
	counts := n.Counts()
	fmt.Fprintf(&out, "%d kills, %d pauses, %d partitions, %d splits, %d transfers (%d moves failed)\n",
		counts[Kill], counts[Pause], counts[Partition], n.moves.splits, n.moves.transfers, n.moves.failed)
	fmt.Fprintln(&out, Heading)
	var most time.Duration
	for _, i := range n.incidents {
		fmt.Fprintln(&out, i)
		most = max(most, i.Most)
	}
	fmt.Fprintf(&out, "longest pause of writes on a range: %s", round(most))
	return out.String()
}

// Heading is that of a table of incidents.
var Heading = fmt.Sprintf("%9s  %-9s %-36s %8s %8s %8s %8s %8s %8s", "at", "fault", "of", "lasted", "serve", "ready", "writes", "pause", "(least)")

func names(nodes []*cluster.Node) string {
	var out []string
	for _, x := range nodes {
		out = append(out, x.Name())
	}
	return strings.Join(out, ",")
}
