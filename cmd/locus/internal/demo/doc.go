// Package demo plays the main job of Locus on one machine: three nodes as three processes, a hundred
// thousand flights, a WebAssembly function that runs where they lie, and a node that is killed meanwhile.
//
//	Run ── cluster (three processes of this binary, one temporary directory)
//	  ├─ load     the flights, through the client's BulkWriter, into ranges split by sampled origins
//	  ├─ job      the function over the whole keyspace at one timestamp
//	  ├─ pull     the same by bringing every record here; the answers must be equal
//	  ├─ calls    square (touches no key), and a counter from many goroutines
//	  └─ failure  SIGKILL to the node that leads most, the job again, the length of the pause, the return
//
// Guarantees: whatever way Run ends (success, error, a cancelled context, a panic of its own), no process
// of its and no file of its remains, unless Options.Keep and it succeeded. On Linux the kernel kills the
// nodes even if the demo itself is killed with SIGKILL. Every number that is printed was measured in this
// run; every claim that is printed ("the same answer") was checked, and a check that fails is an error.
//
// Never: it does not touch a cluster it did not start, and listens nowhere but on loopback.
//
// Start reading at Run, then cluster.go.
package demo
