package api

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
)

func TestSpanCrossesTheWire(t *testing.T) {
	for _, s := range []keys.Span{
		{}, {Start: []byte("a")}, {End: []byte("b")}, {Start: []byte("a"), End: []byte("b")},
	} {
		b, err := proto.Marshal(SpanToProto(s))
		require.NoError(t, err)
		m := new(locuspb.Span)
		require.NoError(t, proto.Unmarshal(b, m))
		require.Equal(t, s, SpanFromProto(m))
	}
	require.Equal(t, keys.Span{}, SpanFromProto(nil))
	require.Equal(t, keys.Span{}, SpanFromProto(&locuspb.Span{Start: []byte{}, End: []byte{}}), "an empty end is the end of all keys")
}

func TestDescriptorCrossesTheWire(t *testing.T) {
	for _, r := range routes() {
		b, err := proto.Marshal(RouteToProto(r))
		require.NoError(t, err)
		m := new(locuspb.Route)
		require.NoError(t, proto.Unmarshal(b, m))
		back, err := RouteFromProto(m)
		require.NoError(t, err)
		require.Equal(t, r, back)

		d, err := DescriptorFromProto(m.Descriptor_)
		require.NoError(t, err)
		require.Equal(t, r.Descriptor, d)
	}
	require.Nil(t, DescriptorToProto(nil))
}

func TestBadDescriptorsAreErrors(t *testing.T) {
	for _, tc := range []struct {
		name   string
		m      *locuspb.RangeDescriptor
		reason string
	}{
		{"missing", nil, "is missing"},
		{"empty", &locuspb.RangeDescriptor{}, "no range id"},
		{"missing replica", &locuspb.RangeDescriptor{RangeId: 1, Replicas: []*locuspb.Replica{nil}}, "unknown role 0"},
		{"role 0", &locuspb.RangeDescriptor{RangeId: 1, Replicas: []*locuspb.Replica{{StoreId: 1}}}, "unknown role 0"},
		{"role 5", &locuspb.RangeDescriptor{RangeId: 1, Replicas: []*locuspb.Replica{{Role: 5}}}, "unknown role 5"},
		{
			"role that is a voter in 8 bits", &locuspb.RangeDescriptor{RangeId: 1, Replicas: []*locuspb.Replica{{Role: 257}}},
			"unknown role 257",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := DescriptorFromProto(tc.m)
			var invalid *InvalidArgumentError
			require.ErrorAs(t, err, &invalid)
			require.Contains(t, invalid.Reason, tc.reason)
			_, err = RouteFromProto(&locuspb.Route{Descriptor_: tc.m})
			require.Error(t, err)
		})
	}
	_, err := RouteFromProto(nil)
	require.Error(t, err)
}

func TestRoutesLeaveOutWhatLeadsNowhere(t *testing.T) {
	good := routes()
	ms := RoutesToProto([]Route{{}, good[0], {Leaseholder: 1}, good[1]})
	require.Len(t, ms, 2)
	ms = append(ms, nil, &locuspb.Route{}, &locuspb.Route{Descriptor_: &locuspb.RangeDescriptor{}})
	require.Equal(t, good, RoutesFromProto(ms))
	require.Nil(t, RoutesFromProto(nil))
	require.Nil(t, RoutesToProto(nil))
}

// TestRolesAreTheirNumbers: the wire carries topology.Role as a number.
func TestRolesAreTheirNumbers(t *testing.T) {
	for number, role := range map[uint32]topology.Role{
		1: topology.Voter, 2: topology.Learner, 3: topology.VoterIncoming, 4: topology.VoterOutgoing,
	} {
		d, err := DescriptorFromProto(&locuspb.RangeDescriptor{RangeId: 1, Replicas: []*locuspb.Replica{{Role: number}}})
		require.NoError(t, err)
		require.Equal(t, role, d.Replicas[0].Role)
	}
}
