package raftstore

import (
	"testing"

	"github.com/locuskv/locus/api/locuspb"
)

// Rule E7: a replica that is removed after its snapshot was ingested, and before that is durable, has a span to be wiped,
// though it serves none yet. *Breaks:* the tombstone names no span, the data stays, and after a crash it is taken for that
// of the next replica.
func TestE7AReplicaThatWasJustIngestedIsWiped(t *testing.T) {
	for _, crash := range []bool{false, true} {
		c := newTestCluster(t, 3)
		c.ok(testRange, put("x", "1"))
		c.removeOn(testRange, 3)
		n := c.node(3)
		for range 50 {
			if c.tick(1); n.replica(testRange) == nil {
				break
			}
		}
		n.exec.hold(true, QueueDisk) // so that the ingest's checkpoint waits
		lead, op := c.operator(testRange)
		op.Step = &locuspb.Operator_AddLearner{AddLearner: &locuspb.AddLearner{StoreId: 3}}
		c.must(c.operate(lead, op))
		ingested := func() bool {
			r := n.replica(testRange)
			return r != nil && r.apply.desc != nil
		}
		for range 50 {
			if !ingested() {
				c.tick(1)
			}
		}
		if !ingested() {
			t.Fatal("no snapshot was ingested")
		}
		r := n.replica(testRange)
		if r.snapshot().desc != nil {
			t.Fatal("the ingest is durable already")
		}
		span := dataSpan(r.apply.desc.Span)
		n.RemoveReplica(testRange, r.self+1)
		c.settle()
		if !r.snapshot().gone {
			t.Fatal("the replica is still there")
		}
		if crash {
			// The removal is durable, the wipe is not.
			n.exec.hold(true, QueueApply)
			n.exec.hold(false, QueueDisk)
			c.settle()
			n.crash(true)
			c.mail = nil
			c.must(n.tryStart())
		}
		n.exec.hold(false, QueueDisk)
		c.settle()
		c.tick(5)
		found, _, err := keysIn(n.eng, span, n.eng.MaxSeq(), 10)
		c.must(err)
		if len(found) > 0 || n.replica(testRange) != nil {
			t.Fatalf("crash %v: %q stay behind; replica %v", crash, found, n.replica(testRange))
		}
		c.healthy()
	}
}
