package kill

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locuskv/locus/bench/cluster"
	"github.com/locuskv/locus/client"
)

// faults hurts a cluster under load.
type faults struct {
	t       *testing.T
	cluster *cluster.Cluster
	load    *load
	rng     *rand.Rand
	size    size

	done   []fault
	pauses int
	moves  struct {
		splits, transfers, failed int
	}
}

// fault is one that happened.
type fault struct {
	victims []string
	at      time.Duration // since the load began
	down    time.Duration // how long the victims were dead
	serve   time.Duration // from their start until all said that they serve
	writes  time.Duration // from the kill until every prefix had taken a write
	ready   time.Duration // from their start until /readyz; 0: not waited for
	most    time.Duration // longest pause of writes of a prefix
	least   time.Duration // shortest of the prefixes' longest pauses
}

// run makes all faults of the size and waits until there were enough writes.
func (f *faults) run(ctx context.Context) error {
	begun := time.Now()
	if err := f.awaitWrites(ctx, begun); err != nil {
		return err
	}
	movers, stopMoving := context.WithCancel(ctx)
	var wg sync.WaitGroup
	rng := rand.New(rand.NewPCG(f.rng.Uint64(), 1)) // of its own: f.rng is this goroutine's
	wg.Go(func() { f.move(movers, rng) })
	defer wg.Wait()
	defer stopMoving()
	for i := range f.size.kills {
		if !pass(ctx, f.upTo(f.size.between)) {
			return context.Cause(ctx)
		}
		if err := f.kill(ctx, f.victims(i), time.Since(begun)); err != nil {
			return fmt.Errorf("kill %d: %w", i+1, err)
		}
		if err := f.pause(ctx); err != nil {
			return fmt.Errorf("pause after kill %d: %w", i+1, err)
		}
	}
	return poll(ctx, 10*time.Minute, func() (bool, error) { return f.load.acks.total() >= f.size.writes, nil })
}

// victims takes each node in turn, and then all at once.
func (f *faults) victims(i int) []*cluster.Node {
	nodes := f.cluster.Nodes()
	if f.size.kills < 4 { // one, another, all
		i = []int{0, 1, 3}[i%3]
	}
	if k := i % (len(nodes) + 1); k < len(nodes) {
		return nodes[k : k+1]
	}
	return nodes
}

// kill kills nodes and starts them again.
func (f *faults) kill(ctx context.Context, victims []*cluster.Node, at time.Duration) error {
	e := fault{at: at}
	for _, n := range victims {
		e.victims = append(e.victims, n.Name())
	}
	f.load.acks.reset()
	if err := cluster.KillAll(victims...); err != nil {
		return err
	}
	killed := time.Now() // what is acknowledged from now on was not done by the victims
	if !pass(ctx, f.upTo(f.size.down)) {
		return context.Cause(ctx)
	}
	e.down = time.Since(killed)
	started := time.Now()
	if err := cluster.StartAll(ctx, victims...); err != nil {
		return err
	}
	e.serve = time.Since(started)
	since := killed
	if len(victims) == len(f.cluster.Nodes()) {
		since = started // answers may still lie in clients' sockets a moment after the kill
	}
	if err := f.awaitWrites(ctx, since); err != nil {
		return err
	}
	e.writes = time.Since(killed)
	// Once in three times the next fault finds the victims in the middle of catching up.
	if f.rng.IntN(3) > 0 {
		if err := awaitReady(ctx, f.size.patience, victims...); err != nil {
			return err
		}
		e.ready = time.Since(started)
	}
	e.most, e.least = f.load.acks.pauses()
	f.done = append(f.done, e)
	return nil
}

// pause stops a node where it is and lets it go on: what it believed before, that it leads among it, may be
// false by then. Every other time it stays stopped until others have taken writes on all its ranges, and is asked
// for the newest of them by a client that does not know: the question waits in its socket.
func (f *faults) pause(ctx context.Context) error {
	nodes := f.cluster.Nodes()
	n := nodes[f.rng.IntN(len(nodes))]
	f.pauses++
	if f.pauses%2 == 0 {
		return f.briefly(ctx, n)
	}
	sleeper, err := f.load.newSleeper(ctx, f.cluster.Addrs())
	if err != nil {
		return err
	}
	defer sleeper.close()
	if err := n.Pause(); err != nil {
		return err
	}
	pass(ctx, pollEvery) // what it had answered before is read
	paused := time.Now()
	answered := func() {}
	err = f.awaitWrites(ctx, paused)
	if err == nil {
		answered = sleeper.readNewest(ctx)
		pass(ctx, pollEvery)
	}
	if err := errors.Join(err, n.Resume()); err != nil {
		return err
	}
	answered()
	return f.awaitWrites(ctx, time.Now())
}

