package client

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// Partition says how a keyspace orders its keys.
type Partition uint8

// The partitions.
const (
	// PartitionRange keeps keys in their own order.
	PartitionRange = Partition(keys.PartitionRange)
	// PartitionHash spreads groups evenly over 65,536 buckets; scans run in the order of buckets.
	PartitionHash = Partition(keys.PartitionHash)
)

// GroupRule says which prefix of a key names its group: the keys that are never split apart, and that one
// write or one call may touch together. The zero rule makes each key its own group.
type GroupRule struct {
	// Delimiter and Depth: the group is the prefix up to and including the Depth-th Delimiter.
	Delimiter byte
	Depth     int
	// Length: the group is the first Length bytes. Either this or Depth.
	Length int
}

// KeyspaceOptions say how a keyspace is made. The zero value is range-partitioned, each key its own group,
// in one range, with three replicas as soon as there are three nodes.
type KeyspaceOptions struct {
	Partition Partition
	Group     GroupRule
	// SplitAt are keys at which ranges begin; only with PartitionRange.
	SplitAt [][]byte
	// SplitInto is how many ranges there are at first; only with PartitionHash.
	SplitInto int
	// Replicas of each range; 0 means 3.
	Replicas int
}

// KeyspaceInfo describes a keyspace.
type KeyspaceInfo struct {
	Name      string
	ID        uint32
	Partition Partition
	Group     GroupRule
	Replicas  int
}

// CreateKeyspace makes a keyspace. It returns when its ranges have their replicas, as far as there are
// nodes. A name that is taken is *KeyspaceExistsError.
func (db *DB) CreateKeyspace(ctx context.Context, name string, o KeyspaceOptions) error {
	req := &locuspb.CreateKeyspaceRequest{
		Name: name, Partition: uint32(o.Partition), SplitAt: o.SplitAt,
		SplitInto: uint32(max(o.SplitInto, 0)), Replicas: uint32(max(o.Replicas, 0)),
		Group: &locuspb.GroupRule{
			Delimiter: uint32(o.Group.Delimiter), Depth: uint32(o.Group.Depth), Length: uint32(o.Group.Length),
		},
	}
	if err := keys.GroupRule(o.Group).Validate(); err != nil {
		return &InvalidArgumentError{Reason: err.Error()}
	}
	ctx, cancel := db.limitedTo(ctx, creation*db.o.Timeout)
	defer cancel()
	_, err := call(ctx, db, false, func(ctx context.Context, c locuspb.LocusClient) (*locuspb.CreateKeyspaceResponse, error) {
		return c.CreateKeyspace(ctx, req)
	})
	return public(err, nil)
}

// creation is how many times longer than others the making of a keyspace may take: its ranges get replicas.
// Dropping one waits for nodes too.
const creation = 6

// DropKeyspace deletes a keyspace with all its data. When it returns, no node that the placement driver hears
// from serves the keyspace any more, and the name is free; the data goes in the background. An unknown name
// is *KeyspaceNotFoundError.
//
// A node that the driver has not heard from for 5 s is not waited for. While it is cut off from the driver
// and still leads ranges, other clients that had used the keyspace may read it there, and write to it what
// will be deleted. Operations that were under way when the drop began may come before or after it.
func (db *DB) DropKeyspace(ctx context.Context, name string) error {
	ctx, cancel := db.limitedTo(ctx, creation*db.o.Timeout)
	defer cancel()
	_, err := call(ctx, db, false, func(ctx context.Context, c locuspb.LocusClient) (*locuspb.DropKeyspaceResponse, error) {
		return c.DropKeyspace(ctx, &locuspb.DropKeyspaceRequest{Name: name})
	})
	db.Keyspace(name).layout.Store(nil)
	return public(err, nil)
}

