// Command peers is the helper of "locus bench peers": it runs a server of etcd, and puts etcd under the same
// load as Locus is put under. It is a module of its own, so that Locus does not depend on etcd's server.
//
//	peers serve   one etcd server, from its embed package, with etcd's defaults; see server.go for what differs
//	peers load    write the keys, in transactions of up to 128 puts
//	peers run     run a workload (bench/load) through etcd's own client, and print the report as JSON
//
// Users run "locus bench", which builds it and passes the flags on.
package main
