package locusload

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/locuskv/locus/client"
)

// The leases of a cluster are the placement driver's to balance: it evens out how many ranges each store leads, of all
// keyspaces together, and takes back what somebody else made uneven. So the ranges of one keyspace are spread in agreement
// with it: first the driver comes to rest; what it then leaves uneven within the keyspace is moved only where it would not
// see a reason to move something back. If it would, a range of another keyspace goes the other way at the same time.

// RestWithin is how long the leases may take to come to rest. The driver moves about seven per second: 1,000 ranges of three
// nodes took 110 s, on a machine of two cores that had eight times as much to do as it can (November 2026).
const RestWithin = 10 * time.Minute

const (
	// lookEvery is how often the ranges are looked at: nodes report about once a second.
	lookEvery = time.Second
	// stillFor is how long no count of leases may have changed for the driver to be at rest although they are not even:
	// where the replicas lie, they can't always be.
	stillFor = 10 * time.Second
	// atOnce is how many ranges are moved between two looks, as many as the driver moves.
	atOnce = 8
	// moveWithin bounds the moves between two looks. One that fails is thought of again at the next.
	moveWithin = 10 * time.Second
	// tolerance is the difference between two stores, in percent of the mean, that the driver leaves alone, and so does
	// this; a difference of 1 always stays.
	tolerance = 5
)

// Spread waits until a keyspace has so many ranges, all of them with leaseholders, which are spread over the stores. progress,
// if not nil, is told how many are where they can stay.
func Spread(ctx context.Context, db *client.DB, name string, ranges int, progress func(placed int)) error {
	limited, cancel := context.WithTimeout(ctx, RestWithin)
	defer cancel()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var last leases
	var changed time.Time
	for {
		l, err := look(limited, db, name)
		if err == nil {
			if now := time.Now(); !maps.Equal(l.all, last.all) {
				changed = now
			}
			last = l
			if progress != nil {
				progress(l.placed())
			}
			rest := l.led() >= ranges && l.own[0] == 0 && (even(l.all, l.stores) || time.Since(changed) >= stillFor)
			moves := l.moves()
			if rest && len(moves) == 0 {
				return nil
			}
			if rest {
				err = carryOut(limited, db, moves)
			}
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("spreading the leaseholders of %s (%s): %w", name, last, ctx.Err()), err)
		case <-limited.Done():
			return errors.Join(fmt.Errorf("the leaseholders of %s have not come to rest within %s: %s", name, RestWithin, last), err)
		case <-tick.C:
		}
	}
}

// leases are who leads what, at one look.
type leases struct {
	keyspace string
	stores   []client.StoreID // that can lead
	ranges   []client.RangeInfo
	own, all map[client.StoreID]int // ranges led, of the keyspace and of all; under 0 those without a known leaseholder
}

func look(ctx context.Context, db *client.DB, keyspace string) (leases, error) {
	nodes, err := db.Nodes(ctx)
	if err != nil {
		return leases{}, err
	}
	ranges, err := db.Ranges(ctx)
	if err != nil {
		return leases{}, err
	}
	return leasesOf(keyspace, nodes, ranges), nil
}

func leasesOf(keyspace string, nodes []client.NodeInfo, ranges []client.RangeInfo) leases {
	l := leases{keyspace: keyspace, ranges: ranges, own: map[client.StoreID]int{}, all: map[client.StoreID]int{}}
	for _, n := range nodes {
		if n.State == "up" && !n.ClockOff {
			l.stores = append(l.stores, n.Store)
		}
	}
	slices.Sort(l.stores)
	for _, r := range ranges {
		l.all[r.Leaseholder]++
		if r.Keyspace == keyspace {
			l.own[r.Leaseholder]++
		}
	}
	return l
}

// led is how many ranges the keyspace has.
func (l leases) led() (n int) {
	for _, x := range l.own {
		n += x
	}
	return n
}

// placed is how many of the keyspace's ranges are led by a store that has no more than its share of them.
func (l leases) placed() (n int) {
	share := (l.led() + len(l.stores) - 1) / max(1, len(l.stores))
	for _, s := range l.stores {
		n += min(l.own[s], share)
	}
	return n
}

