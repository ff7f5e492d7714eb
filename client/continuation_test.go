package client

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/keys"
)

// TestContinue: a stream that an earlier process left is gone on with from what it was given last, at its timestamp; what
// it was given covers what it was yielded, and no more.
func TestContinue(t *testing.T) {
	for _, order := range [][]RunOption{nil, {KeyOrder()}} {
		f, ks, want := withKeys(t)
		var got, sure []string
		var at Continuation
		stop := errors.New("stop")
		f.mu.Lock()
		f.onPage = func(_ *fakeNode, r *locuspb.RunRequest, i int, _ *locuspb.RunResponse) error {
			if i == 3 && len(r.Continuation) == 0 {
				return status.Error(codes.PermissionDenied, stop.Error()) // nobody else is asked
			}
			return nil
		}
		f.mu.Unlock()
		keep := OnContinuation(func(c Continuation) { at, sure = c, append([]string(nil), got...) })
		for key, err := range streamKeys.Stream(ctx, ks.All(), struct{}{}, append(order, keep)...) {
			if err != nil {
				require.ErrorContains(t, err, stop.Error())
				break
			}
			got = append(got, key)
		}
		require.Len(t, got, 6, "three pages")
		require.Equal(t, got, sure)
		_, err := ks.Put(ctx, []byte("k00-later"), nil)
		require.NoError(t, err)
		require.NotZero(t, at.Timestamp())
		rest := collect(t, ks, append(order, Continue(at), Hold(time.Minute))...)
		require.ElementsMatch(t, want, append(sure, rest...))
		require.EqualValues(t, at.Timestamp(), f.holds[0].Timestamp, "what is held is the run's timestamp, not a fresh one")
	}
}

func TestContinuationsThatAreNone(t *testing.T) {
	_, ks, want := withKeys(t)
	require.Equal(t, want, collect(t, ks, KeyOrder(), Continue(nil)), "from the beginning")
	require.Zero(t, Continuation("").Timestamp())
	require.Zero(t, Continuation("seventeen bytes!!").Timestamp())
	var refused *ContinuationError
	for _, opts := range [][]RunOption{
		{Continue(Continuation("x"))},
		{Continue(Continuation(fakeToken(5, nil))), AtTimestamp(6)},
	} {
		for _, err := range streamKeys.Stream(ctx, ks.All(), struct{}{}, opts...) {
			require.ErrorAs(t, err, &refused)
		}
		_, err := NewRangeFunc[struct{}, int]("count").Run(ctx, ks.All(), struct{}{}, opts...)
		require.ErrorAs(t, err, &refused)
	}
}

// TestAdvance: only what no gateway had done before is progress, so that gateways that all fail at the same place don't make a run
// last for ever.
func TestAdvance(t *testing.T) {
	var a advance
	m := func(ranges, records uint64) *locuspb.RunResponse {
		return &locuspb.RunResponse{Progress: &locuspb.Progress{RangesDone: ranges, Records: records}}
	}
	require.False(t, a.further(&locuspb.RunResponse{}))
	require.False(t, a.further(m(0, 0)))
	require.True(t, a.further(m(0, 10)))
	require.False(t, a.further(m(0, 10)))
	require.False(t, a.further(m(0, 3)), "the next gateway begins behind the last one")
	require.True(t, a.further(m(1, 10)), "a range without records")
	require.True(t, a.further(&locuspb.RunResponse{Covered: &locuspb.Span{Start: keys.KeyspaceSpan(1).Start}}), "outputs are yielded once")
}
