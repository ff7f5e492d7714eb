// Package clustermap is a node's copy of what the placement driver and the ranges themselves say about the
// cluster: which ranges there are and who leads them, which nodes, keyspaces and functions.
//
// It is a cache of hints. Descriptors are ordered by their epochs and leaseholders by their terms, so that
// news never yields to older news whatever order it arrives in; what is wrong all the same is found out by
// the range that a request reaches. Where two descriptors overlap (a split was learned from one side only)
// the one with the higher bounds epoch has the say over the part that both claim. A part that no descriptor
// claims is a hole, and Tile reports it as one: nobody may take a hole for an empty range.
//
// Readers never wait: they read an immutable snapshot.
package clustermap
