package operators

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/packed"
)

// sample is a record of the property test, as a plain program would have it.
type sample struct {
	key   string
	group string
	n     any // int64, float64, string, or nil; of JSON
	tag   string
}

// randomSamples are records whose numbers have gaps, other types, extremes of 64 bits and, where floats is set,
// fractions.
func randomSamples(r *rand.Rand, n int, floats bool) (list []sample) {
	for i := range n {
		s := sample{
			key:   fmt.Sprintf("%c%d/%06d", 'a'+r.IntN(3), r.IntN(4), i),
			group: []string{"x", "y", "", "ü\n", `q"`, "long " + fmt.Sprint(r.IntN(5))}[r.IntN(6)],
			tag:   fmt.Sprint("t", r.IntN(1+n/3)),
		}
		switch r.IntN(20) {
		case 0:
		case 1:
			s.n = "text"
		case 2:
			s.n = int64(r.Uint64())
		default:
			s.n = int64(r.IntN(4000) - 500)
			if floats && r.IntN(2) == 0 {
				s.n = r.NormFloat64() * 1000
			}
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b sample) int { return cmp.Compare(a.key, b.key) })
	return list
}

func (s sample) json() []byte {
	fields := map[string]any{"group": s.group, "tag": s.tag, "deep": map[string]any{"n": s.n, "list": []any{s.n, s.tag}}}
	if s.n != nil {
		fields["n"] = s.n
	}
	b, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	return b
}

// reference is what a plain program finds of one group: with arithmetic of any precision, and all values sorted.
type reference struct {
	rows   int64
	values []float64
	sum    *big.Float
	exact  *big.Int // of integers
	whole  bool     // all are integers
	tags   map[string]uint64
	texts  int64
	least  string // of the tags
}

func newReference() *reference {
	return &reference{sum: new(big.Float).SetPrec(2000), exact: new(big.Int), whole: true, tags: map[string]uint64{}}
}

func (x *reference) add(s sample) {
	x.rows++
	x.tags[s.tag]++
	if x.least == "" || s.tag < x.least {
		x.least = s.tag
	}
	switch n := s.n.(type) {
	case int64:
		x.values = append(x.values, float64(n))
		x.sum.Add(x.sum, new(big.Float).SetPrec(2000).SetInt64(n))
		x.exact.Add(x.exact, big.NewInt(n))
	case float64:
		x.values = append(x.values, n)
		x.sum.Add(x.sum, new(big.Float).SetPrec(2000).SetFloat64(n))
		x.whole = false
	case string:
		x.texts++
	}
}

func (x *reference) mean() float64 {
	m, _ := new(big.Float).Quo(x.sum, big.NewFloat(float64(len(x.values)))).Float64()
	return m
}

// variance is that of a sample, in two passes of high precision.
func (x *reference) variance() float64 {
	n := new(big.Float).SetPrec(2000).SetInt64(int64(len(x.values)))
	mean := new(big.Float).SetPrec(2000).Quo(x.sum, n)
	sum := new(big.Float).SetPrec(2000)
	for _, v := range x.values {
		d := new(big.Float).SetPrec(2000).SetFloat64(v)
		d.Sub(d, mean)
		sum.Add(sum, d.Mul(d, d))
	}
	f, _ := sum.Quo(sum, big.NewFloat(float64(len(x.values)-1))).Float64()
	return f
}

// folded runs a query over records that are cut into batches and parts at random, and whose parts are merged in a tree
// made at random, as ranges, requests and gateways do.
func folded(t *testing.T, r *rand.Rand, p *plan, list []sample) *accumulator {
	t.Helper()
	var parts [][]byte
	for rest := list; len(rest) > 0; {
		acc := newAccumulator(p)
		n := 1 + r.IntN(len(rest))
		for part := rest[:n]; len(part) > 0; {
			m := 1 + r.IntN(len(part))
			var batch []byte
			for _, s := range part[:m] {
				batch = packed.Append(batch, []byte(s.key), s.json(), 1, 0)
			}
			require.NoError(t, acc.Add(t.Context(), batch))
			part = part[m:]
		}
		encoded, err := acc.Encode()
		require.NoError(t, err)
		parts, rest = append(parts, encoded), rest[n:]
	}
	for {
		acc := newAccumulator(p)
		at, n := 0, len(parts)
		if n > 2 {
			n = 2 + r.IntN(n-1)
			at = r.IntN(len(parts) - n + 1)
		}
		for _, encoded := range parts[at : at+n] {
			require.NoError(t, acc.Merge(encoded))
		}
		if n == len(parts) {
			return acc
		}
		encoded, err := acc.Encode()
		require.NoError(t, err)
		parts = slices.Replace(parts, at, at+n, encoded)
	}
}

