package packed

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/hlc"
)

type record struct {
	key, value  []byte
	ts, expires hlc.Timestamp
}

func sample() []record {
	return []record{
		{key: []byte("a"), value: []byte("1"), ts: 7},
		{key: []byte(""), value: []byte(""), ts: 0},
		{key: []byte("k\x00\xff"), value: bytes.Repeat([]byte{0xee}, 300), ts: math.MaxUint64, expires: 1},
		{key: bytes.Repeat([]byte("x"), MaxKeyLen), value: nil, ts: 9, expires: math.MaxUint64},
		{key: []byte("last"), value: []byte("value"), ts: 10},
	}
}

func pack(records []record) []byte {
	var b []byte
	for _, r := range records {
		b = Append(b, r.key, r.value, r.ts, r.expires)
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	b := pack(sample())
	require.NoError(t, Validate(b))
	require.Equal(t, len(sample()), Len(b))

	r := NewReader(b)
	var again []byte
	size := 0
	for i, want := range sample() {
		require.True(t, r.Next(), "record %d", i)
		require.True(t, bytes.Equal(want.key, r.Key()), "record %d", i)
		require.True(t, bytes.Equal(want.value, r.Value()), "record %d", i)
		require.Equal(t, want.ts, r.Timestamp())
		require.Equal(t, want.expires, r.Expires())
		require.Len(t, r.Record(), Size(len(want.key), len(want.value), want.expires))
		again = append(again, r.Record()...)
		size += len(r.Record())
	}
	require.False(t, r.Next())
	require.NoError(t, r.Err())
	require.Nil(t, r.Key())
	require.Empty(t, r.Record())
	require.Equal(t, b, again)
	require.Len(t, b, size)
	require.False(t, r.Next(), "the end stays the end")
}

// TestLayout pins the bytes: they cross the wire and reach functions.
func TestLayout(t *testing.T) {
	require.Equal(t, []byte{
		2, 0, 0, 0, 3, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 'k', 'y', 'v', 'a', 'l',
	}, Append(nil, []byte("ky"), []byte("val"), 0x0102030405060708, 0))
	require.Equal(t, []byte{
		9,
		1, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 'k',
	}, Append([]byte{9}, []byte("k"), nil, 1, 0x200))
}

func TestEmpty(t *testing.T) {
	var zero Reader
	require.False(t, zero.Next())
	require.NoError(t, zero.Err())
	require.NoError(t, Validate(nil))
	require.NoError(t, Validate([]byte{}))
	require.Zero(t, Len(nil))
}

func TestDamage(t *testing.T) {
	good := Append(nil, []byte("key"), []byte("value"), 1, 0)
	edit := func(b []byte, at int, to ...byte) []byte {
		b = bytes.Clone(b)
		copy(b[at:], to)
		return b
	}
	for _, tc := range []struct {
		name, reason string
		bad          []byte
	}{
		{"one byte", "its header is cut off", good[:1]},
		{"header less one", "its header is cut off", good[:HeaderLen-1]},
		{"no key", "its key and value are cut off", good[:HeaderLen]},
		{"value less one", "its key and value are cut off", good[:len(good)-1]},
		{"long key", "its key and value are cut off", edit(good, 0, 0xff, 0xff)},
		{"long value", "its key and value are cut off", edit(good, 4, 0xff, 0xff, 0xff, 0xff)},
		{"flag 2", "its flags are unknown", edit(good, 2, 2)},
		{"flag 32768", "its flags are unknown", edit(good, 3, 0x80)},
		{"no room for expiry", "its expiry is cut off", edit(good, 2, 1)[:HeaderLen+ExpiresLen-1]},
		{"zero expiry", "its expiry is zero", append(edit(good, 2, 1)[:HeaderLen], make([]byte, 30)...)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := append(bytes.Clone(good), tc.bad...)
			want := &FormatError{Offset: len(good), Reason: tc.reason}
			require.Equal(t, want, Validate(b))
			require.Equal(t, 1, Len(b), "the record before the damage counts")

			r := NewReader(b)
			require.True(t, r.Next())
			for range 3 {
				require.False(t, r.Next())
				require.Equal(t, want, r.Err())
				require.Nil(t, r.Key())
				require.Nil(t, r.Value())
				require.Empty(t, r.Record())
			}
			var f *FormatError
			require.True(t, errors.As(r.Err(), &f))
			require.Contains(t, f.Error(), tc.reason)
		})
	}
}

// TestEveryCut truncates a batch at each byte: only cuts between records are valid.
func TestEveryCut(t *testing.T) {
	records := append(sample()[:3:3], sample()[4])
	b := pack(records)
	ends := map[int]bool{0: true}
	for i := range records {
		ends[len(pack(records[:i+1]))] = true
	}
	for n := range len(b) + 1 {
		require.Equal(t, ends[n], Validate(b[:n]) == nil, "cut at %d", n)
	}
}

