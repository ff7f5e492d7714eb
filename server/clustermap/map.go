package clustermap

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// Piece is a part of the key space and the route to it. Its Span lies inside the descriptor's, and is
// smaller where newer descriptors have taken parts of that.
type Piece struct {
	Span  keys.Span
	Route api.Route
}

// Hole says whether nobody is known to hold the piece.
func (p Piece) Hole() bool { return p.Route.Descriptor == nil }

// Map is safe for concurrent use. The zero value is empty.
type Map struct {
	mu    sync.Mutex // serialises writers
	state atomic.Pointer[state]
}

// state is one immutable version of everything.
type state struct {
	version   uint64
	routes    map[ids.RangeID]api.Route
	pieces    []Piece // in key order, without holes
	nodes     map[ids.StoreID]*locuspb.NodeInfo
	full      map[ids.StoreID]*locuspb.NodeInfo // see NearlyFull
	keyspaces map[ids.KeyspaceID]*locuspb.Keyspace
	// told is the highest id of a keyspace that the driver ever sent with a map. Ids rise and are never given
	// again, so of those up to it, the ones that a map does not list are gone for good.
	told      ids.KeyspaceID
	functions []*locuspb.FunctionInfo
	byName    map[string][]*locuspb.FunctionInfo
}

var empty = &state{}

func (m *Map) load() *state {
	if s := m.state.Load(); s != nil {
		return s
	}
	return empty
}

// Apply takes over what a heartbeat brought back. The answer of a driver that has been replaced without
// knowing counts for its routes only: it may list keyspaces that this node has reported as dropped. current is false then.
func (m *Map) Apply(r *locuspb.HeartbeatResponse) (current bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := *m.load()
	if r.MapVersion < next.version {
		next.merge(api.RoutesFromProto(r.Routes))
		m.state.Store(&next)
		return false
	}
	if len(r.Nodes) > 0 {
		next.nodes = nodesByStore(r.Nodes)
		next.full = nearlyFull(next.nodes)
	}
	next.version = r.MapVersion
	if len(r.Keyspaces) > 0 { // never empty: "default" always exists
		next.keyspaces = keyspacesByID(r.Keyspaces)
		for id := range next.keyspaces {
			next.told = max(next.told, id)
		}
	}
	next.functions = r.Functions // in every answer
	next.byName = functionsByName(r.Functions)
	next.merge(api.RoutesFromProto(r.Routes))
	m.state.Store(&next)
	return true
}

// AddKeyspaces takes over keyspaces that the driver named without a version of the map: only those that are
// newer than all in the map. One that is not in it has been dropped since, and the list is the older news.
func (m *Map) AddKeyspaces(list []*locuspb.Keyspace) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := *m.load()
	next.keyspaces = maps.Clone(next.keyspaces)
	if next.keyspaces == nil {
		next.keyspaces = make(map[ids.KeyspaceID]*locuspb.Keyspace)
	}
	for id, k := range keyspacesByID(list) {
		if id > next.told {
			next.keyspaces[id] = k
		}
	}
	m.state.Store(&next)
}

// SetNodes takes over nodes that were learned from a file, a join or gossip, where none is known yet under
// their store id.
func (m *Map) SetNodes(list []*locuspb.NodeInfo) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := *m.load()
	nodes := nodesByStore(list)
	maps.Copy(nodes, next.nodes)
	next.nodes = nodes
	m.state.Store(&next)
}

// Heard takes over nodes by their own word, or by that of somebody who has just talked to them: it comes
// before what is known, until the driver's next answer.
func (m *Map) Heard(list []*locuspb.NodeInfo) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := *m.load()
	next.nodes = maps.Clone(next.nodes)
	if next.nodes == nil {
		next.nodes = make(map[ids.StoreID]*locuspb.NodeInfo)
	}
	maps.Copy(next.nodes, nodesByStore(list))
	m.state.Store(&next)
}

