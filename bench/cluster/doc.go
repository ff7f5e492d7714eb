// Package cluster runs nodes of Locus as real processes on this machine, for tests.
//
// What it guarantees:
//
//   - A node is the binary that users run, built from this module, with flags that users have.
//   - No process outlives the test: cleanup kills them all and waits; on Linux the kernel does it should the
//     test die before.
//   - A process that ends without having been told to fails the test, with the end of its log. A test that
//     failed keeps logs and data, and says where.
//   - Ports lie outside the range that the kernel hands out, so that a node which is down finds its ports
//     free when it returns.
//
// It never sleeps to let something happen: Start waits for the node's own word that it serves, Stop for its
// end.
//
// Start with Cluster, then Node.
package cluster
