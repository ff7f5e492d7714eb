package client

import (
	"bytes"
	"context"
	"fmt"
	"iter"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/clientcore"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/packed"
)

// smallScan is the limit up to which a scan of several ranges first hopes to be done within one.
const smallScan = 256

// Scan yields the records of a span in key order (in a hash-partitioned keyspace, of the whole of it: in the
// order of buckets), all of them as of one timestamp. By default that is a fresh one: every write
// acknowledged before the scan began is seen, on all ranges. The options Limit, Reverse, KeysOnly and
// PageBytes apply, and those of consistency; with MaxStaleness and Eventual each range is read as of its
// own time.
//
// Items are the caller's. An error ends the scan. A scan must come to its end within the retention window
// (10 min by default); each page has the DB's timeout, or all of them the context's deadline.
func (k *Keyspace) Scan(ctx context.Context, span Span, opts ...ReadOption) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		if span.ks != k {
			yield(Item{}, &InvalidArgumentError{Reason: "the span is of another keyspace"})
			return
		}
		var failed error
		err := k.twice(ctx, func(l *keys.Layout) error {
			s := scanner{ks: k, o: readOptionsOf(opts), layout: l}
			err := s.run(ctx, span, yield)
			if s.begun {
				failed = err // what was yielded can't be taken back
				return nil
			}
			return err
		})
		if err == nil {
			err = failed
		}
		if err != nil {
			yield(Item{}, err)
		}
	}
}

// scanner is one run of a scan.
type scanner struct {
	ks     *Keyspace
	o      readOptions
	layout *keys.Layout
	rest   keys.Span // not yet asked for
	left   uint64    // of the limit; 0 with limit 0
	done   bool      // nothing is left to be asked for
	begun  bool      // an item was yielded
}

// page is one answer with what was asked.
type page struct {
	resp    *locuspb.ScanResponse
	covered keys.Span
	err     error
}

func (s *scanner) run(ctx context.Context, span Span, yield func(Item, error) bool) error {
	whole, err := span.in(s.layout)
	if err != nil {
		return err
	}
	if whole.Empty() {
		return nil
	}
	s.rest, s.left = whole, s.o.limit
	first, err := s.begin(ctx)
	if err != nil {
		return err
	}
	for p := first; ; {
		if p.err != nil {
			s.ks.doubt(p.err)
			return public(p.err, s.ks)
		}
		if err := s.advance(p); err != nil {
			return err
		}
		// The next page is on its way while this one is being consumed.
		next := s.ask(ctx)
		if more, err := s.emit(p.resp, yield); err != nil || !more {
			next.drop()
			return err
		}
		if next == nil {
			return nil
		}
		p = next.wait(ctx)
	}
}

// begin settles the scan's timestamp and returns its first page. Where one range answers all, that is a
// linearizable read, whose timestamp the following pages use. Where there are several, a fresh timestamp
// has to come first: the timestamp of one range's read may be below writes acknowledged by another.
func (s *scanner) begin(ctx context.Context) (page, error) {
	if s.o.consistency != nil {
		return s.ask(ctx).wait(ctx), nil
	}
	whole := s.rest
	tiles := s.ks.db.driver.do(ctx, clientcore.Op{Locate: &whole, Deadline: budget(ctx, s.ks.db.o.Timeout)})
	if tiles.Err != nil {
		s.ks.doubt(tiles.Err)
		return page{}, public(tiles.Err, s.ks)
	}
	if small := s.o.limit > 0 && s.o.limit <= smallScan; small || len(tiles.Tiles) == 1 {
		p := s.ask(ctx).wait(ctx)
		enough := p.err == nil && s.o.limit > 0 && p.resp.GetRecords() >= s.o.limit
		if p.err != nil || enough || p.covered.ContainsSpan(whole) {
			if p.err == nil {
				s.o.consistency = snapshotAt(Timestamp(p.resp.GetReadTimestamp()))
			}
			return p, nil
		}
	}
	at, err := s.ks.db.fresh(ctx, whole)
	if err != nil {
		return page{}, public(err, s.ks)
	}
	s.o.consistency = snapshotAt(at)
	return s.ask(ctx).wait(ctx), nil
}

