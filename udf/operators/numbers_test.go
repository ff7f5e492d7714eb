package operators

import (
	"encoding/json"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/packed"
)

// TestWideNumbers: sums and squares of integers of 64 bits carry into all words, in add and in merge.
func TestWideNumbers(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		var n [3]numbers
		var s [3]squares
		sum, square := new(big.Int), new(big.Int)
		for i := range 200 {
			x := int64(r.Uint64())
			if i%3 == 0 {
				x = []int64{math.MinInt64, math.MaxInt64, -1}[r.IntN(3)]
			}
			n[i%3].add(integer(x))
			s[i%3].add(integer(x))
			b := big.NewInt(x)
			sum.Add(sum, b)
			square.Add(square, new(big.Int).Mul(b, b))
		}
		for i := 1; i < 3; i++ {
			n[0].merge(&n[i])
			s[0].merge(&s[i])
		}
		require.Zero(t, sum.Cmp(n[0].whole()), "%s is not %s", n[0].whole(), sum)
		require.Zero(t, square.Cmp(s[0].whole()))
		var again numbers
		d := &decoder{b: n[0].append(nil)}
		again.read(d)
		require.False(t, d.bad)
		require.Equal(t, n[0], again)
		wide := &decoder{b: s[0].append(nil)}
		var back squares
		back.read(wide)
		require.Equal(t, s[0], back)
	}
	var n numbers
	for range 3 {
		n.add(number(1e16))
		n.add(number(1))
		n.add(number(-1e16))
	}
	require.Equal(t, 3.0, n.total(), "what a float's sum loses is carried")
}

func TestCompareValues(t *testing.T) {
	rising := []value{
		null, no, yes, number(-1e300), integer(math.MinInt64), integer(-3), number(-2.5), integer(0), number(0.5), integer(1), number(1.5),
		integer(1<<53 + 1), number(1<<53 + 2), integer(math.MaxInt64 - 1), integer(math.MaxInt64), number(1 << 63), textOf(empty), textOf([]byte("a")), textOf([]byte("ab")),
	}
	for i, a := range rising {
		for j, b := range rising {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			require.Equal(t, want, compareValues(a, b), "%d and %d", i, j)
		}
	}
	require.Zero(t, compareValues(integer(3), number(3)))
}

// TestEqualNumbers: which of 1 and 1.0 came first shows in no group, extreme or count of distinct values.
func TestEqualNumbers(t *testing.T) {
	p, err := newPlan(&Query{GroupBy: []string{"n"}, Aggregates: []string{"min(n), max(n), distinct(n)"}})
	require.NoError(t, err)
	var encoded [2][]byte
	for i, values := range [][2]string{{`{"n":1}`, `{"n":1.0}`}, {`{"n":1.0}`, `{"n":1}`}} {
		acc := newAccumulator(p)
		for _, v := range values {
			require.NoError(t, acc.Add(t.Context(), packed.Append(nil, []byte("k"), []byte(v), 1, 0)))
		}
		encoded[i], err = acc.Encode()
		require.NoError(t, err)
		require.Equal(t, []json.RawMessage{[]byte("1"), []byte("1"), []byte("1"), []byte("1")}, resultOf(t, acc).Rows[0])
	}
	require.Equal(t, encoded[0], encoded[1])
}
