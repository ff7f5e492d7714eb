package keys

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// universe is all strings over an alphabet of up to n letters, in order.
func universe(alphabet string, n int) [][]byte {
	all := [][]byte{{}}
	for level := all; n > 0; n-- {
		var next [][]byte
		for _, s := range level {
			for i := range alphabet {
				next = append(next, append(bytes.Clone(s), alphabet[i]))
			}
		}
		all = append(all, next...)
		level = next
	}
	slices.SortFunc(all, bytes.Compare)
	return all
}

func TestGroupOf(t *testing.T) {
	slash := func(depth int) GroupRule { return GroupRule{Delimiter: '/', Depth: depth} }
	for _, tc := range []struct {
		rule     GroupRule
		key      string
		want     string
		oneGroup bool
	}{
		{GroupRule{}, "a/b", "a/b", false},
		{GroupRule{}, "", "", false},
		{slash(1), "a", "a", false},
		{slash(1), "a/", "a/", true},
		{slash(1), "a/b", "a/", true},
		{slash(1), "a/b/c", "a/", true},
		{slash(1), "/", "/", true},
		{slash(1), "", "", false},
		{slash(2), "a/b", "a/b", false},
		{slash(2), "a/b/", "a/b/", true},
		{slash(2), "a/b/c/d", "a/b/", true},
		{slash(2), "//x", "//", true},
		{GroupRule{Length: 3}, "ab", "ab", false},
		{GroupRule{Length: 3}, "abc", "abc", true},
		{GroupRule{Length: 3}, "abcd", "abc", true},
		{GroupRule{Delimiter: '/', Length: 3}, "a/bcd", "a/b", true},
	} {
		require.Equal(t, tc.want, string(tc.rule.Of([]byte(tc.key))), "%+v %q", tc.rule, tc.key)
		require.Equal(t, tc.oneGroup, tc.rule.OneGroup([]byte(tc.key)), "%+v %q", tc.rule, tc.key)
	}
}

func TestGroupSpan(t *testing.T) {
	l := Layout{ID: 1, Group: GroupRule{Delimiter: '/', Depth: 1}}
	const p = "\x00\x00\x00\x01"
	require.Equal(t, Span{[]byte(p + "a"), []byte(p + "a\x00")}, l.GroupSpan([]byte("a")), "a key that is its own group")
	require.Equal(t, Span{[]byte(p + "a/"), []byte(p + "a0")}, l.GroupSpan([]byte("a/")), "the prefix as a key")
	require.Equal(t, Span{[]byte(p + "a/"), []byte(p + "a0")}, l.GroupSpan([]byte("a/b/c")))
	l.Group = GroupRule{}
	require.Equal(t, Span{[]byte(p + "a/b"), []byte(p + "a/b\x00")}, l.GroupSpan([]byte("a/b")), "no rule")
}

func TestGroupRuleValidate(t *testing.T) {
	for _, good := range []GroupRule{
		{}, {Delimiter: '/', Depth: 1}, {Depth: 3}, {Length: 1}, {Length: MaxKeyLen}, {Delimiter: 'x', Length: 2},
	} {
		require.NoError(t, good.Validate(), "%+v", good)
	}
	for _, bad := range []GroupRule{
		{Depth: -1}, {Length: -1}, {Length: MaxKeyLen + 1}, {Depth: 1, Length: 1},
	} {
		require.Error(t, bad.Validate(), "%+v", bad)
	}
}

// layouts are all small rules over an alphabet with the delimiter, its neighbour and the last byte, with
// both partitions.
func layouts() []Layout {
	var out []Layout
	for _, rule := range []GroupRule{
		{}, {Delimiter: '/', Depth: 1}, {Delimiter: '/', Depth: 2}, {Delimiter: 0xff, Depth: 1},
		{Length: 1}, {Length: 2}, {Length: 3},
	} {
		for _, partition := range []Partition{PartitionRange, PartitionHash} {
			out = append(out, Layout{ID: 7, Partition: partition, Group: rule})
		}
	}
	return out
}

const alphabet = "\x00/0\xff"

// sameGroup is the definition, written again from the words of the documentation.
func sameGroup(g GroupRule, a, b []byte) bool {
	name := func(key []byte) string {
		if g.Depth > 0 {
			parts := bytes.SplitAfter(key, []byte{g.Delimiter})
			if len(parts) > g.Depth {
				return "group " + string(bytes.Join(parts[:g.Depth], nil))
			}
			return "key " + string(key)
		}
		if g.Length > 0 && len(key) >= g.Length {
			return "group " + string(key[:g.Length])
		}
		return "key " + string(key)
	}
	return name(a) == name(b)
}

// TestGroupsByBruteForce: two keys are of one group exactly when each lies in the other's span, and then
// the spans are equal; else they share no key.
func TestGroupsByBruteForce(t *testing.T) {
	users := universe(alphabet, 4)
	for _, l := range layouts() {
		t.Run(fmt.Sprintf("%+v", l), func(t *testing.T) {
			globals := make([][]byte, len(users))
			spans := make([]Span, len(users))
			for i, u := range users {
				globals[i] = l.Encode(u)
				spans[i] = l.GroupSpan(u)
			}
			for i := range users {
				for j := range users {
					same := sameGroup(l.Group, users[i], users[j])
					if spans[i].Contains(globals[j]) != same {
						t.Fatalf("%q and %q: same group is %v, but the span is %s", users[i], users[j], same, spans[i])
					}
					if bytes.Equal(l.GroupOf(globals[i]), l.GroupOf(globals[j])) != same {
						t.Fatalf("%q and %q: same group is %v", users[i], users[j], same)
					}
					if same && !spans[i].Equal(spans[j]) || !same && spans[i].Overlaps(spans[j]) {
						t.Fatalf("%q and %q: spans %s and %s", users[i], users[j], spans[i], spans[j])
					}
				}
			}
		})
	}
}

// TestSplitKeyNeverSeparatesAGroup tries every wanted split point, which need not be a key itself, against
// every pair of neighbours.
func TestSplitKeyNeverSeparatesAGroup(t *testing.T) {
	users := universe(alphabet, 4)
	wanted := universe(alphabet, 5)
	for _, l := range layouts() {
		t.Run(fmt.Sprintf("%+v", l), func(t *testing.T) {
			globals := make([][]byte, len(users))
			for i, u := range users {
				globals[i] = l.Encode(u)
			}
			slices.SortFunc(globals, bytes.Compare)
			points := slices.Clone(globals)
			for i, w := range wanted {
				// An arbitrary point: between the buckets, or cut off in the middle of one.
				points = append(points, append(KeyspacePrefix(l.ID), w...), globals[i%len(globals)][:4+i%3])
			}
			for _, p := range points {
				split := l.SplitKey(p)
				if bytes.Compare(split, p) > 0 || !bytes.Equal(l.SplitKey(split), split) {
					t.Fatalf("SplitKey(%q) = %q", p, split)
				}
				// The groups are contiguous, so only the neighbours of the point can be separated.
				i, _ := slices.BinarySearchFunc(globals, split, bytes.Compare)
				if i > 0 && i < len(globals) && bytes.Equal(l.GroupOf(globals[i-1]), l.GroupOf(globals[i])) {
					t.Fatalf("split at %q (wanted %q) separates %q from %q", split, p, globals[i-1], globals[i])
				}
			}
		})
	}
}
