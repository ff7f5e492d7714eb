package udf_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/examples/functions"
	"github.com/locuskv/locus/udf"
	"github.com/locuskv/locus/udf/internal/memstore"
)

var ctx = context.Background()

func runnable(t *testing.T, f udf.Function) udf.Runnable {
	t.Helper()
	r, err := udf.NewRegistry(f)
	require.NoError(t, err)
	names := r.Names()
	require.Len(t, names, 1)
	run, ok := r.Lookup(names[0])
	require.True(t, ok)
	return run
}

func TestExampleFunctions(t *testing.T) {
	r, err := udf.NewRegistry(functions.All()...)
	require.NoError(t, err)
	require.Equal(t, []string{"counter", "find", "square"}, r.Names())

	square, ok := r.Lookup("square")
	require.True(t, ok)
	require.Equal(t, udf.KindPure, square.Kind())
	out, err := square.CallPure(ctx, udf.CodecJSON, []byte("5"))
	require.NoError(t, err)
	require.Equal(t, "25", string(out.Result))

	counter, ok := r.Lookup("counter")
	require.True(t, ok)
	s := memstore.New(map[string]string{"k": "40", "bad": "x"})
	info := udf.Info{Key: []byte("k")}
	out, err = counter.CallWrite(ctx, s, info, udf.CodecJSON, []byte("2"))
	require.NoError(t, err)
	require.Equal(t, "42", string(out.Result))
	require.Equal(t, "42", s.Data["k"])

	_, err = counter.CallWrite(ctx, s, udf.Info{Key: []byte("bad")}, udf.CodecJSON, []byte("2"))
	var refused *api.FunctionError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, api.FunctionError{Function: "counter", Code: functions.CodeNotANumber, Message: "the key does not hold a decimal number"}, *refused)

	_, ok = r.Lookup("nothing")
	require.False(t, ok)
	_, ok = (*udf.Registry)(nil).Lookup("square")
	require.False(t, ok)
}

func TestNewRegistryRefuses(t *testing.T) {
	identity := func(_ context.Context, x int) (int, error) { return x, nil }
	for name, c := range map[string]struct {
		functions []udf.Function
		want      string
	}{
		"twice":         {[]udf.Function{udf.Pure("f", identity), udf.Pure("f", identity)}, `two functions are named "f"`},
		"empty name":    {[]udf.Function{udf.Pure("", identity)}, `the function name "" is empty`},
		"bad name":      {[]udf.Function{udf.Pure("a b", identity)}, `the function name "a b" may hold`},
		"leading dash":  {[]udf.Function{udf.Pure("-a", identity)}, `begins with a letter or digit`},
		"long name":     {[]udf.Function{udf.Pure(strings.Repeat("n", 101), identity)}, `longer than 100 bytes`},
		"nil":           {[]udf.Function{nil}, `function 0 of the registry is nil`},
		"raw int":       {[]udf.Function{udf.Pure("f", identity, udf.Raw())}, `argument: codec raw carries []byte, string`},
		"proto int":     {[]udf.Function{udf.Pure("f", identity, udf.Proto())}, `codec proto carries pointers to generated messages, not int`},
		"no aggregate":  {[]udf.Function{udf.Range("f", udf.Aggregate[int, int, int]{})}, `Init, Add, Merge and Result must all be set`},
		"all are named": {[]udf.Function{udf.Pure("", identity), nil}, `function 1 of the registry is nil`},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := udf.NewRegistry(c.functions...)
			require.ErrorContains(t, err, c.want)
			require.Nil(t, r)
		})
	}
}

