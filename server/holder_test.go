package server

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/raftstore"
)

// retainer is a store that remembers the holds it was told of.
type retainer struct {
	store
	holds []raftstore.Hold
	from  hlc.Timestamp
}

func (r *retainer) Retain(holds []raftstore.Hold) hlc.Timestamp {
	r.holds = holds
	return r.from
}

// TestHolder: the report names what the store keeps to, and nothing while there are no holds; what a driver says that was
// replaced without knowing takes no hold away.
func TestHolder(t *testing.T) {
	s := &retainer{from: 5}
	var h holder
	reported := func() (version, from uint64) {
		var req locuspb.HeartbeatRequest
		h.report(&req)
		return req.HoldsVersion, req.ReadableFrom
	}
	is := func(wantVersion, wantFrom uint64, holds ...raftstore.Hold) {
		t.Helper()
		version, from := reported()
		require.Equal(t, wantVersion, version)
		require.Equal(t, wantFrom, from)
		require.ElementsMatch(t, holds, s.holds)
	}
	h.heard(s, nil)
	is(0, 0)
	h.heard(s, &locuspb.Holds{Version: 2<<32 | 1, Held: []*locuspb.Held{{Timestamp: 7, Deadline: 9}}})
	is(2<<32|1, 5, raftstore.Hold{Timestamp: 7, Deadline: 9})
	h.heard(s, nil)
	h.heard(s, &locuspb.Holds{Version: 1<<32 | 9})
	is(2<<32|1, 5, raftstore.Hold{Timestamp: 7, Deadline: 9})
	h.heard(s, &locuspb.Holds{Version: 2<<32 | 2})
	is(0, 0)
	h.heard(s, &locuspb.Holds{Version: 1<<32 | 9, Held: []*locuspb.Held{{Timestamp: 7, Deadline: 9}}})
	is(0, 0)
}
