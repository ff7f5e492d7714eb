package placement

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// CreateKeyspace records a keyspace and calls done when its first ranges exist and have min(wanted, live
// stores) voters each. It goes on under the next driver if this one's office ends; asked again for a keyspace
// that is still being created with the same definition, it waits for that one. A finished one is
// *api.KeyspaceExistsError.
func (d *Driver) CreateKeyspace(req *locuspb.CreateKeyspaceRequest, done func(*locuspb.Keyspace, error)) {
	d.step(func(c *core) { c.create(req, done) })
}

// DropKeyspace frees the name at once, and calls done when every node that is heard from knows: from then
// on none of them serves the keyspace, or gives its id for the name. The data is deleted in steps. It goes
// on under the next driver if this one's office ends; asked again for a drop that nodes are still being told
// of, it waits for that one. An unknown name is *api.KeyspaceNotFoundError.
//
// A node that has been silent for Options.SuspectAfter is not waited for. If it is cut off from the driver
// alone and still leads ranges, it serves the dropped keyspace to clients that know its id, and acknowledges
// writes that will be deleted, until it hears from the driver again or its ranges have other leaseholders.
func (d *Driver) DropKeyspace(name string, done func(error)) {
	d.step(func(c *core) { c.drop(name, done) })
}

// ListKeyspaces lists the keyspaces by name; those whose Creating is set are not ready yet.
func (d *Driver) ListKeyspaces() (list []*locuspb.Keyspace, err error) {
	d.step(func(c *core) {
		if err = c.ready(); err == nil {
			list = c.keyspaces(false)
		}
	})
	return list, err
}

// LookupKeyspace finds a keyspace by name. One that is still being created is found too: its keys can be
// written as soon as its ranges can be reached.
func (d *Driver) LookupKeyspace(name string) (ks *locuspb.Keyspace, err error) {
	d.step(func(c *core) {
		if err = c.ready(); err != nil {
			return
		}
		if ks = c.cat.spaces[name]; ks == nil {
			err = &api.KeyspaceNotFoundError{Name: name}
		}
	})
	return ks, err
}

// LayoutOf is what a keyspace's record says of the making of its keys.
func LayoutOf(ks *locuspb.Keyspace) keys.Layout {
	return keys.Layout{
		ID:        ids.KeyspaceID(ks.GetId()),
		Partition: keys.Partition(ks.GetPartition()),
		Group: keys.GroupRule{
			Delimiter: byte(ks.GetGroup().GetDelimiter()),
			Depth:     int(ks.GetGroup().GetDepth()),
			Length:    int(ks.GetGroup().GetLength()),
		},
	}
}

func (d *core) create(req *locuspb.CreateKeyspaceRequest, done func(*locuspb.Keyspace, error)) {
	err := d.ready()
	if err == nil {
		err = validateCreate(req)
	}
	if err != nil {
		d.effect(func() { done(nil, err) })
		return
	}
	var ks *locuspb.Keyspace
	d.enqueue(job{
		prepare: func() (m []*locuspb.Mutation, err error) {
			ks, m, err = d.prepareCreate(req)
			return m, err
		},
		commit: func() { d.await(ks, done) },
		done: func(err error) {
			if err != nil {
				done(nil, err)
			}
		},
	})
}

// prepareCreate decides the record; no mutations if the keyspace is being created already.
func (d *core) prepareCreate(req *locuspb.CreateKeyspaceRequest) (*locuspb.Keyspace, []*locuspb.Mutation, error) {
	if old := d.cat.spaces[req.Name]; old != nil {
		if same := newKeyspace(req, old.Id); old.Creating && proto.Equal(old, same) {
			return old, nil, nil
		}
		return nil, nil, &api.KeyspaceExistsError{Name: req.Name}
	}
	if d.cat.nextKeyspace >= math.MaxUint32 {
		return nil, nil, &api.LimitError{What: "number of keyspaces", Limit: math.MaxUint32 - 1, Got: math.MaxUint32}
	}
	ks := newKeyspace(req, uint32(d.cat.nextKeyspace))
	return ks, []*locuspb.Mutation{
		putNumber(keyNextKeyspace, uint64(ks.Id)+1),
		putMessage(spaceKey(ks.Name), ks),
	}, nil
}

// newKeyspace is the record of a keyspace that is to be created.
func newKeyspace(req *locuspb.CreateKeyspaceRequest, id uint32) *locuspb.Keyspace {
	ks := &locuspb.Keyspace{
		Name: req.Name, Id: id, Partition: req.Partition, Replicas: req.Replicas, Creating: true,
	}
	if g := req.Group; g.GetDepth() > 0 || g.GetLength() > 0 {
		ks.Group = proto.CloneOf(g)
	}
	ks.SplitAt = splitPoints(LayoutOf(ks), req)
	return ks
}

