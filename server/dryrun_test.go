package server

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/udf"
)

// draw writes the random number that it draws, twice, deletes a key and lets another one expire.
var draw = udf.ReadWrite("draw", func(_ context.Context, tx udf.Tx, fill int) (string, error) {
	n := fmt.Sprint(tx.Rand().Uint64())
	key := string(tx.Call().Key)
	if err := tx.Put([]byte(key+"n"), bytes.Repeat([]byte("x"), fill)); err != nil {
		return "", err
	}
	if err := tx.Put([]byte(key+"n"), []byte(n)); err != nil {
		return "", err
	}
	if err := tx.Delete([]byte(key + "a")); err != nil {
		return "", err
	}
	return n, tx.PutTTL([]byte(key+"z"), []byte("z"), time.Hour)
})

// TestDryRun: a dry run is the real call in all but its effects, whichever way it runs and however often.
func TestDryRun(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	db := streamNode(t, draw)
	require.NoError(t, db.CreateKeyspace(ctx, "g", client.KeyspaceOptions{Group: client.GroupRule{Delimiter: '/', Depth: 1}}))
	ks := db.Keyspace("g")
	group := ks.Group([]byte("g/"))
	_, err := ks.Put(ctx, []byte("g/a"), []byte("1"))
	require.NoError(t, err)
	f := client.NewFunc[int, string]("draw")
	for name, opts := range map[string][]client.CallOption{"on the sequencer": nil, "optimistic": {client.Optimistic()}} {
		t.Run(name, func(t *testing.T) {
			id, err := db.NewRequestID(ctx)
			require.NoError(t, err)
			opts := append(opts, client.WithRequestID(id))
			dry := append(opts[:len(opts):len(opts)], client.DryRun())
			before := contents(t, ks)
			first, err := f.Do(ctx, group, 3, dry...)
			require.NoError(t, err)
			require.Equal(t, []client.Write{
				{Key: []byte("g/a"), Delete: true}, {Key: []byte("g/n"), Value: []byte(first.Value)}, {Key: []byte("g/z"), Value: []byte("z"), TTL: time.Hour},
			}, first.Writes)
			require.Equal(t, before, contents(t, ks), "nothing was written")
			again, err := f.Do(ctx, group, 3, dry...)
			require.NoError(t, err)
			require.Equal(t, first.Value, again.Value, "the call's id gives its random numbers")

			real, err := f.Do(ctx, group, 3, opts...)
			require.NoError(t, err)
			require.Equal(t, first.Value, real.Value)
			require.Empty(t, real.Writes)
			require.Equal(t, map[string]string{"g/n": first.Value, "g/z": "z"}, contents(t, ks), "the dry runs did not stand for the real call")
			retried, err := f.Do(ctx, group, 3, opts...)
			require.NoError(t, err)
			require.Equal(t, real, retried)
			after, err := f.Do(ctx, group, 3, dry...)
			require.NoError(t, err)
			require.Len(t, after.Writes, 3, "a dry run after the real call says what it would do now")
			other, err := f.Do(ctx, group, 3, client.DryRun())
			require.NoError(t, err)
			require.NotEqual(t, first.Value, other.Value)
			_, err = ks.Put(ctx, []byte("g/a"), []byte("1"))
			require.NoError(t, err)
		})
	}
	var limit *client.LimitError
	_, err = f.Do(ctx, group, 1<<20, client.DryRun())
	require.ErrorAs(t, err, &limit, "the real call's limits hold")
}

func contents(t *testing.T, ks *client.Keyspace) map[string]string {
	out := map[string]string{}
	for item, err := range ks.Scan(context.Background(), ks.All()) {
		require.NoError(t, err)
		out[string(item.Key)] = string(item.Value)
	}
	return out
}

// TestRetriedDryRun: a dry run that is sent again leaves nothing under its number, under which the real call comes later.
func TestRetriedDryRun(t *testing.T) {
	t.Parallel()
	n := startNode(t, testOptions(t, t.TempDir()))
	c := newTestClient(t, one(n))
	p := c.sess.begin()
	defer c.sess.end(p)
	p.Retry = true
	key := defaultLayout.Encode([]byte("n"))
	call := func(dry bool) string {
		resp, err := c.do(key, &locuspb.Request{Session: p, Op: &locuspb.Request_Call{Call: &locuspb.CallRequest{
			Function: "count", Key: key, Argument: []byte("1"), Codec: locuspb.Codec_JSON, DryRun: dry,
		}}})
		require.NoError(t, err)
		return string(resp.GetCall().GetResult())
	}
	require.Equal(t, "1", call(true))
	require.Equal(t, "1", call(false))
	v, found, err := c.get(defaultLayout, "n")
	require.NoError(t, err)
	require.True(t, found, "the real call was taken for the dry run")
	require.Equal(t, "1", v)
	require.Equal(t, "1", call(false), "and it takes effect once")
	require.Equal(t, "2", call(true))
}

// TestCodecs: all codecs cross, for calls that touch nothing, read, and write.
func TestCodecs(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	type point struct{ X, Y int }
	db := streamNode(t,
		udf.Pure("swap", func(_ context.Context, p point) (point, error) { return point{p.Y, p.X}, nil }),
		udf.ReadOnly("peek", func(_ context.Context, r udf.Reader, suffix []byte) ([]byte, error) {
			v, _, err := r.Get(r.Call().Key)
			return append(v, suffix...), err
		}, udf.Raw()),
		udf.ReadWrite("poke", func(_ context.Context, tx udf.Tx, v *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
			return wrapperspb.String("was told " + v.Value), tx.Put(tx.Call().Key, []byte(v.Value))
		}, udf.Proto()),
	)
	key := db.Keyspace("default").Key([]byte("k"))
	poke := client.NewFunc[*wrapperspb.StringValue, *wrapperspb.StringValue]("poke", client.Proto)
	said, err := poke.Call(ctx, key, wrapperspb.String("hello"))
	require.NoError(t, err)
	require.Equal(t, "was told hello", said.Value)
	peeked, err := client.NewFunc[[]byte, []byte]("peek", client.Raw).Call(ctx, key, []byte{0, 255})
	require.NoError(t, err)
	require.Equal(t, []byte("hello\x00\xff"), peeked)
	swapped, err := client.NewFunc[point, point]("swap").Call(ctx, db, point{1, 2})
	require.NoError(t, err)
	require.Equal(t, point{2, 1}, swapped)

	var invalid *api.InvalidArgumentError
	_, err = client.NewFunc[string, string]("poke").Call(ctx, key, "hello")
	require.ErrorAs(t, err, &invalid)
	require.ErrorContains(t, err, "codec")
	_, err = client.NewFunc[point, point]("swap").Call(ctx, key, point{1, 2})
	require.NoError(t, err, "a function that touches nothing may be called on a key")
	_, err = client.NewFunc[[]byte, []byte]("peek", client.Raw).Call(ctx, db, nil)
	require.ErrorAs(t, err, &invalid, "one that reads needs a key")
}