// TestAgainstReference: whatever the data, its cuts and the tree of merges, exact answers are those of a plain program, and
// approximate ones within their errors.
func TestAgainstReference(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		floats := seed%2 == 1
		list := randomSamples(r, 1+r.IntN(1500), floats)
		q := Query{
			Key: "place/seq", GroupBy: []string{"place", "group"},
			Aggregates: []string{
				"count(), count(n), sum(n), mean(n), variance(n), stddev(n)",
				"p0(n), p50(n), p95(n), p100(n), distinct(tag), min(tag), max(n), count(deep.list[0]), sum(deep.n), topk(tag, 3)",
			},
		}
		p, err := newPlan(&q)
		require.NoError(t, err)
		acc := folded(t, r, p, list)
		truth := map[[2]string]*reference{}
		texts := int64(0)
		for _, s := range list {
			k := [2]string{s.key[:2], s.group}
			if truth[k] == nil {
				truth[k] = newReference()
			}
			truth[k].add(s)
			if _, text := s.n.(string); text {
				texts++
			}
		}
		got := resultOf(t, acc)
		require.Len(t, got.Rows, len(truth), "seed %d", seed)
		require.EqualValues(t, len(list), got.Records)
		if texts > 0 {
			require.Equal(t, []api.QuerySkipped{{Expression: "n", Records: uint64(texts)}, {Expression: "deep.n", Records: uint64(texts)}}, got.Skipped)
		}
		for _, row := range got.Rows {
			var k [2]string
			require.NoError(t, json.Unmarshal(row[0], &k[0]))
			require.NoError(t, json.Unmarshal(row[1], &k[1]))
			require.Contains(t, truth, k)
			checkRow(t, truth[k], row[2:])
		}
	}
}

func checkRow(t *testing.T, want *reference, row []json.RawMessage) {
	t.Helper()
	number := func(i int) (f float64) {
		t.Helper()
		require.NoError(t, json.Unmarshal(row[i], &f))
		return f
	}
	n := len(want.values)
	var top api.QueryTopValues
	require.NoError(t, json.Unmarshal(row[15], &top))
	require.Equal(t, exactTop(want.tags, 3), top, "few values are counted exactly")
	require.EqualValues(t, fmt.Sprint(want.rows), row[0])
	require.EqualValues(t, fmt.Sprint(int64(n)+want.texts), row[1])
	require.EqualValues(t, row[1], row[13], "of a field within others")
	require.EqualValues(t, row[2], row[14])
	require.EqualValues(t, `"`+want.least+`"`, row[11])
	if n == 0 {
		for _, i := range []int{2, 3, 4, 5, 6, 7, 8, 9} {
			require.EqualValues(t, "null", row[i])
		}
		return
	}
	slices.Sort(want.values)
	if want.whole {
		require.EqualValues(t, want.exact.String(), row[2], "sums of integers are exact")
	} else {
		sum, _ := want.sum.Float64()
		scale := 0.0
		for _, v := range want.values {
			scale += math.Abs(v)
		}
		require.InDelta(t, sum, number(2), 1e-12*scale)
	}
	require.InDelta(t, want.mean(), number(3), 1e-12*math.Max(math.Abs(want.values[0]), math.Abs(want.values[n-1])))
	if n == 1 {
		require.EqualValues(t, "null", row[4])
	} else {
		require.InEpsilon(t, 1+want.variance(), 1+number(4), 1e-9)
		require.InEpsilon(t, 1+math.Sqrt(want.variance()), 1+number(5), 1e-9)
	}
	for i, q := range map[int]float64{6: 0, 7: 0.5, 8: 0.95, 9: 1} {
		exact := want.values[max(int(math.Ceil(q*float64(n))), 1)-1]
		require.LessOrEqual(t, math.Abs(number(i)-exact), QuantileError*math.Abs(exact)*(1+1e-9), "p%g of %d", 100*q, n)
	}
	// Five times the standard error, and what rounding to whole numbers makes of few.
	require.InDelta(t, float64(len(want.tags)), number(10), 5*DistinctError*float64(len(want.tags))+0.5)
	if want.texts == 0 {
		require.Equal(t, want.values[n-1], number(12))
	}
}

// exactTop is what topk of texts comes to where it is exact.
func exactTop(counts map[string]uint64, k int) api.QueryTopValues {
	keys := slices.Collect(maps.Keys(counts))
	slices.SortFunc(keys, func(a, b string) int { return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b)) })
	out := api.QueryTopValues{Values: []api.QueryFrequency{}}
	for _, key := range keys[:min(k, len(keys))] {
		out.Values = append(out.Values, api.QueryFrequency{Value: json.RawMessage(strconv.Quote(key)), Count: counts[key]})
	}
	return out
}

