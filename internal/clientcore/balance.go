package clientcore

import (
	"math/rand/v2"

	"github.com/locuskv/locus/internal/ids"
)

// Policy says how a store is chosen for work that more than one can do: calls that touch no key, and reads
// that allow staleness.
type Policy uint8

const (
	// LeastOutstanding takes the better of two stores chosen at random: the one with fewer requests
	// unanswered (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001).
	LeastOutstanding Policy = iota
	// Random takes any.
	Random
	// RoundRobin takes one after another, in proportion to their weights.
	RoundRobin
)

// store is what a Core knows of one store.
type store struct {
	id          ids.StoreID
	outstanding int
	weight      int
	// credit is the state of smooth weighted round-robin: it rises by weight for each choice that the store
	// was a candidate of, and falls by the candidates' sum when it is chosen.
	credit int
	// failures counts connection failures in a row; until downUntil the store is chosen last.
	failures  int
	downUntil Instant
	// listed: the last routes named the store as up.
	listed bool
}

// pick chooses among candidates, which it may reorder; nil if there are none.
func pick(p Policy, rng *rand.Rand, candidates []*store) *store {
	switch {
	case len(candidates) == 0:
		return nil
	case len(candidates) == 1:
		return candidates[0]
	}
	switch p {
	case Random:
		return candidates[rng.IntN(len(candidates))]
	case RoundRobin:
		return roundRobin(candidates)
	}
	i := rng.IntN(len(candidates))
	j := rng.IntN(len(candidates) - 1)
	if j >= i {
		j++
	}
	a, b := candidates[i], candidates[j]
	// Requests divided by weight, compared without a division.
	if b.outstanding*a.weight < a.outstanding*b.weight {
		return b
	}
	return a
}

func roundRobin(candidates []*store) *store {
	sum := 0
	best := candidates[0]
	for _, s := range candidates {
		s.credit += s.weight
		sum += s.weight
		if s.credit > best.credit {
			best = s
		}
	}
	best.credit -= sum
	return best
}
