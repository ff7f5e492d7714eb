package client

import (
	"bytes"
	"context"
	"encoding/hex"
	"time"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/clientcore"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/keys"
)

// WriteOption changes how a write is done.
type WriteOption interface{ applyWrite(*writeOptions) }

type writeOptions struct {
	ttl       time.Duration
	condition *locuspb.Condition // without its key
	id        *RequestID
}

type writeOptionFunc func(*writeOptions)

func (f writeOptionFunc) applyWrite(o *writeOptions) { f(o) }

// TTL lets the record expire: d after the write's timestamp it no longer exists.
func TTL(d time.Duration) WriteOption {
	return writeOptionFunc(func(o *writeOptions) { o.ttl = d })
}

// IfAbsent writes only if the key does not exist; else the write fails with *ConditionError.
func IfAbsent() WriteOption {
	return condition(&locuspb.Condition{Kind: locuspb.Condition_ABSENT})
}

// IfValue writes only if the key exists with this value; else the write fails with *ConditionError.
func IfValue(v []byte) WriteOption {
	return condition(&locuspb.Condition{Kind: locuspb.Condition_VALUE, Value: bytes.Clone(v)})
}

// IfTimestamp writes only if the key's record was written at t; else the write fails with *ConditionError.
func IfTimestamp(t Timestamp) WriteOption {
	return condition(&locuspb.Condition{Kind: locuspb.Condition_TIMESTAMP, Timestamp: uint64(t)})
}

func condition(c *locuspb.Condition) WriteOption {
	return writeOptionFunc(func(o *writeOptions) { o.condition = c })
}

// RequestID is a command's name that outlives the process that issues it. Make it with DB.NewRequestID,
// store it, and then issue the command with it: whoever issues the same command with it again, within the
// session window (1 h by default) of its making, gets the first result and changes nothing; later, the
// command fails with ErrSessionExpired.
//
// It has to come from NewRequestID, because it carries the time from which the window counts. A free
// choice of name could not be told apart from one that the cluster has forgotten, and a command that was
// applied could then be applied again.
type RequestID struct {
	session      clientcore.SessionID
	firstAttempt hlc.Timestamp
}

// NewRequestID names a command that is still to be issued.
func (db *DB) NewRequestID(ctx context.Context) (RequestID, error) {
	for {
		var id clientcore.Identity
		var ok bool
		db.driver.event(func(core *clientcore.Core, now clientcore.Instant) { id, ok = core.NewIdentity(now) })
		if ok {
			return RequestID{id.Session, id.FirstAttempt}, nil
		}
		ctx, cancel := db.limited(ctx)
		m, err := call(ctx, db, true, func(ctx context.Context, c locuspb.LocusClient) (*locuspb.RoutesResponse, error) {
			return c.Routes(ctx, &locuspb.RoutesRequest{Span: &locuspb.Span{}, Limit: 1})
		})
		cancel()
		if err != nil {
			return RequestID{}, public(err, nil)
		}
		if m.Clock == 0 {
			return RequestID{}, &InternalError{Reason: "a node has no clock"}
		}
		db.learn(m)
	}
}

// String is the id as 48 hexadecimal digits, for ParseRequestID.
func (r RequestID) String() string {
	b := make([]byte, 0, 24)
	b = append(b, r.session[:]...)
	for shift := 56; shift >= 0; shift -= 8 {
		b = append(b, byte(r.firstAttempt>>shift))
	}
	return hex.EncodeToString(b)
}

// ParseRequestID reads what String wrote.
func ParseRequestID(s string) (RequestID, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 24 {
		return RequestID{}, &InvalidArgumentError{Reason: "a request id has 48 hexadecimal digits"}
	}
	var r RequestID
	copy(r.session[:], b)
	for _, x := range b[16:] {
		r.firstAttempt = r.firstAttempt<<8 | hlc.Timestamp(x)
	}
	if r.firstAttempt == 0 {
		return RequestID{}, &InvalidArgumentError{Reason: "the request id names no time"}
	}
	return r, nil
}

func (r *RequestID) identity() *clientcore.Identity {
	if r == nil {
		return nil
	}
	return &clientcore.Identity{Session: r.session, FirstAttempt: r.firstAttempt}
}

// RequestIDOption is what WithRequestID returns: an option of writes and of calls.
type RequestIDOption struct{ id RequestID }

// WithRequestID issues a command under a name of its own. See RequestID.
func WithRequestID(id RequestID) RequestIDOption { return RequestIDOption{id} }

func (o RequestIDOption) applyWrite(w *writeOptions) { w.id = &o.id }

// Put writes one key and returns the write's timestamp.
func (k *Keyspace) Put(ctx context.Context, key, value []byte, opts ...WriteOption) (Timestamp, error) {
	if err := checkValue(value); err != nil {
		return 0, err
	}
	return k.write(ctx, key, &locuspb.Mutation{Value: bytes.Clone(value)}, opts)
}

// Delete removes one key, whether it exists or not, and returns the write's timestamp.
func (k *Keyspace) Delete(ctx context.Context, key []byte, opts ...WriteOption) (Timestamp, error) {
	return k.write(ctx, key, &locuspb.Mutation{Delete: true}, opts)
}

// CompareAndSwap writes next if the key's value is old; else it fails with *ConditionError, which holds the
// current record. A nil old means that the key must not exist, a nil next deletes it.
func (k *Keyspace) CompareAndSwap(ctx context.Context, key, old, next []byte) (Timestamp, error) {
	cond := IfAbsent()
	if old != nil {
		cond = IfValue(old)
	}
	if next == nil {
		return k.Delete(ctx, key, cond)
	}
	return k.Put(ctx, key, next, cond)
}

