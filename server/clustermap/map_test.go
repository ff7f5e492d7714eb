package clustermap

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
)

// span parses "a-m"; an open end is the end of all keys.
func span(s string) keys.Span {
	start, end, _ := strings.Cut(s, "-")
	out := keys.Span{Start: []byte(start)}
	if end != "" {
		out.End = []byte(end)
	}
	return out
}

func route(id ids.RangeID, s string, bounds uint64) api.Route {
	return api.Route{Descriptor: &topology.Descriptor{ID: id, Span: span(s), Epoch: topology.Epoch{Conf: 1, Bounds: bounds}}}
}

// show prints pieces as "r1[a,m) hole[m,p)".
func show(pieces []Piece) string {
	var out []string
	for _, p := range pieces {
		name := "hole"
		if !p.Hole() {
			name = p.Route.Descriptor.ID.String()
		}
		out = append(out, fmt.Sprintf("%s[%s,%s)", name, p.Span.Start, p.Span.End))
	}
	return strings.Join(out, " ")
}

func TestTile(t *testing.T) {
	for _, c := range []struct {
		name   string
		routes []api.Route
		span   string
		want   string
	}{
		{"nothing known", nil, "a-z", "hole[a,z)"},
		{"one range", []api.Route{route(1, "a-z", 1)}, "c-d", "r1[c,d)"},
		{"neighbours", []api.Route{route(2, "m-", 1), route(1, "-m", 1)}, "a-z", "r1[a,m) r2[m,z)"},
		{"to the end", []api.Route{route(2, "m-", 1), route(1, "-m", 1)}, "l-", "r1[l,m) r2[m,)"},
		{"a hole between", []api.Route{route(1, "a-c", 1), route(2, "m-z", 1)}, "b-n", "r1[b,c) hole[c,m) r2[m,n)"},
		{"holes at the ends", []api.Route{route(1, "c-d", 1)}, "a-", "hole[a,c) r1[c,d) hole[d,)"},
		{"a split known from its child", []api.Route{route(1, "a-z", 1), route(2, "m-z", 2)}, "a-z", "r1[a,m) r2[m,z)"},
		{"a split known from both", []api.Route{route(1, "a-m", 2), route(2, "m-z", 2)}, "a-z", "r1[a,m) r2[m,z)"},
		{"a child's child in the middle", []api.Route{route(1, "a-z", 1), route(3, "g-m", 3)}, "a-z", "r1[a,g) r3[g,m) r1[m,z)"},
		{"an old unbounded parent", []api.Route{route(1, "a-", 1), route(2, "m-p", 2)}, "a-", "r1[a,m) r2[m,p) r1[p,)"},
		{"an empty span of a key", []api.Route{route(1, "a-", 1)}, "b-b\x00", "r1[b,b\x00)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m Map
			m.Learn(c.routes)
			require.Equal(t, c.want, show(m.Tile(span(c.span))))
		})
	}
}

// Whatever routes are known, the pieces of a span follow each other without gap or overlap, and Locate
// agrees with them.
func TestTileAlwaysCovers(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	key := func() string { return string(rune('a' + rng.IntN(26))) }
	for range 2000 {
		var m Map
		for id := range ids.RangeID(rng.IntN(8)) {
			lo, hi := key(), key()
			if lo >= hi {
				hi = ""
			}
			m.Learn([]api.Route{route(id+1, lo+"-"+hi, 1+rng.Uint64N(4))})
		}
		all := span(key() + "-")
		at := all.Start
		for _, p := range m.Tile(all) {
			require.Equal(t, at, p.Span.Start)
			require.False(t, p.Span.Empty())
			found, ok := m.Locate(p.Span.Start)
			require.Equal(t, !p.Hole(), ok)
			if ok {
				require.Equal(t, p.Route.Descriptor.ID, found.Route.Descriptor.ID)
			}
			at = p.Span.End
		}
		require.Nil(t, at)
	}
}

func TestNewsIsOrdered(t *testing.T) {
	var m Map
	first := route(1, "a-z", 2)
	first.Leaseholder, first.Term = 1, 5
	m.Learn([]api.Route{first})

	old := route(1, "a-", 1)
	old.Leaseholder, old.Term = 2, 4
	m.Learn([]api.Route{old})
	got, _ := m.Range(1)
	require.Equal(t, uint64(2), got.Descriptor.Epoch.Bounds)
	require.Equal(t, ids.StoreID(1), got.Leaseholder)

	moved := route(1, "a-", 1) // old bounds, new leader
	moved.Leaseholder, moved.Term = 3, 6
	m.Learn([]api.Route{moved})
	got, _ = m.Range(1)
	require.Equal(t, uint64(2), got.Descriptor.Epoch.Bounds)
	require.Equal(t, ids.StoreID(3), got.Leaseholder)

	unknown := route(1, "a-m", 3) // nobody leads, as far as the sender knows
	unknown.Term = 7
	m.Learn([]api.Route{unknown})
	got, _ = m.Range(1)
	require.Equal(t, "m", string(got.Descriptor.Span.End))
	require.Equal(t, ids.StoreID(3), got.Leaseholder)
}

