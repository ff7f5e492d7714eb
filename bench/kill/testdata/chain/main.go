// Command chain is the guest of TestFunctions (bench/kill): a range function whose result shows whether each record was
// seen once and in its place, and a map function that says of each record what it saw.
package main

import (
	"context"
	"fmt"
	"hash/fnv"

	"github.com/locuskv/locus/udf/guest"
)

// Chain is a polynomial over the hashes of records. Its merge is associative and not commutative: a record that is seen
// twice, never, or in another place makes another H.
type Chain struct{ H, P, N uint64 }

const base = 0x9E3779B97F4A7C15

// add folds a record in, hashing it as many times as the test wants the work to last.
func add(rounds int, c Chain, key, value []byte) Chain {
	return Chain{c.H*base + hash(rounds, key, value), c.P * base, c.N + 1}
}

func hash(rounds int, key, value []byte) uint64 {
	h := fnv.New64a()
	h.Write(key)
	h.Write([]byte{0})
	for range rounds {
		h.Write(value)
	}
	return h.Sum64()
}

// work is an accumulator at work; what travels is the chain alone, and the argument comes with Init.
type work struct {
	Chain
	Rounds int
}

func init() {
	guest.Range("chain", guest.Aggregate[int, work, Chain]{
		Init: func(rounds int) (work, error) { return work{Chain{P: 1}, rounds}, nil },
		Add: func(_ context.Context, w work, b guest.Batch) (work, error) {
			for key, value := range b.All() {
				w.Chain = add(w.Rounds, w.Chain, key, value)
			}
			return w, nil
		},
		Merge: func(a, b work) (work, error) {
			return work{Chain{a.H*b.P + b.H, a.P * b.P, a.N + b.N}, a.Rounds}, nil
		},
		Result: func(w work) (Chain, error) { return w.Chain, nil },
	})
	guest.Map("each", func(_ context.Context, rounds int, b guest.Batch, emit func(string) error) error {
		for key, value := range b.All() {
			if err := emit(fmt.Sprintf("%s=%016x", key, hash(rounds, key, value))); err != nil {
				return err
			}
		}
		return nil
	})
}

// main is never called: the host runs init functions only.
func main() {}
