package enginetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/raftstore/engine"
)

// testBlocks: whatever was written before and after a scan's sequence, its blocks make up the span, and each says truly
// which other readers find the same in it.
func testBlocks(t *testing.T, e engine.Engine) {
	rng := rand.New(rand.NewPCG(7, 7))
	const last = 400
	key := func(n int) string { return fmt.Sprintf("p%d/%02d", n/40, n%40) }
	for seq := ids.Seq(1); seq <= last; seq++ {
		n := rng.IntN(120)
		if rng.IntN(3) == 0 {
			n = 50 // a hot key, of which an iterator does not walk all versions
		}
		if rng.IntN(4) == 0 {
			apply(t, e, seq, del(key(n)))
			continue
		}
		var expires hlc.Timestamp
		if rng.IntN(3) == 0 {
			expires = hlc.Timestamp(100 + rng.IntN(100))
		}
		apply(t, e, seq, engine.Op{Key: []byte(key(n)), Value: engine.AppendValue(nil, fmt.Append(nil, seq), hlc.Timestamp(seq), expires)})
	}
	blocks := func(o engine.ScanOptions) (out []engine.Block) {
		o.Blocks = func(b engine.Block) bool {
			b.Prefixes = slices.Clone(b.Prefixes)
			out = append(out, b)
			return true
		}
		_, err := engine.ScanPacked(e, o)
		require.NoError(t, err)
		return out
	}
	for range 60 {
		o := engine.ScanOptions{
			Span: keys.Span{Start: []byte(key(rng.IntN(50))), End: []byte(key(60 + rng.IntN(60)))},
			Seq:  ids.Seq(1 + rng.IntN(last)), At: hlc.Timestamp(90 + rng.IntN(120)), Strip: 3, BatchBytes: 60 + rng.IntN(300),
		}
		at := o.Span.Start
		for _, b := range blocks(o) {
			require.Equal(t, at, b.Span.Start)
			at = b.Span.End
			requireFacts(t, e, o, b)
		}
		require.Equal(t, o.Span.End, at)
	}
}

// requireFacts reads a block's span at every sequence, and at some timestamps, for which it claims to be right.
func requireFacts(t *testing.T, e engine.Engine, o engine.ScanOptions, b engine.Block) {
	t.Helper()
	end := b.Later
	if end == 0 {
		end = e.MaxSeq() + 1
	}
	require.LessOrEqual(t, b.MaxVersion, o.Seq)
	require.Greater(t, end, o.Seq)
	times := []hlc.Timestamp{o.At, b.MaxExpiryUpTo}
	if b.MinExpiryAfter != 0 {
		times = append(times, b.MinExpiryAfter-1)
	}
	for seq := b.MaxVersion; seq < end; seq++ {
		for _, ts := range times {
			var got []byte
			_, err := engine.ScanPacked(e, engine.ScanOptions{Span: b.Span, Seq: seq, At: ts, Strip: o.Strip, Yield: func(batch []byte) bool {
				got = append(got, batch...)
				return true
			}})
			require.NoError(t, err)
			require.Equal(t, string(b.Batch), string(got), "%s at %d, %s", b.Span, seq, ts)
		}
	}
	for i, p := range b.Prefixes {
		require.Len(t, p.Bytes, o.Strip)
		require.True(t, i == 0 && p.Offset == 0 || i > 0 && p.Offset > b.Prefixes[i-1].Offset)
	}
}