// TestDependsOnTheDataAlone: accumulators of the same records are the same bytes, however the records were cut and merged, as
// long as there are no floats, no distinct counts, and no more values to find the most frequent of than there is room for.
func TestDependsOnTheDataAlone(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	list := randomSamples(r, 500, false)
	p, err := newPlan(&Query{
		Key: "place/seq", Where: "tag != 't1'", GroupBy: []string{"place"},
		Aggregates: []string{"variance(n), p50(n), min(n), max(tag), count(n > 0), topk(n, 5), topk(tag, 5)"},
	})
	require.NoError(t, err)
	var first []byte
	for range 20 {
		encoded, err := folded(t, r, p, list).Encode()
		require.NoError(t, err)
		if first == nil {
			first = encoded
		}
		require.Equal(t, first, encoded)
	}
}

// TestDistinct: estimates of many values are within five standard errors, also where one sketch is dense and another sparse.
func TestDistinct(t *testing.T) {
	for _, n := range []int{1, 100, 10_000, 200_000} {
		p, err := newPlan(&Query{Aggregates: []string{"distinct(key), distinct(len(key)), distinct(int(key))"}})
		require.NoError(t, err)
		whole := newAccumulator(p)
		for _, cut := range [][2]int{{0, n / 10}, {n / 20, n}} {
			acc := newAccumulator(p)
			var batch []byte
			for i := cut[0]; i < cut[1]; i++ {
				batch = packed.Append(batch, fmt.Appendf(nil, "%d", i), nil, 1, 0)
			}
			require.NoError(t, acc.Add(t.Context(), batch))
			encoded, err := acc.Encode()
			require.NoError(t, err)
			require.NoError(t, whole.Merge(encoded))
		}
		row := resultOf(t, whole).Rows[0]
		for i, want := range map[int]int{0: n, 1: len(fmt.Sprint(n - 1)), 2: n} {
			var got float64
			require.NoError(t, json.Unmarshal(row[i], &got))
			require.InDelta(t, want, got, 5*DistinctError*float64(want)+0.5)
		}
	}
}

// TestRuns: what is folded in by runs is what is folded in record by record, whatever interrupts runs: other groups, records
// that expire, values that are too short, keys without parts, groups with long names, damage.
func TestRuns(t *testing.T) {
	q := Query{Layout: "a:i16@0,b:u32@2,c:i64@6,d:i32@14", Aggregates: []string{"count(), mean(a), p50(a), sum(b), p95(c), sum(c), count(d)"}}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 9))
		var batch []byte
		for range 1 + r.IntN(2000) {
			key := []string{"a/1", "a", "ab/1", "", "/", "abcdefg/1", "abcdefgh/1", "a-very-long-name/1"}[min(r.IntN(80), 7)]
			if r.IntN(3) > 0 {
				key = "abc/x"
			}
			a := uint16(r.IntN(3000) - 500)
			if r.IntN(20) == 0 {
				key, a = "ab", 'c'|'/'<<8 // with its value it looks like a key of another group
			}
			value := binary.LittleEndian.AppendUint16(nil, a)
			value = binary.LittleEndian.AppendUint32(value, r.Uint32())
			value = binary.LittleEndian.AppendUint64(value, r.Uint64()>>r.IntN(60))
			value = binary.LittleEndian.AppendUint32(value, r.Uint32())
			if r.IntN(100) == 0 {
				value = value[:r.IntN(len(value))]
			}
			expires := hlc.Timestamp(0)
			if r.IntN(100) == 0 {
				expires = 5
			}
			batch = packed.Append(batch, []byte(key), value, 1, expires)
		}
		if seed%4 == 0 {
			batch = batch[:r.IntN(len(batch))]
		}
		for _, groups := range [][]string{nil, {"key[0]"}} {
			q.GroupBy = groups
			p, err := newPlan(&q)
			require.NoError(t, err)
			fast, slow := newAccumulator(p), newAccumulator(p)
			require.NotNil(t, fast.runs)
			slow.runs = nil
			err1, err2 := fast.Add(t.Context(), batch), slow.Add(t.Context(), batch)
			require.Equal(t, err2 == nil, err1 == nil, "seed %d", seed)
			got, err := fast.Encode()
			require.NoError(t, err)
			want, err := slow.Encode()
			require.NoError(t, err)
			require.Equal(t, want, got, "seed %d", seed)
			require.Equal(t, slow.memory, fast.memory)
		}
	}
}
