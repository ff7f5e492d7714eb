// Package cluster runs nodes of Locus as real processes on this machine, for "locus check" and for tests (clustertest).
// It also stands between them, where that is asked for, and cuts their links.
//
// What it guarantees:
//
//   - A node is the binary that users run, with flags that users have (and --dial-from, behind links).
//   - No process outlives the cluster: Close kills them all and waits; on Linux the kernel does it should this process
//     die before.
//   - A process that ends without having been told to is reported by Crashes.
//   - Ports lie outside the range that the kernel hands out, so that a node which is down finds its ports
//     free when it returns.
//
// It never sleeps to let something happen: Start waits for the node's own word that it serves, Stop for its
// end.
//
// Start with Cluster, then Node and Links.
package cluster
