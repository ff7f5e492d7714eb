package client

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDial: every connection is made by Options.Dial, also those to nodes that the client has learned of, and its bytes are counted.
func TestDial(t *testing.T) {
	f := newFake(t, 3)
	var mu sync.Mutex
	var dialled []string
	db := f.open(func(o *Options) {
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			mu.Lock()
			dialled = append(dialled, addr)
			mu.Unlock()
			return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		}
	})
	for _, key := range []string{"a", "b"} {
		_, err := db.Keyspace("default").Put(ctx, []byte(key), []byte("1"))
		require.NoError(t, err)
	}
	mu.Lock()
	defer mu.Unlock()
	require.Contains(t, dialled, f.nodes[0].addr)
	for _, addr := range dialled {
		require.True(t, slices.ContainsFunc(f.nodes, func(n *fakeNode) bool { return n.addr == addr }), addr)
	}
	require.Positive(t, db.Stats().BytesReceived)
}