func TestCodecs(t *testing.T) {
	raw := runnable(t, udf.Pure("f", func(_ context.Context, b []byte) (string, error) { return strings.ToUpper(string(b)), nil }, udf.Raw()))
	out, err := raw.CallPure(ctx, udf.CodecRaw, []byte("abc"))
	require.NoError(t, err)
	require.Equal(t, "ABC", string(out.Result))

	proto := runnable(t, udf.Pure("f", func(_ context.Context, m *wrapperspb.Int64Value) (*wrapperspb.StringValue, error) {
		return wrapperspb.String(fmt.Sprint(m.GetValue())), nil
	}, udf.Proto()))
	out, err = proto.CallPure(ctx, udf.CodecProto, []byte{8, 42})
	require.NoError(t, err)
	require.Equal(t, "\n\x0242", string(out.Result))

	binary := runnable(t, udf.Pure("f", func(_ context.Context, t time.Time) (time.Time, error) { return t.Add(time.Hour), nil }, udf.Raw()))
	at := time.Unix(1000, 0).UTC()
	in, _ := at.MarshalBinary()
	out, err = binary.CallPure(ctx, udf.CodecRaw, in)
	require.NoError(t, err)
	want, _ := at.Add(time.Hour).MarshalBinary()
	require.Equal(t, want, out.Result)

	// A function without an argument can be called with no bytes at all.
	none := runnable(t, udf.Pure("f", func(context.Context, struct{}) (int, error) { return 1, nil }))
	out, err = none.CallPure(ctx, udf.CodecJSON, nil)
	require.NoError(t, err)
	require.Equal(t, "1", string(out.Result))
}

func TestCallErrors(t *testing.T) {
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	f := runnable(t, udf.Pure("f", func(ctx context.Context, what string) (int, error) {
		switch what {
		case "code":
			return 0, fmt.Errorf("wrapped: %w", udf.Error(9, "nine"))
		case "plain":
			return 0, errors.New("plain words")
		case "panic":
			panic("at the disco")
		case "nil":
			var p *int
			return *p, nil
		case "context":
			return 0, ctx.Err()
		}
		return 0, nil
	}))
	for _, c := range []struct {
		arg  string
		want api.FunctionError
	}{
		{`"code"`, api.FunctionError{Function: "f", Code: 9, Message: "nine"}},
		{`"plain"`, api.FunctionError{Function: "f", Code: udf.CodeUnnamed, Message: "plain words"}},
		{`"panic"`, api.FunctionError{Function: "f", Code: udf.CodeCrashed, Message: "panic: at the disco"}},
		{`"nil"`, api.FunctionError{Function: "f", Code: udf.CodeCrashed, Message: "panic: runtime error: invalid memory address or nil pointer dereference"}},
	} {
		_, err := f.CallPure(ctx, udf.CodecJSON, []byte(c.arg))
		var got *api.FunctionError
		require.ErrorAs(t, err, &got, c.arg)
		require.Equal(t, c.want, *got)
	}
	_, err := f.CallPure(cancelled, udf.CodecJSON, []byte(`"context"`))
	require.ErrorIs(t, err, context.Canceled)

	var bad *api.InvalidArgumentError
	_, err = f.CallPure(ctx, udf.CodecJSON, []byte(`{`))
	require.ErrorAs(t, err, &bad)
	require.ErrorContains(t, err, `function "f" takes a json argument of type string`)
	_, err = f.CallPure(ctx, udf.CodecRaw, []byte(`x`))
	require.ErrorAs(t, err, &bad)
	require.ErrorContains(t, err, `function "f" takes codec json, not raw`)
	_, err = f.NewAccumulator(ctx, udf.CodecJSON, nil)
	require.ErrorContains(t, err, `function "f" is pure and can't be run as range`)
}

