package storesim

import (
	"bytes"
	"fmt"

	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/packed"
	"github.com/locuskv/locus/internal/topology"
	"github.com/locuskv/locus/raftstore"
)

// views has one store scan all its ranges at t (0: now), as range functions do: whatever the role of its replicas, and from its scan
// cache where that knows. What a store refuses it refuses; what it shows must be the cut at t. Nobody waits for it.
func (cl *Client) views(t hlc.Timestamp) {
	n := cl.c.Nodes[cl.c.W.Rand.IntN(len(cl.c.Nodes))]
	if !n.Up() {
		return
	}
	for _, info := range n.Store.Ranges() {
		d := info.Descriptor
		if d == nil {
			continue
		}
		n.Store.OpenView(d.ID, d.Epoch.Bounds, t, func(v raftstore.View, err error) {
			if err != nil {
				return
			}
			defer v.Close()
			if err := cl.look(v, d); err != nil {
				cl.c.violate(fmt.Errorf("client %d: a view of range %s on store %s: %w", cl.id, d.ID, n.ID, err))
			}
		})
	}
}

// look scans a part of a view, twice: what the first scan leaves in the cache, the second one finds.
func (cl *Client) look(v raftstore.View, d *topology.Descriptor) error {
	span := d.Span.Intersect(everything())
	var inside [][]byte
	for _, key := range cl.allKeys() {
		if span.Contains(key) {
			inside = append(inside, key)
		}
	}
	if n := len(inside); n > 0 && cl.c.W.Chance(0.5) { // from or up to some key
		if at := inside[cl.c.W.Rand.IntN(n)]; cl.c.W.Chance(0.5) {
			span.Start = at
		} else {
			span.End = at
		}
	}
	if span.Empty() {
		return nil
	}
	for range 2 {
		seen, err := scanView(v, span)
		if err != nil {
			return err
		}
		for _, key := range inside {
			if !span.Contains(key) {
				continue
			}
			c := seen[string(key)]
			c.key, c.at, c.who = string(key), v.Timestamp(), fmt.Sprintf("client %d, a view", cl.id)
			cl.c.ledger.saw(c)
		}
	}
	return nil
}

// scanView takes the records of a span, each key once and in order (P8).
func scanView(v raftstore.View, span keys.Span) (seen map[string]cut, err error) {
	seen = make(map[string]cut)
	last := []byte(nil)
	scanned := v.Scan(span, 0, func(b raftstore.Batch) bool {
		r, n := packed.NewReader(b.Packed), 0
		for r.Next() && err == nil {
			n++
			if e := r.Expires(); e != 0 && (b.Expires == 0 || e < b.Expires) {
				err = fmt.Errorf("%q expires at %s, before %s, which the batch says", r.Key(), e, b.Expires)
			}
			if !span.Contains(r.Key()) || last != nil && bytes.Compare(r.Key(), last) <= 0 {
				err = fmt.Errorf("a scan of %s yields %q after %q", span, r.Key(), last)
			}
			last = bytes.Clone(r.Key())
			seen[string(last)] = cut{value: string(r.Value()), ts: r.Timestamp()}
		}
		if err == nil {
			err = r.Err()
		}
		if err == nil && n != b.Records {
			err = fmt.Errorf("a batch of %d records says that it has %d", n, b.Records)
		}
		return err == nil
	})
	if err == nil {
		err = scanned
	}
	return seen, err
}
