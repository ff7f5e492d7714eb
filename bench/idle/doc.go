// Package idle measures what a cluster takes that does nothing: three processes of Locus, a keyspace in many ranges that
// nobody reads or writes. It is the library behind "locus bench idle".
//
//	start three nodes ─▶ make the keyspace ─▶ all replicated ─▶ CPU no longer falls ─▶ measure ─▶ profile, if asked
//
// CPU is user and system time of the processes as the kernel counts it, memory what they hold for themselves (RssAnon). Both
// are the processes' own, whatever else runs on the machine; but a busy machine makes the same work take more CPU time, so
// the load average is in the report. Nothing stays behind.
//
// Start with Run.
package idle