func TestSlicesDoNotReachTheirNeighbours(t *testing.T) {
	b := pack(sample())
	before := bytes.Clone(b)
	r := NewReader(b)
	for r.Next() {
		_ = append(r.Key(), "overwrite"...)
		_ = append(r.Value(), "overwrite"...)
		_ = append(r.Record(), "overwrite"...)
	}
	require.NoError(t, r.Err())
	require.Equal(t, before, b)
}

func TestAppendRefusesWhatDoesNotFit(t *testing.T) {
	require.Panics(t, func() { Append(nil, make([]byte, MaxKeyLen+1), nil, 1, 0) })
}

func TestReaderDoesNotAllocate(t *testing.T) {
	good := pack(sample())
	bad := append(bytes.Clone(good), 1)
	for _, b := range [][]byte{good, bad} {
		require.Zero(t, testing.AllocsPerRun(10, func() {
			for r := NewReader(b); r.Next(); {
				_, _, _, _, _ = r.Key(), r.Value(), r.Timestamp(), r.Expires(), r.Record()
			}
			_ = Len(b)
		}))
	}
}

func TestAppendDoesNotAllocateWithRoom(t *testing.T) {
	dst := make([]byte, 0, 1<<10)
	key, value := []byte("key"), []byte("value")
	require.Zero(t, testing.AllocsPerRun(10, func() { _ = Append(dst, key, value, 1, 2) }))
}

// FuzzReader feeds arbitrary bytes: no panic, and what was read encodes to exactly the bytes read.
func FuzzReader(f *testing.F) {
	f.Add([]byte{})
	f.Add(pack(sample()[:3]))
	f.Add(pack(sample()[:3])[:20])
	f.Add(bytes.Repeat([]byte{0xff}, 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		var again []byte
		n := 0
		r := NewReader(b)
		for r.Next() {
			again = Append(again, r.Key(), r.Value(), r.Timestamp(), r.Expires())
			n++
		}
		if !bytes.Equal(b, before) {
			t.Fatal("reading changed the batch")
		}
		if !bytes.Equal(again, b[:len(again)]) {
			t.Fatalf("re-encoded to %x, want %x", again, b[:len(again)])
		}
		if n != Len(b) {
			t.Fatalf("read %d records, Len says %d", n, Len(b))
		}
		err := r.Err()
		if (err == nil) != (len(again) == len(b)) || (err == nil) != (Validate(b) == nil) {
			t.Fatalf("error %v after %d of %d bytes", err, len(again), len(b))
		}
		var f *FormatError
		if err != nil && (!errors.As(err, &f) || f.Offset != len(again)) {
			t.Fatalf("error %v, want offset %d", err, len(again))
		}
	})
}

// FuzzRecord round-trips one record between two others.
func FuzzRecord(f *testing.F) {
	f.Add([]byte("key"), []byte("value"), uint64(1), uint64(0))
	f.Add([]byte{}, []byte{}, uint64(math.MaxUint64), uint64(math.MaxUint64))
	f.Fuzz(func(t *testing.T, key, value []byte, ts, expires uint64) {
		if len(key) > MaxKeyLen {
			t.Skip()
		}
		b := Append(nil, []byte("before"), nil, 1, 0)
		b = Append(b, key, value, hlc.Timestamp(ts), hlc.Timestamp(expires))
		b = Append(b, []byte("after"), nil, 1, 0)
		r := NewReader(b)
		r.Next()
		if !r.Next() || !bytes.Equal(r.Key(), key) || !bytes.Equal(r.Value(), value) ||
			r.Timestamp() != hlc.Timestamp(ts) || r.Expires() != hlc.Timestamp(expires) {
			t.Fatalf("got %x %x %d %d", r.Key(), r.Value(), r.Timestamp(), r.Expires())
		}
		if !r.Next() || string(r.Key()) != "after" || r.Next() || r.Err() != nil {
			t.Fatal("the next record was lost")
		}
	})
}

func benchBatch() []byte {
	var b []byte
	key, value := []byte("ATL/2001-03-04/0123"), bytes.Repeat([]byte("v"), 60)
	for len(b) < 64<<10 {
		b = Append(b, key, value, 1, 0)
	}
	return b
}

func BenchmarkReader(b *testing.B) {
	batch := benchBatch()
	b.ReportAllocs()
	b.SetBytes(int64(len(batch)))
	for b.Loop() {
		n := 0
		for r := NewReader(batch); r.Next(); {
			n += len(r.Key()) + len(r.Value())
		}
		if n == 0 {
			b.Fatal("empty")
		}
	}
}

func BenchmarkLen(b *testing.B) {
	batch := benchBatch()
	b.ReportAllocs()
	b.SetBytes(int64(len(batch)))
	for b.Loop() {
		if Len(batch) == 0 {
			b.Fatal("empty")
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	key, value := []byte("ATL/2001-03-04/0123"), bytes.Repeat([]byte("v"), 60)
	dst := make([]byte, 0, 128)
	b.ReportAllocs()
	b.SetBytes(int64(Size(len(key), len(value), 0)))
	for b.Loop() {
		dst = Append(dst[:0], key, value, 1, 0)
	}
}
