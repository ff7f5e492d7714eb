package placement

import (
	"bytes"
	"cmp"
	"slices"
	"sort"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/keys"
)

// tiling is the key space cut into ranges: in key order, without overlap. What no leader has reported yet
// is a hole.
type tiling struct {
	list  []*rangeState
	holes int
	stale bool
}

// tile brings the tiling up to date. Where two ranges overlap one of them has split and has not been heard
// of since: children start with their parent's new bounds epoch, so the lower one is the old one.
func (c *cluster) tile() *tiling {
	t := &c.tiles
	if !t.stale && t.list != nil {
		return t
	}
	sorted := slices.Clone(c.order)
	slices.SortFunc(sorted, func(a, b *rangeState) int {
		return cmp.Or(bytes.Compare(a.desc.Span.Start, b.desc.Span.Start), cmp.Compare(a.id, b.id))
	})
	list := make([]*rangeState, 0, len(sorted))
	for _, r := range sorted {
		keep := true
		for n := len(list); n > 0 && list[n-1].desc.Span.Overlaps(r.desc.Span); n = len(list) {
			if list[n-1].desc.Epoch.Bounds >= r.desc.Epoch.Bounds {
				keep = false
				break
			}
			list = list[:n-1]
		}
		if keep {
			list = append(list, r)
		}
	}
	*t = tiling{list: list}
	t.holes = len(t.holesIn(keys.Span{}))
	return t
}

// at is the position of the tile that holds key; false for a hole.
func (t *tiling) at(key []byte) (int, bool) {
	i := sort.Search(len(t.list), func(i int) bool { return bytes.Compare(t.list[i].desc.Span.Start, key) > 0 }) - 1
	return i, i >= 0 && t.list[i].desc.Span.Contains(key)
}

// in lists the tiles that overlap a span.
func (t *tiling) in(span keys.Span) []*rangeState {
	lo := sort.Search(len(t.list), func(i int) bool {
		end := t.list[i].desc.Span.End
		return end == nil || bytes.Compare(end, span.Start) > 0
	})
	hi := lo
	for hi < len(t.list) && t.list[hi].desc.Span.Overlaps(span) {
		hi++
	}
	return t.list[lo:hi]
}

// holesIn lists the parts of a span that no tile covers.
func (t *tiling) holesIn(span keys.Span) []keys.Span {
	var out []keys.Span
	next := span.Start // everything below is covered
	for _, r := range t.in(span) {
		if bytes.Compare(r.desc.Span.Start, next) > 0 {
			out = append(out, keys.Span{Start: next, End: r.desc.Span.Start})
		}
		if r.desc.Span.End == nil {
			return out
		}
		next = r.desc.Span.End
	}
	if rest := (keys.Span{Start: next, End: span.End}); !rest.Empty() {
		out = append(out, rest)
	}
	return out
}

func (c *cluster) route(r *rangeState) *locuspb.Route {
	return &locuspb.Route{
		Descriptor_:      r.wire,
		LeaseholderStore: uint64(c.leaseholder(r)),
		Term:             uint64(r.term),
		ApproxBytes:      r.bytes,
		ApproxRecords:    r.records,
	}
}

func (c *cluster) routes(span keys.Span) []*locuspb.Route {
	tiles := c.tile().in(span)
	out := make([]*locuspb.Route, len(tiles))
	for i, r := range tiles {
		out[i] = c.route(r)
	}
	return out
}

// routesSince lists the routes that have changed since a version, in key order. With 1,000 ranges that wake now and then the
// whole map, to every node, was most of what an idle cluster did.
func (c *cluster) routesSince(version uint64) []*locuspb.Route {
	if version < c.rerouted {
		return c.routes(keys.Span{})
	}
	var out []*locuspb.Route
	for _, r := range c.tile().list {
		if r.changed > version {
			out = append(out, c.route(r))
		}
	}
	return out
}
