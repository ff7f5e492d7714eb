package operators

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/axiomhq/hyperloglog"
	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/internal/packed"
	"github.com/locuskv/locus/udf"
)

// TestBadQueries lists what is wrong with a query beside its expressions.
func TestBadQueries(t *testing.T) {
	many := strings.TrimSuffix(strings.Repeat("count(),", MaxExpressions+1), ",")
	for want, q := range map[string]Query{
		`aggregate "mean" is not name(expression)`:                                    {Aggregates: []string{"mean"}},
		`aggregate "mean(a" is not name(expression)`:                                  {Aggregates: []string{"mean(a"}},
		`"foo" is none of count, sum,`:                                                {Aggregates: []string{"foo(a)"}},
		`"p101" is none of`:                                                           {Aggregates: []string{"p101(a)"}},
		`"p" is none of`:                                                              {Aggregates: []string{"p(a)"}},
		`mean() takes an expression, for example mean(delay)`:                         {Aggregates: []string{"mean()"}},
		`is not topk(expression, k), for example topk(destination, 10)`:               {Aggregates: []string{"topk(a)"}},
		`"topk(a, 1, 2)" is not topk(expression, k)`:                                  {Aggregates: []string{"topk(a, 1, 2)"}},
		`"topk(, 1)" is not topk(expression, k)`:                                      {Aggregates: []string{"topk(, 1)"}},
		`k is 0, and takes a whole number from 1 to 100`:                              {Aggregates: []string{"topk(a, 0)"}},
		`k is b, and takes a whole number from 1 to 100`:                              {Aggregates: []string{"topk(a, b)"}},
		`locus: k of aggregate "topk(a, 101)" is 101, more than the limit of 100`:     {Aggregates: []string{"topk(a, 101)"}},
		`order by "topk(a, 5)": that is a list; name another column`:                  {Aggregates: []string{"topk(a, 5)"}, Top: 1},
		`order by "often": that is a list`:                                            {Aggregates: []string{"count(), topk(a, 5) as often"}, By: "often asc"},
		`aggregate "" is not name(expression)`:                                        {Aggregates: []string{"count(),,count()"}},
		`the aggregate takes a number, and this is a text`:                            {Aggregates: []string{"sum(key)"}},
		`expression "a) + sum(b", column 2: unexpected token`:                         {Aggregates: []string{"sum(a) + sum(b)"}},
		`group: expression "a +", column`:                                             {GroupBy: []string{"a +"}},
		`where: expression "1 + 1": a condition must be true or`:                      {Where: "1 + 1"},
		`where: expression "a ==", column`:                                            {Where: "a =="},
		`top -1 is not between 0 and 100000`:                                          {Top: -1},
		`order by "mean(x)": there is no such column; those there are are g, count()`: {GroupBy: []string{"a as g"}, By: "mean(x)"},
		`33 groups and aggregates are more than 32`:                                   {Aggregates: []string{many}},
		`a projection is streamed`:                                                    {Select: []string{"a"}},
		`layout "x": "x" is not name:type@offset`:                                     {Layout: "x"},
	} {
		_, err := newPlan(&q)
		require.ErrorContains(t, err, want)
	}
	for want, q := range map[string]Query{
		"a projection goes with no groups": {Select: []string{"a"}, GroupBy: []string{"b"}},
		"select: expression \"a +\"":       {Select: []string{"a +"}},
		"33 projections are more than 32":  {Select: []string{strings.TrimSuffix(strings.Repeat("a,", 33), ",")}},
	} {
		_, err := newProjection(&q)
		require.ErrorContains(t, err, want)
	}
}

// wide is a batch of n keys.
func wide(from, n int) []byte {
	var batch []byte
	for i := range n {
		batch = packed.Append(batch, fmt.Appendf(nil, "%08d", from+i), []byte(`{"n":1}`), 1, 0)
	}
	return batch
}

