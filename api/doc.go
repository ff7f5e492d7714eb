// Package api holds the words that nodes and clients say to each other: the protobuf messages
// (locuspb, generated from proto/) and the typed errors, which cross the wire and come back equal.
//
// It knows nothing of any other room of Locus but the leaf packages in internal/.
package api
