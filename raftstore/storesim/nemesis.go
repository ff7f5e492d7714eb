package storesim

import (
	"time"

	"github.com/locuskv/locus/internal/ids"
)

// nemesis does the cluster harm now and then, as long as chaos reigns.
func (r *run) nemesis() {
	c, w := r.c, r.c.W
	w.After(w.Between(200*time.Millisecond, 5*time.Second), "nemesis", func() {
		if !r.chaos {
			return
		}
		if n := r.victim(); n != nil {
			r.harm(n)
		} else {
			c.Heal()
		}
		r.nemesis()
	})
}

// storms let all clients go at one key for a moment, now and then.
func (r *run) storms() {
	c, w := r.c, r.c.W
	w.After(w.Between(time.Second, 12*time.Second), "storm", func() {
		if !r.chaos {
			return
		}
		c.storm = w.Now() + w.Between(50*time.Millisecond, 300*time.Millisecond)
		for _, cl := range r.clients {
			cl.rush()
		}
		r.storms()
	})
}

// victim draws a store that is not lost.
func (r *run) victim() *Node {
	n := r.c.Nodes[r.c.W.Rand.IntN(len(r.c.Nodes))]
	if n.lost {
		return nil
	}
	return n
}

func (r *run) harm(n *Node) {
	c, w := r.c, r.c.W
	up := n.Up()
	switch x := w.Rand.IntN(100); {
	case x < 14 && up:
		n.doom(func() bool { return r.chaos && n.Up() }, func() { r.restartLater(n) })
	case x < 28 && up:
		n.Crash()
		r.restartLater(n)
	case x < 34: // power loss everywhere
		for _, n := range c.Nodes {
			if n.Up() {
				n.Crash()
				r.restartLater(n)
			}
		}
	case x < 52:
		r.partition(n)
	case x < 58:
		r.lag(n)
	case x < 66 && up:
		r.pause(n)
	case x < 72 && up:
		n.arm()
	case x < 76 && up:
		c.Stats.SlowDisks++
		n.slow = w.Now() + w.Between(time.Second, 15*time.Second)
	case x < 80 && up && c.whole():
		r.rot(n, w.Chance(0.5))
	case x < 82:
		r.jump(n)
	case x < 86:
		n.clock.SetRate(w.Rand.Int64N(2*c.Faults.Drift+1) - c.Faults.Drift)
	case x < 92 && !n.jumped: // within what is allowed
		n.clock.Jump(w.Between(-c.Faults.Skew, c.Faults.Skew))
		n.clock.Discipline(c.Faults.Skew)
	default:
		c.Heal()
	}
}

func (r *run) restartLater(n *Node) {
	c, w := r.c, r.c.W
	down := w.Between(100*time.Millisecond, 4*time.Second)
	if w.Chance(0.3) {
		down = w.Between(time.Millisecond, 200*time.Millisecond) // before leases have run out that it helped to renew
	}
	w.After(down, "restart", func() {
		if n.Up() || n.lost {
			return
		}
		c.Stats.Restarts++
		r.start(n)
	})
}

// start starts a node. One that can't start is tried again, or given up for damaged.
func (r *run) start(n *Node) {
	err := n.Start()
	if bad := n.judgeStart(err); bad != nil {
		r.c.violate(bad)
		return
	}
	if err != nil {
		r.fallen(n, err)
	}
}

// fallen goes on after a store that stopped by itself.
func (r *run) fallen(n *Node, err error) {
	c, w := r.c, r.c.W
	if bad := n.judgeEnd(err); bad != nil {
		c.violate(bad)
		return
	}
	switch found, lasting := n.damaged(err); {
	case !found:
		c.Stats.DiskErrors++
		r.restartLater(n)
		return
	case !lasting:
		c.Stats.DamagedSnapshots++
		r.restartLater(n)
		return
	}
	c.Stats.Damaged++
	n.lost = true
	w.After(w.Between(100*time.Millisecond, 5*time.Second), "replacement", func() {
		fresh, err := c.add(false)
		if err != nil {
			c.violate(err)
			return
		}
		c.Stats.Replaced++
		r.start(fresh)
	})
}

