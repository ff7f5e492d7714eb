package operators

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/internal/packed"
)

// streams are values in the order in which they come: random ones of several skews, and those that are hard for a summary.
var streams = map[string]func(r *rand.Rand, n int) []int{
	"few values": func(r *rand.Rand, n int) []int { return drawn(n, func(int) int { return r.IntN(frequentRoom) }) },
	"uniform":    func(r *rand.Rand, n int) []int { return drawn(n, func(int) int { return r.IntN(n) }) },
	"skewed": func(r *rand.Rand, n int) []int {
		z := rand.NewZipf(r, 1.1, 1, 1<<40)
		return drawn(n, func(int) int { return int(z.Uint64()) })
	},
	"all different": func(_ *rand.Rand, n int) []int { return drawn(n, func(i int) int { return i }) },
	// Each value comes back when its counter is gone.
	"in a circle": func(_ *rand.Rand, n int) []int { return drawn(n, func(i int) int { return i % (frequentRoom + 1) }) },
	// What is frequent comes first, and all that follows works against it.
	"drowned": func(_ *rand.Rand, n int) []int { return drawn(n, func(i int) int { return max(i, n/10) }) },
	// What is frequent comes late, into counters that are full.
	"late": func(_ *rand.Rand, n int) []int { return drawn(n, func(i int) int { return min(i, 9*n/10) }) },
	// One more value than counters that are kept, all as frequent.
	"one too many": func(r *rand.Rand, n int) []int {
		list := drawn(n, func(i int) int { return i % (frequentKept + 1) })
		return append(list, drawn(frequentRoom, func(i int) int { return n + i })...)
	},
	// Values that are just not frequent enough in any part to be kept there.
	"never quite": func(_ *rand.Rand, n int) []int {
		return drawn(n, func(i int) int {
			if i%4 == 0 {
				return i / 4 % (frequentKept + 2)
			}
			return n + i
		})
	},
}

func drawn(n int, value func(i int) int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = value(i)
	}
	return list
}

// summaryOf counts values, and checks what is said of the memory that it takes.
func summaryOf(t *testing.T, list []int) *frequent {
	t.Helper()
	q, memory := newFrequent(), 0
	for _, v := range list {
		memory += q.add(integer(int64(v)))
		if len(q.counters) > frequentRoom {
			t.Fatalf("there are %d counters", len(q.counters))
		}
	}
	require.Equal(t, accounted(q), memory)
	return q
}

func accounted(q *frequent) (memory int) {
	for _, c := range q.counters {
		memory += counterSize + len(c.value)
	}
	return memory
}

// joined merges summaries in a tree made at random, as what they are on the wire.
func joined(t *testing.T, r *rand.Rand, parts []*frequent) *frequent {
	t.Helper()
	for len(parts) > 1 {
		i, j := r.IntN(len(parts)), r.IntN(len(parts)-1)
		if j >= i {
			j++
		}
		into, from := decoded(t, parts[i]), decoded(t, parts[j])
		before := accounted(into)
		grown := into.merge(from)
		require.Equal(t, accounted(into)-before, grown)
		require.LessOrEqual(t, len(into.counters), frequentRoom)
		parts[i] = into
		parts = slices.Delete(parts, j, j+1)
	}
	return parts[0]
}

// decoded is what a summary becomes on its way, ready to be added to.
func decoded(t *testing.T, q *frequent) *frequent {
	t.Helper()
	d := &decoder{b: q.append(nil)}
	read, out := new(frequent), newFrequent()
	read.read(d)
	require.False(t, d.bad)
	require.Empty(t, d.b)
	out.merge(read)
	return out
}