// fresh is a timestamp at or above every write of the span that was acknowledged before (rule C2).
func (db *DB) fresh(ctx context.Context, span keys.Span) (Timestamp, error) {
	done := db.driver.do(ctx, clientcore.Op{
		Fresh: &span, Deadline: budget(ctx, db.o.Timeout), Token: tokenOf(ctx),
	})
	return Timestamp(done.Timestamp), done.Err
}

// pending is a page on its way.
type pending struct {
	db *DB
	id clientcore.OpID
	w  *waiter
	// err: it was not even sent.
	err error
}

// ask asks for the next page; nil if there is none.
func (s *scanner) ask(ctx context.Context) *pending {
	if s.done {
		return nil
	}
	db := s.ks.db
	if err := ctx.Err(); err != nil {
		return &pending{err: reason(ctx)}
	}
	w := waiters.Get().(*waiter)
	id, err := db.driver.submit(clientcore.Op{
		Request: &locuspb.Request{
			Consistency: s.o.consistency,
			Op: &locuspb.Request_Scan{Scan: &locuspb.ScanRequest{
				Span:    &locuspb.Span{Start: s.rest.Start, End: s.rest.End},
				Reverse: s.o.reverse, Limit: s.left, MaxBytes: s.o.pageBytes, KeysOnly: s.o.keysOnly,
			}},
		},
		Deadline: budget(ctx, db.o.Timeout), Token: tokenOf(ctx), Tag: w,
	})
	if err != nil {
		waiters.Put(w)
		return &pending{err: err}
	}
	return &pending{db: db, id: id, w: w}
}

func (p *pending) wait(ctx context.Context) page {
	if p.err != nil {
		return page{err: p.err}
	}
	d := p.db.driver.await(ctx, p.id, p.w)
	return page{resp: d.Response.GetScan(), covered: d.Covered, err: d.Err}
}

// drop gives up a page that nobody wants any more.
func (p *pending) drop() {
	if p == nil || p.err != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p.wait(ctx)
}

// advance moves past a page. A page that makes no headway would be asked for for ever.
func (s *scanner) advance(p page) error {
	r := p.resp
	if s.left > 0 {
		if r.GetRecords() > s.left {
			return badPage("more records than asked for")
		}
		if s.left -= r.GetRecords(); s.left == 0 {
			s.done = true
			return nil
		}
	}
	at := r.GetResume()
	if len(at) == 0 {
		at = p.covered.End
		if s.o.reverse {
			at = p.covered.Start
		}
		if s.atEnd(at) {
			s.done = true
			return nil
		}
	}
	before := s.rest
	if s.o.reverse {
		s.rest.End = bytes.Clone(at)
	} else {
		s.rest.Start = bytes.Clone(at)
	}
	if s.rest.Empty() || !before.ContainsSpan(s.rest) || before.Equal(s.rest) {
		return badPage("a continuation outside what was asked for")
	}
	return nil
}

// atEnd says whether a range's border is where the scan ends. The end of all keys is nil.
func (s *scanner) atEnd(border []byte) bool {
	if s.o.reverse {
		return bytes.Equal(border, s.rest.Start)
	}
	return border == nil || s.rest.End != nil && bytes.Equal(border, s.rest.End)
}

func badPage(what string) error {
	return &InternalError{Reason: "a node answered a scan with " + what}
}