// Learn takes over routes from an error's cure, or from the store itself.
func (m *Map) Learn(routes []api.Route) {
	if !m.news(routes) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next := *m.load()
	next.merge(routes)
	m.state.Store(&next)
}

// news says whether any of the routes would change the map.
func (m *Map) news(routes []api.Route) bool {
	s := m.load()
	return slices.ContainsFunc(routes, func(r api.Route) bool {
		_, changed := newer(s.routes, r)
		return changed
	})
}

// Version of the map that the driver last sent.
func (m *Map) Version() uint64 { return m.load().version }

// Locate finds the piece that holds a key.
func (m *Map) Locate(key []byte) (Piece, bool) {
	pieces := m.load().pieces
	i := firstEndingAfter(pieces, key)
	if i == len(pieces) || !pieces[i].Span.Contains(key) {
		return Piece{}, false
	}
	return pieces[i], true
}

// Range finds a route by the range's id.
func (m *Map) Range(id ids.RangeID) (api.Route, bool) {
	r, ok := m.load().routes[id]
	return r, ok
}

// Tile cuts a span into pieces in key order, which together are exactly the span: holes are pieces too.
func (m *Map) Tile(span keys.Span) []Piece {
	pieces := m.load().pieces
	var out []Piece
	at := span.Start
	for i := firstEndingAfter(pieces, at); i < len(pieces) && pieces[i].Span.Overlaps(span); i++ {
		p := pieces[i]
		if bytes.Compare(p.Span.Start, at) > 0 {
			out = append(out, Piece{Span: keys.Span{Start: at, End: p.Span.Start}})
		}
		p.Span = p.Span.Intersect(span)
		out = append(out, p)
		if at = p.Span.End; at == nil {
			return out
		}
	}
	if rest := (keys.Span{Start: at, End: span.End}); !rest.Empty() {
		out = append(out, Piece{Span: rest})
	}
	return out
}

// Routes lists the routes of a span in key order, at most limit of them (0: all).
func (m *Map) Routes(span keys.Span, limit int) []api.Route {
	var out []api.Route
	for _, p := range m.Tile(span) {
		if p.Hole() {
			continue
		}
		if n := len(out); n > 0 && out[n-1].Descriptor.ID == p.Route.Descriptor.ID {
			continue
		}
		if limit > 0 && len(out) == limit {
			break
		}
		out = append(out, p.Route)
	}
	return out
}

// Node finds a node by its store.
func (m *Map) Node(id ids.StoreID) (*locuspb.NodeInfo, bool) {
	n, ok := m.load().nodes[id]
	return n, ok
}

// Nodes lists the nodes by store id.
func (m *Map) Nodes() []*locuspb.NodeInfo {
	s := m.load()
	out := make([]*locuspb.NodeInfo, 0, len(s.nodes))
	for _, id := range slices.Sorted(maps.Keys(s.nodes)) {
		out = append(out, s.nodes[id])
	}
	return out
}

// NearlyFull are the nodes whose disks are nearly full, as the driver last told: almost always none. A dead one is not
// among them, since it takes no writes; once it is back it says how it is. The map must not be changed.
func (m *Map) NearlyFull() map[ids.StoreID]*locuspb.NodeInfo { return m.load().full }

// Keyspaces lists the keyspaces by id, dropped ones included.
func (m *Map) Keyspaces() []*locuspb.Keyspace {
	s := m.load()
	out := make([]*locuspb.Keyspace, 0, len(s.keyspaces))
	for _, id := range slices.Sorted(maps.Keys(s.keyspaces)) {
		out = append(out, s.keyspaces[id])
	}
	return out
}

// Keyspace finds a living keyspace by name: the newest, where the drop of an older one has not arrived.
func (m *Map) Keyspace(name string) (*locuspb.Keyspace, bool) {
	var newest *locuspb.Keyspace
	for _, k := range m.load().keyspaces {
		if k.Name == name && !k.Dropped && k.Id >= newest.GetId() {
			newest = k
		}
	}
	return newest, newest != nil
}

