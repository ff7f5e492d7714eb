package placement

import (
	"maps"
	"slices"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/internal/ids"
)

// notice is the telling of all nodes that a keyspace is dropped, or that a timestamp is held (holds.go). A node has heard when
// it reports a map, or holds, of the notice's version or above. Who takes office tells all of them again: what the nodes had heard from the
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
	d.spreadHolds(now)
}

func (d *core) heardByAll(now time.Duration, version uint64) bool {
	for _, n := range d.cl.nodes {
		if n.has < version && now-n.heard < d.o.SuspectAfter {
			return false
		}
	}
	return true
}

// unaware says whether a node has not heard of a drop yet.
func (d *core) unaware(n *node) bool {
	for _, b := range d.burials {
		if b.notice != nil && n.has < b.notice.version {
			return true
		}
	}
	return false
}
