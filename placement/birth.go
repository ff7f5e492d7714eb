package placement

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// A keyspace is born in steps, each of which is seen in the ranges themselves, so whoever is in office goes
// on from wherever it stands: the record says at which keys ranges must begin; each plan splits each range
// that holds such keys inside at the one in their middle (halving: n ranges take log n rounds); when all
// begin where they should and have their voters, the record loses its mark.
//
// The ranges come out of the tail, the range of all keys above the last keyspace: it is split at the first
// key of keyspace id+1, which leaves its left part to the keyspace.

// birth is a keyspace that is being created.
type birth struct {
	waiters []func(*locuspb.Keyspace, error)
	ending  bool // the write that ends it is on its way
}

// await lets done wait for a keyspace, whose record is durable.
func (d *core) await(ks *locuspb.Keyspace, done func(*locuspb.Keyspace, error)) {
	id := ids.KeyspaceID(ks.Id)
	b := d.births[id]
	if b == nil {
		b = &birth{}
		d.births[id] = b
		d.cat.nextKeyspace = max(d.cat.nextKeyspace, uint64(ks.Id)+1)
		d.cat.putSpace(ks)
		d.cl.version++
	}
	if len(b.waiters) >= maxWaiters {
		d.effect(func() {
			done(nil, &api.OverloadedError{What: "placement driver", RetryAfter: d.o.HurryInterval})
		})
		return
	}
	b.waiters = append(b.waiters, done)
}

func (b *birth) tell(d *core, ks *locuspb.Keyspace, err error) {
	for _, w := range b.waiters {
		d.effect(func() { w(ks, err) })
	}
	b.waiters = nil
}

// furtherKeyspaces plans the next splits of keyspaces that are being created, and ends the finished ones.
func (d *core) furtherKeyspaces(now time.Duration) {
	for _, id := range slices.Sorted(maps.Keys(d.births)) {
		ks, b := d.cat.byID[id], d.births[id]
		if b.ending {
			continue
		}
		begins := append([][]byte{keys.KeyspacePrefix(id), keys.KeyspacePrefix(id + 1)}, ks.SplitAt...)
		slices.SortFunc(begins, bytes.Compare)
		if d.splitAtAll(now, begins) && d.complete(id) {
			d.endBirth(ks, b)
		}
	}
}

// splitAtAll begins splits of the ranges that hold some of the sorted keys inside; true if none does.
func (d *core) splitAtAll(now time.Duration, begins [][]byte) bool {
	t, all := d.cl.tile(), true
	for len(begins) > 0 {
		i, ok := t.at(begins[0])
		if !ok {
			all, begins = false, begins[1:]
			continue
		}
		r := t.list[i]
		n := 0
		for n < len(begins) && r.desc.Span.Contains(begins[n]) {
			n++
		}
		inside := begins[:n]
		begins = begins[n:]
		if equalKey(inside[0], r.desc.Span.Start) {
			inside = inside[1:]
		}
		if len(inside) > 0 {
			all = false
			d.split(now, r, inside[len(inside)/2], "a keyspace is being created", nil)
		}
	}
	return all
}

// split begins a split if the range is idle and there is an id for the new range.
func (d *core) split(now time.Duration, r *rangeState, key []byte, reason string, done func(error)) bool {
	if !d.idle(now, r) {
		return false
	}
	id, ok := d.takeOne()
	if !ok {
		return false
	}
	op := splitAt(key, id)
	op.RangeId, op.Reason = uint64(r.id), reason
	op.ConfEpoch, op.BoundsEpoch = r.desc.Epoch.Conf, r.desc.Epoch.Bounds
	d.begin(now, r, op, done)
	return true
}

// complete says whether a keyspace is covered by ranges that are led and have all the voters there can be.
func (d *core) complete(id ids.KeyspaceID) bool {
	span, t := keys.KeyspaceSpan(id), d.cl.tile()
	if len(t.holesIn(span)) > 0 {
		return false
	}
	for _, r := range t.in(span) {
		if d.cl.leaseholder(r) == 0 || d.underreplicated(r) {
			return false
		}
	}
	return true
}

// underreplicated: fewer voters on stores that are not dead than min(wanted, stores that are not dead).
func (d *core) underreplicated(r *rangeState) bool {
	want := d.wanted(r.desc.Span.Start)
	if want == 0 {
		want = d.o.Limits.Replicas
	}
	return d.cl.healthyVoters(r.desc) < min(want, len(d.cl.nodes)-d.cl.countNodes(Dead))
}

// endBirth records that a keyspace is complete.
func (d *core) endBirth(ks *locuspb.Keyspace, b *birth) {
	b.ending = true
	ready := proto.CloneOf(ks)
	ready.Creating, ready.SplitAt = false, nil
	d.enqueue(job{
		prepare: func() ([]*locuspb.Mutation, error) {
			if d.cat.spaces[ks.Name] != ks {
				return nil, nil // dropped meanwhile
			}
			return []*locuspb.Mutation{putMessage(spaceKey(ks.Name), ready)}, nil
		},
		commit: func() {
			if d.cat.spaces[ks.Name] == ks {
				d.cat.putSpace(ready)
				d.cl.version++
				delete(d.births, ids.KeyspaceID(ks.Id))
				b.tell(d, ready, nil)
			}
		},
		done: func(error) { d.locked(func() { b.ending = false }) },
	})
}