// splitPoints are the global keys inside the keyspace at which its first ranges are to begin: none separates
// a group.
func splitPoints(l keys.Layout, req *locuspb.CreateKeyspaceRequest) [][]byte {
	var out [][]byte
	if l.Partition == keys.PartitionHash {
		n := uint64(req.SplitInto)
		for i := uint64(1); i < n; i++ {
			out = append(out, binary.BigEndian.AppendUint16(keys.KeyspacePrefix(l.ID), uint16(i<<16/n)))
		}
		return out
	}
	for _, user := range req.SplitAt {
		out = append(out, bytes.Clone(l.SplitKey(l.Encode(user))))
	}
	slices.SortFunc(out, bytes.Compare)
	return slices.CompactFunc(out, bytes.Equal)
}

func validateCreate(req *locuspb.CreateKeyspaceRequest) error {
	invalid := func(format string, args ...any) error {
		return &api.InvalidArgumentError{Reason: fmt.Sprintf(format, args...)}
	}
	if err := validateName(req.Name); err != nil {
		return err
	}
	g := req.GetGroup()
	if g.GetDelimiter() > math.MaxUint8 || g.GetDepth() > keys.MaxKeyLen || g.GetLength() > keys.MaxKeyLen {
		return invalid("a group rule's delimiter is one byte, its depth and length are at most %d", keys.MaxKeyLen)
	}
	if err := LayoutOf(&locuspb.Keyspace{Group: g}).Group.Validate(); err != nil {
		return invalid("%v", err)
	}
	if req.Replicas > maxReplicas {
		return &api.LimitError{What: "number of replicas", Limit: maxReplicas, Got: int64(req.Replicas)}
	}
	switch keys.Partition(req.Partition) {
	case keys.PartitionRange:
		return validateSplitAt(req)
	case keys.PartitionHash:
		if len(req.SplitAt) > 0 {
			return invalid("a hash-partitioned keyspace is split into a number of ranges, not at keys")
		}
		if req.SplitInto > maxSplits {
			return &api.LimitError{What: "number of first ranges", Limit: maxSplits, Got: int64(req.SplitInto)}
		}
		return nil
	}
	return invalid("partition %d is neither range (0) nor hash (1)", req.Partition)
}

func validateSplitAt(req *locuspb.CreateKeyspaceRequest) error {
	if req.SplitInto > 1 {
		return &api.InvalidArgumentError{Reason: "a range-partitioned keyspace is split at keys, not into a number of ranges"}
	}
	if len(req.SplitAt) >= maxSplits {
		return &api.LimitError{What: "number of first ranges", Limit: maxSplits, Got: int64(len(req.SplitAt)) + 1}
	}
	for _, k := range req.SplitAt {
		if len(k) == 0 {
			return &api.InvalidArgumentError{Reason: "a keyspace can't be split at the empty key: it begins there"}
		}
		if len(k) > keys.MaxKeyLen {
			return &api.LimitError{What: "length of a split key", Limit: keys.MaxKeyLen, Got: int64(len(k))}
		}
	}
	return nil
}

// maxNameLen is the length of a keyspace's name in bytes.
const maxNameLen = 64

func validateName(name string) error {
	if name == "" {
		return &api.InvalidArgumentError{Reason: "a keyspace needs a name"}
	}
	if len(name) > maxNameLen {
		return &api.LimitError{What: "length of a keyspace's name", Limit: maxNameLen, Got: int64(len(name))}
	}
	for _, c := range []byte(name) {
		if !letterOrDigit(c) && c != '-' && c != '_' && c != '.' {
			return &api.InvalidArgumentError{Reason: fmt.Sprintf("keyspace name %q has a character other than letters, digits, '-', '_' and '.'", name)}
		}
	}
	return nil
}

func (d *core) drop(name string, done func(error)) {
	err := d.ready()
	if err == nil && name == defaultKeyspace {
		err = &api.InvalidArgumentError{Reason: "keyspace \"default\" always exists and can't be dropped"}
	}
	if err != nil {
		d.effect(func() { done(err) })
		return
	}
	var gone *locuspb.Keyspace
	d.enqueue(job{
		prepare: func() ([]*locuspb.Mutation, error) {
			ks := d.cat.spaces[name]
			if ks == nil {
				if d.noticeOf(name) == nil {
					return nil, &api.KeyspaceNotFoundError{Name: name}
				}
				return nil, nil
			}
			gone = proto.CloneOf(ks)
			gone.Dropped, gone.Creating, gone.SplitAt = true, false, nil
			return []*locuspb.Mutation{deleteKey(spaceKey(name)), putMessage(droppedKey(ks.Id), gone)}, nil
		},
		commit: func() {
			if gone != nil {
				d.buried(gone)
			}
			d.noticeOf(name).await(d, done)
			d.spread(d.o.Now())
		},
		done: func(err error) {
			if err != nil {
				done(err)
			}
		},
	})
}

// buried takes a drop into memory and ends what was under way for the keyspace.
func (d *core) buried(ks *locuspb.Keyspace) {
	id := ids.KeyspaceID(ks.Id)
	d.cat.drop(ks)
	d.cl.version++
	d.burials[id] = d.newBurial(ks.Name, d.o.Now())
	if b := d.births[id]; b != nil {
		delete(d.births, id)
		b.tell(d, nil, &api.KeyspaceNotFoundError{Name: ks.Name})
	}
}
