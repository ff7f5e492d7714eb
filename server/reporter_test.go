package server

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/topology"
	"github.com/locuskv/locus/raftstore"
)

// TestNews: replicas are looked through after each move, and once more, because a store may count before it shows; and not
// while nothing moves.
func TestNews(t *testing.T) {
	var moved, looks uint64
	leads := false
	n := news{
		moved: func() uint64 { return moved },
		ranges: func() []raftstore.RangeInfo {
			looks++
			return []raftstore.RangeInfo{{Descriptor: &topology.Descriptor{ID: 7}, Leaseholder: leads}}
		},
	}
	n.reported()
	require.False(t, n.look(), "something may have been counted before it was shown in the report")
	looks = 0
	require.False(t, n.look())
	require.False(t, n.look())
	require.Zero(t, looks, "nothing moved")

	moved++
	require.False(t, n.look(), "counted and not shown")
	leads = true
	require.True(t, n.look(), "shown without another count")
	require.EqualValues(t, 2, looks)

	n.reported()
	require.False(t, n.look(), "it was reported")

	n.moved = nil // it may move at any time
	leads = false
	require.True(t, n.look())
	require.True(t, n.look())
}
