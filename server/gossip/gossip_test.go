package gossip

import (
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/ids"
)

func start(t *testing.T, o Options) *Gossip {
	t.Helper()
	o.Listen, o.Fast, o.Logger = "127.0.0.1:0", true, slog.New(slog.DiscardHandler)
	if o.ClusterID == "" {
		o.ClusterID = "5f0c1a52-7c3f-4e0e-a4a0-0d2d0f3a9d11"
	}
	if o.NodeID == "" {
		o.NodeID = uuid.NewString()
	}
	o.Address, o.HTTPAddress, o.Version = "127.0.0.1:65535", "127.0.0.1:65534", "v1.2.3"
	g, err := Start(o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = g.Stop() })
	return g
}

func waitFor(t *testing.T, f func() bool) {
	t.Helper()
	require.Eventually(t, f, time.Minute, 5*time.Millisecond)
}

func alive(g *Gossip) int {
	n := 0
	for _, m := range g.Members() {
		if m.Alive {
			n++
		}
	}
	return n
}

func TestMembership(t *testing.T) {
	var mu sync.Mutex
	changes := 0
	a := start(t, Options{Store: 1, Changed: func([]Member) { mu.Lock(); changes++; mu.Unlock() }})
	b := start(t, Options{Store: 2})
	n, err := b.Join([]string{a.Address()})
	require.NoError(t, err)
	require.Equal(t, 1, n)
	waitFor(t, func() bool { return alive(a) == 2 && alive(b) == 2 })
	want := Member{
		NodeID: b.o.NodeID, Store: 2, Address: "127.0.0.1:65535", HTTPAddress: "127.0.0.1:65534",
		GossipAddress: b.Address(), Version: "v1.2.3", Alive: true,
	}
	waitFor(t, func() bool { return slices.Contains(a.Members(), want) })
	mu.Lock()
	require.NotZero(t, changes)
	mu.Unlock()

	// The driver's place travels; the highest term is believed.
	_, ok := a.Driver()
	require.False(t, ok)
	require.NoError(t, b.SetDriver(4))
	waitFor(t, func() bool { m, ok := a.Driver(); return ok && m.Store == 2 && m.DriverTerm == 4 })
	require.NoError(t, a.SetDriver(5))
	waitFor(t, func() bool { m, ok := b.Driver(); return ok && m.Store == 1 })
	require.NoError(t, a.SetDriver(0))
	waitFor(t, func() bool { m, ok := b.Driver(); return ok && m.Store == 2 })

	// One that leaves, and one that dies.
	require.NoError(t, b.Stop())
	waitFor(t, func() bool { return alive(a) == 1 })
	_, ok = a.Driver()
	require.False(t, ok, "who left runs no driver")
}

// A node that died comes back under its name at another address.
func TestNameComesBackElsewhere(t *testing.T) {
	a := start(t, Options{Store: 1})
	name := uuid.NewString()
	b := start(t, Options{Store: 2, NodeID: name})
	_, err := b.Join([]string{a.Address()})
	require.NoError(t, err)
	waitFor(t, func() bool { return alive(a) == 2 })
	old := b.Address()
	require.NoError(t, b.Stop())
	waitFor(t, func() bool { return alive(a) == 1 })
	again := start(t, Options{Store: 2, NodeID: name})
	require.NotEqual(t, old, again.Address())
	_, err = again.Join([]string{a.Address()})
	require.NoError(t, err)
	waitFor(t, func() bool { return alive(a) == 2 })
}

func TestOtherClustersAreRefused(t *testing.T) {
	a := start(t, Options{Store: 1})
	b := start(t, Options{Store: 1, ClusterID: uuid.NewString()})
	_, err := b.Join([]string{a.Address()})
	require.Error(t, err)
	require.Len(t, a.Members(), 1)
	require.Len(t, b.Members(), 1)
}

func TestSecretKey(t *testing.T) {
	key := make([]byte, 32)
	a := start(t, Options{Store: 1, SecretKey: key})
	b := start(t, Options{Store: 2})
	_, err := b.Join([]string{a.Address()})
	require.Error(t, err, "without the key")
	c := start(t, Options{Store: 3, SecretKey: key})
	_, err = c.Join([]string{a.Address()})
	require.NoError(t, err)
	waitFor(t, func() bool { return alive(a) == 2 })
}

func TestTagsFit(t *testing.T) {
	g := start(t, Options{Store: ids.StoreID(1<<63 - 1)})
	total := 0
	for k, v := range g.tags(1<<63 - 1) {
		total += len(k) + len(v) + 4
	}
	require.Less(t, total, 400, "serf refuses more than 512 bytes, and addresses may be names")
}

func TestUnusableAddress(t *testing.T) {
	_, err := Start(Options{NodeID: "n", Listen: "nowhere", Logger: slog.New(slog.DiscardHandler)})
	require.Error(t, err)
}
