package placement

import (
	"strings"
	"testing"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
)

// A leaseholder refuses an operator: the range is left alone for a while, the reason is told once, and the operator is planned
// again for as long as it is wanted.
func TestRefusedOperators(t *testing.T) {
	b := started(t, newTable())
	if _, err := b.join("n2", "a2"); err != nil {
		t.Fatal(err)
	}
	var told []string
	b.core.o.OnRefused = func(op *locuspb.Operator, reason error) { told = append(told, op.Reason+": "+reason.Error()) }
	clock := uint64(1)
	var refused []*locuspb.RefusedOperator
	beat := func() []*locuspb.Operator {
		clock++
		b.beat(2, clock)
		b.now += 200 * time.Millisecond
		resp, err := b.Heartbeat(&locuspb.HeartbeatRequest{
			Node: &locuspb.NodeInfo{StoreId: 1, NodeId: "n1", Address: "a1"}, Clock: clock, Leading: bootstrapped(1), Refused: refused,
		})
		if err != nil {
			t.Fatal(err)
		}
		return resp.Operators
	}
	refuse := func(op *locuspb.Operator, epoch uint64, why string) {
		refused = []*locuspb.RefusedOperator{{RangeId: op.RangeId, ConfEpoch: epoch, BoundsEpoch: op.BoundsEpoch, Error: api.ToProto(&api.RetryError{Reason: why})}}
	}
	first := beat()[0]
	refuse(first, first.ConfEpoch+1, "of another epoch")
	beat()
	if len(told) != 0 || b.core.running[ids.RangeID(first.RangeId)] == nil {
		t.Fatalf("a refusal of another operator counts: %v", told)
	}
	var pauses []time.Duration
	for range 7 {
		refuse(first, first.ConfEpoch, "no other replica")
		if ops := beat(); len(ops) > 0 && ops[0].RangeId == first.RangeId {
			t.Fatalf("planned again at once: %v", ops)
		}
		refused = nil
		since := b.now
		for again := false; !again; {
			for _, op := range beat() {
				again = again || op.RangeId == first.RangeId
			}
			if b.now-since > time.Minute {
				t.Fatal("not planned again")
			}
		}
		pauses = append(pauses, b.now-since)
	}
	if pauses[0] > 2*time.Second || pauses[6] < 5*time.Second || pauses[6] > maxRefusal+time.Second {
		t.Errorf("it waited for %v", pauses)
	}
	if len(told) != 1 || !strings.Contains(told[0], "no other replica") {
		t.Errorf("told %q", told)
	}
}