// TestKinds is the table of which function can be run as what.
func TestKinds(t *testing.T) {
	one := func() (int, error) { return 1, nil }
	s := memstore.New(nil)
	for kind, f := range map[udf.Kind]udf.Function{
		udf.KindPure:      udf.Pure("f", func(context.Context, int) (int, error) { return one() }),
		udf.KindReadOnly:  udf.ReadOnly("f", func(context.Context, udf.Reader, int) (int, error) { return one() }),
		udf.KindReadWrite: udf.ReadWrite("f", func(context.Context, udf.Tx, int) (int, error) { return one() }),
		udf.KindRange:     sum("f"),
	} {
		r := runnable(t, f)
		require.Equal(t, kind, r.Kind())
		_, err := r.CallPure(ctx, udf.CodecJSON, nil)
		require.Equal(t, kind == udf.KindPure, err == nil, kind)
		_, err = r.CallRead(ctx, s, udf.Info{}, udf.CodecJSON, nil)
		require.Equal(t, kind <= udf.KindReadOnly, err == nil, kind)
		_, err = r.CallWrite(ctx, s, udf.Info{}, udf.CodecJSON, nil)
		require.Equal(t, kind <= udf.KindReadWrite, err == nil, kind)
		_, err = r.Result(ctx, udf.CodecJSON, nil, nil)
		require.Equal(t, kind == udf.KindRange, err == nil, kind)
	}
}

func TestTx(t *testing.T) {
	s := memstore.New(map[string]string{"a": "1", "b": "2", "c": "", "d": "4"})
	s.BatchBytes = 1 // one record a batch
	id := udf.CallID{1, 2, 3}
	f := runnable(t, udf.ReadWrite("f", func(_ context.Context, tx udf.Tx, _ struct{}) ([]string, error) {
		require.Equal(t, udf.Info{ID: id, Timestamp: 99, Key: []byte("a")}, tx.Call())
		values, err := tx.GetMany([][]byte{[]byte("b"), []byte("x"), []byte("c")})
		require.NoError(t, err)
		require.Equal(t, [][]byte{[]byte("2"), nil, {}}, values)
		require.NoError(t, tx.Delete([]byte("a")))
		require.NoError(t, tx.PutTTL([]byte("e"), []byte("5"), time.Minute))
		var seen []string
		for batch, err := range tx.Scan(udf.Span{Start: []byte("a"), End: []byte("z")}) {
			require.NoError(t, err)
			require.Equal(t, 1, batch.Len())
			for k, v := range batch.All() {
				seen = append(seen, string(k)+string(v))
				// A write in the middle of a scan shows in its later batches.
				require.NoError(t, tx.Put([]byte("d"), []byte("44")))
			}
		}
		a, b := tx.Rand().Uint64(), tx.Rand().Uint64()
		require.NotEqual(t, a, b)
		return append(seen, fmt.Sprint(a)), nil
	}))
	call := func() string {
		out, err := f.CallWrite(ctx, s.Clone(), udf.Info{ID: id, Timestamp: 99, Key: []byte("a")}, udf.CodecJSON, nil)
		require.NoError(t, err)
		return string(out.Result)
	}
	first := call()
	require.Contains(t, first, `["b2","c","d44","e5",`)
	require.Equal(t, first, call(), "a retry draws the same random numbers")
}

// TestScanStops leaves scans in the middle, of a view and of a transaction.
func TestScanStops(t *testing.T) {
	s := memstore.New(map[string]string{"a": "1", "b": "2", "c": "3"})
	s.BatchBytes = 1
	first := func(scan iter.Seq2[udf.Batch, error]) (string, error) {
		for batch, err := range scan {
			if err != nil {
				return "", err
			}
			for k := range batch.All() {
				return string(k), nil
			}
		}
		return "none", nil
	}
	for _, r := range []udf.Runnable{
		runnable(t, udf.ReadOnly("f", func(_ context.Context, r udf.Reader, from string) (string, error) {
			return first(r.Scan(udf.Span{Start: []byte(from)}))
		})),
		runnable(t, udf.ReadWrite("f", func(_ context.Context, tx udf.Tx, from string) (string, error) {
			return first(tx.Scan(udf.Span{Start: []byte(from)}))
		})),
	} {
		for from, want := range map[string]string{"": "a", "aa": "b", "z": "none"} {
			arg := []byte(`"` + from + `"`)
			run := func() (udf.Outcome, error) { return r.CallRead(ctx, s, udf.Info{}, udf.CodecJSON, arg) }
			if r.Kind() == udf.KindReadWrite {
				run = func() (udf.Outcome, error) { return r.CallWrite(ctx, s, udf.Info{}, udf.CodecJSON, arg) }
			}
			out, err := run()
			require.NoError(t, err)
			require.Equal(t, `"`+want+`"`, string(out.Result))
		}
	}
}