func TestApply(t *testing.T) {
	var m Map
	m.SetNodes([]*locuspb.NodeInfo{{StoreId: 1, Address: "old"}, {StoreId: 9, Address: "hint"}})
	m.Apply(&locuspb.HeartbeatResponse{
		MapVersion: 7, Nodes: []*locuspb.NodeInfo{{StoreId: 1, Address: "new"}},
		Keyspaces: []*locuspb.Keyspace{
			{Name: "default", Id: 1}, {Name: "gone", Id: 2, Dropped: true},
			{Name: "h", Id: 3, Partition: 1, Group: &locuspb.GroupRule{Delimiter: '/', Depth: 2}},
		},
		Functions: []*locuspb.FunctionInfo{{Name: "f"}},
		Routes:    []*locuspb.Route{api.RouteToProto(route(1, "-", 1))},
	})
	require.Equal(t, uint64(7), m.Version())
	n, ok := m.Node(1)
	require.True(t, ok)
	require.Equal(t, "new", n.Address)
	_, ok = m.Node(9)
	require.False(t, ok, "the driver's list is complete")
	m.SetNodes([]*locuspb.NodeInfo{{StoreId: 1, Address: "older"}})
	n, _ = m.Node(1)
	require.Equal(t, "new", n.Address)

	k, ok := m.Keyspace("h")
	require.True(t, ok)
	require.Equal(t, keys.Layout{ID: 3, Partition: keys.PartitionHash, Group: keys.GroupRule{Delimiter: '/', Depth: 2}}, LayoutOf(k))
	_, ok = m.Keyspace("gone")
	require.False(t, ok)
	_, ok = m.Layout(2)
	require.False(t, ok)
	require.Len(t, m.Functions(), 1)

	// An answer without a new map leaves it.
	m.Apply(&locuspb.HeartbeatResponse{MapVersion: 7, Functions: []*locuspb.FunctionInfo{{Name: "f"}, {Name: "g"}}})
	_, ok = m.Keyspace("h")
	require.True(t, ok)
	require.Len(t, m.Routes(keys.Span{}, 0), 1)
	require.Len(t, m.Functions(), 2)
}

// TestDroppedStaysDropped: nothing that was said before a drop brings the keyspace back.
func TestDroppedStaysDropped(t *testing.T) {
	a := func(id uint32, dropped bool) *locuspb.Keyspace {
		return &locuspb.Keyspace{Name: "a", Id: id, Dropped: dropped}
	}
	dflt := &locuspb.Keyspace{Name: "default", Id: 1}
	apply := func(m *Map, version uint64, list ...*locuspb.Keyspace) {
		m.Apply(&locuspb.HeartbeatResponse{MapVersion: version, Keyspaces: append(list, dflt)})
	}
	named := func(m *Map) uint32 { k, _ := m.Keyspace("a"); return k.GetId() }
	var m Map
	require.False(t, m.Gone(2), "not known is not gone")
	m.AddKeyspaces([]*locuspb.Keyspace{dflt, a(2, false)})
	require.True(t, m.Living(2))
	apply(&m, 5, a(2, true))
	require.True(t, m.Gone(2))
	require.False(t, m.Living(2))

	m.AddKeyspaces([]*locuspb.Keyspace{dflt, a(2, false)}) // asked for before the drop
	require.True(t, m.Gone(2))
	apply(&m, 4, a(2, false)) // of a driver that has been replaced
	require.True(t, m.Gone(2))
	require.Equal(t, uint64(5), m.Version())

	m.AddKeyspaces([]*locuspb.Keyspace{dflt, a(3, false)})
	require.Equal(t, uint32(3), named(&m))
	apply(&m, 6) // on its way since before it was created
	require.False(t, m.Gone(3))
	m.AddKeyspaces([]*locuspb.Keyspace{dflt, a(3, false)})
	require.True(t, m.Living(3))
	require.True(t, m.Gone(2), "its record went with its data")

	// The drop of one has not arrived, and the next of the name is known.
	apply(&m, 7, a(3, false))
	m.AddKeyspaces([]*locuspb.Keyspace{dflt, a(4, false)})
	for range 20 {
		require.Equal(t, uint32(4), named(&m))
	}
}
