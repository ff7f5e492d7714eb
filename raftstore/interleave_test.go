package raftstore

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
)

// yielding is a stepper whose steps can be interrupted: between is called, once, where the next step says that it may be.
type yielding struct {
	*stepper
	between *func()
}

func (y yielding) Yield() {
	if f := *y.between; f != nil {
		*y.between = nil
		f()
	}
}

// Rule A2: a descriptor change is built from the descriptor that the change before it made. *Breaks:* an evaluation fixes
// its view; then the entry of a change is published, and nothing is in flight any more; the evaluation takes a second
// change, asked for at the same epoch, and builds it from the descriptor of its view. It is committed, and Raft
// panics on every replica that applies it: "config is already joint".
func TestA2AChangeIsBuiltFromTheNewestDescriptor(t *testing.T) {
	var between func()
	c := newTestCluster(t, 3, func(o *Options) { o.Executor = yielding{o.Executor.(*stepper), &between} })
	c.awaitLead(testRange)
	c.tellOldest(testRange)
	lead, op := c.operator(testRange)
	before := c.info(testRange, lead.id).Descriptor
	var remove uint64
	for _, rep := range before.Replicas {
		if rep.Store != lead.id {
			remove = uint64(rep.ID)
		}
	}
	op.Step = &locuspb.Operator_Remove{Remove: &locuspb.RemoveReplica{ReplicaId: remove}}
	var errs [2]error
	answered := 0
	ask := func(i int) {
		lead.RunOperator(proto.Clone(op).(*locuspb.Operator), func(err error) { errs[i] = err; answered++ })
	}
	lead.exec.hold(true, QueueApply)
	ask(0)
	c.settle()
	published := func() bool { return c.info(testRange, lead.id).Descriptor.Epoch != before.Epoch }
	if published() {
		t.Fatal("the first change is applied already")
	}
	between = func() { // the second has fixed its view
		for q := lead.applier.queue.(*stepQueue); !published() && q.step(); {
		}
	}
	ask(1)
	c.settle()
	if !published() {
		t.Fatal("the evaluation was not interrupted")
	}
	lead.exec.hold(false, QueueApply)
	c.settle()
	c.tick(3)
	if answered != 2 || errs[0] != nil {
		t.Fatalf("%d answers, the first %v", answered, errs[0])
	}
	want[*api.EpochMismatchError](t, "the second change at one epoch", errs[1])
	if e := c.info(testRange, lead.id).Descriptor.Epoch; e.Conf != before.Epoch.Conf+1 {
		t.Fatalf("epoch %v follows %v", e, before.Epoch)
	}
	c.healthy()
}