// TestStoreErrorSticks: whatever a function makes of an error of the store, the call ends with it.
func TestStoreErrorSticks(t *testing.T) {
	s := memstore.New(map[string]string{"a": "1"})
	s.Err = api.ErrNotOneGroup
	swallow := func(tx udf.Tx, how string) {
		switch how {
		case "get":
			_, _, _ = tx.Get([]byte("a"))
		case "many":
			_, _ = tx.GetMany([][]byte{[]byte("a")})
		case "scan":
			for range tx.Scan(udf.Span{}) {
				continue
			}
		case "put":
			_ = tx.Put([]byte("a"), nil)
		case "delete":
			_ = tx.Delete([]byte("a"))
		}
	}
	f := runnable(t, udf.ReadWrite("f", func(_ context.Context, tx udf.Tx, how string) (int, error) {
		swallow(tx, how)
		for _, again := range []string{"get", "put", "scan"} {
			swallow(tx, again)
		}
		if how == "delete" {
			panic("and on top")
		}
		return 1, nil
	}))
	for _, how := range []string{"get", "many", "scan", "put", "delete"} {
		_, err := f.CallWrite(ctx, s, udf.Info{}, udf.CodecJSON, []byte(`"`+how+`"`))
		require.Equal(t, api.ErrNotOneGroup, err, how)
	}
	scan := runnable(t, udf.ReadOnly("f", func(_ context.Context, r udf.Reader, _ int) (n int, _ error) {
		for _, err := range r.Scan(udf.Span{}) {
			require.ErrorIs(t, err, api.ErrNotOneGroup)
			n++
		}
		require.Equal(t, 1, n)
		return n, nil
	}))
	_, err := scan.CallRead(ctx, s, udf.Info{}, udf.CodecJSON, nil)
	require.Equal(t, api.ErrNotOneGroup, err)
}

// sum adds the lengths of values to its argument.
func sum(name string) udf.Function {
	return udf.Range(name, udf.Aggregate[int, map[string]int, int]{
		Init: func(n int) (map[string]int, error) {
			if n < 0 {
				return nil, udf.Error(3, "negative")
			}
			return map[string]int{"weight": n}, nil
		},
		Add: func(_ context.Context, m map[string]int, b udf.Batch) (map[string]int, error) {
			for _, v := range b.All() {
				if string(v) == "boom" {
					panic("boom")
				}
				m["sum"] += len(v)
			}
			m["records"] += b.Len()
			return m, nil
		},
		Merge: func(a, b map[string]int) (map[string]int, error) {
			a["sum"] += b["sum"]
			a["records"] += b["records"]
			return a, nil
		},
		Result: func(m map[string]int) (int, error) { return m["sum"]*m["weight"] + m["records"]*1000, nil },
	})
}

