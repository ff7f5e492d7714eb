package raftstore

import (
	"errors"
	"testing"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
)

// beginTransfer asks the leaseholder to hand its lead to a store.
func (c *testCluster) beginTransfer(id ids.RangeID, to ids.StoreID) *error {
	c.t.Helper()
	n, op := c.operator(id)
	op.Step = &locuspb.Operator_Transfer{Transfer: &locuspb.TransferLease{StoreId: uint64(to)}}
	err := errors.New("not answered")
	n.RunOperator(op, func(e error) { err = e })
	c.settle()
	return &err
}

// TestNoTransferToASilentStore: a store has just died, and Raft does not know yet. A lead that is handed to it would
// keep the range from writing for an election timeout.
func TestNoTransferToASilentStore(t *testing.T) {
	c := newTestCluster(t, 3)
	lead := c.leaseholder(testRange)
	dead := c.node(lead.id%3 + 1)
	dead.crash(true)
	c.tick(8)
	for _, p := range lead.replica(testRange).snapshot().progress {
		if !p.Active {
			t.Fatal("its leader knows that it is dead: the test has lost its point")
		}
	}
	err := c.beginTransfer(testRange, dead.id)
	if lead.replica(testRange).snapshot().transferring {
		t.Fatal("the lead is being handed to a store that nobody hears")
	}
	c.ok(testRange, put("x", "1")) // at once
	c.tick(15)
	want[*api.RetryError](t, "a transfer to a dead store", *err)
	c.ok(testRange, put("x", "2"))

	// One that was silent and is not dead takes the lead once it is heard.
	dead.start()
	c.cut(dead.id)
	c.tick(5)
	err = c.beginTransfer(testRange, dead.id)
	c.heal()
	for range 50 {
		if c.leaseholder(testRange) == dead {
			break
		}
		if *err != nil && (*err).Error() != "not answered" {
			err = c.beginTransfer(testRange, dead.id)
		}
		c.tick(1)
	}
	if c.leaseholder(testRange) != dead {
		t.Fatalf("the lead stays: %v", *err)
	}
	c.healthy()
}

// TestATransferWakesAQuietRange: followers of quiet ranges say nothing, and are there.
func TestATransferWakesAQuietRange(t *testing.T) {
	c := quietCluster(t)
	to := c.node(c.leaseholder(testRange).id%3 + 1)
	c.tick(20)
	err := c.beginTransfer(testRange, to.id)
	c.tick(10)
	if c.leaseholder(testRange) != to {
		t.Fatalf("the lead stays: %v", *err)
	}
	c.must(*err)
}
