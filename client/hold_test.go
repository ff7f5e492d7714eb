package client

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
)

// held is what the fake knows of holds: how many were made, and how many are left.
func (f *fake) held() (made, left int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.holds), len(f.holds) - len(f.released)
}

// A run with Hold holds the timestamp that it runs at before it begins, and gives it back however it ends; without, it holds
// nothing.
func TestRunsHold(t *testing.T) {
	f, ks, want := withKeys(t)
	count := NewRangeFunc[struct{}, int]("count")
	is := func(wantMade int) {
		t.Helper()
		made, left := f.held()
		require.Equal(t, wantMade, made)
		require.Zero(t, left)
	}
	_, err := count.Run(ctx, ks.All(), struct{}{})
	require.NoError(t, err)
	is(0)
	r, err := count.Do(ctx, ks.All(), struct{}{}, Hold(30*time.Minute))
	require.NoError(t, err)
	require.Equal(t, len(want), r.Value)
	is(1)
	h := f.holds[0]
	require.EqualValues(t, r.Timestamp, h.Timestamp)
	require.Equal(t, 30*time.Minute.Milliseconds(), h.DurationMs)
	require.Equal(t, "function count", h.Owner)
	require.Equal(t, string(h.Id), f.released[0])

	at := Timestamp(ks.db.Token())
	require.Len(t, collect(t, ks, AtTimestamp(at), Hold(time.Minute)), len(want))
	is(2)
	require.EqualValues(t, at, f.holds[1].Timestamp)
	require.NotEqual(t, h.Id, f.holds[1].Id)
	for range streamKeys.Stream(ctx, ks.All(), struct{}{}, Hold(time.Minute)) {
		break
	}
	is(3)
	cut, cancel := context.WithCancel(ctx)
	defer cancel()
	for range streamKeys.Stream(cut, ks.All(), struct{}{}, Hold(time.Minute)) {
		cancel()
		break
	}
	is(4)
	_, err = NewRangeFunc[struct{}, int]("unknown").Run(ctx, ks.All(), struct{}{}, Hold(time.Minute))
	require.Error(t, err)
	is(5)
}

// What can't be held is not begun.
func TestARunWithoutItsHold(t *testing.T) {
	f, ks, _ := withKeys(t)
	f.noHolds = &api.TimestampUnavailableError{Timestamp: 5, Oldest: 7, Reason: "gone"}
	progress := 0
	_, err := NewRangeFunc[struct{}, int]("count").Run(ctx, ks.All(), struct{}{}, AtTimestamp(5), Hold(time.Minute), OnProgress(func(Progress) { progress++ }))
	var gone *TimestampUnavailableError
	require.True(t, errors.As(err, &gone) && gone.Oldest == 7, "%v", err)
	require.Zero(t, progress)
	_, err = ks.db.Snapshot(ctx, AtTimestamp(5), Hold(time.Minute))
	require.True(t, errors.As(err, &gone) && gone.Oldest == 7, "%v", err)
}

func TestSnapshotsHold(t *testing.T) {
	f, ks, _ := withKeys(t)
	free, err := ks.db.Snapshot(ctx)
	require.NoError(t, err)
	require.NoError(t, free.Close())
	made, _ := f.held()
	require.Zero(t, made)

	s, err := ks.db.Snapshot(ctx, Hold(time.Minute))
	require.NoError(t, err)
	made, left := f.held()
	require.Equal(t, 1, made)
	require.Equal(t, 1, left)
	require.EqualValues(t, s.Timestamp(), f.holds[0].Timestamp)
	require.NoError(t, s.Close())
	_, left = f.held()
	require.Zero(t, left)
}

// A stream whose timestamp is known from the begin goes on elsewhere at it, and by the version that it began with.
func TestAHeldStreamMovesOn(t *testing.T) {
	f, ks, want := withKeys(t)
	var attempts []*locuspb.RunRequest
	f.mu.Lock()
	f.onPage = func(_ *fakeNode, r *locuspb.RunRequest, i int, _ *locuspb.RunResponse) error {
		if i == 0 {
			attempts = append(attempts, r)
		}
		if i == 3 {
			return status.Error(codes.Unavailable, "the gateway is gone")
		}
		return nil
	}
	f.mu.Unlock()
	require.Equal(t, want, collect(t, ks, KeyOrder(), Hold(time.Minute)))
	require.Greater(t, len(attempts), 3)
	require.Zero(t, attempts[0].Version)
	for _, a := range attempts[1:] {
		require.Equal(t, f.holds[0].Timestamp, a.Timestamp)
		require.Equal(t, uint32(3), a.Version)
	}
	made, left := f.held()
	require.Equal(t, 1, made)
	require.Zero(t, left)
}
