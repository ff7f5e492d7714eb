package load

import (
	"encoding/hex"
	"math/bits"
	"math/rand/v2"
)

// KeyPrefix begins every key that is loaded.
const KeyPrefix = "user"

// KeySize is the length of those keys in bytes.
const KeySize = len(KeyPrefix) + 16

// CounterKey is the one key that the workload counter increments. It sorts before the loaded keys.
var CounterKey = []byte("counter")

// AppendKey appends the key with a number: the prefix and 16 hexadecimal digits of the number, mixed, so that
// neighbouring numbers lie anywhere. Different numbers have different keys.
func AppendKey(b []byte, number uint64) []byte { return appendKey(b, mix(number)) }

func appendKey(b []byte, place uint64) []byte {
	var raw [8]byte
	for i := range raw {
		raw[i] = byte(place >> (56 - 8*i))
	}
	return hex.AppendEncode(append(b, KeyPrefix...), raw[:])
}

// mix is the finalizer of SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators",
// OOPSLA 2014): a bijection.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Splits are the keys at which all parts but the first begin, when the loaded keys are cut into n parts of
// about the same number.
func Splits(n int) [][]byte {
	var out [][]byte
	for i := 1; i < n; i++ {
		place, _ := bits.Div64(uint64(i), 0, uint64(n)) // i/n of 2^64
		out = append(out, appendKey(nil, place))
	}
	return out
}

// noise is where values are cut from: random, so that no store gains by compressing them.
type noise []byte

// noiseSize leaves many different values of the usual sizes; a value takes no time to make.
const noiseSize = 256 << 10

func newNoise(seed uint64, valueSize int) noise {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	out := make(noise, noiseSize+valueSize)
	_, _ = rand.NewChaCha8(key).Read(out) // never fails
	return out
}

// cut is a value. It is shared: read only.
func (n noise) cut(rng *rand.Rand, size int) []byte {
	at := rng.IntN(len(n) - size + 1)
	return n[at : at+size : at+size]
}

// Values makes the values of loaded keys. It is not safe for concurrent use.
type Values struct {
	noise noise
	rng   *rand.Rand
	size  int
}

// NewValues makes values of a size.
func NewValues(seed uint64, size int) *Values {
	return &Values{noise: newNoise(seed, size), rng: newRand(seed, loader), size: size}
}

// Next is a value. It is shared: read only.
func (v *Values) Next() []byte { return v.noise.cut(v.rng, v.size) }

// loader is the stream of random numbers that loading takes; workers take those from 0 on.
const loader = 1 << 63

// newRand makes a stream of random numbers, one of many of a seed.
func newRand(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(mix(seed), mix(stream))) }
