// Package locusload puts Locus under load: it is a load.Target over the client that users have, makes and
// fills the keyspace, and reads what the nodes tell of themselves.
//
//	Target   the operations; one client.DB for all workers, as a program would have
//	Prepare  a keyspace in so many ranges, their leaseholders spread over the nodes
//	Fill     the keys, through a BulkWriter
//	Cache    the row cache's hits and misses, from the nodes' /metrics
package locusload
