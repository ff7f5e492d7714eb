package placement

import (
	"flag"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

var (
	simSeeds = flag.Int("placement.seeds", 15, "how many seeds the simulations play")
	simSeed  = flag.Uint64("placement.seed", 1, "the first of them")
)

// eachSeed plays a story under many seeds; a failure names the one to replay with
// go test ./placement -run NAME -placement.seeds 1 -placement.seed N.
func eachSeed(t *testing.T, lossy bool, story func(w *world)) {
	t.Parallel()
	for i := range *simSeeds {
		story(newWorld(t, *simSeed+uint64(i), lossy))
	}
}

// replicated: every range has n voters, all on stores that are up, no learners, no joint configuration.
func (w *world) replicated(n int) bool {
	for _, r := range w.ranges {
		if len(r.desc.Replicas) != n || len(r.desc.Voters()) != n || r.desc.Joint() {
			return false
		}
		for _, rep := range r.desc.Replicas {
			if !w.stores[rep.Store].up {
				return false
			}
		}
	}
	return true
}

// TestNewKeyspaceIsBalanced: in a cluster that has just been made, the leases of a new keyspace are even within a second or so of
// its last split, for the leaseholder hands out all that one plan moves, and the next plan waits for nobody's usual report.
func TestNewKeyspaceIsBalanced(t *testing.T) {
	eachSeed(t, false, func(w *world) {
		w.join("node-2")
		w.join("node-3")
		w.must(8*time.Second, "three voters everywhere", func() bool { return w.replicated(3) })
		ready := false
		w.create(hashKeyspace("k", 32), func(*locuspb.Keyspace) { ready = true })
		w.must(20*time.Second, "keyspace", func() bool { return ready })
		w.must(2*time.Second, "even leases", w.balanced)
	})
}

// balanced: replicas and leases of the stores that are up differ by at most 1.
func (w *world) balanced() bool {
	replicas, leases := map[ids.StoreID]int{}, map[ids.StoreID]int{}
	for _, r := range w.ranges {
		leases[r.leader]++
		for _, rep := range r.desc.Replicas {
			replicas[rep.Store]++
		}
	}
	return w.spread(replicas) <= 1 && w.spread(leases) <= 1
}

func (w *world) spread(count map[ids.StoreID]int) int {
	lo, hi := 1<<30, 0
	for id, s := range w.stores {
		if s.up {
			lo, hi = min(lo, count[id]), max(hi, count[id])
		}
	}
	return hi - lo
}

// heldRight: stores hold exactly the replicas that descriptors give them.
func (w *world) heldRight() bool {
	for id, s := range w.stores {
		for rid, rep := range s.holding {
			if in, ok := w.ranges[rid].desc.On(id); s.up && (!ok || in.ID != rep) {
				return false
			}
		}
	}
	return true
}

// quiet asserts that the cluster, balanced for the first time, soon plans nothing at all any more, for a long
// while, and is still balanced.
func (w *world) quiet() {
	w.t.Helper()
	w.must(time.Minute, "rest", func() bool { return w.balanced() && w.now-w.lastPlan > 15*time.Second })
	from := w.now
	w.run(3 * time.Minute)
	if w.lastPlan > from {
		w.fail("operators after the cluster had settled at %s", from)
	}
	if !w.balanced() || !w.heldRight() {
		w.fail("not balanced, or stores hold what they should not")
	}
}

// depose moves the lead of range 1, and with it the office, to another store if there is one that can.
func (w *world) depose() {
	r := w.ranges[ids.SystemRange]
	for _, rep := range r.desc.Voters() {
		if w.stores[rep.Store].up && rep.Store != r.leader && r.filled[rep.ID] && !r.desc.Joint() {
			r.leader = rep.Store
			r.term++
			return
		}
	}
}

// create asks for a keyspace until it is there, through changes of office.
func (w *world) create(req *locuspb.CreateKeyspaceRequest, done func(*locuspb.Keyspace)) {
	retry := func() { w.after(200*time.Millisecond, func() { w.create(req, done) }) }
	if w.driver == nil {
		retry()
		return
	}
	to := w.driver
	to.CreateKeyspace(req, func(ks *locuspb.Keyspace, err error) {
		if err != nil {
			if got, e := to.LookupKeyspace(req.Name); e == nil && !got.Creating {
				done(got)
				return
			}
			retry()
			return
		}
		done(ks)
	})
}

func hashKeyspace(name string, n uint32) *locuspb.CreateKeyspaceRequest {
	return &locuspb.CreateKeyspaceRequest{Name: name, Partition: 1, SplitInto: n}
}

// TestThreeNodes: without losses, a third node's arrival gives every range three voters within seconds.
func TestThreeNodes(t *testing.T) {
	eachSeed(t, false, func(w *world) {
		w.run(3 * time.Second)
		w.join("node-2")
		w.run(time.Duration(w.rng.IntN(3000)) * time.Millisecond)
		w.join("node-3")
		w.must(8*time.Second, "three voters everywhere", func() bool { return w.replicated(3) })
		w.must(20*time.Second, "balance", w.balanced)
		w.must(5*time.Second, "status", func() bool {
			s, err := w.driver.Status()
			return err == nil && s.Underreplicated == 0 && s.Unavailable == 0 && s.LiveNodes == 3 && s.WantedReplicas == 3 && s.Ranges == 3
		})
		made := false
		w.create(hashKeyspace("flights", 8), func(*locuspb.Keyspace) { made = true })
		w.must(8*time.Second, "keyspace", func() bool { return made })
		if n := len(w.ranges); n != 11 {
			w.fail("%d ranges", n)
		}
		w.must(time.Minute, "balance", w.balanced)
		w.quiet()
	})
}

// TestGrowKillRevive: with losses, delays, doubled and reordered messages, and offices that change in the
// middle of everything.
func TestGrowKillRevive(t *testing.T) {
	eachSeed(t, true, func(w *world) {
		made := false
		w.run(time.Second)
		w.create(hashKeyspace("flights", 6), func(*locuspb.Keyspace) { made = true })
		w.run(time.Duration(w.rng.IntN(2000)) * time.Millisecond)
		for i := 2; i <= 5; i++ {
			w.join(fmt.Sprintf("node-%d", i))
			w.run(time.Duration(w.rng.IntN(5000)) * time.Millisecond)
		}
		w.depose()
		w.must(time.Minute, "keyspace", func() bool { return made })
		w.must(time.Minute, "three voters everywhere", func() bool { return w.replicated(3) })
		w.must(3*time.Minute, "balance", func() bool { return w.balanced() && w.heldRight() })
		w.quiet()

		victim := ids.StoreID(1 + w.rng.IntN(5))
		w.kill(victim)
		killed := w.now
		w.run(20 * time.Second)
		if w.lastAdd > killed {
			w.fail("replicas replaced before the store is dead")
		}
		if w.rng.IntN(2) == 0 {
			w.depose()
		}
		w.must(2*time.Minute, "replicas replaced", func() bool { return w.replicated(3) })
		w.must(3*time.Minute, "balance", w.balanced)
		w.quiet()

		w.revive(victim)
		w.must(3*time.Minute, "balance", func() bool { return w.replicated(3) && w.balanced() && w.heldRight() })
		w.quiet()
	})
}

// TestSplitsBySize: a keyspace grows; with losses, changes of office and a store that dies in the middle, its ranges are
// split until none is too large, none needlessly, and all is balanced.
func TestSplitsBySize(t *testing.T) {
	eachSeed(t, true, func(w *world) {
		w.options.DeadAfter = 10 * time.Second
		w.options.Grace = 6 * time.Second
		for i := 2; i <= 4; i++ {
			w.join(fmt.Sprintf("node-%d", i))
		}
		var ks *locuspb.Keyspace
		w.create(hashKeyspace("grows", 2), func(k *locuspb.Keyspace) { ks = k })
		w.must(time.Minute, "keyspace", func() bool { return ks != nil })
		sizes := func() (least, most uint64) {
			least = math.MaxUint64
			for _, r := range w.ranges {
				if id, _ := keys.KeyspaceOf(r.desc.Span.Start); uint32(id) == ks.Id && r.desc.Span.End != nil {
					_, _, bytes := w.size(r)
					least, most = min(least, bytes), max(most, bytes)
				}
			}
			return least, most
		}
		for step := range 5 { // up to 2^3 times two ranges of the largest size
			w.density = simMaxRange >> (16 - step)
			w.run(time.Duration(w.rng.IntN(3000)) * time.Millisecond)
			switch step {
			case 2:
				w.depose()
			case 3:
				w.kill(ids.StoreID(1 + w.rng.IntN(4)))
			}
		}
		w.must(2*time.Minute, "splits", func() bool { _, most := sizes(); return most <= simMaxRange })
		if least, _ := sizes(); least < simMaxRange/2 {
			w.fail("a range of %d bytes was split", 2*least)
		}
		for id, s := range w.stores {
			if !s.up {
				w.revive(id)
			}
		}
		w.must(3*time.Minute, "balance", func() bool { return w.replicated(3) && w.balanced() && w.heldRight() })
		w.quiet()
	})
}

// TestChaos: stores die and return at random, up to two of five at a time, offices change, keyspaces come
// and go. However it went, once all are back everything ends replicated, balanced and quiet.
func TestChaos(t *testing.T) {
	eachSeed(t, true, func(w *world) {
		w.options.DeadAfter = 10 * time.Second
		w.options.Grace = 6 * time.Second
		for i := 2; i <= 5; i++ {
			w.join(fmt.Sprintf("node-%d", i))
		}
		w.must(30*time.Second, "five nodes", func() bool { return len(w.stores) == 5 })
		made := 0
		for i := range 3 {
			w.create(hashKeyspace(fmt.Sprintf("ks-%d", i), 4), func(*locuspb.Keyspace) { made++ })
		}
		w.must(time.Minute, "three voters everywhere", func() bool { return w.replicated(3) })
		w.disturb(2 * time.Minute)
		for id, s := range w.stores {
			if !s.up {
				w.revive(id)
			}
		}
		w.must(2*time.Minute, "keyspaces", func() bool { return made == 3 })
		w.must(3*time.Minute, "recovery", func() bool { return w.replicated(3) && w.balanced() && w.heldRight() })
		w.quiet()
	})
}

// disturb kills, revives and deposes.
func (w *world) disturb(d time.Duration) {
	for end := w.now + d; w.now < end; w.run(time.Duration(w.rng.IntN(8000)) * time.Millisecond) {
		id := ids.StoreID(1 + w.rng.IntN(5))
		down := 0
		for _, s := range w.stores {
			if !s.up {
				down++
			}
		}
		switch s := w.stores[id]; {
		case w.rng.IntN(4) == 0:
			w.depose()
		case !s.up:
			w.revive(id)
		case down < 2:
			w.kill(id)
		}
	}
}

// TestDropUnderLoss: a dropped keyspace's name is free at once, its data goes away in steps, and the next
// driver goes on.
func TestDropUnderLoss(t *testing.T) {
	eachSeed(t, true, func(w *world) {
		w.erased = 20_000
		var first *locuspb.Keyspace
		w.run(time.Second)
		w.create(hashKeyspace("a", 3), func(ks *locuspb.Keyspace) { first = ks })
		w.must(time.Minute, "keyspace", func() bool { return first != nil })
		w.join("node-2")
		w.join("node-3")
		w.dropUntil("a")
		w.must(time.Minute, "drop", func() bool { return w.records[string(spaceKey("a"))] == nil })
		w.must(time.Minute, "three voters everywhere", func() bool { return w.replicated(3) })
		w.depose()
		var second *locuspb.Keyspace
		w.create(hashKeyspace("a", 2), func(ks *locuspb.Keyspace) { second = ks })
		w.must(time.Minute, "the name again", func() bool { return second != nil })
		if second.Id <= first.Id {
			w.fail("keyspace id %d after %d", second.Id, first.Id)
		}
		w.must(2*time.Minute, "burial", func() bool {
			_, left := w.records[string(droppedKey(first.Id))]
			return !left && w.erased == 0
		})
	})
}

func (w *world) dropUntil(name string) {
	retry := func() { w.after(200*time.Millisecond, func() { w.dropUntil(name) }) }
	if w.driver == nil {
		retry()
		return
	}
	w.driver.DropKeyspace(name, func(err error) {
		if err != nil && api.CodeOf(err) != api.CodeKeyspaceNotFound {
			retry()
		}
	})
}
