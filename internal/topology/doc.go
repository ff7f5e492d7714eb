// Package topology describes ranges: their bounds, their replicas, and the epochs that order what
// different nodes believe about them.
//
// A Descriptor is owned by its range: it changes only by an entry of the range's own log, and everybody
// else has a copy that may be old. Its Epoch tells which of two copies is newer. Descriptors are shared
// freely and never written to: who changes one changes a Clone.
//
// A change of replicas goes through a joint configuration, in which two sets of voters must both agree: the
// outgoing one (Voter and VoterOutgoing) and the incoming one (Voter and VoterIncoming). See Raft's
// dissertation, section 4.3. Learners are in neither.
//
// Validate says whether a descriptor can be that of a range at all. CheckTiling says whether several
// descriptors cover a span without gap or overlap, which is invariant I3.
//
// This package decides nothing: what should change is the business of placement, and what may change that
// of raftstore.
package topology
