package check

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/locuskv/locus/bench/cluster"
)

// partition is a way in which a network is broken.
type partition struct {
	what string
	// bad says what is wrong with the link from one node to another.
	bad func(from, to int) cluster.Link
	// lives says that the rest can go on without those that are cut off, and has to.
	lives bool
}

var severed = cluster.Link{Cut: true}

// when is a link that is bad under a condition.
func when(bad bool, l cluster.Link) cluster.Link {
	if bad {
		return l
	}
	return cluster.Link{}
}

// nextPartition chooses one. Half of them hit the node that leads most ranges.
func (n *Nemesis) nextPartition(ctx context.Context) partition {
	nodes := n.Cluster.Nodes()
	victim := n.Rand.IntN(len(nodes))
	if n.Rand.IntN(2) == 0 {
		if x, ok := n.busiest(ctx); ok {
			victim = x
		}
	}
	name := nodes[victim].Name()
	other := (victim + 1 + n.Rand.IntN(len(nodes)-1)) % len(nodes)
	switch n.Rand.IntN(10) {
	case 0, 1, 2, 3:
		return partition{"alone: " + name, func(from, to int) cluster.Link {
			return when(from == victim || to == victim, severed)
		}, true}
	case 4:
		return n.minority()
	case 5:
		return partition{"does not hear: " + name, func(_, to int) cluster.Link { return when(to == victim, severed) }, false}
	case 6:
		return partition{"is not heard: " + name, func(from, _ int) cluster.Link { return when(from == victim, severed) }, false}
	case 7:
		return partition{"cut: " + name + " and " + nodes[other].Name(), func(from, to int) cluster.Link {
			return when(from == victim && to == other || from == other && to == victim, severed)
		}, false}
	case 8:
		slow := cluster.Link{Delay: 5*time.Millisecond + n.UpTo(300*time.Millisecond)}
		return partition{fmt.Sprintf("slow by %s: %s", round(slow.Delay), name), func(from, to int) cluster.Link {
			return when(from == victim || to == victim, slow)
		}, false}
	default:
		lossy := cluster.Link{Loss: 0.3 + 0.6*n.Rand.Float64(), Delay: n.UpTo(20 * time.Millisecond)}
		return partition{fmt.Sprintf("gossip loses %.0f%%", 100*lossy.Loss), func(int, int) cluster.Link { return lossy }, false}
	}
}

// minority cuts off as many nodes as can be spared; they hear each other.
func (n *Nemesis) minority() partition {
	nodes := n.Cluster.Nodes()
	off := make(map[int]bool)
	var which []*cluster.Node
	for _, i := range n.Rand.Perm(len(nodes))[:(len(nodes)-1)/2] {
		off[i] = true
		which = append(which, nodes[i])
	}
	return partition{"minority: " + names(which), func(from, to int) cluster.Link {
		return when(off[from] != off[to], severed)
	}, len(nodes) == copies} // with more nodes a range may have most of its replicas there
}

// PartitionOnce breaks the network between nodes and heals it. Clients reach every node all the while: a leaseholder
// that is cut off from its followers must not answer with what it has. Every other time it lasts until the others have
// taken writes on all ranges, if they can, and the newest are read by a client that still asks the old leaseholders.
// With kill, a node dies in it and starts when it is over.
func (n *Nemesis) PartitionOnce(ctx context.Context, kill bool) error {
	p := n.nextPartition(ctx)
	i := n.begin(Partition)
	i.What = p.what
	sleeper, err := n.Load.newSleeper(ctx)
	if err != nil {
		return err
	}
	defer sleeper.close()
	begun := time.Now()
	n.breakLinks(p)
	if kill {
		err = n.killDuring(ctx, &i)
	} else {
		err = n.during(ctx, p, &i, sleeper, begun)
	}
	n.Cluster.Links().Heal()
	i.Lasted = time.Since(begun)
	if err != nil {
		return err
	}
	if err := n.startDead(ctx); err != nil {
		return err
	}
	if err := n.AwaitWrites(ctx, time.Now()); err != nil {
		return err
	}
	if i.Writes == 0 {
		i.Writes = time.Since(begun)
	}
	n.Add(i)
	return nil
}

func (n *Nemesis) breakLinks(p partition) {
	for from := range n.Cluster.Nodes() {
		for to := range n.Cluster.Nodes() {
			if from != to {
				n.Cluster.Links().Set(from, to, p.bad(from, to))
			}
		}
	}
}

// killDuring kills a node somewhere in a time with a broken network: a part that was to go on may not, then.
func (n *Nemesis) killDuring(ctx context.Context, i *Incident) error {
	nodes := n.Cluster.Nodes()
	victim := nodes[n.Rand.IntN(len(nodes))]
	i.What += ", " + victim.Name() + " killed"
	passed := Pass(ctx, n.UpTo(n.Pace.Paused/2))
	if err := victim.Kill(); err != nil {
		return err
	}
	if !passed || !Pass(ctx, n.UpTo(n.Pace.Paused/2)) {
		return context.Cause(ctx)
	}
	return nil
}

// startDead starts the nodes that do not run.
func (n *Nemesis) startDead(ctx context.Context) error {
	var dead []*cluster.Node
	for _, x := range n.Cluster.Nodes() {
		if !x.Running() {
			dead = append(dead, x)
		}
	}
	return cluster.StartAll(ctx, dead...)
}

// during is what happens while the network is broken.
func (n *Nemesis) during(ctx context.Context, p partition, i *Incident, sleeper *sleeper, begun time.Time) error {
	if !p.lives || n.Rand.IntN(2) == 0 {
		if !Pass(ctx, n.UpTo(n.Pace.Paused)) {
			return context.Cause(ctx)
		}
		return nil
	}
	// What was acknowledged by those cut off before they were is in their sockets at most so long.
	Pass(ctx, pollEvery)
	if err := n.AwaitWrites(ctx, time.Now()); err != nil {
		return errors.Join(err, errors.New("while the network was broken, "+p.what))
	}
	i.Writes = time.Since(begun)
	asking, cancel := context.WithTimeout(ctx, time.Second) // a read without an answer by then waits for the network
	defer cancel()
	sleeper.readNewest(asking)()
	return nil
}