// Keyspaces lists the keyspaces by name.
func (db *DB) Keyspaces(ctx context.Context) ([]KeyspaceInfo, error) {
	ctx, cancel := db.limited(ctx)
	defer cancel()
	m, err := call(ctx, db, true, func(ctx context.Context, c locuspb.LocusClient) (*locuspb.ListKeyspacesResponse, error) {
		return c.ListKeyspaces(ctx, &locuspb.ListKeyspacesRequest{})
	})
	if err != nil {
		return nil, public(err, nil)
	}
	var out []KeyspaceInfo
	for _, k := range m.Keyspaces {
		if !k.GetDropped() {
			out = append(out, keyspaceInfo(k))
		}
	}
	return out, nil
}

func keyspaceInfo(k *locuspb.Keyspace) KeyspaceInfo {
	return KeyspaceInfo{
		Name: k.GetName(), ID: k.GetId(), Partition: Partition(k.GetPartition()), Replicas: int(max(k.GetReplicas(), 0)),
		Group: GroupRule{
			Delimiter: byte(k.GetGroup().GetDelimiter()), Depth: int(k.GetGroup().GetDepth()), Length: int(k.GetGroup().GetLength()),
		},
	}
}

// Keyspace is a handle to a named table of keys. It is safe for concurrent use.
type Keyspace struct {
	db   *DB
	name string
	// layout is what the cluster said about the name; nil: not asked yet, or in doubt.
	layout atomic.Pointer[keys.Layout]
}

// Keyspace returns the handle of a keyspace. It does no I/O: whether the keyspace exists shows in the first
// operation (*KeyspaceNotFoundError).
func (db *DB) Keyspace(name string) *Keyspace {
	db.nodes.mu.Lock()
	defer db.nodes.mu.Unlock()
	k := db.nodes.keyspaces[name]
	if k == nil {
		k = &Keyspace{db: db, name: name}
		if len(db.nodes.keyspaces) < maxCachedKeyspaces {
			db.nodes.keyspaces[name] = k
		}
	}
	return k
}

// maxCachedKeyspaces bounds the handles that a DB keeps; others work, and look their name up for themselves.
const maxCachedKeyspaces = 10_000

// Name is the keyspace's name.
func (k *Keyspace) Name() string { return k.name }

// Info asks the cluster about the keyspace.
func (k *Keyspace) Info(ctx context.Context) (KeyspaceInfo, error) {
	m, err := k.lookup(ctx)
	if err != nil {
		return KeyspaceInfo{}, public(err, k)
	}
	return keyspaceInfo(m), nil
}

// resolve returns the keyspace's layout, asking the cluster the first time. Concurrent first callers may
// all ask; they get the same answer.
func (k *Keyspace) resolve(ctx context.Context) (*keys.Layout, error) {
	if l := k.layout.Load(); l != nil {
		return l, nil
	}
	if _, err := k.lookup(ctx); err != nil {
		return nil, err
	}
	if l := k.layout.Load(); l != nil {
		return l, nil
	}
	return nil, &KeyspaceNotFoundError{Name: k.name}
}

func (k *Keyspace) lookup(ctx context.Context) (*locuspb.Keyspace, error) {
	ctx, cancel := k.db.limited(ctx)
	defer cancel()
	m, err := call(ctx, k.db, true, func(ctx context.Context, c locuspb.LocusClient) (*locuspb.LookupKeyspaceResponse, error) {
		return c.LookupKeyspace(ctx, &locuspb.LookupKeyspaceRequest{Name: k.name})
	})
	if err != nil {
		return nil, err
	}
	if m.Keyspace == nil || m.Keyspace.Dropped {
		return nil, &KeyspaceNotFoundError{Name: k.name}
	}
	k.layout.Store(layoutOf(m.Keyspace))
	return m.Keyspace, nil
}

func layoutOf(m *locuspb.Keyspace) *keys.Layout {
	g := m.Group
	return &keys.Layout{
		ID:        ids.KeyspaceID(m.Id),
		Partition: keys.Partition(m.Partition),
		Group:     keys.GroupRule{Delimiter: byte(g.GetDelimiter()), Depth: int(g.GetDepth()), Length: int(g.GetLength())},
	}
}

