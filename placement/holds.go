package placement

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
)

// Bounds of holds.
const (
	maxHolds    = 1024
	maxHoldTime = time.Hour // from when it was made: garbage that stores can't collect is what a hold costs
	holdIDLen   = 16
	maxOwnerLen = 256
)

// Hold makes a hold of a timestamp, or renews the one that has the request's id, and calls done when every store that is
// heard from keeps the timestamp readable (rule C9). A timestamp that one of them has let go before it heard of the hold is
// *api.TimestampUnavailableError, and there is no hold then. Asked again with the same id for a hold that stores are still
// being told of, it waits for that one. The request's Clock is the caller's time: deadlines are by the highest clock that
// the driver has heard of.
//
// A store that has been silent for Options.SuspectAfter is not waited for: it may let the timestamp go, and refuses reads at
// it then. Its replicas are about to be replaced, or it is back before its window has passed, and hears of the hold.
func (d *Driver) Hold(req *locuspb.HoldRequest, done func(*locuspb.HoldResponse, error)) {
	d.step(func(c *core) { c.hold(req, done) })
}

// Release ends a hold before its deadline. One that is not there has ended already.
func (d *Driver) Release(req *locuspb.ReleaseRequest, done func(error)) {
	d.step(func(c *core) {
		if err := c.ready(); err != nil {
			c.effect(func() { done(err) })
			return
		}
		c.letGo(string(req.Id), &api.InvalidArgumentError{Reason: "the hold was released"}, done)
	})
}

func (d *core) hold(req *locuspb.HoldRequest, done func(*locuspb.HoldResponse, error)) {
	err := d.ready()
	if err == nil {
		err = validateHold(req)
	}
	if err != nil {
		d.effect(func() { done(nil, err) })
		return
	}
	d.clock = max(d.clock, hlc.Timestamp(req.Clock))
	id := string(req.Id)
	var made *locuspb.Hold
	renewed := false
	d.enqueue(job{
		prepare: func() (m []*locuspb.Mutation, err error) {
			renewed = d.cat.holds[id] != nil && d.untold[id] == nil
			if made, err = d.holdOf(req); made != nil {
				m = []*locuspb.Mutation{putMessage(holdKey(id), made)}
			}
			return m, err
		},
		commit: func() {
			if made != nil {
				d.cat.holds[id] = made
				d.holdsChanged(id)
				d.untold[id].granted = renewed
			}
			deadline := d.cat.holds[id].Deadline
			d.untold[id].await(d, func(err error) {
				if err != nil {
					done(nil, err)
					return
				}
				done(&locuspb.HoldResponse{Deadline: deadline}, nil)
			})
			d.spreadHolds(d.o.Now())
		},
		done: func(err error) {
			if err != nil {
				done(nil, err)
			}
		},
	})
}

func validateHold(req *locuspb.HoldRequest) error {
	d := time.Duration(req.DurationMs) * time.Millisecond
	switch {
	case len(req.Id) != holdIDLen:
		return &api.InvalidArgumentError{Reason: fmt.Sprintf("the id of a hold has %d bytes, not %d", holdIDLen, len(req.Id))}
	case req.Timestamp == 0:
		return &api.InvalidArgumentError{Reason: "a hold needs a timestamp"}
	case req.DurationMs <= 0:
		return &api.InvalidArgumentError{Reason: "a hold needs a duration"}
	case req.DurationMs > maxHoldTime.Milliseconds():
		return &api.LimitError{What: "seconds of a hold", Limit: int64(maxHoldTime.Seconds()), Got: int64(d.Seconds())}
	case len(req.Owner) > maxOwnerLen:
		return &api.LimitError{What: "length of a hold's owner", Limit: maxOwnerLen, Got: int64(len(req.Owner))}
	case !utf8.ValidString(req.Owner):
		return &api.InvalidArgumentError{Reason: "the owner of a hold is not UTF-8"}
	}
	return nil
}

// holdOf is the record that a request makes; nil if it repeats one that stores are being told of.
func (d *core) holdOf(req *locuspb.HoldRequest) (*locuspb.Hold, error) {
	rec := &locuspb.Hold{Id: req.Id, Timestamp: req.Timestamp, Created: uint64(d.clock), Owner: req.Owner}
	if old := d.cat.holds[string(req.Id)]; old != nil {
		if old.Timestamp != req.Timestamp {
			return nil, &api.InvalidArgumentError{Reason: "a hold with this id is of another timestamp"}
		}
		if d.untold[string(req.Id)] != nil {
			return nil, nil
		}
		rec = proto.CloneOf(old)
	} else if len(d.cat.holds) >= maxHolds {
		return nil, &api.LimitError{What: "number of holds", Limit: maxHolds, Got: maxHolds + 1}
	}
	last := hlc.Timestamp(rec.Created).Add(maxHoldTime)
	if last <= d.clock {
		return nil, &api.LimitError{What: "seconds that a hold can be renewed for", Limit: int64(maxHoldTime.Seconds()), Got: int64(d.clock.Sub(hlc.Timestamp(rec.Created)).Seconds())}
	}
	rec.Deadline = max(rec.Deadline, uint64(min(last, d.clock.AddMillis(req.DurationMs))))
	return rec, nil
}