// TestLimits: too many groups, and too much of them, are typed errors that name the limit, in Add, Merge and Encode.
func TestLimits(t *testing.T) {
	limit := func(err error, what string, max int64) {
		t.Helper()
		var l *api.LimitError
		require.ErrorAs(t, err, &l)
		require.Contains(t, l.What, what)
		require.Equal(t, max, l.Limit)
		require.Greater(t, l.Got, max)
	}
	p, err := newPlan(&Query{GroupBy: []string{"int(key)"}})
	require.NoError(t, err)
	acc, other := newAccumulator(p), newAccumulator(p)
	require.NoError(t, acc.Add(t.Context(), wide(0, MaxGroups)))
	encoded, err := acc.Encode()
	require.NoError(t, err)
	require.NoError(t, other.Add(t.Context(), wide(MaxGroups, 1)))
	limit(other.Merge(encoded), "groups of a query", MaxGroups)
	limit(acc.Add(t.Context(), wide(MaxGroups, 1)), "groups of a query", MaxGroups)

	// Quantiles of two numbers far apart, by group.
	p, err = newPlan(&Query{GroupBy: []string{"key"}, Aggregates: []string{"p50(int(key) * 1.0), p50(int(key) > 0 ? 1e300 : 0), p50(n * 1e-300)"}})
	require.NoError(t, err)
	acc = newAccumulator(p)
	limit(acc.Add(t.Context(), wide(0, MaxGroups)), "memory of the ", MaxMemory)
	p, err = newPlan(&Query{Aggregates: []string{"p50(n * 1e300), p50(n)"}})
	require.NoError(t, err)
	acc = newAccumulator(p)
	before := acc.memory
	require.NoError(t, acc.Add(t.Context(), wide(0, 1)))
	grown := acc.memory - before
	require.Equal(t, 2*8*binStep, grown, "the account is of what was allocated")

	// Long groups fit memory, and not the wire.
	p, err = newPlan(&Query{GroupBy: []string{"value"}})
	require.NoError(t, err)
	acc = newAccumulator(p)
	for i := range 20 {
		batch := packed.Append(nil, []byte("k"), append(make([]byte, 500<<10), byte(i)), 1, 0)
		require.NoError(t, acc.Add(t.Context(), batch))
	}
	_, err = acc.Encode()
	limit(err, "encoded size of the 20 groups", MaxEncoded)
	_, err = acc.Result()
	limit(err, "result of a query", MaxEncoded)
}

// TestSketchMemory: what sketches take is counted, also where numbers lie far apart.
func TestSketchMemory(t *testing.T) {
	var q quantiles
	grown := q.add(number(1)) + q.add(number(1e300)) + q.add(number(-1e-300)) + q.add(integer(math.MinInt64)) + q.add(integer(0))
	require.Equal(t, 8*(cap(q.positive.counts)+cap(q.negative.counts)), grown)
	require.Less(t, grown, 2<<20)
	require.Equal(t, uint64(5), q.zero+q.positive.total()+q.negative.total())
}

// TestCompiledOnce: the parts and merges of a run, and other runs with the same argument, share one plan.
func TestCompiledOnce(t *testing.T) {
	compiled := 0
	c := plans{function: "f", compile: func(q *Query) (*plan, error) {
		compiled++
		return newPlan(q)
	}}
	first, err := c.get([]byte(`{"where":"a > 1"}`))
	require.NoError(t, err)
	again, err := c.get([]byte(`{"where":"a > 1"}`))
	require.NoError(t, err)
	require.Same(t, first, again)
	require.Equal(t, 1, compiled)
	for i := range 3 * maxPlans {
		_, err := c.get(fmt.Appendf(nil, `{"where":"a > %d"}`, i+10))
		require.NoError(t, err)
		require.LessOrEqual(t, len(c.mu.list), maxPlans)
	}
	_, err = c.get([]byte(`{"aggregates":["topk(a, 101)"]}`))
	require.Equal(t, &api.LimitError{What: `k of aggregate "topk(a, 101)"`, Limit: MaxTopK, Got: 101}, err)
	for _, arg := range []string{"", "null x", `{"where":5}`, `{"where":"a >"}`} {
		_, err = c.get([]byte(arg))
		var bad *api.InvalidArgumentError
		require.ErrorAs(t, err, &bad, arg)
	}
}

