package clientcore

import (
	"bytes"
	"slices"
	"sort"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
)

// route is what is believed about one range.
type route struct {
	desc *topology.Descriptor
	// leaseholder led in term, as far as somebody said; 0: nobody knows.
	leaseholder ids.StoreID
	term        ids.Term
	// rotation walks over the replicas while no leaseholder is known.
	rotation int
}

// routeCache holds routes that do not overlap, sorted by start key. It may have gaps.
//
// Every route is a hint: a store checks range and bounds epoch of each request, so that a wrong route
// costs a round trip and nothing else.
type routeCache struct {
	routes []*route
}

// find is the route of the range that holds key.
func (c *routeCache) find(key []byte) *route {
	i := c.after(key)
	if i == 0 {
		return nil
	}
	if r := c.routes[i-1]; r.desc.Span.Contains(key) {
		return r
	}
	return nil
}

// findBefore is the route of the range that holds the last keys below end (nil: of all keys).
func (c *routeCache) findBefore(end []byte) *route {
	i := len(c.routes)
	if end != nil {
		i = sort.Search(len(c.routes), func(i int) bool { return bytes.Compare(c.routes[i].desc.Span.Start, end) >= 0 })
	}
	if i == 0 {
		return nil
	}
	r := c.routes[i-1]
	if covers := r.desc.Span.End == nil || end != nil && bytes.Compare(end, r.desc.Span.End) <= 0; covers {
		return r
	}
	return nil
}

// after is the index of the first route that starts above key.
func (c *routeCache) after(key []byte) int {
	return sort.Search(len(c.routes), func(i int) bool { return bytes.Compare(c.routes[i].desc.Span.Start, key) > 0 })
}

// tile cuts span at the borders of ranges; false if the cache has a gap there.
func (c *routeCache) tile(span keys.Span) ([]keys.Span, bool) {
	var out []keys.Span
	for rest := span; !rest.Empty(); {
		r := c.find(rest.Start)
		if r == nil {
			return nil, false
		}
		out = append(out, rest.Intersect(r.desc.Span))
		if r.desc.Span.End == nil {
			break
		}
		rest.Start = r.desc.Span.End
	}
	return out, true
}

// overlapping is the interval of indices of the routes that share a key with span.
func (c *routeCache) overlapping(span keys.Span) (from, to int) {
	from = c.after(span.Start)
	if from > 0 && c.routes[from-1].desc.Span.Overlaps(span) {
		from--
	}
	to = from
	for to < len(c.routes) && c.routes[to].desc.Span.Overlaps(span) {
		to++
	}
	return from, to
}

// merge takes a route in, unless what is known is newer; true if something became better known. Of one
// range the newest epoch wins and, at equal epochs, the leaseholder of the highest term. Of different
// ranges that overlap the higher bounds epoch wins, because splits and merges raise it; at equal ones the
// later message does.
func (c *routeCache) merge(n api.Route) bool {
	d := n.Descriptor
	if d == nil || d.Span.Empty() || len(d.Voters()) == 0 {
		return false // it leads nowhere
	}
	from, to := c.overlapping(d.Span)
	fresh := &route{desc: d, leaseholder: n.Leaseholder, term: n.Term}
	for _, old := range c.routes[from:to] {
		if old.desc.ID != d.ID {
			if old.desc.Epoch.Bounds > d.Epoch.Bounds {
				return false
			}
			continue
		}
		if old.desc.Epoch == d.Epoch {
			return old.learn(n.Leaseholder, n.Term)
		}
		if !d.Epoch.Newer(old.desc.Epoch) {
			return old.learn(n.Leaseholder, n.Term)
		}
		// A range keeps its leader through changes of its descriptor.
		if old.term > fresh.term || old.term == fresh.term && fresh.leaseholder == 0 {
			fresh.leaseholder, fresh.term = old.leaseholder, old.term
		}
		fresh.rotation = old.rotation
	}
	c.routes = slices.Replace(c.routes, from, to, fresh)
	return true
}

// learn takes a hint about the leaseholder; true if it says something new.
func (r *route) learn(leaseholder ids.StoreID, term ids.Term) bool {
	newer := term > r.term && leaseholder != 0 || term == r.term && r.leaseholder == 0 && leaseholder != 0
	if !newer {
		return false
	}
	changed := r.leaseholder != leaseholder
	r.leaseholder, r.term = leaseholder, term
	return changed
}

// denied takes note that store says it does not lead.
func (r *route) denied(store ids.StoreID) {
	if r.leaseholder == store {
		r.leaseholder = 0
	}
}

// evict forgets a route that led nowhere.
func (c *routeCache) evict(r *route) {
	if i := slices.Index(c.routes, r); i >= 0 {
		c.routes = slices.Delete(c.routes, i, i+1)
	}
}