// TestFrequentAgainstCounts: whatever the values, their order, how they are cut into parts and the tree of merges, no count is
// too great, none is too small by more than is said, and that is within FrequentError of all values; so what is not listed
// is no more frequent than the last that is. Up to frequentRoom values counts are exact.
func TestFrequentAgainstCounts(t *testing.T) {
	for name, stream := range streams {
		for seed := range uint64(4) {
			r := rand.New(rand.NewPCG(seed, 7))
			list := stream(r, 1+r.IntN(30_000))
			truth := map[int]uint64{}
			for _, v := range list {
				truth[v]++
			}
			var parts []*frequent
			for rest := list; len(rest) > 0; {
				n := min(1+r.IntN(1+len(list)/(1+r.IntN(20))), len(rest))
				parts = append(parts, summaryOf(t, rest[:n]))
				rest = rest[n:]
			}
			q := joined(t, r, parts)
			where := fmt.Sprintf("%s, seed %d", name, seed)
			checkCounts(t, q, truth, uint64(len(list)), where)
			if len(truth) <= frequentRoom {
				require.Zero(t, q.lost, where)
			}
		}
	}
}

func checkCounts(t *testing.T, q *frequent, truth map[int]uint64, n uint64, where string) {
	t.Helper()
	require.LessOrEqual(t, float64(q.lost), FrequentError*float64(n), where)
	top := q.top(10)
	listed := map[int]bool{}
	least := uint64(0)
	for i, f := range top.list {
		v := int(f.value.int())
		require.NotContains(t, listed, v, where)
		listed[v] = true
		require.LessOrEqual(t, f.n, truth[v], where)
		require.LessOrEqual(t, truth[v], f.n+top.lost, where)
		if i > 0 {
			require.GreaterOrEqual(t, top.list[i-1].n, f.n, where)
		}
		if i == 9 {
			least = f.n
		}
	}
	for v, n := range truth {
		if !listed[v] && n > least+top.lost {
			t.Fatalf("%s: %d is there %d times, and not listed with %d+%d the least", where, v, n, least, top.lost)
		}
	}
}

// TestFrequentReduction: what is taken from each counter is no more than leaves those that may be kept.
func TestFrequentReduction(t *testing.T) {
	q := newFrequent()
	for i := range frequentRoom + 1 {
		n := 1
		if i < frequentKept {
			n = 100
		}
		for range n {
			q.add(integer(int64(i)))
		}
	}
	require.Len(t, q.counters, frequentKept)
	require.EqualValues(t, 1, q.lost)
	require.Equal(t, uint64(99), q.top(1).list[0].n)
}

// TestFrequentMerge: a merge is the same both ways around, to the byte, also where counters are lost in it; and what counts a
// frequent value is in the answer.
func TestFrequentMerge(t *testing.T) {
	for name, stream := range streams {
		r := rand.New(rand.NewPCG(1, 8))
		a, b := summaryOf(t, stream(r, 7000)), summaryOf(t, stream(r, 9000))
		ab, ba := decoded(t, a), decoded(t, b)
		ab.merge(decoded(t, b))
		ba.merge(decoded(t, a))
		require.Equal(t, ab.append(nil), ba.append(nil), name)
	}
	q := newFrequent()
	for i := range 100_000 {
		q.add(integer(int64(i)))
		if i%500 == 0 { // one in five hundred is twice as often as may be lost
			q.add(textOf([]byte("often")))
		}
	}
	require.Equal(t, "often", string(q.top(1).list[0].value.text))
}

