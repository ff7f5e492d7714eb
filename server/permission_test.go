package server

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/udf"
)

// TestPermissionsReachClients: a denial of a call, of a run and of a stream is the same error at the client, with the
// keys as the client knows them, and nothing is retried. Invariant: I13.
func TestPermissionsReachClients(t *testing.T) {
	t.Parallel()
	db := streamNode(t,
		udf.ReadWrite("move", func(_ context.Context, tx udf.Tx, to string) (bool, error) {
			v, found, err := tx.Get(tx.Call().Key)
			if err != nil || !found {
				return found, err
			}
			return true, tx.Put([]byte(to), v)
		}, udf.Reads("a/"), udf.Writes("a/out/")),
		udf.Range("count", udf.Aggregate[any, int, int]{
			Init:   func(any) (int, error) { return 0, nil },
			Add:    func(_ context.Context, n int, b udf.Batch) (int, error) { return n + b.Len(), nil },
			Merge:  func(a, b int) (int, error) { return a + b, nil },
			Result: func(n int) (int, error) { return n, nil },
		}, udf.Reads("a/")),
		udf.Map("list", func(_ context.Context, _ any, b udf.Batch, emit func(string) error) error {
			for key := range b.All() {
				if err := emit(string(key)); err != nil {
					return err
				}
			}
			return nil
		}, udf.Reads("a/")),
	)
	ctx := context.Background()
	for name, o := range map[string]client.KeyspaceOptions{
		"ranges": {Group: client.GroupRule{Delimiter: '/', Depth: 1}}, "buckets": {Partition: client.PartitionHash, Group: client.GroupRule{Delimiter: '/', Depth: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, db.CreateKeyspace(ctx, name, o))
			ks := db.Keyspace(name)
			for _, key := range []string{"a/1", "a/2", "b/1"} {
				_, err := ks.Put(ctx, []byte(key), []byte("v"))
				require.NoError(t, err)
			}
			denied := func(function, action, key, prefix string) error {
				return &client.PermissionError{Function: function, Action: action, Key: []byte(key), Prefixes: [][]byte{[]byte(prefix)}}
			}
			move := client.NewFunc[string, bool]("move")
			_, err := move.Call(ctx, ks.Key([]byte("a/1")), "a/out/1")
			require.NoError(t, err)
			_, err = move.Call(ctx, ks.Key([]byte("a/1")), "a/2")
			require.Equal(t, denied("move", "write", "a/2", "a/out/"), err)
			_, err = move.Call(ctx, ks.Key([]byte("b/1")), "b/2")
			require.Equal(t, denied("move", "read", "b/1", "a/"), err)
			require.ErrorIs(t, err, client.ErrPermission)

			_, err = client.NewRangeFunc[any, int]("count").Run(ctx, ks.All(), nil)
			require.Equal(t, denied("count", "read", "b/1", "a/"), err)
			var last error
			for _, err := range client.NewRangeFunc[any, string]("list").Stream(ctx, ks.All(), nil) {
				last = err
			}
			require.Equal(t, denied("list", "read", "b/1", "a/"), last)
			n, err := client.NewRangeFunc[any, int]("count").Run(ctx, ks.Prefix([]byte("a/")), nil)
			require.NoError(t, err)
			require.Equal(t, 3, n)
		})
	}
}