// TestFunctions runs the two functions as a node does.
func TestFunctions(t *testing.T) {
	registry := (*udf.Registry)(nil).With(Functions()...)
	require.Equal(t, []string{api.FunctionQuery, api.FunctionSelect}, registry.Names())
	query, _ := registry.Lookup(api.FunctionQuery)
	arg := []byte(`{"aggregates":["count()","sum(n)"]}`)
	acc, err := query.NewAccumulator(t.Context(), udf.CodecJSON, arg)
	require.NoError(t, err)
	require.NoError(t, acc.Add(t.Context(), wide(0, 3)))
	one, err := acc.Encode(t.Context())
	require.NoError(t, err)
	merged, err := query.Merge(t.Context(), udf.CodecJSON, arg, [][]byte{one, one})
	require.NoError(t, err)
	out, err := query.Result(t.Context(), udf.CodecJSON, arg, [][]byte{merged.Result, one})
	require.NoError(t, err)
	var r api.QueryResult
	require.NoError(t, json.Unmarshal(out.Result, &r))
	require.Equal(t, [][]json.RawMessage{{json.RawMessage("9"), json.RawMessage("9")}}, r.Rows)
	out, err = query.Result(t.Context(), udf.CodecJSON, arg, nil)
	require.NoError(t, err)
	require.Contains(t, string(out.Result), `"rows":[[0,null]]`, "of nothing there is one group")

	var internal *api.InternalError
	require.ErrorAs(t, acc.Add(t.Context(), []byte("no batch")), &internal)
	_, err = query.Merge(t.Context(), udf.CodecJSON, arg, [][]byte{one[:len(one)-1]})
	require.ErrorContains(t, err, "can't be read")
	var bad *api.InvalidArgumentError
	_, err = query.NewAccumulator(t.Context(), udf.CodecJSON, []byte(`{"where":"a +"}`))
	require.ErrorAs(t, err, &bad)

	project, _ := registry.Lookup(api.FunctionSelect)
	m, err := project.NewMapping(t.Context(), udf.CodecJSON, []byte(`{"where":"int(key) > 0","select":["key, n + 1","missing"]}`))
	require.NoError(t, err)
	rows, err := m.Map(t.Context(), wide(0, 3))
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte(`["00000001",2,null]`), []byte(`["00000002",2,null]`)}, rows)
	_, err = m.Map(t.Context(), []byte("no batch"))
	require.ErrorAs(t, err, &internal)
	m, err = project.NewMapping(t.Context(), udf.CodecJSON, []byte(`{}`))
	require.NoError(t, err)
	rows, err = m.Map(t.Context(), packed.Append(nil, []byte("k\xff"), []byte("v"), 1, 0))
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte(`[{"base64":"a/8="},"v"]`)}, rows)
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = m.Map(stopped, wide(0, 1))
	require.True(t, errors.Is(err, context.Canceled))
}

// TestOrder: rows are ordered by a column, with null last and ties by group, or by group.
func TestOrder(t *testing.T) {
	var batch []byte
	for key, value := range map[string]string{"a": `{"n":1}`, "b": `{"n":3}`, "c": `{}`, "d": `{"n":3.0}`, "e": `{"n":-5}`, "9": `{"n":2.5}`} {
		batch = packed.Append(batch, []byte(key), []byte(value), 1, 0)
	}
	for want, q := range map[string]Query{
		"9 a b c d e": {},
		"b d 9 a e c": {By: "max(n)"},
		"e a 9 b d c": {By: "max( n ) asc"},
		"b d 9":       {Top: 3},
		"a b":         {Top: 2, By: "key asc", Where: "key > '9'"},
		"e d c":       {Top: 3, By: "key desc"},
	} {
		q.GroupBy, q.Aggregates = []string{"key"}, []string{"max(n)"}
		var got []string
		for _, row := range answer(t, q, batch).Rows {
			got = append(got, strings.Trim(string(row[0]), `"`))
		}
		require.Equal(t, want, strings.Join(got, " "))
	}
}

// TestGroupsByPart: a part is not taken for another one that it begins with, nor is a key for a part.
func TestGroupsByPart(t *testing.T) {
	var batch []byte
	for _, key := range []string{"a", "a/1", "a/2", "ab", "ab/1", "abc/1", "/x", "/y", "a/3"} {
		batch = packed.Append(batch, []byte(key), nil, 1, 0)
	}
	for _, q := range []Query{{GroupBy: []string{"key[0]"}}, {Key: "p/q", GroupBy: []string{"p"}}, {Key: "p/q", GroupBy: []string{"p, 1"}}} {
		var got []string
		for _, row := range answer(t, q, batch).Rows {
			got = append(got, string(row[0])+string(row[len(row)-1]))
		}
		require.Equal(t, []string{`""2`, `"a"4`, `"ab"2`, `"abc"1`}, got)
	}
	require.Len(t, answer(t, Query{GroupBy: []string{"key"}}, batch).Rows, 9)
}

func TestSplit(t *testing.T) {
	require.Equal(t, []string{"a", " b(c, d)", " [1,2]", " 'x,)'", ` "\",("`, "e"}, split([]string{`a, b(c, d), [1,2], 'x,)', "\",("`, "e", " "}))
	require.Equal(t, []string{"a", ""}, split([]string{"a,"}))
	require.Empty(t, split(nil))
	source, name := cutAlias(" mean(delay)  as late ")
	require.Equal(t, "mean(delay)/late", source+"/"+name)
	source, name = cutAlias("count(x == ' as y')")
	require.Equal(t, source, name)
}