func TestRange(t *testing.T) {
	s := memstore.New(nil)
	for i := range 100 {
		s.Data[fmt.Sprintf("k%02d", i)] = strings.Repeat("v", i)
	}
	s.BatchBytes = 200
	f := runnable(t, sum("sum"))
	var accs [][]byte
	for _, span := range []udf.Span{{End: []byte("k30")}, {Start: []byte("k30"), End: []byte("k31")}, {Start: []byte("k31")}} {
		a, err := f.NewAccumulator(ctx, udf.CodecJSON, []byte("2"))
		require.NoError(t, err)
		for _, b := range s.Batches(span) {
			require.NoError(t, a.Add(ctx, b))
		}
		encoded, err := a.Encode(ctx)
		require.NoError(t, err)
		require.NotZero(t, a.Fuel())
		a.Close()
		accs = append(accs, encoded)
	}
	const want = "109900" // 2 * (0+...+99) + 100 * 1000
	out, err := f.Result(ctx, udf.CodecJSON, []byte("2"), accs)
	require.NoError(t, err)
	require.Equal(t, want, string(out.Result))

	// Merging in steps and in another order changes nothing.
	slices.Reverse(accs)
	two, err := f.Merge(ctx, udf.CodecJSON, []byte("2"), accs[:2])
	require.NoError(t, err)
	out, err = f.Result(ctx, udf.CodecJSON, []byte("2"), [][]byte{two.Result, accs[2]})
	require.NoError(t, err)
	require.Equal(t, want, string(out.Result))

	out, err = f.Result(ctx, udf.CodecJSON, []byte("2"), nil)
	require.NoError(t, err)
	require.Equal(t, "0", string(out.Result))
}

func TestRangeErrors(t *testing.T) {
	f := runnable(t, sum("sum"))
	_, err := f.NewAccumulator(ctx, udf.CodecJSON, []byte("-1"))
	var refused *api.FunctionError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, api.FunctionError{Function: "sum", Code: 3, Message: "negative"}, *refused)

	_, err = f.Result(ctx, udf.CodecJSON, nil, [][]byte{[]byte("{")})
	require.ErrorAs(t, err, &refused)
	require.ErrorContains(t, err, "an accumulator can't be read")

	a, err := f.NewAccumulator(ctx, udf.CodecJSON, []byte("1"))
	require.NoError(t, err)
	require.ErrorContains(t, a.Add(ctx, []byte("not a batch")), `function "sum" was given a damaged batch`)
	s := memstore.New(map[string]string{"k": "boom"})
	require.ErrorContains(t, a.Add(ctx, s.Batches(udf.Span{})[0]), "panic: boom")
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, a.Add(cancelled, nil), context.Canceled)
}

// FuzzScanStep: whatever a view's batch holds, a step returns it whole or says that it is damaged.
func FuzzScanStep(f *testing.F) {
	s := memstore.New(map[string]string{"a": "1", "b": "2", "c": "3"})
	f.Add(s.Batches(udf.Span{})[0])
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		batch, next, err := udf.ScanStep(oneBatch(b), udf.Span{})
		if err == nil {
			require.Equal(t, len(b), len(batch))
			require.NotEmpty(t, next)
		}
	})
}

type oneBatch []byte

func (oneBatch) Get([]byte) ([]byte, bool, error) { return nil, false, nil }
func (b oneBatch) Scan(_ udf.Span, f func([]byte) bool) error {
	f(b)
	return nil
}

func BenchmarkNativeCall(b *testing.B) {
	r, err := udf.NewRegistry(functions.All()...)
	require.NoError(b, err)
	square, _ := r.Lookup("square")
	arg := []byte("5")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := square.CallPure(ctx, udf.CodecJSON, arg); err != nil {
			b.Fatal(err)
		}
	}
}

func mapAll(t *testing.T, r udf.Runnable, arg string, batches [][]byte) (outputs []string, err error) {
	t.Helper()
	m, err := r.NewMapping(ctx, r.Codec(), []byte(arg))
	if err != nil {
		return nil, err
	}
	defer m.Close()
	for _, b := range batches {
		list, err := m.Map(ctx, b)
		if err != nil {
			return nil, err
		}
		for _, o := range list {
			outputs = append(outputs, string(o))
		}
	}
	return outputs, nil
}

