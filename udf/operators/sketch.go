package operators

import (
	"math"
	"slices"

	"github.com/DataDog/sketches-go/ddsketch/mapping"
	"github.com/axiomhq/hyperloglog"
	"github.com/cespare/xxhash/v2"
)

const (
	// QuantileError is the relative error of quantiles: what is answered is within 1% of a value of that rank.
	QuantileError = 0.01
	// DistinctError is the standard error of distinct counts: 1.04/sqrt(2^14).
	DistinctError = 1.04 / 128
)

// logarithm maps numbers to bins, each of whose middle is within QuantileError of all numbers in it.
var logarithm = newLogarithm()

func newLogarithm() *mapping.CubicallyInterpolatedMapping {
	m, err := mapping.NewCubicallyInterpolatedMapping(QuantileError)
	if err != nil {
		panic(err) // the constant is between 0 and 1
	}
	return m
}

// smallBins are the bins of small integers, which most data is made of.
var smallBins = func() (list [1024]int32) {
	for i := 1; i < len(list); i++ {
		list[i] = int32(logarithm.Index(float64(i)))
	}
	return list
}()

// quantiles is a DDSketch (Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch with
// relative-error guarantees", 2019): it counts numbers in bins of a logarithm. The counts are integers, so that a sketch
// depends on no order; its memory is counted, and limited with that of the accumulator, instead of bins being collapsed.
type quantiles struct {
	zero               uint64 // and what is too near to it for a float's full precision
	negative, positive bins
	floats             bool // some were no integers
}

// add counts a number, and returns how much memory that took.
func (q *quantiles) add(v value) int {
	if v.kind == kindInt {
		return q.addInteger(v.int())
	}
	q.floats = true
	return q.addFloat(v.float())
}

func (q *quantiles) addInteger(i int64) int {
	if i > 0 && i < int64(len(smallBins)) {
		return q.positive.add(int(smallBins[i]))
	}
	if i < 0 && i > -int64(len(smallBins)) {
		return q.negative.add(int(smallBins[-i]))
	}
	return q.addFloat(float64(i))
}

func (q *quantiles) addFloat(f float64) int {
	size := min(math.Abs(f), logarithm.MaxIndexableValue())
	switch {
	case size < logarithm.MinIndexableValue():
		q.zero++
		return 0
	case f > 0:
		return q.positive.add(logarithm.Index(size))
	}
	return q.negative.add(logarithm.Index(size))
}

func (q *quantiles) merge(o *quantiles) (grown int) {
	q.zero += o.zero
	q.floats = q.floats || o.floats
	return q.negative.merge(&o.negative) + q.positive.merge(&o.positive)
}

// at is the number of rank ceil(p*n), counted from 1 in rising order (the nearest rank); nil if there are none. Where
// all are integers, and one alone falls into the bin, it is that one.
func (q *quantiles) at(p float64) any {
	n := q.negative.total() + q.zero + q.positive.total()
	if n == 0 {
		return nil
	}
	rank := uint64(max(math.Ceil(p*float64(n)), 1))
	for i := len(q.negative.counts) - 1; i >= 0; i-- {
		if q.negative.counts[i] >= rank {
			return -q.middle(q.negative.first + i)
		}
		rank -= q.negative.counts[i]
	}
	if q.zero >= rank {
		return 0.0
	}
	rank -= q.zero
	for i, c := range q.positive.counts {
		if c >= rank {
			return q.middle(q.positive.first + i)
		}
		rank -= c
	}
	return nil // not reached: the ranks are those of all
}

func (q *quantiles) middle(bin int) float64 {
	f := logarithm.Value(bin)
	if r := math.Round(f); !q.floats && r >= 1 && logarithm.Index(r) == bin && logarithm.Index(r+1) != bin && (r == 1 || logarithm.Index(r-1) != bin) {
		return r
	}
	return f
}

// bins are counts from one bin on.
type bins struct {
	first  int
	counts []uint64
}

// binStep is how many bins are added at a time.
const binStep = 16

// firstBin and lastBin are those of the smallest and the largest number.
var (
	firstBin = logarithm.Index(logarithm.MinIndexableValue())
	lastBin  = logarithm.Index(logarithm.MaxIndexableValue())
)

// add counts one, and returns how much memory that took.
func (b *bins) add(bin int) (grown int) {
	if i := uint(bin - b.first); i < uint(len(b.counts)) {
		b.counts[i]++
		return 0
	}
	return b.grow(bin, 1)
}

func (b *bins) addMany(bin int, n uint64) (grown int) {
	if i := uint(bin - b.first); i < uint(len(b.counts)) {
		b.counts[i] += n
		return 0
	}
	return b.grow(bin, n)
}

func (b *bins) grow(bin int, n uint64) int {
	before := cap(b.counts)
	if len(b.counts) == 0 {
		b.first = bin - binStep/2
		b.counts = make([]uint64, binStep)
	} else if bin < b.first {
		more := (b.first - bin + binStep - 1) / binStep * binStep
		b.counts = slices.Concat(make([]uint64, more), b.counts)
		b.first -= more
	} else {
		more := (bin - b.first - len(b.counts) + binStep) / binStep * binStep
		b.counts = slices.Concat(b.counts, make([]uint64, more))
	}
	b.counts[bin-b.first] += n
	return 8 * (cap(b.counts) - before)
}

func (b *bins) merge(o *bins) (grown int) {
	for i, c := range o.counts {
		if c > 0 {
			grown += b.addMany(o.first+i, c)
		}
	}
	return grown
}

func (b *bins) total() (n uint64) {
	for _, c := range b.counts {
		n += c
	}
	return n
}

// distinct counts distinct values (Flajolet, Fusy, Gandouet and Meunier, "HyperLogLog: the analysis of a near-optimal
// cardinality estimation algorithm", 2007).
type distinct struct {
	sketch  *hyperloglog.Sketch
	charged int
}

// What a sketch takes: little as long as it lists hashes, and then a byte for each register.
const (
	distinctSize = 512
	distinctMost = 80 << 10
)

func newDistinct() *distinct { return &distinct{sketch: hyperloglog.New14()} }

// add counts a scalar, and returns about how much memory that took.
func (d *distinct) add(v value) int {
	if v.kind == kindText {
		d.sketch.InsertHash(xxhash.Sum64(v.text))
	} else {
		v = v.normal()
		d.sketch.InsertHash(mix(v.bits ^ uint64(v.kind)<<56))
	}
	return d.charge(8)
}

// mix is the finalizer of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (d *distinct) charge(n int) int {
	n = min(n, distinctMost-d.charged)
	d.charged += n
	return n
}
