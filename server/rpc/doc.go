// Package rpc holds what all gRPC connections of a node have in common: the options of servers and of
// clients with the reason for each number, the pool of connections to other nodes, and the metadata by
// which nodes of one cluster know each other.
package rpc