// need is the smallest difference of two stores that is worth a move, by the driver's rule.
func need(counts map[client.StoreID]int, stores []client.StoreID) int {
	sum := 0
	for _, s := range stores {
		sum += counts[s]
	}
	return max(2, sum*tolerance/(100*max(1, len(stores))))
}

// even says whether no two stores are that far apart.
func even(counts map[client.StoreID]int, stores []client.StoreID) bool {
	least := need(counts, stores)
	for _, a := range stores {
		for _, b := range stores {
			if counts[a]-counts[b] >= least {
				return false
			}
		}
	}
	return true
}

// move is a transfer of a range's lease.
type move struct {
	id client.RangeID
	to client.StoreID
}

// moves are the next transfers that even out the keyspace's leases and leave those of all as even as they are.
func (l leases) moves() (out []move) {
	l.own, l.all = maps.Clone(l.own), maps.Clone(l.all)
	taken := map[client.RangeID]bool{}
	for range atOnce {
		next := l.next(taken)
		if len(next) == 0 {
			break
		}
		out = append(out, next...)
	}
	return out
}

// next is the transfer between the two stores furthest apart between which there is one, with the one that goes back for
// it, if need be; it counts them as done.
func (l leases) next(taken map[client.RangeID]bool) []move {
	order := slices.Clone(l.stores)
	slices.SortStableFunc(order, func(a, b client.StoreID) int { return l.own[b] - l.own[a] })
	least, driver := need(l.own, l.stores), need(l.all, l.stores)
	for _, from := range order {
		for _, to := range slices.Backward(order) {
			if l.own[from]-l.own[to] < least {
				break
			}
			there, ok := l.pick(from, to, true, taken)
			if !ok {
				continue
			}
			out := []move{{there, to}}
			if l.all[to]+1-(l.all[from]-1) >= driver {
				back, ok := l.pick(to, from, false, taken)
				if !ok {
					continue
				}
				taken[back] = true
				out = append(out, move{back, from})
				l.all[to], l.all[from] = l.all[to]-1, l.all[from]+1
			}
			taken[there] = true
			l.own[from], l.own[to] = l.own[from]-1, l.own[to]+1
			l.all[from], l.all[to] = l.all[from]-1, l.all[to]+1
			return out
		}
	}
	return nil
}

// pick finds a range that one store leads and another may lead: of the keyspace, or of another one that users have.
func (l leases) pick(from, to client.StoreID, own bool, taken map[client.RangeID]bool) (client.RangeID, bool) {
	for _, r := range l.ranges {
		if r.Leaseholder == from && (r.Keyspace == l.keyspace) == own && r.Keyspace != systemKeyspace && !taken[r.ID] && slices.ContainsFunc(r.Replicas,
			func(x client.ReplicaInfo) bool { return x.Store == to && x.Role == "voter" }) {
			return r.ID, true
		}
	}
	return 0, false
}

// systemKeyspace is what RangeInfo says of the range whose leaseholder runs the driver: it stays where it is.
const systemKeyspace = "(system)"

// carryOut makes all moves at once: those of a swap are even for the driver only together, and what it sees of one half it evens out
// by itself.
func carryOut(ctx context.Context, db *client.DB, moves []move) error {
	ctx, cancel := context.WithTimeout(ctx, moveWithin)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, len(moves))
	for i, m := range moves {
		wg.Go(func() { errs[i] = db.TransferRange(ctx, m.id, m.to) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// String tells who leads how many, of the keyspace and of all.
func (l leases) String() string {
	if l.own == nil {
		return "the ranges are not known"
	}
	var parts []string
	for _, s := range slices.Sorted(maps.Keys(l.all)) {
		who := fmt.Sprintf("store %d leads", s)
		if s == 0 {
			who = "nobody is known to lead"
		}
		parts = append(parts, fmt.Sprintf("%s %d of it and %d in all", who, l.own[s], l.all[s]))
	}
	return strings.Join(parts, ", ")
}
