package api

import (
	"slices"

	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/topology"
)

// Refusals are what replicas of one range have said to a read at a timestamp that they can't show: who is left to be
// asked, and how far back any of them can be read. A replica that came by a snapshot begins there (rule C6), whoever
// leads the range; the timestamp itself is closed, or it would have been closed first, so that a follower serves it as well.
//
// A replica's beginning never falls, so none has to be asked twice. The zero value is ready.
type Refusals struct {
	stores []ids.StoreID
	least  *TimestampUnavailableError
}

// Add notes the refusal of a store's replica.
func (r *Refusals) Add(store ids.StoreID, e *TimestampUnavailableError) {
	r.stores = append(r.stores[:len(r.stores):len(r.stores)], store) // copies share the old
	if r.least == nil || e.Oldest < r.least.Oldest {
		r.least = e
	}
}

// Any says whether there was one.
func (r *Refusals) Any() bool { return r.least != nil }

// Left are the stores of a range's replicas that have not refused. All roles count: one that is on its way out may have
// the longest history.
func (r *Refusals) Left(d *topology.Descriptor) []ids.StoreID {
	var left []ids.StoreID
	for _, x := range d.Replicas {
		if !slices.Contains(r.stores, x.Store) {
			left = append(left, x.Store)
		}
	}
	return left
}

// Err is the refusal of all: that of the replica which can be read furthest back. REQUIRES: Any.
func (r *Refusals) Err() *TimestampUnavailableError {
	e := *r.least
	e.Elsewhere = false
	return &e
}
