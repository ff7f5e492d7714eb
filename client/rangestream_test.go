package client

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/keys"
)

var streamKeys = NewRangeFunc[struct{}, string]("keys")

// withKeys is a fake with the keys k00 to k39.
func withKeys(t *testing.T) (f *fake, ks *Keyspace, want []string) {
	f = newFake(t, 3)
	ks = f.open().Keyspace("default")
	for i := range 40 {
		want = append(want, fmt.Sprintf("k%02d", i))
		_, err := ks.Put(ctx, []byte(want[i]), nil)
		require.NoError(t, err)
	}
	return f, ks, want
}

func collect(t *testing.T, ks *Keyspace, opts ...RunOption) (got []string) {
	t.Helper()
	for key, err := range streamKeys.Stream(ctx, ks.All(), struct{}{}, opts...) {
		require.NoError(t, err)
		got = append(got, key)
	}
	return got
}

func TestStream(t *testing.T) {
	_, ks, want := withKeys(t)
	at := ks.db.Token()
	_, err := ks.Put(ctx, []byte("later"), nil)
	require.NoError(t, err)

	var seen int
	got := collect(t, ks, AtTimestamp(Timestamp(at)), OnProgress(func(Progress) { seen++ }))
	require.NotEqual(t, want, got, "the fake mixes its pages")
	require.ElementsMatch(t, want, got)
	require.Equal(t, 20, seen)
	require.Equal(t, append(want, "later"), collect(t, ks, KeyOrder()))

	got = nil
	for key, err := range streamKeys.Stream(ctx, ks.Prefix([]byte("k1")), struct{}{}, KeyOrder()) {
		require.NoError(t, err)
		if got = append(got, key); len(got) == 3 {
			break
		}
	}
	require.Equal(t, want[10:13], got)
}

// TestStreamMovesOn: whenever a gateway fails, another takes over what is left, at the same timestamp and by
// the same version; nothing is yielded twice, and nothing is missing.
func TestStreamMovesOn(t *testing.T) {
	for _, opts := range [][]RunOption{nil, {KeyOrder()}} {
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
		got := collect(t, ks, opts...)
		if opts == nil {
			slices.Sort(got)
		}
		require.Equal(t, want, got)
		require.Greater(t, len(attempts), 3)
		require.Zero(t, attempts[0].Timestamp)
		require.Empty(t, attempts[0].Continuation)
		for _, a := range attempts[1:] {
			require.NotZero(t, a.Timestamp)
			require.Equal(t, attempts[1].Timestamp, a.Timestamp)
			require.Equal(t, uint32(3), a.Version)
			require.NotEmpty(t, a.Continuation)
		}
	}
}

func TestErrorsOfStreams(t *testing.T) {
	f, ks, _ := withKeys(t)
	run := func(f RangeFunc[struct{}, string]) (n int, last error) {
		for _, err := range f.Stream(ctx, ks.All(), struct{}{}, KeyOrder()) {
			require.NoError(t, last, "something followed an error")
			if last = err; err == nil {
				n++
			}
		}
		return n, last
	}
	onPage := func(change func(i int, page *locuspb.RunResponse) error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.onPage = func(_ *fakeNode, _ *locuspb.RunRequest, i int, p *locuspb.RunResponse) error { return change(i, p) }
	}
	var missing *FunctionNotFoundError
	_, err := run(NewRangeFunc[struct{}, string]("none"))
	require.ErrorAs(t, err, &missing)
	var invalid *InvalidArgumentError
	_, err = run(NewRangeFunc[struct{}, string](""))
	require.ErrorAs(t, err, &invalid)
	for _, err := range streamKeys.Stream(ctx, Span{}, struct{}{}) {
		require.ErrorAs(t, err, &invalid)
	}

	// The function's own error, after some outputs.
	onPage(func(i int, p *locuspb.RunResponse) error {
		if i == 2 {
			p.Error = api.ToProto(&api.FunctionError{Function: "keys", Code: 7, Message: "no"})
		}
		return nil
	})
	n, err := run(streamKeys)
	var own *FunctionError
	require.ErrorAs(t, err, &own)
	require.Equal(t, 4, n)

	// An output that can't be read.
	onPage(func(i int, p *locuspb.RunResponse) error {
		if i == 1 {
			p.Outputs[1] = []byte("{")
		}
		return nil
	})
	n, err = run(streamKeys)
	var unreadable *ResultError
	require.ErrorAs(t, err, &unreadable)
	require.Equal(t, 3, n)

	// A node that says something twice, or of nothing, or leaves something out, is caught.
	for name, change := range map[string]func(i int, p *locuspb.RunResponse) error{
		"twice": func(i int, p *locuspb.RunResponse) error {
			if i == 1 {
				p.Covered = &locuspb.Span{Start: keys.KeyspaceSpan(1).Start, End: p.Covered.End}
			}
			return nil
		},
		"of nothing": func(i int, p *locuspb.RunResponse) error {
			if i == 1 {
				p.Covered = nil
			}
			return nil
		},
		"left out": func(i int, p *locuspb.RunResponse) error {
			if i == 1 {
				p.Outputs, p.Covered = nil, nil
			}
			return nil
		},
	} {
		onPage(change)
		var internal *InternalError
		_, err = run(streamKeys)
		require.ErrorAs(t, err, &internal, name)
	}
}

// TestLeavingAStream: the node sees its call end when the loop is left, and when the context ends.
func TestLeavingAStream(t *testing.T) {
	for _, byContext := range []bool{false, true} {
		f, ks, _ := withKeys(t)
		ended := make(chan error, 1)
		f.mu.Lock()
		f.onPage = func(_ *fakeNode, _ *locuspb.RunRequest, i int, _ *locuspb.RunResponse) error {
			if i < 3 {
				return nil
			}
			return errHang
		}
		f.onEnd = func(err error) { ended <- err }
		f.mu.Unlock()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		got := 0
		var last error
		for _, err := range streamKeys.Stream(ctx, ks.All(), struct{}{}) {
			last = err
			if got++; got == 3 && !byContext {
				break
			} else if got == 3 {
				cancel()
			}
		}
		require.Error(t, <-ended, "the node must not be able to say everything: nobody listens")
		if byContext {
			require.ErrorIs(t, last, context.Canceled)
		} else {
			require.NoError(t, last)
		}
	}
}

func TestWithout(t *testing.T) {
	span := func(start, end string) keys.Span {
		s := keys.Span{Start: []byte(start), End: []byte(end)}
		if end == "" {
			s.End = nil
		}
		return s
	}
	rest := []keys.Span{span("a", "")}
	for _, step := range []struct {
		covered keys.Span
		want    []keys.Span
	}{
		{span("c", "e"), []keys.Span{span("a", "c"), span("e", "")}},
		{span("a", "b"), []keys.Span{span("b", "c"), span("e", "")}},
		{span("m", ""), []keys.Span{span("b", "c"), span("e", "m")}},
		{span("b", "c"), []keys.Span{span("e", "m")}},
	} {
		var err error
		rest, err = without(rest, step.covered)
		require.NoError(t, err)
		require.Equal(t, step.want, rest)
	}
	for _, bad := range []keys.Span{span("a", "b"), span("k", ""), span("f", "f"), span("d", "f")} {
		_, err := without(rest, bad)
		require.Error(t, err)
	}
	rest, err := without(rest, span("e", "m"))
	require.NoError(t, err)
	require.Empty(t, rest)
}
