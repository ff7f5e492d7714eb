package topology

import (
	"bytes"
	"fmt"

	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// Validate says what makes a descriptor impossible; nil if nothing does. A descriptor without replicas is
// possible: it is what a node has heard of a range whose members it doesn't know.
func (d *Descriptor) Validate() error {
	if d.ID == 0 {
		return fmt.Errorf("topology: descriptor %s has no range id", d)
	}
	if d.Span.Empty() {
		return fmt.Errorf("topology: descriptor %s has an empty span", d)
	}
	stores := map[ids.StoreID]bool{}
	replicas := map[ids.ReplicaID]bool{}
	for _, r := range d.Replicas {
		switch {
		case r.Store == 0 || r.ID == 0:
			return fmt.Errorf("topology: descriptor %s has a replica without a store or an id", d)
		case !r.Role.Valid():
			return fmt.Errorf("topology: descriptor %s has a replica of unknown role %d", d, r.Role)
		case r.ID >= d.NextReplica:
			return fmt.Errorf("topology: descriptor %s would give replica id %d again: the next is %d (I11)", d, r.ID, d.NextReplica)
		case stores[r.Store]:
			return fmt.Errorf("topology: descriptor %s has two replicas on store %s", d, r.Store)
		case replicas[r.ID]:
			return fmt.Errorf("topology: descriptor %s has replica id %d twice (I11)", d, r.ID)
		}
		stores[r.Store], replicas[r.ID] = true, true
	}
	if len(d.Replicas) > 0 && len(d.Voters()) == 0 {
		return fmt.Errorf("topology: descriptor %s has no voter", d)
	}
	return nil
}

// TilingError says where descriptors leave a gap, or cover keys twice.
type TilingError struct {
	Span    keys.Span
	Overlap bool // else a gap
}

func (e *TilingError) Error() string {
	if e.Overlap {
		return fmt.Sprintf("topology: the span %s is covered twice (I3)", e.Span)
	}
	return fmt.Sprintf("topology: the span %s is covered by no range (I3)", e.Span)
}

// CheckTiling says whether descriptors, in key order, cover a span without gap or overlap: nil, or a
// *TilingError with the first place where they do not. What they cover outside the span does not count.
// Invariant: I3 is that the newest descriptors tile the span of all keys.
func CheckTiling(span keys.Span, ordered []*Descriptor) error {
	if span.Empty() {
		return nil
	}
	at, done := span.Start, false // covered up to at; done: to the end of the span
	for _, d := range ordered {
		part := d.Span.Intersect(span)
		switch {
		case part.Empty():
			continue
		case done || bytes.Compare(part.Start, at) < 0:
			return &TilingError{Span: twice(part, at, done), Overlap: true}
		case bytes.Compare(part.Start, at) > 0:
			return &TilingError{Span: keys.Span{Start: at, End: part.Start}}
		}
		at, done = part.End, keys.Span{Start: part.End, End: span.End}.Empty() || part.End == nil
	}
	if !done {
		return &TilingError{Span: keys.Span{Start: at, End: span.End}}
	}
	return nil
}

// twice is the part of a span that lies below what is covered already.
func twice(part keys.Span, at []byte, done bool) keys.Span {
	if done {
		return part
	}
	return part.Intersect(keys.Span{End: at})
}
