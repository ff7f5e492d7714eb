package udf_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/udf"
	"github.com/locuskv/locus/udf/internal/memstore"
)

// TestNativeCapabilities: native functions are held to their options, whatever they make of the errors.
func TestNativeCapabilities(t *testing.T) {
	deeds := map[string]func(tx udf.Tx, key []byte) error{
		"get":  func(tx udf.Tx, key []byte) error { _, _, err := tx.Get(key); return err },
		"many": func(tx udf.Tx, key []byte) error { _, err := tx.GetMany([][]byte{[]byte("in/a"), key}); return err },
		"scan": func(tx udf.Tx, key []byte) error {
			for _, err := range tx.Scan(udf.PrefixSpan(key)) {
				if err != nil {
					return err
				}
			}
			return nil
		},
		"put":    func(tx udf.Tx, key []byte) error { return tx.Put(key, []byte("new")) },
		"delete": func(tx udf.Tx, key []byte) error { return tx.Delete(key) },
	}
	f := runnable(t, udf.ReadWrite("f", func(_ context.Context, tx udf.Tx, what string) (bool, error) {
		deed, key, _ := strings.Cut(what, " ")
		return deeds[deed](tx, []byte(key)) != nil, nil
	}, udf.Reads("in/"), udf.Writes("out/", "log/")))
	records := map[string]string{"in/a": "1", "out/a": "2", "other": "3"}
	for what, want := range map[string]*api.PermissionError{
		"get in/a": nil, "get in/b": nil, "many in/a": nil, "scan in/": nil, "scan in/a": nil, "put out/a": nil, "put log/": nil, "delete out/a": nil,
		"get out/a":                       {Action: "read", Key: []byte("out/a")},
		"get in":                          {Action: "read", Key: []byte("in")},
		"many other":                      {Action: "read", Key: []byte("other")},
		"scan in":                         {Action: "read", Key: []byte("in")},
		"scan ":                           {Action: "read", Key: []byte{}},
		"put in/a":                        {Action: "write", Key: []byte("in/a")},
		"delete other":                    {Action: "write", Key: []byte("other")},
		"put " + strings.Repeat("k", 100): {Action: "write", Key: []byte(strings.Repeat("k", 64))},
	} {
		s := memstore.New(records)
		_, err := f.CallWrite(ctx, s, udf.Info{Key: []byte("in/a")}, udf.CodecJSON, []byte(`"`+what+`"`))
		if want == nil {
			require.NoError(t, err, what)
			continue
		}
		want.Function, want.Prefixes = "f", [][]byte{[]byte("in/")}
		if want.Action == "write" {
			want.Prefixes = [][]byte{[]byte("out/"), []byte("log/")}
		}
		require.Equal(t, want, err, what)
		require.ErrorIs(t, err, api.ErrPermission)
		require.Equal(t, records, s.Data, what)
	}
}

func TestNativeRangeCapabilities(t *testing.T) {
	seen := 0
	count := udf.Aggregate[any, int, int]{
		Init: func(any) (int, error) { return 0, nil },
		Add: func(_ context.Context, n int, b udf.Batch) (int, error) {
			seen += b.Len()
			return n + b.Len(), nil
		},
		Merge:  func(a, b int) (int, error) { return a + b, nil },
		Result: func(n int) (int, error) { return n, nil },
	}
	f := runnable(t, udf.Range("f", count, udf.Reads("a/", "b/")))
	m := runnable(t, udf.Map("m", func(_ context.Context, _ any, b udf.Batch, emit func(int) error) error {
		seen += b.Len()
		return emit(b.Len())
	}, udf.Reads("a/", "b/")))
	good := memstore.New(map[string]string{"a/1": "", "b/1": ""}).Batches(udf.Span{})[0]
	bad := memstore.New(map[string]string{"a/1": "", "ab": "", "b/1": ""}).Batches(udf.Span{})[0]

	acc, err := f.NewAccumulator(ctx, udf.CodecJSON, nil)
	require.NoError(t, err)
	require.NoError(t, acc.Add(ctx, good))
	page, err := m.NewMapping(ctx, udf.CodecJSON, nil)
	require.NoError(t, err)
	_, err = page.Map(ctx, good)
	require.NoError(t, err)
	require.Equal(t, 4, seen)

	denied := api.PermissionError{Function: "f", Action: "read", Key: []byte("ab"), Prefixes: [][]byte{[]byte("a/"), []byte("b/")}}
	require.Equal(t, &denied, acc.Add(ctx, bad))
	denied.Function = "m"
	_, err = page.Map(ctx, bad)
	require.Equal(t, &denied, err)
	require.Equal(t, 4, seen, "no record of a batch that is refused")
}