func (k *Keyspace) write(ctx context.Context, key []byte, what *locuspb.Mutation, opts []WriteOption) (at Timestamp, err error) {
	if err := checkKey(key); err != nil {
		return 0, err
	}
	err = k.twice(ctx, func(l *keys.Layout) (err error) {
		m := &locuspb.Mutation{Key: l.Encode(key), Value: what.Value, Delete: what.Delete}
		w := &locuspb.WriteRequest{Mutations: []*locuspb.Mutation{m}}
		var o writeOptions
		if len(opts) > 0 {
			o = writeOptionsOf(opts)
			if err := o.put(w, m); err != nil {
				return err
			}
		}
		at, err = k.send(ctx, w, o.id)
		return err
	})
	return at, err
}

func (k *Keyspace) send(ctx context.Context, w *locuspb.WriteRequest, id *RequestID) (Timestamp, error) {
	resp, err := k.db.run(ctx, k, &locuspb.Request{Op: &locuspb.Request_Write{Write: w}}, id)
	if err != nil {
		return 0, err
	}
	return Timestamp(resp.Timestamp), nil
}

func writeOptionsOf(opts []WriteOption) writeOptions {
	var o writeOptions
	for _, f := range opts {
		if f != nil {
			f.applyWrite(&o)
		}
	}
	return o
}

// put adds the options of one mutation to a write.
func (o *writeOptions) put(w *locuspb.WriteRequest, m *locuspb.Mutation) error {
	if o.ttl != 0 {
		if o.ttl < time.Millisecond {
			return &InvalidArgumentError{Reason: "a time to live is at least a millisecond"}
		}
		if m.Delete {
			return &InvalidArgumentError{Reason: "a deletion has no time to live"}
		}
		m.TtlMs = o.ttl.Milliseconds()
	}
	if c := o.condition; c != nil {
		// An option may be used again, so its own message stays as it is.
		w.Conditions = append(w.Conditions, &locuspb.Condition{Key: m.Key, Kind: c.Kind, Value: c.Value, Timestamp: c.Timestamp})
	}
	return nil
}

// Batch collects writes of one group, which Apply does all together or not at all. The zero value is empty
// and ready. It is not safe for concurrent use.
type Batch struct {
	writes []batchWrite
	size   int
}

type batchWrite struct {
	key  []byte
	m    *locuspb.Mutation // nil: a condition only
	opts writeOptions
}

// MaxBatchBytes bounds the keys and values of one Batch.
const MaxBatchBytes = 4 << 20

// Put adds a write. Of several to one key the last counts. The options TTL, IfAbsent, IfValue and
// IfTimestamp apply to it; a condition that does not hold fails the whole batch.
func (b *Batch) Put(key, value []byte, opts ...WriteOption) {
	b.add(key, &locuspb.Mutation{Value: bytes.Clone(value)}, opts)
}

// Delete adds a deletion.
func (b *Batch) Delete(key []byte, opts ...WriteOption) {
	b.add(key, &locuspb.Mutation{Delete: true}, opts)
}

// Require adds a condition on a key that the batch does not write.
func (b *Batch) Require(key []byte, condition WriteOption) { b.add(key, nil, []WriteOption{condition}) }

// Len is the number of writes and conditions.
func (b *Batch) Len() int { return len(b.writes) }

func (b *Batch) add(key []byte, m *locuspb.Mutation, opts []WriteOption) {
	b.writes = append(b.writes, batchWrite{bytes.Clone(key), m, writeOptionsOf(opts)})
	b.size += len(key) + len(m.GetValue())
}

// Apply does a batch atomically: all its writes have one timestamp, which is returned. A key outside the
// group is ErrNotOneGroup, and nothing is sent.
func (k *Keyspace) Apply(ctx context.Context, g Group, b *Batch, opts ...WriteOption) (Timestamp, error) {
	if g.ks != k {
		return 0, &InvalidArgumentError{Reason: "the group is of another keyspace"}
	}
	if b == nil || len(b.writes) == 0 {
		return 0, &InvalidArgumentError{Reason: "the batch is empty"}
	}
	if b.size > MaxBatchBytes {
		return 0, &LimitError{What: "batch size", Limit: MaxBatchBytes, Got: int64(b.size)}
	}
	var at Timestamp
	err := k.twice(ctx, func(l *keys.Layout) error {
		w, err := b.message(l, l.Group.Of(g.key))
		if err != nil {
			return err
		}
		at, err = k.send(ctx, w, writeOptionsOf(opts).id)
		return err
	})
	return at, err
}

func (b *Batch) message(l *keys.Layout, group []byte) (*locuspb.WriteRequest, error) {
	w := &locuspb.WriteRequest{}
	for i := range b.writes {
		x := &b.writes[i]
		if err := checkKey(x.key); err != nil {
			return nil, err
		}
		if !bytes.Equal(l.Group.Of(x.key), group) {
			return nil, ErrNotOneGroup
		}
		// A batch may be applied again, so its own messages stay as they are.
		m := &locuspb.Mutation{Key: l.Encode(x.key)}
		if x.m != nil {
			if err := checkValue(x.m.Value); err != nil {
				return nil, err
			}
			m.Value, m.Delete = x.m.Value, x.m.Delete
			w.Mutations = append(w.Mutations, m)
		}
		if err := x.opts.put(w, m); err != nil {
			return nil, err
		}
	}
	return w, nil
}