// rot damages a file on the disk of a store that is down (dead: it crashes first), which must be found when it starts, or of
// one that runs, which may take until then.
func (r *run) rot(n *Node, dead bool) {
	if n.disk.flipped != "" {
		return
	}
	w := r.c.W
	if dead {
		n.Crash()
		r.restartLater(n)
	}
	done, err := n.flip()
	if err != nil {
		r.c.violate(err)
		return
	}
	if done && !dead {
		life := n.life
		life.After(w.Between(0, 5*time.Second), "crash with a damaged disk", func() {
			n.Crash()
			r.restartLater(n)
		})
	}
}

// jump sets a store's clock an hour forward or back for a while. Nobody may notice but the store itself: it gives up its
// leads, and no timestamp is an hour ahead (rule C4; see ledger.plausible).
func (r *run) jump(n *Node) {
	c, w := r.c, r.c.W
	if r.jumped != nil || !r.replicated() {
		return // one at a time: most clocks are right, for all that others know, and each range has others to lead it
	}
	r.jumped = n
	c.Stats.ClockJumps++
	d := time.Hour
	if w.Chance(0.4) {
		d = -d
	}
	n.jumped = true
	if n.Up() {
		// What is being evaluated may go on, one batch a range.
		n.mayEvaluate = n.Store.Collect().EvaluatedBatches + uint64(len(n.Store.Ranges()))
		n.led = n.leads()
	}
	n.clock.Jump(d)
	c.logger.Info("clock jumps", "store", n.ID, "by", d)
	w.After(w.Between(time.Second, 20*time.Second), "clock jumps back", func() {
		if n.jumped && n.Up() { // it may have been healed meanwhile
			n.judgeJump()
		}
		n.jumped = false
		n.clock.Discipline(c.Faults.Skew)
		w.After(clockMemory, "clock is known to be back", func() { r.jumped = nil })
	})
}

// clockMemory is for how long a store may believe what it heard of another's clock: until half of the maximum offset's doubt
// has come of the drift of 5% that is allowed for, and a moment for whoever stands still. Two clocks that go wrong within
// that time, even one after the other, are the majority of three.
const clockMemory = 6 * time.Second

// pause lets a store stand still: its clock goes on and its messages wait.
func (r *run) pause(n *Node) {
	w, life := r.c.W, n.life
	if life.Paused() {
		return
	}
	r.c.Stats.Pauses++
	life.Pause()
	w.After(w.Between(100*time.Millisecond, 8*time.Second), "resume", life.Resume)
}

// lag delays everything that a store is to hear, and often cuts off what it says after a while: then it goes on hearing
// answers of those who have given it up.
func (r *run) lag(n *Node) {
	c, w := r.c, r.c.W
	c.Stats.Lags++
	d := w.Between(100*time.Millisecond, 1500*time.Millisecond)
	for _, other := range c.Nodes {
		c.lag[[2]ids.StoreID{other.ID, n.ID}] = d
	}
	w.After(w.Between(0, 3*time.Second), "what it says is lost", func() {
		if len(c.lag) > 0 && w.Chance(0.7) {
			for _, other := range c.Nodes {
				c.Cut(n.ID, other.ID)
			}
		}
	})
	w.After(w.Between(2*time.Second, 7*time.Second), "heal", c.Heal)
}

func (r *run) partition(n *Node) {
	c, w := r.c, r.c.W
	c.Stats.Partitions++
	both := w.Chance(0.6)
	for _, other := range c.Nodes {
		if other == n || w.Chance(0.3) {
			continue
		}
		c.Cut(n.ID, other.ID)
		if both {
			c.Cut(other.ID, n.ID)
		}
	}
	w.After(w.Between(500*time.Millisecond, 5*time.Second), "heal", c.Heal)
}
