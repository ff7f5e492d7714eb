package placement

import (
	"maps"
	"slices"
	"time"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// burial is the deletion of a dropped keyspace's data, one bounded step at a time. Its position is not
// recorded: the next driver begins again, and what is empty is passed quickly.
type burial struct {
	due  time.Duration // of the next step
	next []byte        // everything of the keyspace below has been deleted; nil: nothing yet
	busy bool
	// notice is under way while nodes are being told; nil: all know.
	notice *notice
}

func (d *core) newBurial(name string, now time.Duration) *burial {
	return &burial{due: now + d.o.DropDelay, notice: &notice{name: name, version: d.mapVersion()}}
}

// bury takes the next step of each dropped keyspace.
func (d *core) bury(now time.Duration) {
	for _, id := range slices.Sorted(maps.Keys(d.burials)) {
		if b := d.burials[id]; !b.busy && now >= b.due {
			d.erase(id, b)
		}
	}
}

// erase deletes some keys of the first range that may have any.
func (d *core) erase(id ids.KeyspaceID, b *burial) {
	span := keys.KeyspaceSpan(id)
	if b.next != nil {
		span.Start = b.next
	}
	if span.Empty() {
		d.endBurial(id, b)
		return
	}
	t := d.cl.tile()
	i, ok := t.at(span.Start)
	if !ok {
		return // a hole: its leader will report
	}
	part := span.Intersect(t.list[i].desc.Span)
	b.busy = true
	d.effect(func() {
		d.o.Eraser.Erase(part, d.o.EraseLimit, func(more bool, err error) {
			d.locked(func() { d.erased(b, part, more, err) })
		})
	})
}

func (d *core) erased(b *burial, part keys.Span, more bool, err error) {
	b.busy = false
	switch {
	case err != nil:
		b.due = d.o.Now() + time.Second // its range moved or is not available: again later
	case !more:
		b.next = part.End
	}
}

// endBurial forgets a keyspace whose data is gone.
func (d *core) endBurial(id ids.KeyspaceID, b *burial) {
	b.busy = true
	d.enqueue(job{
		prepare: func() ([]*locuspb.Mutation, error) {
			return []*locuspb.Mutation{deleteKey(droppedKey(uint32(id)))}, nil
		},
		commit: func() {
			delete(d.cat.dropped, id)
			delete(d.burials, id)
			d.cl.version++
		},
		done: func(error) { d.locked(func() { b.busy = false }) },
	})
}
