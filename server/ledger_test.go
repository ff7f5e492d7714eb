package server

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/topology"
	"github.com/locuskv/locus/raftstore"
)

// ledgerBench plays a node's reports against what a driver keeps of them.
type ledgerBench struct {
	t      *testing.T
	l      ledger
	clock  uint64
	ranges []raftstore.RangeInfo
	wishes map[ids.RangeID]*locuspb.SplitWish
	driver driverSide
}

// driverSide believes what reports say, by the rule of placement: one with a base only if the base is the newest it has.
type driverSide struct {
	clock   uint64
	leading map[uint64]*locuspb.RangeReport
	holding []uint64
}

func (d *driverSide) take(req *locuspb.HeartbeatRequest) *locuspb.HeartbeatResponse {
	switch req.Base {
	case 0:
		d.leading, d.holding = make(map[uint64]*locuspb.RangeReport), req.Holding
	case d.clock:
	default:
		return &locuspb.HeartbeatResponse{}
	}
	d.clock = req.Clock
	for _, m := range req.Leading {
		d.leading[m.Descriptor_.RangeId] = m
	}
	for _, id := range req.Released {
		delete(d.leading, id)
	}
	return &locuspb.HeartbeatResponse{Taken: req.Clock}
}

func newLedgerBench(t *testing.T) *ledgerBench {
	b := &ledgerBench{t: t, wishes: make(map[ids.RangeID]*locuspb.SplitWish)}
	for id := range ids.RangeID(10) {
		b.ranges = append(b.ranges, raftstore.RangeInfo{Descriptor: &topology.Descriptor{ID: id + 1}, Term: 5, Leaseholder: id%2 == 0})
	}
	return b
}

func (b *ledgerBench) report() *locuspb.HeartbeatRequest {
	b.clock++
	req := &locuspb.HeartbeatRequest{Clock: b.clock}
	b.l.enter(req, b.ranges, func(i raftstore.RangeInfo) *locuspb.SplitWish { return b.wishes[i.Descriptor.ID] })
	return req
}

// beat reports and hears the answer.
func (b *ledgerBench) beat() *locuspb.HeartbeatRequest {
	req := b.report()
	b.l.answered(req, b.driver.take(req))
	return req
}

// agreed: what the driver believes is what is so.
func (b *ledgerBench) agreed() {
	b.t.Helper()
	var leading, holding []uint64
	for _, i := range b.ranges {
		holding = append(holding, uint64(i.Descriptor.ID))
		if i.Leaseholder {
			leading = append(leading, uint64(i.Descriptor.ID))
			require.EqualValues(b.t, i.Applied, b.driver.leading[uint64(i.Descriptor.ID)].Applied)
			require.Equal(b.t, b.wishes[i.Descriptor.ID], b.driver.leading[uint64(i.Descriptor.ID)].Split)
		}
	}
	var got []uint64
	for id := range b.driver.leading {
		got = append(got, id)
	}
	require.ElementsMatch(b.t, leading, got)
	require.Equal(b.t, holding, b.driver.holding)
}

// TestReportsSayWhatChanged, and nothing else.
func TestReportsSayWhatChanged(t *testing.T) {
	b := newLedgerBench(t)
	require.Len(t, b.beat().Leading, 5)
	b.agreed()
	req := b.beat()
	require.Empty(t, req.Leading)
	require.Empty(t, req.Holding)
	require.NotZero(t, req.Base)

	b.ranges[0].Applied++                         // a leader's
	b.ranges[1].Applied++                         // a follower's, which nobody reports
	b.ranges[2].Leaseholder = false               // steps down
	b.ranges[3].Leaseholder = true                // takes over
	b.wishes[5] = &locuspb.SplitWish{Requests: 7} // wants a split
	req = b.beat()
	require.Len(t, req.Leading, 3)
	require.Equal(t, []uint64{3}, req.Released)
	b.agreed()
	delete(b.wishes, 5)
	b.beat()
	b.agreed()

	b.ranges = b.ranges[:9] // a replica is removed
	require.Zero(t, b.beat().Base)
	b.agreed()

	whole := 0
	for range 3 * wholeEvery {
		if b.beat().Base == 0 {
			whole++
		}
	}
	require.Equal(t, 3, whole, "now and then a report is whole")
}

// TestReportsSurviveLoss: of a report, and of an answer.
func TestReportsSurviveLoss(t *testing.T) {
	b := newLedgerBench(t)
	b.beat()
	b.ranges[0].Applied++
	b.l.answered(b.report(), nil)
	require.Len(t, b.beat().Leading, 1, "the lost report's news is in the next")
	b.agreed()

	b.ranges[0].Leaseholder = false
	req := b.report()
	b.driver.take(req)
	b.l.answered(req, nil)
	b.ranges[0].Leaseholder = true // as it was in the base, and not as the driver has it
	require.NotZero(t, b.beat().Base, "the node can't know yet")
	require.Zero(t, b.beat().Base)
	b.agreed()
}

// TestReportsSurviveRestarts: of the driver, and of the node.
func TestReportsSurviveRestarts(t *testing.T) {
	b := newLedgerBench(t)
	b.beat()
	b.beat()
	b.driver = driverSide{}
	b.beat()
	require.Zero(t, b.beat().Base)
	b.agreed()

	b.l = ledger{}
	b.ranges[0].Leaseholder = false
	require.Zero(t, b.beat().Base)
	b.agreed()

	req := b.report()
	b.driver.take(req)
	b.l.answered(req, &locuspb.HeartbeatResponse{}) // of a driver that knows nothing of bases
	require.Zero(t, b.report().Base)
}
