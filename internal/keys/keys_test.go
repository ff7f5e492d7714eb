package keys

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/ids"
)

func TestEncode(t *testing.T) {
	for _, tc := range []struct {
		name   string
		layout Layout
		user   string
		want   []byte
	}{
		{"range", Layout{ID: 0x01020304}, "key", []byte("\x01\x02\x03\x04key")},
		{"empty", Layout{ID: 1}, "", []byte("\x00\x00\x00\x01")},
		// xxhash64("") = ef46db3751d8e999 and xxhash64("a") = d24ec4f1a98c6e5b, by the reference implementation.
		{"hash of nothing", Layout{ID: 1, Partition: PartitionHash}, "", []byte("\x00\x00\x00\x01\xef\x46")},
		{"hash", Layout{ID: 1, Partition: PartitionHash}, "a", []byte("\x00\x00\x00\x01\xd2\x4ea")},
		{
			"hash of the group", Layout{ID: 1, Partition: PartitionHash, Group: GroupRule{Length: 1}}, "abc",
			[]byte("\x00\x00\x00\x01\xd2\x4eabc"),
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			global := tc.layout.Encode([]byte(tc.user))
			require.Equal(t, tc.want, global)
			user, err := tc.layout.Decode(global)
			require.NoError(t, err)
			require.Equal(t, tc.user, string(user))
			require.Len(t, global, tc.layout.HeaderLen()+len(tc.user))
			require.True(t, tc.layout.All().Contains(global))
		})
	}
}

func TestDecodeRefusesForeignKeys(t *testing.T) {
	hash := Layout{ID: 7, Partition: PartitionHash}
	for _, bad := range [][]byte{
		nil, {0}, {0, 0, 0}, {0, 0, 0, 8, 1, 1}, {0, 0, 0, 7}, {0, 0, 0, 7, 1},
	} {
		_, err := hash.Decode(bad)
		require.ErrorIs(t, err, ErrNotInKeyspace, "%x", bad)
	}
	_, ok := KeyspaceOf([]byte{0, 0, 1})
	require.False(t, ok)
	id, ok := KeyspaceOf([]byte{0, 0, 1, 0, 'k'})
	require.True(t, ok)
	require.Equal(t, ids.KeyspaceID(256), id)
}

func TestKeyspaceSpansTile(t *testing.T) {
	require.Equal(t, KeyspaceSpan(1).End, KeyspaceSpan(2).Start)
	require.Equal(t, KeyspaceSpan(255).End, KeyspaceSpan(256).Start[:3], "trailing zeros need not be named")
	last := KeyspaceSpan(math.MaxUint32)
	require.Nil(t, last.End, "the last keyspace reaches to the end of all keys")
	require.True(t, last.Contains([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}))
	for _, id := range []ids.KeyspaceID{0, 1, 254, 255, 256, 1<<24 - 1, math.MaxUint32} {
		for _, other := range []ids.KeyspaceID{0, 1, 2, 255, 256, 257, 1 << 24, math.MaxUint32} {
			key := Layout{ID: other}.Encode([]byte("\xff"))
			require.Equal(t, id == other, KeyspaceSpan(id).Contains(key), "%d in %d", other, id)
		}
	}
}

func TestLayoutSpan(t *testing.T) {
	l := Layout{ID: 1}
	require.Equal(t, l.All(), l.Span(nil, nil))
	require.Equal(t, Span{l.Encode([]byte("a")), l.Encode([]byte("b"))}, l.Span([]byte("a"), []byte("b")))
	require.Equal(t, Span{l.Encode([]byte("a")), l.All().End}, l.Span([]byte("a"), nil))
	require.Equal(t, Span{l.All().Start, l.Encode([]byte("b"))}, l.Span(nil, []byte("b")))
}

func TestLayoutPrefix(t *testing.T) {
	rule := GroupRule{Delimiter: '/', Depth: 1}
	ordered := Layout{ID: 1, Group: rule}
	s, ok := ordered.Prefix([]byte("A"))
	require.True(t, ok)
	require.Equal(t, Span{[]byte("\x00\x00\x00\x01A"), []byte("\x00\x00\x00\x01B")}, s)

	hashed := Layout{ID: 1, Partition: PartitionHash, Group: rule}
	_, ok = hashed.Prefix([]byte("A"))
	require.False(t, ok, "keys that begin with A lie in many buckets")
	s, ok = hashed.Prefix([]byte("A/1"))
	require.True(t, ok)
	require.True(t, s.Contains(hashed.Encode([]byte("A/123"))))
	require.False(t, s.Contains(hashed.Encode([]byte("A/2"))))
	require.True(t, hashed.GroupSpan([]byte("A/9")).ContainsSpan(s))

	_, ok = Layout{ID: 1, Partition: PartitionHash}.Prefix(nil)
	require.False(t, ok)
}

func TestLimits(t *testing.T) {
	for _, l := range []Layout{{ID: 1}, {ID: 1, Partition: PartitionHash}} {
		require.NoError(t, l.CheckUserKey([]byte("k")))
		require.NoError(t, l.CheckUserKey(make([]byte, MaxKeyLen)))
		require.ErrorIs(t, l.CheckUserKey(nil), ErrEmptyKey)
		require.ErrorIs(t, l.CheckUserKey([]byte{}), ErrEmptyKey)
		err := l.CheckUserKey(make([]byte, MaxKeyLen+1))
		require.Equal(t, &LimitError{What: "key length", Limit: 4096, Got: 4097}, err)
		require.EqualError(t, err, "keys: key length is 4097 bytes, more than the limit of 4096")
	}
	require.NoError(t, CheckValue(nil))
	require.NoError(t, CheckValue(make([]byte, MaxValueLen)))
	require.Equal(t, &LimitError{What: "value length", Limit: 524288, Got: 524289}, CheckValue(make([]byte, MaxValueLen+1)))
}