// Gone says whether a keyspace is known to have been dropped.
func (m *Map) Gone(id ids.KeyspaceID) bool {
	s := m.load()
	k, ok := s.keyspaces[id]
	return ok && k.Dropped || !ok && id <= s.told
}

// Living says whether a keyspace is known and not dropped.
func (m *Map) Living(id ids.KeyspaceID) bool {
	k, ok := m.load().keyspaces[id]
	return ok && !k.Dropped
}

// Layout is what one must know to read the keys of a living keyspace.
func (m *Map) Layout(id ids.KeyspaceID) (keys.Layout, bool) {
	k, ok := m.load().keyspaces[id]
	if !ok || k.Dropped {
		return keys.Layout{}, false
	}
	return LayoutOf(k), true
}

// Functions lists the registered functions as of the last heartbeat.
func (m *Map) Functions() []*locuspb.FunctionInfo { return m.load().functions }

// FunctionVersions are the registered versions of one function as of the last heartbeat.
func (m *Map) FunctionVersions(name string) []*locuspb.FunctionInfo { return m.load().byName[name] }

// LayoutOf is a keyspace's layout.
func LayoutOf(k *locuspb.Keyspace) keys.Layout {
	return keys.Layout{
		ID:        ids.KeyspaceID(k.GetId()),
		Partition: keys.Partition(k.GetPartition()),
		Group: keys.GroupRule{
			Delimiter: byte(k.GetGroup().GetDelimiter()),
			Depth:     int(k.GetGroup().GetDepth()),
			Length:    int(k.GetGroup().GetLength()),
		},
	}
}

// merge adds news to the routes and lays out the pieces again if there were any.
func (s *state) merge(routes []api.Route) {
	changed := false
	for _, r := range routes {
		if n, ok := newer(s.routes, r); ok {
			if !changed {
				s.routes = maps.Clone(s.routes)
				if s.routes == nil {
					s.routes = make(map[ids.RangeID]api.Route)
				}
			}
			s.routes[n.Descriptor.ID] = n
			changed = true
		}
	}
	if changed {
		s.pieces = layOut(s.routes)
	}
}

// newer combines what is known of a range with what was heard, each part by its own order.
func newer(known map[ids.RangeID]api.Route, heard api.Route) (api.Route, bool) {
	if heard.Descriptor == nil {
		return api.Route{}, false
	}
	k, ok := known[heard.Descriptor.ID]
	if !ok {
		return heard, true
	}
	out, changed := k, false
	if heard.Descriptor.Epoch.Newer(k.Descriptor.Epoch) {
		out.Descriptor, changed = heard.Descriptor, true
	}
	if heard.Leaseholder != 0 && (heard.Term > k.Term || heard.Term == k.Term && k.Leaseholder != heard.Leaseholder) {
		out.Leaseholder, out.Term, changed = heard.Leaseholder, heard.Term, true
	}
	if heard.Bytes != 0 && heard.Bytes != k.Bytes {
		out.Bytes, out.Records, changed = heard.Bytes, heard.Records, true
	}
	return out, changed
}

// layOut puts the descriptors side by side.
func layOut(routes map[ids.RangeID]api.Route) []Piece {
	all := make([]Piece, 0, len(routes))
	for _, r := range routes {
		if !r.Descriptor.Span.Empty() {
			all = append(all, Piece{Span: r.Descriptor.Span, Route: r})
		}
	}
	slices.SortFunc(all, func(a, b Piece) int {
		return cmp.Or(bytes.Compare(a.Span.Start, b.Span.Start), cmp.Compare(a.Route.Descriptor.ID, b.Route.Descriptor.ID))
	})
	out := make([]Piece, 0, len(all))
	for i := 0; i < len(all); {
		// A cluster: pieces that overlap, directly or through one another. Almost always a single one.
		j, end := i+1, all[i].Span.End
		for j < len(all) && (end == nil || bytes.Compare(all[j].Span.Start, end) < 0) {
			if end != nil && (all[j].Span.End == nil || bytes.Compare(all[j].Span.End, end) > 0) {
				end = all[j].Span.End
			}
			j++
		}
		if j == i+1 {
			out = append(out, all[i])
		} else {
			out = append(out, settle(all[i:j])...)
		}
		i = j
	}
	return out
}

