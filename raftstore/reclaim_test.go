package raftstore

import (
	"fmt"
	"testing"
	"time"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/raftstore/engine"
)

// reclaiming counts how often an engine was asked for its space.
type reclaiming struct {
	engine.Engine
	asked int
}

func (e *reclaiming) Reclaim() error {
	e.asked++
	return e.Engine.Reclaim()
}

// TestDeletedSpaceIsReclaimed: a store that has deleted much and has nothing to do reclaims the space once the retention
// window has passed the deletions, which takes a checkpoint that nothing else would take; it does so once.
func TestDeletedSpaceIsReclaimed(t *testing.T) {
	var e *reclaiming
	c := newTestCluster(t, 1, func(o *Options) {
		e = &reclaiming{Engine: o.Engine}
		o.Engine, o.ReclaimKeys, o.Retention = e, 50, time.Minute
	})
	n := c.node(1)
	for i := range 60 {
		c.ok(testRange, put(fmt.Sprint("k", i), "v"))
	}
	for i := range 60 {
		c.ok(testRange, remove(fmt.Sprint("k", i)))
	}
	c.tick(400) // 40 s: idle, and within the window
	if e.asked != 0 {
		t.Fatal("space was reclaimed that the window needs")
	}
	c.tick(600)
	if e.asked != 1 {
		t.Fatalf("asked %d times", e.asked)
	}
	if d, last := n.holds.advance(), n.reclaim.last.Load(); uint64(d) < last {
		t.Fatalf("the discard sequence %d is below the last deletion at %d", d, last)
	}
	c.tick(1000)
	if e.asked != 1 {
		t.Fatalf("asked %d times for nothing", e.asked)
	}
	// A store that is busy compacts anyway.
	for i := range 60 {
		c.ok(testRange, put(fmt.Sprint("k", i), "v"))
		c.ok(testRange, remove(fmt.Sprint("k", i)))
	}
	big := string(make([]byte, 2*reclaimIdleBytes))
	for range 30 {
		c.ok(testRange, put("busy", big))
		c.tick(40)
	}
	if e.asked != 1 {
		t.Fatal("a busy store reclaimed")
	}
}

func remove(k string) *locuspb.Request {
	r := put(k, "")
	r.GetWrite().Mutations[0].Delete = true
	return r
}
