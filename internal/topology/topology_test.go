package topology

import (
	"math/rand"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

func span(start, end string) keys.Span {
	s := keys.Span{Start: []byte(start)}
	if end != "" {
		s.End = []byte(end)
	}
	return s
}

// example is in a joint configuration: store 4 replaces store 3, and store 5 learns.
func example() *Descriptor {
	return &Descriptor{
		ID: 7, Span: span("a", "m"), Epoch: Epoch{Conf: 3, Bounds: 2},
		Replicas: []Replica{
			{Store: 1, ID: 1, Role: Voter},
			{Store: 2, ID: 2, Role: Voter},
			{Store: 3, ID: 3, Role: VoterOutgoing},
			{Store: 4, ID: 4, Role: VoterIncoming},
			{Store: 5, ID: 5, Role: Learner},
		},
		NextReplica: 6,
	}
}

func TestEpochNewer(t *testing.T) {
	for _, tc := range []struct {
		e, o Epoch
		want bool
	}{
		{Epoch{1, 1}, Epoch{1, 1}, false},
		{Epoch{2, 1}, Epoch{1, 1}, true},
		{Epoch{1, 2}, Epoch{1, 1}, true},
		{Epoch{2, 2}, Epoch{1, 1}, true},
		{Epoch{1, 1}, Epoch{2, 1}, false},
		{Epoch{2, 1}, Epoch{1, 2}, false},
		{Epoch{1, 2}, Epoch{2, 1}, false},
	} {
		require.Equal(t, tc.want, tc.e.Newer(tc.o), "%s newer than %s", tc.e, tc.o)
	}
}

func TestDescriptorLookups(t *testing.T) {
	d := example()
	r, ok := d.On(4)
	require.True(t, ok)
	require.Equal(t, Replica{Store: 4, ID: 4, Role: VoterIncoming}, r)
	_, ok = d.On(9)
	require.False(t, ok)
	r, ok = d.Replica(5)
	require.True(t, ok)
	require.Equal(t, ids.StoreID(5), r.Store)
	_, ok = d.Replica(9)
	require.False(t, ok)

	storesOf := func(replicas []Replica) (out []ids.StoreID) {
		for _, r := range replicas {
			out = append(out, r.Store)
		}
		return out
	}
	require.Equal(t, []ids.StoreID{1, 2, 4}, storesOf(d.Voters()))
	require.Equal(t, []ids.StoreID{5}, storesOf(d.Learners()))
}

func TestJoint(t *testing.T) {
	for role, want := range map[Role]bool{Voter: false, Learner: false, VoterIncoming: true, VoterOutgoing: true} {
		d := &Descriptor{Replicas: []Replica{{Role: Voter}, {Role: role}}}
		require.Equal(t, want, d.Joint(), "%s", role)
	}
}

func TestQuorum(t *testing.T) {
	plain := &Descriptor{Replicas: []Replica{
		{Store: 1, Role: Voter}, {Store: 2, Role: Voter}, {Store: 3, Role: Voter}, {Store: 4, Role: Learner},
	}}
	for _, tc := range []struct {
		name   string
		d      *Descriptor
		stores []ids.StoreID
		want   bool
	}{
		{"two of three", plain, []ids.StoreID{1, 3}, true},
		{"one of three", plain, []ids.StoreID{1}, false},
		{"a learner does not count", plain, []ids.StoreID{1, 4}, false},
		{"both sets", example(), []ids.StoreID{1, 2}, true},
		{"the incoming set only", example(), []ids.StoreID{1, 4}, false},
		{"the outgoing set only", example(), []ids.StoreID{1, 3}, false},
		{"one old, one new, one common", example(), []ids.StoreID{1, 3, 4}, true},
		{"nobody", example(), nil, false},
		{"no members", &Descriptor{}, []ids.StoreID{1}, false},
		{"one of two", &Descriptor{Replicas: []Replica{{Store: 1, Role: Voter}, {Store: 2, Role: Voter}}}, []ids.StoreID{1}, false},
	} {
		got := tc.d.Quorum(func(r Replica) bool { return slices.Contains(tc.stores, r.Store) })
		require.Equal(t, tc.want, got, tc.name)
	}
}

func TestClone(t *testing.T) {
	d := example()
	c := d.Clone()
	require.Equal(t, d, c)
	c.Replicas[0].Role = Learner
	c.Span.Start[0], c.Span.End[0] = 'x', 'y'
	c.Epoch.Conf++
	require.Equal(t, example(), d, "the original is untouched")
}

func TestStrings(t *testing.T) {
	require.Equal(t, `r7["a","m")@3.2[{s1 1 voter} {s2 2 voter} {s3 3 voter-outgoing} {s4 4 voter-incoming} {s5 5 learner}]`, example().String())
	require.Equal(t, "role(9)", Role(9).String())
	require.False(t, Role(0).Valid())
	require.True(t, VoterOutgoing.Valid())
	require.False(t, Role(5).Valid())
}

func TestValidate(t *testing.T) {
	require.NoError(t, example().Validate())
	require.NoError(t, (&Descriptor{ID: 1}).Validate(), "members not known, all keys")
	for _, tc := range []struct {
		name string
		edit func(*Descriptor)
		want string
	}{
		{"no id", func(d *Descriptor) { d.ID = 0 }, "no range id"},
		{"empty span", func(d *Descriptor) { d.Span.End = d.Span.Start }, "empty span"},
		{"reversed span", func(d *Descriptor) { d.Span = span("b", "a") }, "empty span"},
		{"no store", func(d *Descriptor) { d.Replicas[0].Store = 0 }, "without a store or an id"},
		{"no replica id", func(d *Descriptor) { d.Replicas[0].ID = 0 }, "without a store or an id"},
		{"no role", func(d *Descriptor) { d.Replicas[0].Role = 0 }, "unknown role"},
		{"id to be used again", func(d *Descriptor) { d.NextReplica = 5 }, "I11"},
		{"one store twice", func(d *Descriptor) { d.Replicas[1].Store = 1 }, "two replicas on store s1"},
		{"one id twice", func(d *Descriptor) { d.Replicas[1].ID = 1 }, "twice (I11)"},
		{"learners only", func(d *Descriptor) { d.Replicas = d.Replicas[4:] }, "no voter"},
	} {
		d := example()
		tc.edit(d)
		require.ErrorContains(t, d.Validate(), tc.want, tc.name)
	}
}

func TestCheckTiling(t *testing.T) {
	tile := func(bounds ...string) (out []*Descriptor) {
		for i := 0; i+1 < len(bounds); i += 2 {
			out = append(out, &Descriptor{ID: ids.RangeID(i + 1), Span: span(bounds[i], bounds[i+1])})
		}
		return out
	}
	gap := func(start, end string) error { return &TilingError{Span: span(start, end)} }
	overlap := func(start, end string) error { return &TilingError{Span: span(start, end), Overlap: true} }
	for _, tc := range []struct {
		name string
		span keys.Span
		ds   []*Descriptor
		want error
	}{
		{"one", span("a", "z"), tile("a", "z"), nil},
		{"three", span("a", "z"), tile("a", "b", "b", "c", "c", "z"), nil},
		{"wider than the span", span("b", "y"), tile("a", "c", "c", "z"), nil},
		{"others outside do not count", span("m", "n"), tile("a", "b", "a", "c", "m", "n", "x", "y", "x", "z"), nil},
		{"to the end of all keys", span("a", ""), tile("a", "b", "b", ""), nil},
		{"an empty span needs nobody", span("a", "a"), nil, nil},
		{"nothing", span("a", "z"), nil, gap("a", "z")},
		{"gap at the start", span("a", "z"), tile("b", "z"), gap("a", "b")},
		{"gap in the middle", span("a", "z"), tile("a", "b", "c", "z"), gap("b", "c")},
		{"gap at the end", span("a", "z"), tile("a", "y"), gap("y", "z")},
		{"gap at the end of all keys", span("a", ""), tile("a", "y"), gap("y", "")},
		{"overlap", span("a", "z"), tile("a", "m", "l", "z"), overlap("l", "m")},
		{"the same twice", span("a", "z"), tile("a", "z", "a", "z"), overlap("a", "z")},
		{"the end twice", span("a", ""), tile("a", "", "x", ""), overlap("x", "")},
		{"inside another", span("a", "z"), tile("a", "m", "b", "c", "m", "z"), overlap("b", "c")},
	} {
		require.Equal(t, tc.want, CheckTiling(tc.span, tc.ds), tc.name)
	}
	require.ErrorContains(t, gap("a", "b"), `the span ["a","b") is covered by no range (I3)`)
	require.ErrorContains(t, overlap("a", "b"), `the span ["a","b") is covered twice (I3)`)
}

// TestCheckTilingByCounting compares with counting, key by key, how many descriptors hold it.
func TestCheckTilingByCounting(t *testing.T) {
	const alphabet = "abcdef"
	bound := func(r *rand.Rand) string { return alphabet[r.Intn(len(alphabet)):][:1] }
	for seed := range int64(5000) {
		r := rand.New(rand.NewSource(seed))
		random := func() keys.Span {
			if r.Intn(4) == 0 {
				return span(bound(r), "")
			}
			return span(bound(r), bound(r))
		}
		whole := random()
		var ds []*Descriptor
		for range r.Intn(5) {
			ds = append(ds, &Descriptor{ID: 1, Span: random()})
		}
		slices.SortFunc(ds, func(a, b *Descriptor) int { return strings.Compare(string(a.Span.Start), string(b.Span.Start)) })

		tiled := true
		for i := range alphabet + "z" {
			key := []byte((alphabet + "z")[i : i+1])
			n := 0
			for _, d := range ds {
				if d.Span.Contains(key) {
					n++
				}
			}
			tiled = tiled && (n == 1 || !whole.Contains(key))
		}
		err := CheckTiling(whole, ds)
		if (err == nil) != tiled {
			t.Fatalf("seed %d: %s by %v: %v", seed, whole, ds, err)
		}
		if err, ok := err.(*TilingError); ok && (err.Span.Empty() || !whole.ContainsSpan(err.Span)) {
			t.Fatalf("seed %d: %s by %v: %v", seed, whole, ds, err)
		}
	}
}
