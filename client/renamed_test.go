package client

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// keyOf is a key that a request is about.
func keyOf(r *locuspb.Request) []byte {
	switch x := r.Op.(type) {
	case *locuspb.Request_Get:
		return x.Get.Key
	case *locuspb.Request_Scan:
		return x.Scan.Span.GetStart()
	case *locuspb.Request_Write:
		return x.Write.Mutations[0].Key
	case *locuspb.Request_Call:
		return x.Call.Key
	}
	return nil
}

// refuseDropped makes the nodes refuse what they know to be dropped, and counts how often they do. The first
// lose requests get no answer.
func (f *fake) refuseDropped(lose int) *int {
	refused := new(int)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.intercept = func(_ ids.StoreID, r *locuspb.Request) (*locuspb.Response, bool) {
		id, ok := keys.KeyspaceOf(keyOf(r))
		if !ok || !f.keyspaces[id].Dropped {
			return nil, true
		}
		if lose > 0 {
			lose--
			return nil, false
		}
		*refused++
		return refuse(&api.KeyspaceNotFoundError{Name: "#" + strconv.Itoa(int(id))}), true
	}
	return refused
}

// TestNameMovesOn: another client drops a keyspace, and makes one of the same name. Each operation that the
// nodes refuse under the old id is done under the new one.
func TestNameMovesOn(t *testing.T) {
	key, value := []byte("u1/a"), []byte("v")
	add := NewFunc[int, int]("add")
	for name, operation := range map[string]func(ks *Keyspace) error{
		"get": func(ks *Keyspace) error {
			if _, err := ks.Get(ctx, key); err != ErrNotFound {
				return err
			}
			return nil
		},
		"put": func(ks *Keyspace) error {
			if _, err := ks.Put(ctx, key, value, IfAbsent()); err != nil {
				return err
			}
			item, err := ks.Get(ctx, key)
			require.Equal(t, value, item.Value)
			return err
		},
		"delete": func(ks *Keyspace) error { _, err := ks.Delete(ctx, key); return err },
		"apply": func(ks *Keyspace) error {
			var b Batch
			b.Put(key, value, IfAbsent())
			b.Put([]byte("u1/b"), value)
			_, err := ks.Apply(ctx, ks.Group([]byte("u1/")), &b)
			return err
		},
		"call": func(ks *Keyspace) error { _, err := add.Call(ctx, ks.Key(key), 3); return err },
		"scan": func(ks *Keyspace) error {
			for item, err := range ks.Scan(ctx, ks.All()) {
				if err != nil {
					return err
				}
				require.NotEqual(t, []byte("old"), item.Key)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, 3)
			db, other := f.open(), f.open()
			o := KeyspaceOptions{Group: GroupRule{Delimiter: '/', Depth: 1}}
			require.NoError(t, other.CreateKeyspace(ctx, "a", o))
			ks := db.Keyspace("a")
			_, err := ks.Put(ctx, []byte("old"), nil)
			require.NoError(t, err)
			refused := f.refuseDropped(0)
			require.NoError(t, other.DropKeyspace(ctx, "a"))

			var missing *KeyspaceNotFoundError
			require.ErrorAs(t, operation(ks), &missing)
			require.Equal(t, "a", missing.Name)
			require.Equal(t, 1, *refused)

			old := layoutOf(f.keyspaces[len(f.keyspaces)-1])
			require.NoError(t, other.CreateKeyspace(ctx, "a", o))
			ks.layout.Store(old)
			require.NoError(t, operation(ks))
			require.Equal(t, 2, *refused)
		})
	}
}

// TestRefusedOnceMore: a name that still stands for what the nodes refuse is not tried for ever.
func TestRefusedOnceMore(t *testing.T) {
	f := newFake(t, 1)
	ks := f.open().Keyspace("default")
	_, err := ks.Put(ctx, []byte("a"), nil)
	require.NoError(t, err)
	asked := 0
	f.mu.Lock()
	f.intercept = func(ids.StoreID, *locuspb.Request) (*locuspb.Response, bool) {
		asked++
		return refuse(&api.KeyspaceNotFoundError{Name: "#1"}), true
	}
	f.mu.Unlock()
	var missing *KeyspaceNotFoundError
	_, err = ks.Get(ctx, []byte("a"))
	require.ErrorAs(t, err, &missing)
	require.Equal(t, 2, asked)
}

// TestAmbiguousIsNotMovedOn: a write whose first attempt got no answer may have been applied to the old
// keyspace before it was dropped; it is not done in the new one too.
func TestAmbiguousIsNotMovedOn(t *testing.T) {
	f := newFake(t, 1)
	db, other := f.open(func(o *Options) { o.Retry.Attempt = 50 * time.Millisecond }), f.open()
	require.NoError(t, other.CreateKeyspace(ctx, "a", KeyspaceOptions{}))
	ks := db.Keyspace("a")
	_, err := ks.Put(ctx, []byte("old"), nil)
	require.NoError(t, err)
	f.refuseDropped(1)
	require.NoError(t, other.DropKeyspace(ctx, "a"))
	require.NoError(t, other.CreateKeyspace(ctx, "a", KeyspaceOptions{}))
	_, err = ks.Put(ctx, []byte("k"), []byte("v"))
	var ambiguous *AmbiguousError
	require.ErrorAs(t, err, &ambiguous)
	_, err = ks.Get(ctx, []byte("k"))
	require.ErrorIs(t, err, ErrNotFound)
}

// TestBulkWriterKeepsToItsKeyspace: it begins in the keyspace that has the name, and does not move on.
func TestBulkWriterKeepsToItsKeyspace(t *testing.T) {
	f := newFake(t, 1)
	db, other := f.open(), f.open()
	require.NoError(t, other.CreateKeyspace(ctx, "a", KeyspaceOptions{}))
	ks := db.Keyspace("a")
	_, err := ks.Put(ctx, []byte("old"), nil)
	require.NoError(t, err)
	replace := func() {
		require.NoError(t, other.DropKeyspace(ctx, "a"))
		require.NoError(t, other.CreateKeyspace(ctx, "a", KeyspaceOptions{}))
	}
	f.refuseDropped(0)
	replace()
	w := ks.BulkWriter(ctx, BulkOptions{})
	require.NoError(t, w.Put([]byte("k"), []byte("v")))
	require.NoError(t, w.Flush())
	replace()
	var missing *KeyspaceNotFoundError
	require.NoError(t, w.Put([]byte("l"), []byte("v")))
	require.ErrorAs(t, w.Close(), &missing)
	_, err = ks.Get(ctx, []byte("l"))
	require.ErrorIs(t, err, ErrNotFound)
}
