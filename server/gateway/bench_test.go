package gateway

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
)

// BenchmarkContinuation is what a continuation costs a gateway, and another one to go on from, by the size of the accumulators
// in it; 1 KiB is about that of a stream, which tells one with each page of 256 KiB.
func BenchmarkContinuation(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 4 << 20} {
		f := newFake()
		evenRanges(f, 8, 800)
		g := New(Options{Cluster: f, Clock: testClock(), Keys: newRing(1)})
		req := &locuspb.RunRequest{Function: "keys", Argument: []byte("x"), Span: api.SpanToProto(kspan("", ""))}
		r := newRun(g, req, 42, &joinAll{}, nil, nil)
		for i, s := range r.segments {
			if i%2 == 0 {
				s.status, s.acc = done, make([]byte, size/4)
			}
		}
		b.Run(fmt.Sprintf("tell/%dKiB", size>>10), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, err := r.checkpoint(context.Background())
				require.NoError(b, err)
			}
		})
		token, err := r.checkpoint(context.Background())
		require.NoError(b, err)
		in := &locuspb.RunRequest{Function: "keys", Argument: []byte("x"), Span: req.Span, Continuation: token}
		b.Run(fmt.Sprintf("take/%dKiB", size>>10), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, err := g.resume(context.Background(), in)
				require.NoError(b, err)
			}
		})
	}
}