func TestMap(t *testing.T) {
	s := memstore.New(map[string]string{"a": "1", "b": "22", "c": "333"})
	s.BatchBytes = 1
	batches := s.Batches(udf.Span{})
	mapper := runnable(t, udf.Map("values", func(_ context.Context, times int, b udf.Batch, emit func([]byte) error) error {
		for key, value := range b.All() {
			if string(key) == "c" && times == 7 {
				return udf.Error(7, "no c")
			}
			for range times {
				if err := emit(value); err != nil {
					return err
				}
				value[0] = 'x' // an output that was emitted stays what it was
			}
		}
		return nil
	}, udf.JSON()))
	require.Equal(t, udf.KindMap, mapper.Kind())
	require.Equal(t, "map", mapper.Kind().String())

	got, err := mapAll(t, mapper, "0", batches)
	require.NoError(t, err)
	require.Empty(t, got)
	got, err = mapAll(t, mapper, "2", batches)
	require.NoError(t, err)
	require.Equal(t, []string{`"MQ=="`, `"eA=="`, `"MjI="`, `"eDI="`, `"MzMz"`, `"eDMz"`}, got)
	var refused *api.FunctionError
	_, err = mapAll(t, mapper, "7", s.Batches(udf.Span{}))
	require.ErrorAs(t, err, &refused)
	require.Equal(t, api.FunctionError{Function: "values", Code: 7, Message: "no c"}, *refused)
	var invalid *api.InvalidArgumentError
	_, err = mapAll(t, mapper, `"two"`, batches)
	require.ErrorAs(t, err, &invalid)

	// A function of one kind is not run as the other.
	_, err = mapper.NewAccumulator(ctx, udf.CodecJSON, nil)
	require.ErrorAs(t, err, &invalid)
	require.ErrorContains(t, err, "its outputs are streamed")
	_, err = mapper.CallWrite(ctx, s, udf.Info{}, udf.CodecJSON, nil)
	require.ErrorAs(t, err, &invalid)
	square := runnable(t, functions.All()[0])
	_, err = square.NewMapping(ctx, udf.CodecJSON, nil)
	require.ErrorAs(t, err, &invalid)
}

func TestMapIsBounded(t *testing.T) {
	s := memstore.New(map[string]string{"a": "1"})
	emitted := 0
	flood := runnable(t, udf.Map("flood", func(_ context.Context, _ any, _ udf.Batch, emit func([]byte) error) error {
		for {
			if emit(make([]byte, 1000)) != nil {
				return nil // swallowed, and still the call's error
			}
			emitted++
		}
	}, udf.JSON()))
	_, err := mapAll(t, flood, "null", s.Batches(udf.Span{}))
	var limit *api.LimitError
	require.ErrorAs(t, err, &limit)
	require.EqualValues(t, udf.MaxOutputBytes, limit.Limit)
	require.Less(t, emitted*1000, udf.MaxOutputBytes)

	ended, cancel := context.WithCancel(ctx)
	m, err := flood.NewMapping(ended, udf.CodecJSON, nil)
	require.NoError(t, err)
	cancel()
	_, err = m.Map(ended, s.Batches(udf.Span{})[0])
	require.ErrorIs(t, err, context.Canceled)
}

// TestReserved: names of the functions that every node has are nobody else's.
func TestReserved(t *testing.T) {
	own := udf.MapOf("locus.own", func([]byte) (udf.MapBatch, error) { return nil, nil })
	_, err := udf.NewRegistry(own)
	require.EqualError(t, err, `udf: function "locus.own": names that begin with locus. are reserved`)
	r, err := udf.NewRegistry(udf.Pure("square", func(_ context.Context, x int) (int, error) { return x * x, nil }))
	require.NoError(t, err)
	both := r.With(own)
	require.Equal(t, []string{"locus.own", "square"}, both.Names())
	require.Equal(t, []string{"square"}, r.Names(), "a registry never changes")
	require.Panics(t, func() { both.With(own) })
	require.Panics(t, func() { r.With(udf.MapOf("other", nil)) })
	require.Equal(t, []string{"locus.own"}, (*udf.Registry)(nil).With(own).Names())
}
