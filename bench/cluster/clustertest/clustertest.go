// Package clustertest makes clusters of real processes for tests (bench/cluster): it builds the binary from this
// module, cleans up with the test, and keeps logs and data of one that failed. NewDisk is a disk that loses power.
package clustertest

import (
	"os"
	"testing"

	"github.com/locuskv/locus/bench/cluster"
)

// New makes a cluster without nodes, of the binary that Binary builds if the options name none. Cleanup of the test
// kills its nodes, fails the test if one had ended by itself, and removes the directory, or says where it is if the
// test failed or keep is true.
func New(t testing.TB, o cluster.Options, keep bool) *cluster.Cluster {
	t.Helper()
	if o.Binary == "" {
		o.Binary = Binary(t)
	}
	c, err := cluster.Make(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { clean(t, c, keep) })
	return c
}

// clean kills what runs, and reports.
func clean(t testing.TB, c *cluster.Cluster, keep bool) {
	if err := c.Close(); err != nil {
		t.Errorf("killing the nodes: %v", err)
	}
	for _, what := range c.Crashes() {
		t.Errorf("a node ended by itself: %s", what)
	}
	if t.Failed() {
		for _, n := range c.Nodes() {
			t.Logf("the end of %s:\n%s", n.Log(), n.LastLines(20))
		}
	}
	if t.Failed() || keep {
		t.Logf("logs and data are kept in %s", c.Dir())
		return
	}
	if err := os.RemoveAll(c.Dir()); err != nil {
		t.Errorf("removing the cluster's directory: %v", err)
	}
}