// letGo deletes a hold; whoever waits for it gets why.
func (d *core) letGo(id string, why error, done func(error)) {
	d.enqueue(job{
		prepare: func() ([]*locuspb.Mutation, error) {
			if d.cat.holds[id] == nil {
				return nil, nil
			}
			return []*locuspb.Mutation{deleteKey(holdKey(id))}, nil
		},
		commit: func() { d.forgetHold(id, why) },
		done:   done,
	})
}

func (d *core) forgetHold(id string, why error) {
	if d.cat.holds[id] == nil {
		return
	}
	delete(d.cat.holds, id)
	d.untold[id].tell(d, why)
	delete(d.untold, id)
	d.holdsChange++
}

// expire deletes the holds whose deadlines have passed. Stores keep to the deadlines by themselves.
func (d *core) expire() {
	if len(d.cat.holds) == 0 || len(d.jobs) > 0 || d.writing {
		return // nothing, or not now: the next tick finds them again
	}
	var past []string
	for id, rec := range d.cat.holds {
		if hlc.Timestamp(rec.Deadline) <= d.clock {
			past = append(past, id)
		}
	}
	if len(past) == 0 {
		return
	}
	slices.Sort(past)
	d.enqueue(job{
		prepare: func() (m []*locuspb.Mutation, err error) {
			for _, id := range past {
				m = append(m, deleteKey(holdKey(id)))
			}
			return m, nil
		},
		commit: func() {
			for _, id := range past {
				d.forgetHold(id, &api.InvalidArgumentError{Reason: "the hold's deadline has passed"})
			}
		},
	})
}

// holdsChanged has all stores told, of this hold's news and so of all holds.
func (d *core) holdsChanged(id string) {
	d.holdsChange++
	n := d.untold[id]
	if n == nil {
		n = &notice{name: id}
		d.untold[id] = n
	}
	n.version = d.holdsNow()
}

// holdsNow names the state of the holds; it is what stores report that keep to it. The office number makes those of a later
// driver higher.
func (d *core) holdsNow() uint64 { return d.cat.office<<32 | d.holdsChange }

// addHolds adds the holds to an answer, if the store keeps to others. While there are none, and it keeps to none, nothing is
// added.
func (d *core) addHolds(resp *locuspb.HeartbeatResponse, have uint64) {
	want := d.holdsNow()
	if len(d.cat.holds) == 0 {
		want = 0
	}
	if have != want {
		resp.Holds = &locuspb.Holds{Version: d.holdsNow(), Held: frontier(d.cat.holds)}
	}
}

// frontier is what stores need to know of the holds, by timestamp: a younger one matters only if it lasts longer than all
// that are older.
func frontier(holds map[string]*locuspb.Hold) (out []*locuspb.Held) {
	byTime := slices.SortedFunc(maps.Values(holds), func(a, b *locuspb.Hold) int {
		return cmp.Or(cmp.Compare(a.Timestamp, b.Timestamp), cmp.Compare(b.Deadline, a.Deadline))
	})
	var last uint64
	for _, h := range byTime {
		if h.Deadline > last {
			out = append(out, &locuspb.Held{Timestamp: h.Timestamp, Deadline: h.Deadline})
			last = h.Deadline
		}
	}
	return out
}

// uninformed says whether a node has not said yet that it keeps to a hold.
func (d *core) uninformed(n *node) bool {
	for _, t := range d.untold {
		if n.holds < t.version {
			return true
		}
	}
	return false
}

// spreadHolds ends the notices of holds that every store keeps to, or that one has heard of too late. Silent stores are
// passed over, as in spread.
func (d *core) spreadHolds(now time.Duration) {
	for _, id := range slices.Sorted(maps.Keys(d.untold)) {
		t, ts := d.untold[id], hlc.Timestamp(d.cat.holds[id].Timestamp)
		all := true
		var late error
		for _, s := range d.cl.storeIDs() {
			n := d.cl.nodes[s]
			switch {
			case now-n.heard >= d.o.SuspectAfter:
			case n.holds < t.version:
				all = false
			case n.readable > ts && late == nil:
				late = &api.TimestampUnavailableError{Timestamp: ts, Oldest: n.readable, Reason: fmt.Sprintf("store %s may have let it go", s)}
			}
		}
		switch {
		case late != nil && t.granted: // the others keep it until the deadline that it had, or has now
			t.tell(d, late)
			delete(d.untold, id)
		case late != nil && len(t.waiters) > 0:
			t.tell(d, late)
			d.letGo(id, late, nil)
			delete(d.untold, id)
		case late != nil, all:
			t.tell(d, nil)
			delete(d.untold, id)
		}
	}
}

// holdKey is the key of a hold's record.
func holdKey(id string) []byte { return recordKey(prefixHold + hex.EncodeToString([]byte(id))) }
