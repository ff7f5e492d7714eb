package client

import (
	"bytes"
	"context"
	"time"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/keys"
)

// ReadOption changes how a read is done.
type ReadOption interface{ applyRead(*readOptions) }

type readOptions struct {
	consistency *locuspb.Consistency // nil: linearizable
	limit       uint64
	reverse     bool
	keysOnly    bool
	pageBytes   uint64
	hold        time.Duration // of snapshots only
}

type readOptionFunc func(*readOptions)

func (f readOptionFunc) applyRead(o *readOptions) { f(o) }

// Linearizable reads the newest: every write acknowledged before the read began. It is the default.
func Linearizable() ReadOption { return readOptionFunc(func(o *readOptions) { o.consistency = nil }) }

// MaxStaleness reads from any replica that is at most d behind.
func MaxStaleness(d time.Duration) ReadOption {
	return readOptionFunc(func(o *readOptions) {
		o.consistency = &locuspb.Consistency{
			Level: locuspb.ConsistencyLevel_BOUNDED_STALENESS, MaxStalenessMs: max(d.Milliseconds(), 0),
		}
	})
}

// Eventual reads from any replica, whatever that has seen: it may miss what this DB has written or read before.
func Eventual() ReadOption {
	return readOptionFunc(func(o *readOptions) {
		o.consistency = &locuspb.Consistency{Level: locuspb.ConsistencyLevel_EVENTUAL}
	})
}

// TimestampOption is what AtTimestamp returns: an option of reads and of range functions.
type TimestampOption struct{ at Timestamp }

// AtTimestamp reads at one timestamp: exactly the writes at or below it, on all ranges. It has to be within
// the retention window (10 min by default), or the read fails with *TimestampUnavailableError.
func AtTimestamp(t Timestamp) TimestampOption { return TimestampOption{t} }

func (t TimestampOption) applyRead(o *readOptions) { o.consistency = snapshotAt(t.at) }

func snapshotAt(t Timestamp) *locuspb.Consistency {
	return &locuspb.Consistency{Level: locuspb.ConsistencyLevel_SNAPSHOT, Timestamp: uint64(t)}
}

// Limit ends a scan after n items. 0 is no limit.
func Limit(n int) ReadOption {
	return readOptionFunc(func(o *readOptions) { o.limit = uint64(max(n, 0)) })
}

// Reverse scans from the span's end to its start.
func Reverse() ReadOption { return readOptionFunc(func(o *readOptions) { o.reverse = true }) }

// KeysOnly scans without values.
func KeysOnly() ReadOption { return readOptionFunc(func(o *readOptions) { o.keysOnly = true }) }

// PageBytes is about how much of a scan is fetched at once, up to 8 MiB. Default: 1 MiB. Two pages are in
// memory at a time.
func PageBytes(n int) ReadOption {
	return readOptionFunc(func(o *readOptions) { o.pageBytes = uint64(max(n, 0)) })
}

func readOptionsOf(opts []ReadOption) readOptions {
	var o readOptions
	for _, f := range opts {
		if f != nil {
			f.applyRead(&o)
		}
	}
	return o
}

// Get reads one key. A key that does not exist, or has expired, is ErrNotFound.
func (k *Keyspace) Get(ctx context.Context, key []byte, opts ...ReadOption) (Item, error) {
	if err := checkKey(key); err != nil {
		return Item{}, err
	}
	var resp *locuspb.Response
	err := k.twice(ctx, func(l *keys.Layout) (err error) {
		req := &locuspb.Request{Op: &locuspb.Request_Get{Get: &locuspb.GetRequest{Key: l.Encode(key)}}}
		if len(opts) > 0 {
			req.Consistency = readOptionsOf(opts).consistency
		}
		resp, err = k.db.run(ctx, k, req, nil)
		return err
	})
	if err != nil {
		return Item{}, err
	}
	g := resp.GetGet()
	if !g.GetFound() {
		return Item{}, ErrNotFound
	}
	return Item{
		Key: bytes.Clone(key), Value: g.Value, Timestamp: Timestamp(g.Timestamp), Expires: Timestamp(g.Expires),
	}, nil
}