// doubt forgets the layout after an error that a dropped keyspace would cause, so that the next operation
// asks again.
func (k *Keyspace) doubt(err error) {
	var missing *KeyspaceNotFoundError
	var unavailable *UnavailableError
	if errors.As(err, &missing) || errors.As(err, &unavailable) || errors.Is(err, context.DeadlineExceeded) {
		k.layout.Store(nil)
	}
}

// twice runs an operation on the keyspace, and once more if the keyspace that the name stood for does not
// exist any more: it did nothing then, and the name may stand for another by now, which it is looked up for.
func (k *Keyspace) twice(ctx context.Context, f func(l *keys.Layout) error) error {
	cached := k.layout.Load() != nil
	for {
		l, err := k.resolve(ctx)
		if err != nil {
			return public(err, k)
		}
		err = f(l)
		if !cached || !unknown(err) {
			return err
		}
		cached = false
		k.layout.CompareAndSwap(l, nil)
	}
}

// unknown says whether an operation did nothing because there is no such keyspace. An error that merely
// wraps one does not: an attempt before may have taken effect.
func unknown(err error) bool {
	_, ok := err.(*KeyspaceNotFoundError)
	return ok
}

// userKey is the user's key of a global key; the global key itself where that is not known.
func (k *Keyspace) userKey(global []byte) []byte {
	if k == nil {
		return global
	}
	if l := k.layout.Load(); l != nil {
		if user, err := l.Decode(global); err == nil {
			return user
		}
	}
	return global
}

// in resolves a span to the cluster's keys.
func (s Span) in(l *keys.Layout) (keys.Span, error) {
	for _, b := range [][]byte{s.start, s.end, s.prefix} {
		if err := checkBound(b); err != nil {
			return keys.Span{}, err
		}
	}
	switch {
	case s.start == nil && s.end == nil && s.prefix == nil:
		return l.All(), nil
	case l.Partition == keys.PartitionHash:
		return s.inGroup(l)
	case s.prefix != nil:
		return keys.PrefixSpan(l.Encode(s.prefix)), nil
	}
	return l.Span(s.start, s.end), nil
}

// inGroup resolves a span of a hash keyspace, which has an order inside a group only.
func (s Span) inGroup(l *keys.Layout) (keys.Span, error) {
	name := s.prefix
	if name == nil {
		name = s.start
	}
	group := l.Group.Of(name)
	out := keys.PrefixSpan(l.Encode(name))
	inside := wholeGroup(l.Group, group)
	if s.prefix == nil {
		end := keys.PrefixEnd(group)
		inside = inside && s.end != nil && (bytes.HasPrefix(s.end, group) || bytes.Equal(s.end, end))
		out = keys.Span{Start: l.Encode(s.start), End: append(l.Encode(group)[:len(l.Encode(nil))], s.end...)}
	}
	if !inside {
		return keys.Span{}, &InvalidArgumentError{
			Reason: "a hash-partitioned keyspace has no order between groups: scan all of it, or inside one group",
		}
	}
	return out, nil
}

// wholeGroup says whether every key that begins with prefix is of the group that prefix names.
func wholeGroup(rule keys.GroupRule, prefix []byte) bool {
	if rule.Depth > 0 {
		return bytes.Count(prefix, []byte{rule.Delimiter}) == rule.Depth
	}
	return rule.Length > 0 && len(prefix) == rule.Length
}

// checkKey refuses a key that no store would take.
func checkKey(key []byte) error {
	if len(key) == 0 {
		return &InvalidArgumentError{Reason: "the key is empty"}
	}
	return checkBound(key)
}

// checkBound refuses an end of a span that is longer than any key.
func checkBound(key []byte) error {
	if len(key) > keys.MaxKeyLen {
		return &LimitError{What: "key length", Limit: keys.MaxKeyLen, Got: int64(len(key))}
	}
	return nil
}

func checkValue(value []byte) error {
	if len(value) > keys.MaxValueLen {
		return &LimitError{What: "value length", Limit: keys.MaxValueLen, Got: int64(len(value))}
	}
	return nil
}

// limited gives a context without a deadline the DB's.
func (db *DB) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	return db.limitedTo(ctx, db.o.Timeout)
}

func (db *DB) limitedTo(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, d)
}