// TestGroupsOfNothing: what is missing, or of a type that makes no group, is one group, and the latter is told.
func TestGroupsOfNothing(t *testing.T) {
	var batch []byte
	for _, value := range []string{`{"a":{"x":1}}`, `{"a":{"x":2}}`, `{}`, `{"a":null}`, `{"a":"text"}`} {
		batch = packed.Append(batch, []byte("k"), []byte(value), 1, 0)
	}
	for _, q := range []Query{{GroupBy: []string{"a"}}, {GroupBy: []string{"a", "1"}}} {
		got := answer(t, q, batch)
		require.Len(t, got.Rows, 2)
		require.Equal(t, "null", string(got.Rows[0][0]))
		require.Equal(t, "4", string(got.Rows[0][len(got.Columns)-1]))
		require.Equal(t, []api.QuerySkipped{{Expression: "a", Records: 2}}, got.Skipped)
	}
}

// TestDamagedAccumulators: encodings of what no accumulator of the query can be are refused.
func TestDamagedAccumulators(t *testing.T) {
	p, err := newPlan(&Query{GroupBy: []string{"key"}, Aggregates: []string{"count(), p50(n), min(n), distinct(n), sum(n), topk(n, 5)"}})
	require.NoError(t, err)
	key := appendValue(nil, textOf([]byte("k")))
	for name, damage := range map[string]func(a *accumulator){
		"nothing":                 func(*accumulator) {},
		"no key":                  func(a *accumulator) { a.group([]byte("junk")) },
		"a key of two":            func(a *accumulator) { a.group(append(key, key...)) },
		"a JSON key":              func(a *accumulator) { a.group([]byte{byte(kindJSON)}) },
		"a bin beyond all":        func(a *accumulator) { a.group(key).cells[0].quantiles.positive.addMany(lastBin+1, 1) },
		"a bin before all":        func(a *accumulator) { a.group(key).cells[0].quantiles.negative.addMany(firstBin-1, 1) },
		"one extreme":             func(a *accumulator) { a.group(key).cells[0].extremes.greatest = yes },
		"a sketch of its own":     func(a *accumulator) { a.group(key).cells[0].distinct.sketch = hyperloglog.New16() },
		"a null that is frequent": func(a *accumulator) { a.group(key).cells[0].frequent.begin(string(appendValue(nil, null)), 1) },
		"a value twice": func(a *accumulator) {
			q := a.group(key).cells[0].frequent
			q.counters = append(q.counters, q.counters[0])
		},
		"more counters than there are": func(a *accumulator) {
			for i := range frequentRoom {
				a.group(key).cells[0].frequent.begin(string(appendValue(nil, integer(int64(i+100)))), 1)
			}
		},
		"an accumulator short": func(a *accumulator) { a.mistyped = a.mistyped[:1] },
	} {
		acc := newAccumulator(p)
		acc.group(key).cells[0].frequent.add(integer(7))
		damage(acc)
		encoded, err := acc.Encode()
		require.NoError(t, err)
		err = newAccumulator(p).Merge(encoded)
		if name == "nothing" {
			require.NoError(t, err)
			for i := range encoded {
				require.Error(t, newAccumulator(p).Merge(encoded[:i]), "cut at %d", i)
			}
			require.Error(t, newAccumulator(p).Merge(append(encoded, 0)))
			continue
		}
		require.ErrorIs(t, err, errDamaged{}, name)
	}
}

// FuzzMerge: whatever the bytes, an accumulator refuses them or can be encoded and read again.
func FuzzMerge(f *testing.F) {
	q := Query{GroupBy: []string{"key, n"}, Aggregates: []string{"count(), variance(n), p50(n), min(key), distinct(key), topk(n, 3)"}}
	p, err := newPlan(&q)
	require.NoError(f, err)
	for _, n := range []int{0, 1, 5} {
		acc := newAccumulator(p)
		require.NoError(f, acc.Add(f.Context(), wide(0, n)))
		encoded, err := acc.Encode()
		require.NoError(f, err)
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, encoded []byte) {
		acc := newAccumulator(p)
		if acc.Merge(encoded) != nil {
			return
		}
		again, err := acc.Encode()
		if err != nil {
			var limit *api.LimitError
			require.ErrorAs(t, err, &limit)
			return
		}
		require.NoError(t, newAccumulator(p).Merge(again))
		_, err = acc.Result()
		require.NoError(t, err)
	})
}