// settle gives each part of overlapping pieces to the one with the highest bounds epoch.
func settle(cluster []Piece) []Piece {
	var bounds [][]byte
	unbounded := false
	for _, p := range cluster {
		bounds = append(bounds, p.Span.Start)
		if p.Span.End == nil {
			unbounded = true
		} else {
			bounds = append(bounds, p.Span.End)
		}
	}
	slices.SortFunc(bounds, bytes.Compare)
	bounds = slices.CompactFunc(bounds, bytes.Equal)
	if unbounded {
		bounds = append(bounds, nil)
	}
	var out []Piece
	for i := 0; i+1 < len(bounds); i++ {
		part := keys.Span{Start: bounds[i], End: bounds[i+1]}
		best := -1
		for c, p := range cluster {
			if p.Span.ContainsSpan(part) && (best < 0 || p.Route.Descriptor.Epoch.Bounds > cluster[best].Route.Descriptor.Epoch.Bounds) {
				best = c
			}
		}
		if best < 0 {
			continue
		}
		if n := len(out); n > 0 && out[n-1].Route.Descriptor.ID == cluster[best].Route.Descriptor.ID && bytes.Equal(out[n-1].Span.End, part.Start) {
			out[n-1].Span.End = part.End
			continue
		}
		out = append(out, Piece{Span: part, Route: cluster[best].Route})
	}
	return out
}

// firstEndingAfter is the index of the first piece whose end is above key.
func firstEndingAfter(pieces []Piece, key []byte) int {
	i, _ := slices.BinarySearchFunc(pieces, key, func(p Piece, k []byte) int {
		if p.Span.End == nil || bytes.Compare(p.Span.End, k) > 0 {
			return 1
		}
		return -1
	})
	return i
}

func nearlyFull(nodes map[ids.StoreID]*locuspb.NodeInfo) map[ids.StoreID]*locuspb.NodeInfo {
	var out map[ids.StoreID]*locuspb.NodeInfo
	for id, n := range nodes {
		if n.NearlyFull && n.State != stateDead {
			if out == nil {
				out = make(map[ids.StoreID]*locuspb.NodeInfo)
			}
			out[id] = n
		}
	}
	return out
}

// stateDead is what the driver calls a node that it has given up.
const stateDead = "dead"

func nodesByStore(list []*locuspb.NodeInfo) map[ids.StoreID]*locuspb.NodeInfo {
	out := make(map[ids.StoreID]*locuspb.NodeInfo, len(list))
	for _, n := range list {
		if n.GetStoreId() != 0 {
			out[ids.StoreID(n.StoreId)] = n
		}
	}
	return out
}

// functionsByName cuts a list that is ordered by name.
func functionsByName(list []*locuspb.FunctionInfo) map[string][]*locuspb.FunctionInfo {
	var out map[string][]*locuspb.FunctionInfo
	for i := 0; i < len(list); {
		j := i + 1
		for j < len(list) && list[j].Name == list[i].Name {
			j++
		}
		if out == nil {
			out = make(map[string][]*locuspb.FunctionInfo)
		}
		out[list[i].Name] = list[i:j:j]
		i = j
	}
	return out
}

func keyspacesByID(list []*locuspb.Keyspace) map[ids.KeyspaceID]*locuspb.Keyspace {
	out := make(map[ids.KeyspaceID]*locuspb.Keyspace, len(list))
	for _, k := range list {
		out[ids.KeyspaceID(k.GetId())] = k
	}
	return out
}
