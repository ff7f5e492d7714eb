package server

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/client"
)

// TestAddressOfAnotherCluster: a node's address is given to a node of another cluster, whose ranges and keyspaces have the same ids.
// A client of the first cluster neither writes there nor reads.
func TestAddressOfAnotherCluster(t *testing.T) {
	t.Parallel()
	first := startNode(t, testOptions(t, filepath.Join(t.TempDir(), "first")))
	db := openClient(t, []*Node{first})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	mine := db.Keyspace("default")
	_, err := mine.Put(ctx, []byte("k"), []byte("of the first"))
	require.NoError(t, err)

	stopNode(t, first)
	o := testOptions(t, filepath.Join(t.TempDir(), "second"))
	o.Listen = first.Addr()
	second := startNode(t, o)
	there := openClient(t, []*Node{second}).Keyspace("default")
	_, err = there.Put(ctx, []byte("k"), []byte("of the second"))
	require.NoError(t, err)

	soon := func() (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, 2*time.Second) }
	short, stop := soon()
	defer stop()
	_, err = mine.Put(short, []byte("k"), []byte("astray"))
	require.Error(t, err)
	short, stop = soon()
	defer stop()
	item, err := mine.Get(short, []byte("k"))
	require.Error(t, err, "it read %q", item.Value)
	require.NotErrorIs(t, err, client.ErrNotFound)
	short, stop = soon()
	defer stop()
	_, err = db.Status(short)
	require.Error(t, err)

	item, err = there.Get(ctx, []byte("k"))
	require.NoError(t, err)
	require.Equal(t, "of the second", string(item.Value))
}
