package client

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/keys"
)

// HoldOption is what Hold returns: an option of range functions and of DB.Snapshot.
type HoldOption struct{ d time.Duration }

// Hold keeps the timestamp of a run, or of a snapshot, readable for d, at most 1 h, where that is longer than the
// retention window (10 min by default). It is given back with the end of the run, or by Snapshot.Close; if neither comes, it
// ends by itself after d. Meanwhile the nodes keep all that has been overwritten or deleted since, so take what
// is needed and no more.
//
// The run begins, or Snapshot returns, when every node that is heard from keeps the timestamp: about a second later. If one has
// let it go already the error is *TimestampUnavailableError. A cluster has at most 1,024 holds; beyond, and for a longer d,
// it is *LimitError. A node that hears nothing of the others for longer than the window may let the timestamp go all the
// same; reads at it fail there, and are never wrong. Get and Scan hold nothing, whatever the option says.
func Hold(d time.Duration) HoldOption { return HoldOption{d} }

func (h HoldOption) applyRun(o *runOptions)   { o.hold = h.d }
func (h HoldOption) applyRead(o *readOptions) { o.hold = h.d }

// hold is a timestamp that the cluster keeps readable. The zero value holds nothing.
type hold struct {
	db *DB
	id []byte
}

// releaseTime bounds the wait for the end of a hold that nobody needs any more: it ends by itself.
const releaseTime = 3 * time.Second

// hold takes a timestamp, a fresh one over the span if at is 0, and holds it for d; not at all if d is 0.
func (db *DB) hold(ctx context.Context, at Timestamp, span keys.Span, d time.Duration, owner string) (Timestamp, hold, error) {
	if d == 0 {
		return at, hold{}, nil
	}
	ctx, cancel := db.limited(ctx)
	defer cancel()
	if at == 0 {
		var err error
		if at, err = db.fresh(ctx, span); err != nil {
			return 0, hold{}, err
		}
	}
	id := uuid.New()
	h := hold{db: db, id: id[:]}
	req := &locuspb.HoldRequest{Id: h.id, Timestamp: uint64(at), DurationMs: d.Milliseconds(), Owner: owner}
	_, err := call(ctx, db, true, func(ctx context.Context, c locuspb.LocusClient) (*locuspb.HoldResponse, error) {
		return c.Hold(ctx, req)
	})
	if err != nil {
		db.spawn(func(ctx context.Context) { _ = h.release(ctx) }) // it may have been made all the same
		return 0, hold{}, err
	}
	return at, h, nil
}

// release ends the hold, also after ctx has ended.
func (h hold) release(ctx context.Context) error {
	if h.db == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
	defer cancel()
	_, err := call(ctx, h.db, true, func(ctx context.Context, c locuspb.LocusClient) (*locuspb.ReleaseResponse, error) {
		return c.Release(ctx, &locuspb.ReleaseRequest{Id: h.id})
	})
	return err
}
