package engine_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/keys"
)

// TestCountRaw: one newest version of each key of the span, and no tombstones, like any scan.
func TestCountRaw(t *testing.T) {
	e := openSmall(t, t.TempDir())
	apply(t, e, 1, put("a", "1"), put("b", "22"), put("c", "333"), put("d", "4444"), put("e", "5"))
	apply(t, e, 2, put("b", "new value"), del("c"), put("da", ""))
	apply(t, e, 3, put("b", "x"), del("e"))
	for _, c := range []struct {
		span          keys.Span
		records, size int64
	}{
		{keys.Span{}, 4, 1 + 1 + 4 + 0},
		{keys.Span{Start: []byte("b"), End: []byte("d")}, 1, 1},
		{keys.Span{Start: []byte("d")}, 2, 4},
		{keys.Span{Start: []byte("e")}, 0, 0},
	} {
		records, size, err := e.CountRaw(c.span)
		require.NoError(t, err)
		require.Equal(t, []int64{c.records, c.size}, []int64{records, size}, c.span)
	}
	require.NoError(t, e.Close())
	_, _, err := e.CountRaw(keys.Span{})
	require.Error(t, err)
}