// TestTopK: of any scalars; equal numbers are one value, nulls are none, and ties are in the order of values.
func TestTopK(t *testing.T) {
	var batch []byte
	for i, v := range []string{`1`, `1.0`, `"a"`, `true`, `2.5`, `null`, `[1]`, `"b"`, `"b"`, `1e0`, `"\u00fc"`} {
		batch = packed.Append(batch, fmt.Appendf(nil, "%d", i), []byte(`{"v":`+v+`}`), 1, 0)
	}
	got := answer(t, Query{Aggregates: []string{"topk( v , 3 ) as most, topk(v, 100), topk(missing, 1), count(v)"}}, batch)
	require.Equal(t, api.QueryColumn{Name: "most", CountError: 0.001}, got.Columns[0])
	require.Equal(t, api.QueryColumn{Name: "count(v)"}, got.Columns[3])
	row := got.Rows[0]
	require.JSONEq(t, `{"values":[{"value":1,"count":3},{"value":"b","count":2},{"value":true,"count":1}],"error":0}`, string(row[0]))
	require.JSONEq(t, `{"values":[{"value":1,"count":3},{"value":"b","count":2},{"value":true,"count":1},{"value":2.5,"count":1},`+
		`{"value":"a","count":1},{"value":"ü","count":1}],"error":0}`, string(row[1]))
	require.JSONEq(t, `{"values":[],"error":0}`, string(row[2]))
	require.Equal(t, []api.QuerySkipped{{Expression: "v", Records: 1}}, got.Skipped, "a list is no scalar")
	got = answer(t, Query{Aggregates: []string{"topk(key, 1)"}}, packed.Append(nil, []byte{0xff}, nil, 1, 0))
	require.JSONEq(t, `{"values":[{"value":{"base64":"/w=="},"count":1}],"error":0}`, string(got.Rows[0][0]))
	got = answer(t, Query{Aggregates: []string{"topk(key contains 'a, b' ? 1 : 2, 1)"}}, packed.Append(nil, []byte("a, b"), nil, 1, 0))
	require.JSONEq(t, `{"values":[{"value":1,"count":1}],"error":0}`, string(got.Rows[0][0]))
}

// TestTopKMemory: what summaries take is counted, and beyond the limit is an error; of one group it stays within its room.
func TestTopKMemory(t *testing.T) {
	p, err := newPlan(&Query{Aggregates: []string{"topk(key, 5)"}})
	require.NoError(t, err)
	acc := newAccumulator(p)
	empty := acc.memory
	require.NoError(t, acc.Add(t.Context(), wide(0, 50_000)))
	require.Equal(t, empty+accounted(acc.last.cells[0].frequent), acc.memory)
	var top api.QueryTopValues
	require.NoError(t, json.Unmarshal(resultOf(t, acc).Rows[0][0], &top))
	require.LessOrEqual(t, top.Error, uint64(50))
	require.NotZero(t, top.Error)

	p, err = newPlan(&Query{GroupBy: []string{"int(key) % 1000"}, Aggregates: []string{"topk(key, 5)"}})
	require.NoError(t, err)
	acc = newAccumulator(p)
	err = nil
	for i := 0; err == nil && i < 100; i++ {
		err = acc.Add(t.Context(), wide(i*50_000, 50_000))
	}
	var limit *api.LimitError
	require.ErrorAs(t, err, &limit)
	require.Contains(t, limit.What, "memory of the ")
	require.EqualValues(t, MaxMemory, limit.Limit)
}

// FuzzFrequent: whatever the bytes, a summary is refused, or becomes the same again; and merged into a full one it keeps
// within its room.
func FuzzFrequent(f *testing.F) {
	full := newFrequent()
	for i := range frequentRoom {
		full.add(integer(int64(i)))
	}
	encoded := full.append(nil)
	small := newFrequent()
	for _, v := range []value{integer(-5), number(2.5), textOf([]byte("x")), textOf(nil), yes, no, integer(-5)} {
		small.add(v)
	}
	f.Add(small.append(nil))
	f.Add(newFrequent().append(nil))
	f.Add(encoded)
	f.Fuzz(func(t *testing.T, b []byte) {
		var q, again frequent
		d := &decoder{b: b}
		if q.read(d); d.bad {
			return
		}
		once := q.append(nil)
		d = &decoder{b: once}
		again.read(d)
		require.False(t, d.bad)
		require.Empty(t, d.b)
		require.Equal(t, once, again.append(nil))
		into := newFrequent()
		d = &decoder{b: encoded}
		var other frequent
		other.read(d)
		into.merge(&other)
		into.merge(&q)
		require.LessOrEqual(t, len(into.counters), frequentRoom)
		into.top(MaxTopK).appendJSON(nil)
	})
}
