package keys

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPrefixEnd(t *testing.T) {
	for _, tc := range []struct{ prefix, want []byte }{
		{nil, nil},
		{[]byte{}, nil},
		{[]byte("a"), []byte("b")},
		{[]byte("a\xff"), []byte("b")},
		{[]byte("a\xff\xff"), []byte("b")},
		{[]byte("\xff"), nil},
		{[]byte("\xff\xff"), nil},
		{[]byte("\x00"), []byte("\x01")},
		{[]byte("\xfe\xff"), []byte("\xff")},
	} {
		require.Equal(t, tc.want, PrefixEnd(tc.prefix), "%q", tc.prefix)
	}
	prefix := []byte("a")
	PrefixEnd(prefix)[0] = 'x'
	require.Equal(t, "a", string(prefix), "the prefix is not written to")
}

func TestPrefixSpanByBruteForce(t *testing.T) {
	all := universe("\x00\x01\xfe\xff", 4)
	for _, prefix := range universe("\x00\x01\xfe\xff", 3) {
		s := PrefixSpan(prefix)
		for _, key := range all {
			if s.Contains(key) != bytes.HasPrefix(key, prefix) {
				t.Fatalf("%s contains %q: %v", s, key, s.Contains(key))
			}
		}
	}
}

func TestNextAndKeySpan(t *testing.T) {
	all := universe("\x00\x01\xff", 4)
	for i, key := range all[:len(all)-1] {
		if len(key) < 4 { // beyond, the next key is not in the universe
			require.Equal(t, all[i+1], Next(key))
		}
		for _, other := range all {
			if KeySpan(key).Contains(other) != bytes.Equal(key, other) {
				t.Fatalf("%s contains %q", KeySpan(key), other)
			}
		}
	}
}

// TestSpanAlgebraByBruteForce compares every operation on every two spans with sets of keys.
func TestSpanAlgebraByBruteForce(t *testing.T) {
	points := universe("\x00\x80", 2)
	all := universe("\x00\x80", 3)
	var spans []Span
	for _, start := range points {
		spans = append(spans, Span{Start: start})
		for _, end := range points {
			spans = append(spans, Span{Start: start, End: end}) // empty and reversed ones too
		}
	}
	set := func(s Span) (in [64]bool) {
		for i, key := range all {
			in[i] = s.Contains(key)
		}
		return in
	}
	var none [64]bool
	for _, a := range spans {
		inA := set(a)
		require.Equal(t, inA == none, a.Empty(), "%s", a)
		require.True(t, a.Equal(a.Clone()))
		require.Equal(t, a, a.Clone())
		for _, b := range spans {
			inB := set(b)
			var both [64]bool
			for i := range all {
				both[i] = inA[i] && inB[i]
			}
			if got := a.Intersect(b); set(got) != both || got.Empty() != (both == none) {
				t.Fatalf("%s ∩ %s = %s", a, b, got)
			}
			if a.Overlaps(b) != (both != none) {
				t.Fatalf("%s overlaps %s: %v", a, b, a.Overlaps(b))
			}
			if !b.Empty() && a.ContainsSpan(b) != (both == inB) {
				t.Fatalf("%s contains %s: %v", a, b, a.ContainsSpan(b))
			}
			if same := bytes.Equal(a.Start, b.Start) && (a.End == nil) == (b.End == nil) && bytes.Equal(a.End, b.End); a.Equal(b) != same {
				t.Fatalf("%s equals %s: %v", a, b, a.Equal(b))
			}
		}
	}
}

func TestSpanString(t *testing.T) {
	require.Equal(t, `["a\x00","b")`, Span{[]byte("a\x00"), []byte("b")}.String())
	require.Equal(t, `["",end)`, Span{}.String())
	require.NotEqual(t, Span{}.String(), Span{End: []byte{}}.String())
}

func TestSpanClone(t *testing.T) {
	s := Span{Start: []byte("a"), End: []byte("b")}
	c := s.Clone()
	c.Start[0], c.End[0] = 'x', 'y'
	require.Equal(t, `["a","b")`, s.String())
}

func FuzzSpan(f *testing.F) {
	f.Add([]byte("a"), []byte("c"), false, []byte("b"), []byte("d"), true, []byte("b"))
	f.Fuzz(func(t *testing.T, s1, e1 []byte, inf1 bool, s2, e2 []byte, inf2 bool, key []byte) {
		a, b := Span{Start: s1, End: e1}, Span{Start: s2, End: e2}
		if inf1 {
			a.End = nil
		}
		if inf2 {
			b.End = nil
		}
		both := a.Contains(key) && b.Contains(key)
		if both != a.Intersect(b).Contains(key) || both && !a.Overlaps(b) || a.Overlaps(b) != b.Overlaps(a) {
			t.Fatalf("%q in %s and %s", key, a, b)
		}
		if a.ContainsSpan(b) && b.Contains(key) && !a.Contains(key) {
			t.Fatalf("%s contains %s but not its key %q", a, b, key)
		}
		if a.Empty() && a.Contains(key) || !a.Empty() && !a.Contains(a.Start) {
			t.Fatalf("%s empty: %v", a, a.Empty())
		}
		if !KeySpan(key).Contains(key) || !PrefixSpan(key).ContainsSpan(KeySpan(key)) {
			t.Fatalf("%q", key)
		}
	})
}