// briefly stops a node for longer than an election takes, or for less.
func (f *faults) briefly(ctx context.Context, n *cluster.Node) error {
	paused := time.Now()
	if err := n.Pause(); err != nil {
		return err
	}
	passed := pass(ctx, f.upTo(f.size.paused))
	if err := n.Resume(); err != nil {
		return err
	}
	if !passed {
		return context.Cause(ctx)
	}
	return f.awaitWrites(ctx, paused)
}

func (f *faults) awaitWrites(ctx context.Context, since time.Time) error {
	return f.load.awaitWrites(ctx, since, f.size.patience)
}

// awaitWrites waits until every prefix has taken a write after a moment.
func (l *load) awaitWrites(ctx context.Context, since time.Time, within time.Duration) error {
	err := poll(ctx, within, func() (bool, error) { return l.acks.silent(since) < 0, nil })
	if err != nil {
		return fmt.Errorf("prefix %c takes no write: %w", prefix(max(0, l.acks.silent(since))), err)
	}
	return nil
}

// awaitReady waits until nodes say that they take part in their cluster.
func awaitReady(ctx context.Context, within time.Duration, nodes ...*cluster.Node) error {
	for _, n := range nodes {
		if err := poll(ctx, within, func() (bool, error) { err := n.Ready(ctx); return err == nil, err }); err != nil {
			return fmt.Errorf("%s is not ready: %w", n.Name(), err)
		}
	}
	return nil
}

func (f *faults) upTo(d time.Duration) time.Duration { return time.Duration(f.rng.Int64N(int64(d))) }

// maxSplits bounds how many ranges the mover makes.
const maxSplits = 16

// move splits ranges and moves leases until ctx ends. That it fails while nodes are down is as it should be.
func (f *faults) move(ctx context.Context, rng *rand.Rand) {
	ks := f.load.admin.Keyspace(keyspace)
	for pass(ctx, time.Duration(rng.Int64N(int64(2*f.size.movesEvery)))) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		if err := f.moveOnce(ctx, ks, rng); err != nil {
			f.moves.failed++
		}
		cancel()
	}
}

func (f *faults) moveOnce(ctx context.Context, ks *client.Keyspace, rng *rand.Rand) error {
	if rng.IntN(3) == 0 && f.moves.splits < maxSplits {
		id := rng.IntN(len(f.load.writers))
		_, err := ks.Split(ctx, uniqueKey(id, rng.IntN(f.load.writers[id].len()+1)))
		if err == nil {
			f.moves.splits++
		}
		return err
	}
	ranges, err := f.load.admin.Ranges(ctx)
	if err != nil {
		return err
	}
	r := ranges[rng.IntN(len(ranges))]
	err = f.load.admin.TransferRange(ctx, r.ID, r.Replicas[rng.IntN(len(r.Replicas))].Store)
	if err == nil {
		f.moves.transfers++
	}
	return err
}

// report is a table of the faults.
func (f *faults) report() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%d kills, %d pauses, %d splits, %d transfers (%d moves failed)\n", len(f.done), f.pauses, f.moves.splits, f.moves.transfers, f.moves.failed)
	fmt.Fprintf(&out, "%9s  %-20s %8s %8s %8s %8s %8s %8s\n", "at", "killed", "down", "serve", "ready", "writes", "pause", "(least)")
	var most time.Duration
	for _, e := range f.done {
		fmt.Fprintf(&out, "%9s  %-20s %8s %8s %8s %8s %8s %8s\n", round(e.at), strings.Join(e.victims, ","),
			round(e.down), round(e.serve), round(e.ready), round(e.writes), round(e.most), round(e.least))
		most = max(most, e.most)
	}
	fmt.Fprintf(&out, "longest pause of writes on a range: %s", round(most))
	return out.String()
}
