package load

import (
	"math"
	"math/rand/v2"
	"sync"
)

// chooser picks the number of a key. It is one worker's.
type chooser interface{ next() uint64 }

// uniform picks every key with the same probability.
type uniform struct {
	rng  *rand.Rand
	keys uint64
}

func (u *uniform) next() uint64 { return u.rng.Uint64N(u.keys) }

// theta is YCSB's skew: of a million keys, the first takes about 1 in 15 of all choices.
const theta = 0.99

// zipfian picks number i with a probability proportional to 1/(i+1)^theta, by the method of Gray et al.,
// "Quickly Generating Billion-Record Synthetic Databases" (SIGMOD 1994). Popular numbers are neighbours, but
// their keys are not (AppendKey).
type zipfian struct {
	rng  *rand.Rand
	keys uint64
	zeta float64 // of keys
	eta  float64
}

// zeta is the sum of 1/i^theta over (from, to], added to what it is for from.
func zeta(from uint64, sum float64, to uint64) float64 {
	for i := from + 1; i <= to; i++ {
		sum += math.Pow(float64(i), -theta)
	}
	return sum
}

// zetaOf2 is the zeta of two keys.
var zetaOf2 = zeta(0, 0, 2)

// newZipfian makes a chooser. The zeta of the number of keys is given, because it takes time to compute and is
// the same for all workers.
func newZipfian(rng *rand.Rand, keys uint64, zetaOfKeys float64) *zipfian {
	z := &zipfian{rng: rng, keys: keys, zeta: zetaOfKeys}
	z.settle()
	return z
}

func (z *zipfian) settle() {
	n := float64(z.keys)
	z.eta = (1 - math.Pow(2/n, 1-theta)) / (1 - zetaOf2/z.zeta) // not used, and perhaps no number, for up to two keys
}

// grow makes it choose from more keys.
func (z *zipfian) grow(keys uint64) {
	if keys > z.keys {
		z.zeta = zeta(z.keys, z.zeta, keys)
		z.keys = keys
		z.settle()
	}
}

func (z *zipfian) next() uint64 {
	u := z.rng.Float64()
	switch uz := u * z.zeta; {
	case uz < 1 || z.keys == 1:
		return 0
	case uz < zetaOf2 || z.keys == 2:
		return 1
	}
	n := uint64(float64(z.keys) * math.Pow(z.eta*u-z.eta+1, 1/(1-theta)))
	return min(n, z.keys-1)
}

// latest prefers keys inserted last, zipfian by their age.
type latest struct {
	zipfian *zipfian
	grown   *inserts
}

func (l *latest) next() uint64 {
	l.zipfian.grow(l.grown.visible())
	return l.zipfian.keys - 1 - l.zipfian.next()
}

// inserts hands out the numbers of new keys, and knows up to where all are there. It is shared by all workers.
type inserts struct {
	mu struct {
		sync.Mutex
		next, all uint64
		done      map[uint64]bool // above all; bounded by the number of workers
	}
}

func newInserts(loaded uint64) *inserts {
	s := new(inserts)
	s.mu.next, s.mu.all, s.mu.done = loaded, loaded, make(map[uint64]bool)
	return s
}

func (s *inserts) begin() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.mu.next
	s.mu.next++
	return n
}

// end says that the insert of a number is over. One that failed ends too: who then chooses its key finds
// nothing, which is counted, instead of nobody ever choosing a later one.
func (s *inserts) end(n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.done[n] = true
	for s.mu.done[s.mu.all] {
		delete(s.mu.done, s.mu.all)
		s.mu.all++
	}
}

// visible is the number of keys that are there for certain, those from 0 on.
func (s *inserts) visible() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.all
}
