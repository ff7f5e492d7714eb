package api

import (
	"fmt"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
)

// The conversions of this file share slices between both sides: descriptors, spans and received messages
// are immutable. Of malformed messages they return an error that says what is wrong, and never panic.

// SpanToProto puts a span on the wire.
func SpanToProto(s keys.Span) *locuspb.Span { return &locuspb.Span{Start: s.Start, End: s.End} }

// SpanFromProto reads a span: an empty end is the end of all keys. A nil message is, as protobuf has it,
// the empty one: the span of all keys. Where a span must be given, check for nil first.
func SpanFromProto(m *locuspb.Span) keys.Span {
	s := keys.Span{Start: m.GetStart(), End: m.GetEnd()}
	if len(s.Start) == 0 {
		s.Start = nil
	}
	if len(s.End) == 0 {
		s.End = nil
	}
	return s
}

// DescriptorToProto puts a descriptor on the wire; nil stays nil.
func DescriptorToProto(d *topology.Descriptor) *locuspb.RangeDescriptor {
	if d == nil {
		return nil
	}
	m := &locuspb.RangeDescriptor{
		RangeId:       uint64(d.ID),
		Span:          SpanToProto(d.Span),
		ConfEpoch:     d.Epoch.Conf,
		BoundsEpoch:   d.Epoch.Bounds,
		NextReplicaId: uint64(d.NextReplica),
	}
	for _, r := range d.Replicas {
		m.Replicas = append(m.Replicas, &locuspb.Replica{
			StoreId: uint64(r.Store), ReplicaId: uint64(r.ID), Role: uint32(r.Role),
		})
	}
	return m
}

// DescriptorFromProto reads a descriptor. A missing message, a range id of 0 and an unknown role are
// errors: with them nothing of it can be relied on. Whether it describes a possible range is
// (*topology.Descriptor).Validate.
func DescriptorFromProto(m *locuspb.RangeDescriptor) (*topology.Descriptor, error) {
	if m == nil {
		return nil, &InvalidArgumentError{Reason: "range descriptor is missing"}
	}
	if m.RangeId == 0 {
		return nil, &InvalidArgumentError{Reason: "range descriptor has no range id"}
	}
	d := &topology.Descriptor{
		ID:          ids.RangeID(m.RangeId),
		Span:        SpanFromProto(m.Span),
		Epoch:       topology.Epoch{Conf: m.ConfEpoch, Bounds: m.BoundsEpoch},
		NextReplica: ids.ReplicaID(m.NextReplicaId),
	}
	for _, r := range m.Replicas {
		role := topology.Role(r.GetRole())
		if uint32(role) != r.GetRole() || !role.Valid() {
			return nil, &InvalidArgumentError{
				Reason: fmt.Sprintf("descriptor of range %d has a replica of unknown role %d", m.RangeId, r.GetRole()),
			}
		}
		d.Replicas = append(d.Replicas, topology.Replica{
			Store: ids.StoreID(r.StoreId), ID: ids.ReplicaID(r.ReplicaId), Role: role,
		})
	}
	return d, nil
}

// RouteToProto puts a route on the wire.
func RouteToProto(r Route) *locuspb.Route {
	return &locuspb.Route{
		Descriptor_:      DescriptorToProto(r.Descriptor),
		LeaseholderStore: uint64(r.Leaseholder),
		Term:             uint64(r.Term),
		ApproxBytes:      r.Bytes,
		ApproxRecords:    r.Records,
	}
}

// RouteFromProto reads a route. One without a valid descriptor is an error: it leads nowhere.
func RouteFromProto(m *locuspb.Route) (Route, error) {
	d, err := DescriptorFromProto(m.GetDescriptor_())
	if err != nil {
		return Route{}, err
	}
	return Route{
		Descriptor:  d,
		Leaseholder: ids.StoreID(m.LeaseholderStore),
		Term:        ids.Term(m.Term),
		Bytes:       m.ApproxBytes,
		Records:     m.ApproxRecords,
	}, nil
}

// RoutesToProto puts routes on the wire, leaving out those without a descriptor.
func RoutesToProto(routes []Route) []*locuspb.Route {
	var out []*locuspb.Route
	for _, r := range routes {
		if r.Descriptor != nil {
			out = append(out, RouteToProto(r))
		}
	}
	return out
}

// RoutesFromProto reads the routes that can be read and leaves out the others: routes are hints, and each
// is checked by the range that it leads to.
func RoutesFromProto(ms []*locuspb.Route) []Route {
	var out []Route
	for _, m := range ms {
		if r, err := RouteFromProto(m); err == nil {
			out = append(out, r)
		}
	}
	return out
}