func TestCheckGlobalKey(t *testing.T) {
	hash := Layout{ID: 1, Partition: PartitionHash, Group: GroupRule{Delimiter: '/', Depth: 1}}
	good := hash.Encode([]byte("a/b"))
	require.NoError(t, hash.CheckGlobalKey(good))

	wrong := bytes.Clone(good)
	wrong[5]++
	require.ErrorIs(t, hash.CheckGlobalKey(wrong), ErrBucket)
	require.ErrorIs(t, hash.CheckGlobalKey(Layout{ID: 2}.Encode([]byte("a/b"))), ErrNotInKeyspace)
	require.ErrorIs(t, hash.CheckGlobalKey(hash.Encode(nil)), ErrEmptyKey)
	var limit *LimitError
	require.True(t, errors.As(hash.CheckGlobalKey(hash.Encode(make([]byte, MaxKeyLen+1))), &limit))
	require.NoError(t, Layout{ID: 1}.CheckGlobalKey(Layout{ID: 1}.Encode([]byte("k"))))
}

// FuzzLayout round-trips user keys and compares their order with that of the global keys.
func FuzzLayout(f *testing.F) {
	f.Add(uint32(1), true, byte('/'), uint8(1), []byte("a/b"), []byte("a/c"))
	f.Add(uint32(math.MaxUint32), false, byte(0), uint8(0), []byte{}, []byte{0xff, 0xff})
	f.Add(uint32(0), false, byte(0), uint8(131), []byte("abcd"), []byte("abc"))
	f.Fuzz(func(t *testing.T, id uint32, hashed bool, delimiter byte, n uint8, a, b []byte) {
		l := Layout{ID: ids.KeyspaceID(id), Group: GroupRule{Delimiter: delimiter, Depth: int(n)}}
		if n >= 128 {
			l.Group = GroupRule{Length: int(n - 128)}
		}
		if hashed {
			l.Partition = PartitionHash
		}
		if err := l.Group.Validate(); err != nil {
			t.Fatal(err)
		}
		ga, gb := l.Encode(a), l.Encode(b)
		if user, err := l.Decode(ga); err != nil || !bytes.Equal(user, a) {
			t.Fatalf("Decode(Encode(%x)) = %x, %v", a, user, err)
		}
		same := bytes.Equal(l.Group.Of(a), l.Group.Of(b))
		if (!hashed || same) && bytes.Compare(a, b) != bytes.Compare(ga, gb) {
			t.Fatalf("%x and %x change their order: %x, %x", a, b, ga, gb)
		}
		if same != bytes.Equal(l.GroupOf(ga), l.GroupOf(gb)) ||
			same != l.GroupSpan(a).Contains(gb) || same != l.GroupSpan(b).Contains(ga) {
			t.Fatalf("%x and %x: same group is %v, spans %s and %s", a, b, same, l.GroupSpan(a), l.GroupSpan(b))
		}
		if !same && l.GroupSpan(a).Overlaps(l.GroupSpan(b)) {
			t.Fatalf("the spans of two groups overlap: %s and %s", l.GroupSpan(a), l.GroupSpan(b))
		}
		split := Span{Start: l.SplitKey(gb)}
		if same && split.Contains(ga) != split.Contains(gb) {
			t.Fatalf("splitting at %x separates %x from %x", split.Start, ga, gb)
		}
		if err := l.CheckGlobalKey(ga); (err == nil) != (l.CheckUserKey(a) == nil) {
			t.Fatalf("CheckGlobalKey(%x) = %v", ga, err)
		}
	})
}

// FuzzDecode feeds bytes that are no keys.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{}, false)
	f.Add([]byte{0, 0, 0, 1, 2}, true)
	f.Fuzz(func(t *testing.T, global []byte, hashed bool) {
		l := Layout{ID: 1, Group: GroupRule{Delimiter: '/', Depth: 2}}
		if hashed {
			l.Partition = PartitionHash
		}
		if !bytes.HasPrefix(global, l.GroupOf(global)) || !l.GroupSpanOf(global).Contains(global) {
			t.Fatalf("group %x of %x", l.GroupOf(global), global)
		}
		user, err := l.Decode(global)
		if (err == nil) != (l.All().Contains(global) && len(global) >= l.HeaderLen()) {
			t.Fatalf("Decode(%x): %v", global, err)
		}
		if l.CheckGlobalKey(global) == nil && !bytes.Equal(l.Encode(user), global) {
			t.Fatalf("%x was accepted, but encodes to %x", global, l.Encode(user))
		}
	})
}

func BenchmarkEncodeHash(b *testing.B) {
	l := Layout{ID: 1, Partition: PartitionHash, Group: GroupRule{Delimiter: '/', Depth: 1}}
	key := []byte("ATL/2001-03-04/0123")
	b.ReportAllocs()
	for b.Loop() {
		l.Encode(key)
	}
}