// emit yields a page's records; false if the consumer has had enough.
func (s *scanner) emit(m *locuspb.ScanResponse, yield func(Item, error) bool) (bool, error) {
	records := uint64(0)
	for _, batch := range m.GetBatches() {
		// One copy makes the items of a batch the caller's; they share it.
		r := packed.NewReader(batch)
		for r.Next() {
			user, err := s.layout.Decode(r.Key())
			if err != nil {
				return false, badPage(fmt.Sprintf("a key of another keyspace: %v", err))
			}
			records++
			item := Item{Key: user, Value: r.Value(), Timestamp: Timestamp(r.Timestamp()), Expires: Timestamp(r.Expires())}
			item.own()
			s.begun = true
			if !yield(item, nil) {
				return false, nil
			}
		}
		if err := r.Err(); err != nil {
			return false, badPage(fmt.Sprintf("a batch that can't be read: %v", err))
		}
	}
	if records != m.GetRecords() {
		return false, badPage(fmt.Sprintf("%d records where it counted %d", records, m.GetRecords()))
	}
	return true, nil
}

// own makes an item independent of the batch it came in, so that keeping one keeps no page alive.
func (i *Item) own() {
	buf := make([]byte, len(i.Key)+len(i.Value))
	n := copy(buf, i.Key)
	copy(buf[n:], i.Value)
	i.Key, i.Value = buf[:n:n], buf[n:]
}

// Snapshot is the whole cluster as of one timestamp. It can be read for the retention window (10 min by default), or with Hold
// for longer, and then fails with *TimestampUnavailableError.
type Snapshot struct {
	db   *DB
	at   Timestamp
	hold hold
}

// Snapshot takes a timestamp: a fresh one over all keyspaces, which asks every range's leaseholder, or that
// of the option AtTimestamp. Without the option Hold it holds nothing on the cluster. No other option applies.
func (db *DB) Snapshot(ctx context.Context, opts ...ReadOption) (*Snapshot, error) {
	o := readOptionsOf(opts)
	s := &Snapshot{db: db}
	all := keys.Span{Start: keys.KeyspaceSpan(1).Start}
	var err error
	switch o.consistency.GetLevel() {
	case locuspb.ConsistencyLevel_SNAPSHOT:
		s.at = Timestamp(o.consistency.Timestamp)
	case locuspb.ConsistencyLevel_LINEARIZABLE:
		s.at, err = db.fresh(ctx, all)
	default:
		err = &InvalidArgumentError{Reason: "a snapshot is fresh or at a timestamp"}
	}
	if err == nil {
		_, s.hold, err = db.hold(ctx, s.at, all, o.hold, "snapshot")
	}
	if err != nil {
		return nil, public(err, nil)
	}
	return s, nil
}

// Timestamp is the snapshot's.
func (s *Snapshot) Timestamp() Timestamp { return s.at }

// Keyspace returns a keyspace as of the snapshot.
func (s *Snapshot) Keyspace(name string) *SnapshotKeyspace {
	return &SnapshotKeyspace{ks: s.db.Keyspace(name), at: s.at}
}

// Close gives the snapshot back, and what it holds.
func (s *Snapshot) Close() error { return public(s.hold.release(context.Background()), nil) }

// SnapshotKeyspace is a keyspace as of one timestamp.
type SnapshotKeyspace struct {
	ks *Keyspace
	at Timestamp
}

// Get is Keyspace.Get as of the snapshot.
func (k *SnapshotKeyspace) Get(ctx context.Context, key []byte) (Item, error) {
	return k.ks.Get(ctx, key, AtTimestamp(k.at))
}

// Scan is Keyspace.Scan as of the snapshot.
func (k *SnapshotKeyspace) Scan(ctx context.Context, span Span, opts ...ReadOption) iter.Seq2[Item, error] {
	return k.ks.Scan(ctx, span, append(opts[:len(opts):len(opts)], AtTimestamp(k.at))...)
}

// All, Span and Prefix are those of Keyspace.
func (k *SnapshotKeyspace) All() Span                   { return k.ks.All() }
func (k *SnapshotKeyspace) Span(start, end []byte) Span { return k.ks.Span(start, end) }
func (k *SnapshotKeyspace) Prefix(prefix []byte) Span   { return k.ks.Prefix(prefix) }
