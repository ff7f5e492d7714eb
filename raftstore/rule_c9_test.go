package raftstore

import (
	"strings"
	"testing"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
)

// youngCluster is a cluster of three in which store 1 alone can be read at the timestamp of the first write: the others came
// by snapshots after it. The retention window is a minute.
func youngCluster(t *testing.T) (*testCluster, *pending) {
	c := newTestCluster(t, 3, func(o *Options) { o.Retention = time.Minute })
	if c.leaseholder(testRange).id != 1 {
		c.elect(testRange, 1)
	}
	w := c.ok(testRange, put("x", "1"))
	c.tick(20)
	c.ok(testRange, put("x", "2"))
	for id := ids.StoreID(3); id >= 2; id-- {
		c.removeOn(testRange, id)
		c.tick(20)
	}
	for id := ids.StoreID(2); id <= 3; id++ {
		c.addVoter(testRange, id)
	}
	c.tick(5)
	c.must(c.do(c.node(1), testRange, getAt("x", w.ts())).err())
	want[*api.TimestampUnavailableError](t, "a replica from a snapshot", c.do(c.node(2), testRange, getAt("x", w.ts())).err())
	return c, w
}

func (c *testCluster) remove(id ids.RangeID, store ids.StoreID) error {
	c.t.Helper()
	n, op := c.operator(id)
	rep, ok := c.info(id, n.id).Descriptor.On(store)
	if !ok {
		c.t.Fatalf("no replica on store %s", store)
	}
	op.Step = &locuspb.Operator_Remove{Remove: &locuspb.RemoveReplica{ReplicaId: uint64(rep.ID)}}
	return c.operate(n, op)
}

// Rule C9: the last replica that can be read as far back as any is not removed until the window has passed what the others
// can't show. *Breaks:* a function runs at T, the range's replicas are moved one after another, and nobody can answer it.
func TestC9TheLastThatCanBeReadFarBackStays(t *testing.T) {
	c, w := youngCluster(t)
	c.elect(testRange, 2) // a leader is not removed at all
	c.tick(5)
	refused := want[*api.RetryError](t, "its removal", c.remove(testRange, 1))
	if !strings.Contains(refused.Reason, "readable as far back as replica 1 on store s1") {
		t.Fatalf("the reason: %s", refused.Reason)
	}
	c.must(c.remove(testRange, 3))
	c.tick(20)
	learner := c.addLearner(testRange, 3)
	c.tick(5)
	n, op := c.operator(testRange)
	d := c.info(testRange, n.id).Descriptor
	first, _ := d.On(1)
	op.Step = &locuspb.Operator_Replace{Replace: &locuspb.ReplaceVoters{Promote: []uint64{uint64(learner)}, Remove: []uint64{uint64(first.ID)}}}
	want[*api.RetryError](t, "its replacement", c.operate(n, op))
	if now := c.info(testRange, n.id).Descriptor; now.Epoch != d.Epoch {
		t.Fatalf("%v became %v", d, now)
	}
	c.must(c.do(c.node(1), testRange, getAt("x", w.ts())).err())

	c.elapse(time.Minute)
	c.tick(5)
	c.must(c.operate(n, op))
	c.tick(20)
	if now := c.info(testRange, n.id).Descriptor; now.Joint() || len(now.Voters()) != 2 {
		t.Fatalf("after the window: %v", now)
	}
	c.healthy()
}

// Rule C9: the others may go, as long as one that can be read that far back stays.
func TestC9OthersMayGo(t *testing.T) {
	c, w := youngCluster(t)
	c.must(c.remove(testRange, 3))
	c.tick(5)
	c.must(c.do(c.node(1), testRange, getAt("x", w.ts())).err())
}

// Rule C9: what a follower can show is not known until it has told this leader; so one that is heard is not removed before,
// and a replica that stays counts for nothing before.
func TestC9UnknownReplicas(t *testing.T) {
	c := newTestCluster(t, 3, func(o *Options) { o.Retention = time.Minute })
	c.ok(testRange, put("x", "1"))
	c.elapse(2 * time.Minute)
	c.tick(3)
	lead := c.leaseholder(testRange)
	other := lead.id%3 + 1
	c.elect(testRange, other)
	c.elect(testRange, lead.id)
	if told := lead.replica(testRange).snapshot().oldest; len(told) > 0 {
		t.Fatalf("what was told in another term counts: %v", told)
	}
	c.elect(testRange, other)
	// The window lies behind the new leader's own beginning, so it is enough by itself.
	c.must(c.remove(testRange, lead.id))
	c.tick(5)

	young, _ := youngCluster(t)
	young.elect(testRange, 2)
	young.tick(1) // no answer to a heartbeat yet
	r := young.node(2).replica(testRange)
	r.update(func(s *replicaState) { s.oldest = nil })
	want[*api.RetryError](t, "one that has told nothing yet", young.remove(testRange, 3))
	young.tick(5)
	young.must(young.remove(testRange, 3))
}

// Rule C9: a replica that is not heard is replaced whatever it could show, or a range would stay without its replicas.
func TestC9ADeadReplicaIsRemoved(t *testing.T) {
	c, _ := youngCluster(t)
	c.elect(testRange, 2)
	c.tick(5)
	want[*api.RetryError](t, "while it is heard", c.remove(testRange, 1))
	c.node(1).crash(true)
	c.tick(15)
	c.must(c.remove(testRange, 1))
	c.healthy()
}
