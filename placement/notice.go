package placement

import (
	"maps"
	"slices"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/internal/ids"
)

// notice is the telling of all nodes that a keyspace is dropped, that a timestamp is held (holds.go), or of the map as it is
// (AwaitMap). A node has heard when it reports a map, or holds, of the notice's version or above. Who takes office tells all of them again: what the nodes had heard from the
// driver before is not recorded.
type notice struct {
	name    string
	version uint64 // the first of the map without the keyspace, or of the holds with this one
	waiters []func(error)
	// granted: of a hold, that it was granted before, and is being renewed.
	granted bool
}

// await lets done wait until all nodes have heard.
func (n *notice) await(d *core, done func(error)) {
	if len(n.waiters) >= maxWaiters {
		d.effect(func() { done(&api.OverloadedError{What: "placement driver", RetryAfter: d.o.HurryInterval}) })
		return
	}
	n.waiters = append(n.waiters, done)
}

func (n *notice) tell(d *core, err error) {
	if n == nil {
		return
	}
	for _, w := range n.waiters {
		d.effect(func() { w(err) })
	}
	n.waiters = nil
}

// noticeOf is the notice of the newest drop of a name that is still under way, or nil.
func (d *core) noticeOf(name string) *notice {
	var newest *notice
	var id ids.KeyspaceID
	for i, b := range d.burials {
		if n := b.notice; n != nil && n.name == name && i >= id {
			newest, id = n, i
		}
	}
	return newest
}

// spread ends the notices that every node has heard. Nodes that have been silent for long are not waited
// for; before a node has spoken in this term of office its silence counts from the begin of the office.
func (d *core) spread(now time.Duration) {
	for _, id := range slices.Sorted(maps.Keys(d.burials)) {
		if b := d.burials[id]; b.notice != nil && d.heardByAll(now, b.notice.version) {
			b.notice.tell(d, nil)
			b.notice = nil
		}
	}
	d.tellings = slices.DeleteFunc(d.tellings, func(n *notice) bool {
		heard := d.heardByAll(now, n.version)
		if heard {
			n.tell(d, nil)
		}
		return heard
	})
	d.spreadHolds(now)
}

// AwaitMap has every node fetch the map again, and with it what the caller adds to answers, and calls done when all that are
// heard from have it. A node that has been silent for Options.SuspectAfter is not waited for: see functionsTrust.
func (d *Driver) AwaitMap(done func(error)) {
	d.step(func(c *core) { c.awaitMap(done) })
}

func (d *core) awaitMap(done func(error)) {
	if err := d.ready(); err != nil {
		d.effect(func() { done(err) })
		return
	}
	if len(d.tellings) >= maxWaiters {
		d.effect(func() { done(&api.OverloadedError{What: "placement driver", RetryAfter: d.o.HurryInterval}) })
		return
	}
	d.cl.version++
	n := &notice{version: d.mapVersion()}
	n.await(d, done)
	d.tellings = append(d.tellings, n)
	d.spread(d.o.Now())
}

// functionsTrust is for how long from when it sent its report a node may go by the functions that came with the answer. It is
// shorter than the silence after which a notice no longer waits for the node, which is counted from when the report arrived: so a
// node that is not waited for has stopped going by what it has not heard is old, if its clock and the driver's run about as fast.
//
// What the driver says counts only if it was in office when it said so, or FunctionsNews before: the next driver waits for the
// node for SuspectAfter at least, from its first moment, which is later. A fifth is left for clocks.
func (d *core) functionsTrust() time.Duration { return d.o.SuspectAfter * 3 / 5 }

// FunctionsNews is how old the news may be that the driver is in office when its node vouches for the functions that it knows.
func (d *Driver) FunctionsNews() time.Duration { return d.core.o.SuspectAfter / 5 }

func (d *core) heardByAll(now time.Duration, version uint64) bool {
	for _, n := range d.cl.nodes {
		if n.has < version && now-n.heard < d.o.SuspectAfter {
			return false
		}
	}
	return true
}

// unaware says whether a node has not heard of a drop, or of the map that somebody waits for, yet.
func (d *core) unaware(n *node) bool {
	for _, t := range d.tellings {
		if n.has < t.version {
			return true
		}
	}
	for _, b := range d.burials {
		if b.notice != nil && n.has < b.notice.version {
			return true
		}
	}
	return false
}
