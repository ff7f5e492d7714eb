package raftstore

import (
	"fmt"
	"slices"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/topology"
)

// RunOperator executes one step that the placement driver proposes. Only the leaseholder does, and only while
// the range is at the operator's epoch: a wrong or late driver can't do harm. done is called once the step is
// applied, or refused.
func (s *Store) RunOperator(op *locuspb.Operator, done func(error)) {
	r := s.replica(ids.RangeID(op.RangeId))
	if r == nil || s.stopped() {
		done(&api.RangeNotFoundError{Range: ids.RangeID(op.RangeId)})
		return
	}
	if t, ok := op.Step.(*locuspb.Operator_Transfer); ok {
		r.transferTo(ids.StoreID(t.Transfer.StoreId), done)
		return
	}
	build, err := buildOperator(op)
	if err != nil {
		done(err)
		return
	}
	r.seq.submit(&command{
		change: &descriptorChange{epoch: topology.Epoch{Conf: op.ConfEpoch, Bounds: op.BoundsEpoch}, build: r.keepingHistory(keeping(r.self, build))},
		done:   func(resp *locuspb.Response) { done(api.FromProto(resp.Error)) },
	})
}

type buildFunc = func(*topology.Descriptor) (left, right *topology.Descriptor, err error)

func buildOperator(op *locuspb.Operator) (buildFunc, error) {
	switch step := op.Step.(type) {
	case *locuspb.Operator_AddLearner:
		return addLearner(ids.StoreID(step.AddLearner.StoreId)), nil
	case *locuspb.Operator_Replace:
		return replaceVoters(step.Replace.Promote, step.Replace.Remove), nil
	case *locuspb.Operator_Remove:
		return replaceVoters(nil, []uint64{step.Remove.ReplicaId}), nil
	case *locuspb.Operator_Split:
		return splitDescriptors(step.Split.Key, ids.RangeID(step.Split.NewRangeId)), nil
	}
	return nil, &api.InvalidArgumentError{Reason: "the operator has no step"}
}

// keeping refuses changes that remove the leader that makes them. It would step down as soon as it has applied its
// removal, and the range would wait for an election, in which its vote may still be needed (retire.go).
func keeping(self ids.ReplicaID, build buildFunc) buildFunc {
	return func(d *topology.Descriptor) (*topology.Descriptor, *topology.Descriptor, error) {
		left, right, err := build(d)
		if err == nil && right == nil && !slices.ContainsFunc(left.Voters(), func(v topology.Replica) bool { return v.ID == self }) {
			return nil, nil, &api.RetryError{Reason: "a leader is not removed: the lead must be handed over first"}
		}
		return left, right, err
	}
}

func refuse(format string, args ...any) error {
	return &api.InvalidArgumentError{Reason: fmt.Sprintf(format, args...)}
}

// addLearner gives a store a new replica that receives the log and does not vote.
func addLearner(store ids.StoreID) buildFunc {
	return func(d *topology.Descriptor) (*topology.Descriptor, *topology.Descriptor, error) {
		if d.Joint() {
			return nil, nil, &api.RetryError{Reason: "a replica change is under way"}
		}
		if _, ok := d.On(store); ok || store == 0 {
			return nil, nil, refuse("store %s has a replica of range %s already", store, d.ID)
		}
		n := d.Clone()
		n.Replicas = append(n.Replicas, topology.Replica{Store: store, ID: n.NextReplica, Role: topology.Learner})
		n.NextReplica++
		n.Epoch.Conf++
		return n, nil, nil
	}
}

// replaceVoters promotes learners and removes replicas: one change is made at once, more through a joint
// configuration, so that at no moment fewer replicas decide than before or after.
func replaceVoters(promote, remove []uint64) buildFunc {
	return func(d *topology.Descriptor) (*topology.Descriptor, *topology.Descriptor, error) {
		if d.Joint() {
			return nil, nil, &api.RetryError{Reason: "a replica change is under way"}
		}
		n := d.Clone()
		voterChanges, learnerChanges := 0, 0
		for i := range n.Replicas {
			rep := &n.Replicas[i]
			id := uint64(rep.ID)
			if slices.Contains(promote, id) {
				if rep.Role != topology.Learner {
					return nil, nil, refuse("replica %s of range %s is no learner", rep.ID, d.ID)
				}
				rep.Role = topology.VoterIncoming
				voterChanges++
			}
			if slices.Contains(remove, id) && rep.Role == topology.Voter {
				rep.Role = topology.VoterOutgoing
				voterChanges++
			}
		}
		for _, id := range append(slices.Clone(promote), remove...) {
			if _, ok := d.Replica(ids.ReplicaID(id)); !ok {
				return nil, nil, refuse("range %s has no replica %d", d.ID, id)
			}
		}
		n.Replicas = slices.DeleteFunc(n.Replicas, func(r topology.Replica) bool {
			gone := r.Role == topology.Learner && slices.Contains(remove, uint64(r.ID))
			if gone {
				learnerChanges++
			}
			return gone
		})
		// Raft makes more than one change at once a joint configuration of its own: the descriptor must say so too. Of
		// learners alone it can't, and no change at all would mean to leave one.
		switch {
		case voterChanges == 1 && learnerChanges == 0: // simple
			finishJoint(n)
		case voterChanges == 0 && learnerChanges != 1:
			return nil, nil, refuse("a step without a voter of range %s removes one learner, not %d", d.ID, learnerChanges)
		}
		if len(n.Voters()) == 0 {
			return nil, nil, refuse("range %s would have no voter left", d.ID)
		}
		n.Epoch.Conf++
		return n, nil, nil
	}
}

// finishJoint makes the incoming half the configuration.
func finishJoint(d *topology.Descriptor) {
	d.Replicas = slices.DeleteFunc(d.Replicas, func(r topology.Replica) bool { return r.Role == topology.VoterOutgoing })
	for i := range d.Replicas {
		if d.Replicas[i].Role == topology.VoterIncoming {
			d.Replicas[i].Role = topology.Voter
		}
	}
}

func leaveJointDescriptor(d *topology.Descriptor) (*topology.Descriptor, *topology.Descriptor, error) {
	if !d.Joint() {
		return nil, nil, refuse("range %s is in no joint configuration", d.ID)
	}
	n := d.Clone()
	finishJoint(n)
	n.Epoch.Conf++
	return n, nil, nil
}