func TestNativeLimits(t *testing.T) {
	s := memstore.New(map[string]string{"k": strings.Repeat("v", 99)})
	copyTo := func(o ...udf.Option) error {
		f := runnable(t, udf.ReadWrite("f", func(_ context.Context, tx udf.Tx, key string) (string, error) {
			v, _, _ := tx.Get([]byte("k"))
			return string(v), tx.Put([]byte(key), v)
		}, append(o, udf.Raw())...))
		_, err := f.CallWrite(ctx, s.Clone(), udf.Info{}, udf.CodecRaw, []byte("c"))
		return err
	}
	require.NoError(t, copyTo(udf.MaxReads(100), udf.MaxWrites(100), udf.MaxResult(99), udf.Commutative()))
	require.Equal(t, &api.LimitError{What: `bytes read by function "f"`, Limit: 99, Got: 100}, copyTo(udf.MaxReads(99)))
	require.Equal(t, &api.LimitError{What: `bytes written by function "f"`, Limit: 99, Got: 100}, copyTo(udf.MaxWrites(99)))
	require.Equal(t, &api.LimitError{What: `result of function "f"`, Limit: 98, Got: 99}, copyTo(udf.MaxResult(98)))

	long := udf.Aggregate[string, string, string]{
		Init:   func(string) (string, error) { return "", nil },
		Add:    func(_ context.Context, _ string, _ udf.Batch) (string, error) { return "12345678", nil },
		Merge:  func(a, b string) (string, error) { return a + b, nil },
		Result: func(a string) (string, error) { return a + a, nil },
	}
	f := runnable(t, udf.Range("f", long, udf.Raw(), udf.MaxResult(15)))
	acc, err := f.NewAccumulator(ctx, udf.CodecRaw, nil)
	require.NoError(t, err)
	require.NoError(t, acc.Add(ctx, s.Batches(udf.Span{})[0]))
	b, err := acc.Encode(ctx)
	require.NoError(t, err)
	_, err = f.Result(ctx, udf.CodecRaw, nil, [][]byte{b})
	require.Equal(t, &api.LimitError{What: `result of function "f"`, Limit: 15, Got: 16}, err)
	_, err = f.Merge(ctx, udf.CodecRaw, nil, [][]byte{b, b})
	require.Equal(t, &api.LimitError{What: `accumulator of function "f"`, Limit: 15, Got: 16}, err)
}

// TestNativeOutputLimit: a map function's limit is of each output, and what it makes of the error does not matter.
func TestNativeOutputLimit(t *testing.T) {
	f := runnable(t, udf.Map("f", func(_ context.Context, longest string, _ udf.Batch, emit func(string) error) error {
		for _, output := range []string{"123", "456", longest} {
			_ = emit(output)
		}
		return nil
	}, udf.Raw(), udf.MaxResult(3)))
	run := func(longest string) ([][]byte, error) {
		m, err := f.NewMapping(ctx, udf.CodecRaw, []byte(longest))
		require.NoError(t, err)
		return m.Map(ctx, memstore.New(map[string]string{"k": "v"}).Batches(udf.Span{})[0])
	}
	list, err := run("789")
	require.NoError(t, err)
	require.Len(t, list, 3, "nine bytes of one batch")
	_, err = run("7890")
	require.Equal(t, &api.LimitError{What: `output of function "f"`, Limit: 3, Got: 4}, err)
}

func TestOptionsOfAKind(t *testing.T) {
	pure := func(_ context.Context, x int) (int, error) { return x, nil }
	for want, f := range map[string]udf.Function{
		`udf: function "f": f is pure, and functions of this kind have no reads of their own`: udf.Pure("f", pure, udf.Reads("a")),
		`udf: function "f": f is pure; only a read-write function can be commutative`:         udf.Pure("f", pure, udf.Commutative()),
		`udf: function "f": a prefix of reads is empty; without a line, all keys are allowed`: udf.ReadOnly("f",
			func(_ context.Context, _ udf.Reader, x int) (int, error) { return x, nil }, udf.Reads("")),
	} {
		_, err := udf.NewRegistry(f)
		require.EqualError(t, err, want)
	}
}
