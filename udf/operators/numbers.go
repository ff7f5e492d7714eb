package operators

import (
	"math"
	"math/big"
	"math/bits"
)

// numbers sums. Integers are summed exactly, in 128 bits, which 2^63 of them can't overflow: so their sum and mean
// depend on no order. Floats are summed with Neumaier's compensation ("Rundungsfehleranalyse einiger Verfahren zur
// Summation endlicher Summen", 1974), and the last bits of that depend on how the data is cut into parts.
type numbers struct {
	ints   uint64 // how many
	lo, hi uint64 // two's complement
	floats uint64
	sum    float64
	carry  float64 // what sum has lost
}

func (n *numbers) add(v value) {
	if v.kind == kindInt {
		n.addInteger(v.int())
		return
	}
	n.floats++
	n.addFloat(v.float())
}

func (n *numbers) addInteger(i int64) {
	var carry uint64
	n.ints++
	n.lo, carry = bits.Add64(n.lo, uint64(i), 0)
	n.hi += carry + uint64(i>>63)
}

func (n *numbers) addFloat(f float64) {
	s := n.sum + f
	if math.Abs(n.sum) >= math.Abs(f) {
		n.carry += n.sum - s + f
	} else {
		n.carry += f - s + n.sum
	}
	n.sum = s
}

func (n *numbers) merge(o *numbers) {
	var carry uint64
	n.lo, carry = bits.Add64(n.lo, o.lo, 0)
	n.hi += o.hi + carry
	n.ints += o.ints
	n.floats += o.floats
	n.addFloat(o.sum)
	n.carry += o.carry
}

func (n *numbers) count() uint64 { return n.ints + n.floats }

// whole is the sum of the integers.
func (n *numbers) whole() *big.Int {
	x := new(big.Int).SetInt64(int64(n.hi))
	return x.Lsh(x, 64).Or(x, new(big.Int).SetUint64(n.lo))
}

// float is the sum of the floats.
func (n *numbers) float() float64 { return n.sum + n.carry }

// total is the sum of all: an integer if all are, or nil if there are none.
func (n *numbers) total() any {
	switch {
	case n.count() == 0:
		return nil
	case n.floats == 0:
		return n.whole()
	}
	f, _ := new(big.Float).SetInt(n.whole()).Float64()
	return f + n.float()
}

// mean is correctly rounded if all are integers; nil if there are none.
func (n *numbers) mean() any {
	switch {
	case n.count() == 0:
		return nil
	case n.floats == 0:
		return ratio(n.whole(), new(big.Int).SetUint64(n.ints))
	}
	f, _ := new(big.Float).SetInt(n.whole()).Float64()
	return (f + n.float()) / float64(n.count())
}

func ratio(a, b *big.Int) float64 {
	f, _ := new(big.Rat).SetFrac(a, b).Float64()
	return f
}

// squares makes a variance, together with numbers: exact for integers, whose squares are summed in 192 bits, by
// Welford's method for floats ("Note on a method for calculating corrected sums of squares and products", 1962).
type squares struct {
	lo, mid, hi uint64
	n           uint64 // floats
	mean, m2    float64
}

func (s *squares) add(v value) {
	if v.kind == kindInt {
		hi, lo := bits.Mul64(magnitude(v.int()), magnitude(v.int()))
		var carry uint64
		s.lo, carry = bits.Add64(s.lo, lo, 0)
		s.mid, carry = bits.Add64(s.mid, hi, carry)
		s.hi += carry
		return
	}
	f := v.float()
	s.n++
	d := f - s.mean
	s.mean += d / float64(s.n)
	s.m2 += d * (f - s.mean)
}

func (s *squares) merge(o *squares) {
	var carry uint64
	s.lo, carry = bits.Add64(s.lo, o.lo, 0)
	s.mid, carry = bits.Add64(s.mid, o.mid, carry)
	s.hi += o.hi + carry
	_, s.mean, s.m2 = join(float64(s.n), s.mean, s.m2, float64(o.n), o.mean, o.m2)
	s.n += o.n
}

// variance is that of a sample (divided by n-1); nil of fewer than two values.
func (s *squares) variance(n *numbers) any {
	count := n.count()
	if count < 2 {
		return nil
	}
	one := new(big.Int).SetUint64(n.ints)
	sum := n.whole()
	// M2 of the integers is (ints * squares - sum^2) / ints.
	m2 := new(big.Int).Mul(one, s.whole())
	m2.Sub(m2, new(big.Int).Mul(sum, sum))
	if n.floats == 0 {
		return ratio(m2, new(big.Int).Mul(one, new(big.Int).SetUint64(count-1)))
	}
	if n.ints == 0 {
		return s.m2 / float64(count-1)
	}
	_, _, all := join(float64(n.ints), ratio(sum, one), ratio(m2, one), float64(s.n), s.mean, s.m2)
	return all / float64(count-1)
}

func (s *squares) whole() *big.Int {
	x := new(big.Int).SetUint64(s.hi)
	x.Lsh(x, 64).Or(x, new(big.Int).SetUint64(s.mid))
	return x.Lsh(x, 64).Or(x, new(big.Int).SetUint64(s.lo))
}

// join joins the count, mean and M2 of two sets (Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm
// for computing sample variances", 1979).
func join(na, ma, qa, nb, mb, qb float64) (n, mean, m2 float64) {
	if nb == 0 {
		return na, ma, qa
	}
	n = na + nb
	d := mb - ma
	return n, ma + d*nb/n, qa + qb + d*d*na*nb/n
}
