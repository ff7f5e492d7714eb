package placement

import (
	"strings"
	"testing"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/topology"
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

// A move whose victim the leaseholder keeps takes another, or is given up; and none is begun from a replica that is kept.
func TestKeptReplicas(t *testing.T) {
	voters := func(n int) *topology.Descriptor {
		d := &topology.Descriptor{ID: 9, NextReplica: 5}
		for s := 1; s <= n; s++ {
			d.Replicas = append(d.Replicas, topology.Replica{Store: ids.StoreID(s), ID: ids.ReplicaID(s), Role: topology.Voter})
		}
		return d
	}
	plan := func(learner bool, kept ...ids.ReplicaID) *locuspb.Operator {
		d := voters(3)
		if learner {
			d.Replicas = append(d.Replicas, topology.Replica{Store: 4, ID: 4, Role: topology.Learner})
		}
		r := RangeView{Desc: d, Leader: 2, Applied: 5, Kept: kept}
		for _, rep := range d.Replicas {
			r.Progress = append(r.Progress, Progress{Replica: rep.ID, Match: 5, Active: true})
		}
		v := &View{Settled: true, Stores: []StoreView{{ID: 1}, {ID: 2}, {ID: 3}, {ID: 4}}, Ranges: []RangeView{r}}
		for i := range 6 { // store 1 is the fullest
			other := &topology.Descriptor{ID: ids.RangeID(20 + i), NextReplica: 2, Replicas: []topology.Replica{{Store: 1, ID: 1, Role: topology.Voter}}}
			v.Ranges = append(v.Ranges, RangeView{Desc: other, Leader: 1, Wanted: 1, Held: true})
		}
		for _, op := range Plan(v, Limits{}) {
			if op.RangeId == 9 && op.GetTransfer() == nil {
				return op
			}
		}
		return nil
	}
	removes := func(op *locuspb.Operator) []uint64 {
		return append(op.GetReplace().GetRemove(), op.GetRemove().GetReplicaId())
	}
	if got := removes(plan(true)); got[0] != 1 {
		t.Errorf("the move ends with the removal of %v, not of the replica on the fullest store", got)
	}
	if got := removes(plan(true, 1)); got[0] != 3 {
		t.Errorf("replica 1 is kept, and the move ends with the removal of %v", got)
	}
	if got := removes(plan(true, 1, 2, 3)); got[0] != 4 {
		t.Errorf("all voters are kept, and the move ends with the removal of %v", got)
	}
	if op := plan(false); op.GetAddLearner().GetStoreId() != 4 {
		t.Errorf("no move from the fullest store: %v", op)
	}
	if op := plan(false, 1); op != nil {
		t.Errorf("a move from a replica that is kept: %v", op)
	}
}
