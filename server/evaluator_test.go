package server

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/packed"
	"github.com/locuskv/locus/udf"
)

// memTx is a range's transaction over a map of global keys.
type memTx struct {
	data map[string]string
	ttls map[string]int64
}

func (t *memTx) Get(key []byte) ([]byte, bool, error) {
	v, ok := t.data[string(key)]
	return []byte(v), ok, nil
}

func (t *memTx) Scan(span keys.Span, strip int, f func([]byte) bool) error {
	var names []string
	for k := range t.data {
		if span.Contains([]byte(k)) {
			names = append(names, k)
		}
	}
	slices.Sort(names)
	var batch []byte
	for _, k := range names {
		batch = packed.Append(batch, []byte(k)[strip:], []byte(t.data[k]), 1, 0)
	}
	if len(batch) > 0 {
		f(batch)
	}
	return nil
}

func (t *memTx) Put(key, value []byte, ttl int64) error {
	t.data[string(key)] = string(value)
	if t.ttls == nil {
		t.ttls = map[string]int64{}
	}
	t.ttls[string(key)] = ttl
	return nil
}

func (t *memTx) Delete(key []byte) error  { delete(t.data, string(key)); return nil }
func (t *memTx) Timestamp() hlc.Timestamp { return 99 }
func (t *memTx) CallID() [24]byte         { return [24]byte{1, 2, 3} }
func (t *memTx) Range() ids.RangeID       { return 7 }

func TestEvaluate(t *testing.T) {
	d := newTestDispatcher(t, &fakeStore{})
	e := &evaluator{functions: d.functions, cmap: d.cmap, node: "here"}
	tx := &memTx{data: map[string]string{}}
	call := func(function string, key []byte) (string, error) {
		resp, err := e.Evaluate(&locuspb.CallRequest{Function: function, Key: key, Argument: []byte("3"), Codec: locuspb.Codec_JSON}, tx)
		return string(resp.GetResult()), err
	}
	for _, want := range []string{"3", "6"} {
		got, err := call("count", grouped.Encode([]byte("a/n")))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	require.Equal(t, map[string]string{string(grouped.Encode([]byte("a/n"))): "6"}, tx.data)

	_, err := call("stray", grouped.Encode([]byte("a/n")))
	require.ErrorIs(t, err, api.ErrNotOneGroup)
	var notFound *api.FunctionNotFoundError
	_, err = call("nothing", grouped.Encode([]byte("a/n")))
	require.ErrorAs(t, err, &notFound)
	require.Equal(t, "here", notFound.Node)
	var noSpace *api.KeyspaceNotFoundError
	_, err = call("count", []byte("\x00\x00\x00\x09a"))
	require.ErrorAs(t, err, &noSpace)
}

func TestGroupTx(t *testing.T) {
	hashed := keys.Layout{ID: 3, Partition: keys.PartitionHash, Group: keys.GroupRule{Delimiter: '/', Depth: 1}}
	for name, l := range map[string]keys.Layout{"range": grouped, "hash": hashed} {
		t.Run(name, func(t *testing.T) {
			tx := &memTx{data: map[string]string{}}
			put := func(user string) { tx.data[string(l.Encode([]byte(user)))] = user }
			for _, k := range []string{"a/1", "a/2", "a/3", "b/1"} {
				put(k)
			}
			g := &groupTx{tx: tx, layout: l, group: l.GroupSpanOf(l.Encode([]byte("a/1"))), used: &usage{}}
			scan := func(start, end string) string {
				var got [][]byte
				require.NoError(t, g.Scan(udf.Span{Start: []byte(start), End: []byte(end)}, func(b []byte) bool {
					r := packed.NewReader(b)
					for r.Next() {
						got = append(got, bytes.Clone(r.Key()))
					}
					require.NoError(t, r.Err())
					return true
				}))
				return string(bytes.Join(got, []byte(" ")))
			}
			require.Equal(t, "a/1 a/2 a/3", scan("", ""), "everything is the group")
			require.Equal(t, "a/2 a/3", scan("a/2", ""))
			require.Equal(t, "a/1", scan("a/", "a/2"))
			require.Equal(t, "", scan("b/", "c"))

			v, found, err := g.Get([]byte("a/2"))
			require.NoError(t, err)
			require.True(t, found)
			require.Equal(t, "a/2", string(v))
			_, _, err = g.Get([]byte("b/1"))
			require.ErrorIs(t, err, api.ErrNotOneGroup)
			require.ErrorIs(t, g.Delete([]byte("b/1")), api.ErrNotOneGroup)
			require.ErrorIs(t, g.Put([]byte("b/1"), nil, 0), api.ErrNotOneGroup)
			require.ErrorIs(t, g.Put(nil, nil, 0), keys.ErrEmptyKey)
			var limit *keys.LimitError
			require.ErrorAs(t, g.Put([]byte("a/x"), make([]byte, keys.MaxValueLen+1), 0), &limit)
			require.Error(t, g.Put([]byte("a/x"), nil, -time.Second))
			require.NoError(t, g.Put([]byte("a/x"), []byte("v"), time.Nanosecond))
			require.Equal(t, int64(1), tx.ttls[string(l.Encode([]byte("a/x")))], "less than a millisecond is not for ever")
		})
	}
}
