package storesim

import (
	"fmt"

	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/topology"
)

// replicaKey names a replica for ever (I11).
type replicaKey struct {
	id      ids.RangeID
	replica ids.ReplicaID
}

// replicaLife is what descriptors have said of a replica so far.
type replicaLife struct {
	store ids.StoreID
	first uint64 // configuration epoch it was first seen at
	gone  uint64 // lowest one after that it was missing at; 0: none
}

// observeReplicas checks that replica ids are never given twice (I11): a replica stays on its store, and one that a later
// configuration does not have is in none after that.
func (c *Cluster) observeReplicas(d *topology.Descriptor) {
	for k, life := range c.lives {
		if k.id != d.ID || d.Epoch.Conf <= life.first {
			continue
		}
		if _, ok := d.Replica(k.replica); !ok && (life.gone == 0 || d.Epoch.Conf < life.gone) {
			life.gone = d.Epoch.Conf
		}
	}
	for _, r := range d.Replicas {
		k := replicaKey{d.ID, r.ID}
		life := c.lives[k]
		switch {
		case life == nil:
			c.lives[k] = &replicaLife{store: r.Store, first: d.Epoch.Conf}
		case life.store != r.Store:
			c.violate(fmt.Errorf("I11: replica %s of range %s is on stores %s and %s", r.ID, d.ID, life.store, r.Store))
		case life.gone != 0 && d.Epoch.Conf > life.gone:
			c.violate(fmt.Errorf("I11: replica %s of range %s was gone at epoch %d and is back at %d", r.ID, d.ID, life.gone, d.Epoch.Conf))
		default:
			life.first = min(life.first, d.Epoch.Conf)
		}
	}
}
