package raftstore

import (
	"errors"
	"syscall"
	"testing"

	"github.com/locuskv/locus/internal/vfs"
)

// A read of the log that fails stops the store with the reason, as a failed write does. Raft knows no other way to say
// that it could not go on than a panic.
func TestAFailedReadOfTheLogStopsTheStore(t *testing.T) {
	c := newTestCluster(t, 3)
	c.elect(testRange, 1)
	c.cut(3)
	for range 5 {
		c.ok(testRange, put("x", "1"))
	}
	n := c.node(1)
	n.crash(true)
	c.mail = nil
	c.must(n.tryStart()) // with nothing of the log in memory
	c.tick(40)
	c.awaitLead(testRange)
	c.tick(3)
	if c.leaseholder(testRange) != n {
		c.elect(testRange, 1)
	}
	n.files.FailNth(vfs.OpRead, 1, syscall.EIO)
	c.heal() // now the third store needs what is in the file
	for range 30 {
		if n.fatal == nil {
			c.tick(1)
		}
	}
	if !errors.Is(n.fatal, syscall.EIO) || !n.stopped() {
		t.Fatalf("the store stopped with %v", n.fatal)
	}
	c.tick(2)
}
