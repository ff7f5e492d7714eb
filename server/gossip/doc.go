// Package gossip finds the other nodes of a cluster and hints at which of them live, with serf.
//
// Membership is a hint and nothing more: it spares a node from being told every address, and lets it notice
// a driver's new home or a failure early. What counts as alive is decided by heartbeats to the placement
// driver, and what a node is by its identity on disk; nothing here is ever the reason to move a replica.
//
// Choices, and why (serf 0.11, memberlist 0.7):
//   - The name of a member is its node's UUID and never changes; a name conflict is logged and resolved by
//     nobody (serf would make a node leave), and a dead name may come back at another address after 30 s.
//   - Events only set a flag. Serf delivers them under its member lock, so that a slow consumer would freeze
//     gossip: the channel is large and its reader does nothing else. The list is read from Members, on the
//     flag and each second in any case.
//   - No snapshot file: with one, serf silently drops events. Addresses to rejoin are kept by the node itself.
//   - Tags stay far below serf's 512 bytes: identity and addresses, never numbers that change with load.
//   - Members of other clusters are refused when lists are merged, and ignored where they get through.
package gossip
