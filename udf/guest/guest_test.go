package guest_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/packed"
	"github.com/locuskv/locus/udf/guest"
	"github.com/locuskv/locus/udf/guest/bare"
	"github.com/locuskv/locus/udf/guest/guesttest"
	"github.com/locuskv/locus/udf/internal/shape"
)

func init() {
	guest.Pure("square", func(_ context.Context, x int64) (int64, error) { return x * x, nil })
	guest.Pure("upper", func(_ context.Context, s string) (string, error) { return strings.ToUpper(s), nil }, guest.Raw())
	guest.ReadWrite("add", add)
	guest.ReadWrite("draw", func(_ context.Context, tx guest.Tx, _ struct{}) (uint64, error) { return tx.Rand().Uint64(), nil })
	guest.ReadOnly("longest", longest)
	guest.Map("split", func(_ context.Context, sep string, b guest.Batch, emit func(string) error) error {
		for _, v := range b.All() {
			for part := range strings.SplitSeq(string(v), sep) {
				if err := emit(part); err != nil {
					return err
				}
			}
		}
		return nil
	})
	guest.Range("count", guest.Aggregate[string, int, int]{
		Init: func(string) (int, error) { return 0, nil },
		Add: func(_ context.Context, n int, b guest.Batch) (int, error) {
			for _, v := range b.All() {
				if string(v) == "bad" {
					return 0, guest.Error(5, "a bad value")
				}
			}
			return n + b.Len(), nil
		},
		Merge:  func(a, b int) (int, error) { return a + b, nil },
		Result: func(n int) (int, error) { return n, nil },
	}, guest.JSON())
}

func add(_ context.Context, tx guest.Tx, n int64) (int64, error) {
	key := tx.Call().Key
	v, _, err := tx.Get(key)
	if err != nil {
		return 0, err
	}
	old, _ := strconv.ParseInt(string(v), 10, 64)
	if err := tx.PutTTL(key, strconv.AppendInt(nil, old+n, 10), time.Hour); err != nil {
		return 0, err
	}
	if err := tx.Delete([]byte("trash")); err != nil {
		return 0, err
	}
	if n < 0 {
		return 0, guest.Error(1, "negative")
	}
	return old + n, nil
}

func longest(_ context.Context, r guest.Reader, prefix string) (best string, err error) {
	for batch, err := range r.Scan(guest.Span{Start: []byte(prefix), End: []byte(prefix + "\xff")}) {
		if err != nil {
			return "", err
		}
		for k, v := range batch.All() {
			if len(v) > len(best) {
				best = string(k)
			}
		}
	}
	return best, nil
}

func ExamplePure() {
	// In the guest, in an init function: guest.Pure("square", ...). In a test:
	h := guesttest.New(nil)
	fmt.Println(h.Call("square", "", "5"))
	// Output: 25 <nil>
}

func TestCalls(t *testing.T) {
	h := guesttest.New(map[string]string{"k": "40", "trash": "x"})
	got, err := h.Call("add", "k", "2")
	require.NoError(t, err)
	require.Equal(t, "42", got)
	_, found := h.Get("trash")
	require.False(t, found)

	_, err = h.Call("add", "k", "-2")
	require.ErrorContains(t, err, "negative")
	v, _ := h.Get("k")
	require.Equal(t, "42", v, "a refused call leaves nothing")

	got, err = h.Call("upper", "", "abc")
	require.NoError(t, err)
	require.Equal(t, "ABC", got)

	_, err = h.Call("square", "", "{")
	var refused *shape.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, guest.CodeBadArgument, refused.Code)

	_, err = h.Call("nothing", "", "")
	require.ErrorContains(t, err, "no call function is named nothing")

	h.Info.ID = guest.CallID{1}
	one, err := h.Call("draw", "", "")
	require.NoError(t, err)
	two, _ := h.Call("draw", "", "")
	require.Equal(t, one, two)
}

func TestScan(t *testing.T) {
	h := guesttest.New(map[string]string{"a": "1", "p1": "22", "p2": "4444", "q": "999999"})
	got, err := h.Call("longest", "", `"p"`)
	require.NoError(t, err)
	require.Equal(t, `"p2"`, got)
}

func TestRange(t *testing.T) {
	records := make(map[string]string)
	for i := range 10 {
		records[strconv.Itoa(i)] = "v"
	}
	for _, ranges := range []int{0, 1, 3, 20} {
		got, err := guesttest.New(records).Run("count", `"x"`, ranges)
		require.NoError(t, err)
		require.Equal(t, "10", got)
	}
	_, err := guesttest.New(map[string]string{"k": "bad"}).Run("count", "", 2)
	require.ErrorContains(t, err, "a bad value")
}

func TestRegistrationPanics(t *testing.T) {
	one := func(context.Context, int) (int, error) { return 1, nil }
	require.PanicsWithValue(t, "locus guest: two functions are named square", func() { guest.Pure("square", one) })
	require.PanicsWithValue(t, "locus guest: the function name \"\" is empty", func() { guest.Pure("", one) })
	require.PanicsWithValue(t, "locus guest: function f: codec raw can't carry int", func() { guest.Pure("f", one, guest.Raw()) })
	require.Panics(t, func() { guest.Range("f", guest.Aggregate[int, int, int]{}) })
	require.Panics(t, func() { bare.Handle("f", shape.KindRange, bare.CodecRaw, nil) })
}

func TestManifestReadsBack(t *testing.T) {
	entries, err := shape.ParseManifest(string(bare.Manifest()))
	require.NoError(t, err)
	require.Equal(t, shape.Entry{Name: "square", Kind: shape.KindPure, Codec: shape.CodecJSON}, entries[0])
	require.Equal(t, shape.Entry{Name: "upper", Kind: shape.KindPure, Codec: shape.CodecRaw}, entries[1])
	require.Equal(t, shape.KindRange, entries[len(entries)-1].Kind)
}

// TestBatchReadsPacked compares the guest's own reader with the codec that writes batches.
func TestBatchReadsPacked(t *testing.T) {
	b := packed.Append(nil, []byte("key"), []byte("value"), 1, 0)
	b = packed.Append(b, []byte("k"), nil, 2, 77)
	b = packed.Append(b, nil, []byte("v"), 3, 0)
	require.Equal(t, 3, bare.Batch(b).Len())
	r := packed.NewReader(b)
	for k, v := range bare.Batch(b).All() {
		require.True(t, r.Next())
		require.Equal(t, r.Key(), k)
		require.Equal(t, r.Value(), v)
	}
	require.False(t, r.Next())
}

type brokenHost struct{ bare.Host }

var errBroken = errors.New("broken")

func (brokenHost) Get([]byte) ([]byte, bool, error)         { return nil, false, errBroken }
func (brokenHost) OpenScan(guest.Span) (bare.Cursor, error) { return nil, errBroken }
func (brokenHost) Put([]byte, []byte, time.Duration) error  { return errBroken }
func (brokenHost) Info() guest.Info                         { return guest.Info{} }

func TestHostErrorSticks(t *testing.T) {
	_, err := bare.Invoke("add", brokenHost{}, []byte("1"))
	require.Equal(t, errBroken, err)
	_, err = bare.Invoke("longest", brokenHost{}, []byte(`"p"`))
	require.Equal(t, errBroken, err)
}

func ExampleMap() {
	// In the guest, in an init function: guest.Map("split", ...). In a test:
	h := guesttest.New(map[string]string{"a": "1,2", "b": "3"})
	fmt.Println(h.Map("split", `","`))
	// Output: ["1" "2" "3"] <nil>
}
