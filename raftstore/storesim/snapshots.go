package storesim

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/clientcore"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/packed"
)

// everything is the span of all keys that clients use.
func everything() keys.Span { return keys.KeyspaceSpan(layout.ID) }

// submit runs one operation of the core and hands on how it ended.
func (cl *Client) submit(op clientcore.Op, f func(clientcore.Done)) {
	w := cl.c.W
	op.Deadline = w.Now() + 8*time.Second
	op.Tag = func(d clientcore.Done) {
		w.Note(fmt.Sprint("done ", cl.id, d.Err))
		if d.Err != nil && !acceptable(d.Err) {
			cl.c.violate(fmt.Errorf("client %d: %w", cl.id, d.Err))
		}
		f(d)
	}
	if _, err := cl.core.Submit(w.Now(), op); err != nil {
		cl.c.violate(fmt.Errorf("client %d: submit: %w", cl.id, err))
		return
	}
	cl.effects()
}

// acceptable errors are those that faults alone explain. Any other says that the cluster misunderstood a good request.
func acceptable(err error) bool {
	var (
		deadline *api.DeadlineError
		down     *api.UnavailableError
		full     *api.OverloadedError
		tooOld   *api.TimestampUnavailableError
		cond     *api.ConditionError
	)
	return uncertain(err) || errors.As(err, &deadline) || errors.As(err, &down) || errors.As(err, &full) ||
		errors.As(err, &tooOld) || errors.As(err, &cond)
}

// rest ends an operation; the next one follows after a while.
func (cl *Client) rest() {
	cl.busy = false
	pause := cl.c.W.Between(0, cl.think)
	if cl.c.storm > cl.c.W.Now() || cl.c.W.Chance(0.7) { // in bursts, so that commands meet
		pause /= 200
	}
	cl.pause(pause)
}

// pause lets the next operation follow after a while, whatever pause there was before.
func (cl *Client) pause(d time.Duration) {
	cl.turn++
	turn := cl.turn
	cl.c.W.After(d, "client", func() {
		if turn == cl.turn {
			cl.next()
		}
	})
}

// rush lets an idle client go on soon.
func (cl *Client) rush() {
	if !cl.busy {
		cl.pause(cl.c.W.Between(0, 20*time.Millisecond))
	}
}

// snapshot reads all keys at one timestamp: a fresh one, or one that was fresh before.
func (cl *Client) snapshot() {
	w, l := cl.c.W, cl.c.ledger
	if n := len(cl.c.past); n > 0 && w.Chance(0.5) {
		cl.views(cl.c.past[w.Rand.IntN(n)])
	} else {
		cl.views(0)
	}
	read := cl.readAll
	if w.Chance(0.5) {
		read = func(t hlc.Timestamp) { cl.scanAll(t, everything().Start) }
	}
	if n := len(cl.c.past); n > 0 && w.Chance(0.4) {
		read(cl.c.past[w.Rand.IntN(n)])
		return
	}
	if w.Chance(0.5) {
		cl.freshKey()
		return
	}
	span, floor := everything(), l.newest
	cl.submit(clientcore.Op{Fresh: &span}, func(d clientcore.Done) {
		if d.Err != nil {
			cl.rest()
			return
		}
		l.fresh(d.Timestamp, floor, w.Now())
		cl.c.past = append(cl.c.past, d.Timestamp)
		if len(cl.c.past) > 20 {
			cl.c.past = cl.c.past[1:]
		}
		read(d.Timestamp)
	})
}

// freshKey reads one key at a timestamp that is fresh for its range alone: no other range's clock helps.
func (cl *Client) freshKey() {
	all := append(append([][]byte(nil), cl.keys...), cl.ttlKeys...)
	key := all[cl.c.W.Rand.IntN(len(all))]
	span, floor := keys.Span{Start: key, End: keys.Next(key)}, cl.c.ledger.newestOf[string(key)]
	cl.submit(clientcore.Op{Fresh: &span}, func(d clientcore.Done) {
		if d.Err != nil {
			cl.rest()
			return
		}
		t := d.Timestamp
		cl.c.ledger.fresh(t, floor, cl.c.W.Now())
		req := &locuspb.Request{Consistency: at(t), Op: &locuspb.Request_Get{Get: &locuspb.GetRequest{Key: key}}}
		cl.submit(clientcore.Op{Request: req}, func(d clientcore.Done) {
			if d.Err == nil {
				cl.found(t, key, d.Response.GetGet(), "a fresh get")
			}
			cl.rest()
		})
	})
}

func at(t hlc.Timestamp) *locuspb.Consistency {
	return &locuspb.Consistency{Level: locuspb.ConsistencyLevel_SNAPSHOT, Timestamp: uint64(t)}
}

// allKeys are the keys that a snapshot looks at.
func (cl *Client) allKeys() [][]byte {
	out := append([][]byte{cl.ctr}, cl.keys...)
	return append(out, cl.ttlKeys...)
}

// readAll gets every key at t, all at once.
func (cl *Client) readAll(t hlc.Timestamp) {
	left := len(cl.allKeys())
	for _, key := range cl.allKeys() {
		req := &locuspb.Request{Consistency: at(t), Op: &locuspb.Request_Get{Get: &locuspb.GetRequest{Key: key}}}
		cl.submit(clientcore.Op{Request: req}, func(d clientcore.Done) {
			if d.Err == nil {
				cl.found(t, key, d.Response.GetGet(), "a get")
			}
			if left--; left == 0 {
				cl.rest()
			}
		})
	}
}

func (cl *Client) found(t hlc.Timestamp, key []byte, g *locuspb.GetResponse, who string) {
	c := cut{key: string(key), at: t, who: fmt.Sprintf("client %d, %s", cl.id, who)}
	if g.GetFound() {
		c.value, c.ts = string(g.GetValue()), hlc.Timestamp(g.GetTimestamp())
	}
	cl.c.ledger.saw(c)
}

// scanAll scans all keys at t, from a key on.
func (cl *Client) scanAll(t hlc.Timestamp, from []byte) {
	cl.scanFrom(t, from, make(map[string]cut))
}

func (cl *Client) scanFrom(t hlc.Timestamp, from []byte, seen map[string]cut) {
	span := keys.Span{Start: from, End: everything().End}
	limit := uint64(cl.c.W.Rand.IntN(6)) // 0: none
	req := &locuspb.Request{Consistency: at(t), Op: &locuspb.Request_Scan{Scan: &locuspb.ScanRequest{Span: api.SpanToProto(span), Limit: limit}}}
	cl.submit(clientcore.Op{Request: req}, func(d clientcore.Done) {
		if d.Err != nil {
			cl.rest()
			return
		}
		next, full := d.Covered.End, false
		last, err := cl.collect(d.Response.GetScan(), t, from, seen)
		if err != nil {
			cl.c.violate(err)
			return
		}
		if resume := d.Response.GetScan().GetResume(); len(resume) > 0 {
			next = resume
		} else if limit > 0 && d.Response.GetScan().GetRecords() == limit {
			next = keys.Next(last)
		}
		full = next == nil || bytes.Compare(next, span.End) >= 0
		if !full {
			cl.scanFrom(t, next, seen)
			return
		}
		for _, key := range cl.allKeys() {
			c, ok := seen[string(key)]
			if !ok {
				c = cut{key: string(key), at: t}
			}
			c.who = fmt.Sprintf("client %d, a scan", cl.id)
			cl.c.ledger.saw(c)
		}
		cl.rest()
	})
}

// collect takes the records of one answer, each key once and in order (P8).
func (cl *Client) collect(s *locuspb.ScanResponse, t hlc.Timestamp, from []byte, seen map[string]cut) (last []byte, err error) {
	for _, batch := range s.GetBatches() {
		r := packed.NewReader(batch)
		for r.Next() {
			key := bytes.Clone(r.Key())
			if bytes.Compare(key, from) < 0 || (last != nil && bytes.Compare(key, last) <= 0) {
				return nil, fmt.Errorf("client %d: a scan from %q yields %q after %q", cl.id, from, key, last)
			}
			if _, twice := seen[string(key)]; twice {
				return nil, fmt.Errorf("client %d: a scan yields %q twice", cl.id, key)
			}
			last = key
			seen[string(key)] = cut{key: string(key), at: t, value: string(r.Value()), ts: r.Timestamp()}
		}
		if r.Err() != nil {
			return nil, fmt.Errorf("client %d: packed batch: %w", cl.id, r.Err())
		}
	}
	return last, nil
}

// stale reads a key at bounded staleness, which any replica may serve: it is a snapshot at the timestamp it names.
func (cl *Client) stale() {
	w := cl.c.W
	key := cl.allKeys()[w.Rand.IntN(len(cl.allKeys()))]
	req := &locuspb.Request{
		Consistency: &locuspb.Consistency{Level: locuspb.ConsistencyLevel_BOUNDED_STALENESS, MaxStalenessMs: int64(w.Rand.IntN(3000))},
		Op:          &locuspb.Request_Get{Get: &locuspb.GetRequest{Key: key}},
	}
	cl.submit(clientcore.Op{Request: req}, func(d clientcore.Done) {
		if d.Err == nil {
			cl.found(hlc.Timestamp(d.Response.Timestamp), key, d.Response.GetGet(), "a stale get")
		}
		cl.rest()
	})
}

// expiring writes a key with a time to live, or reads one.
func (cl *Client) expiring() {
	w, l := cl.c.W, cl.c.ledger
	key := cl.ttlKeys[w.Rand.IntN(len(cl.ttlKeys))]
	begin := w.Now()
	if w.Chance(0.6) {
		req := &locuspb.Request{Op: &locuspb.Request_Get{Get: &locuspb.GetRequest{Key: key}}}
		if w.Chance(0.4) {
			req = peekRequest(key)
		}
		cl.submit(clientcore.Op{Request: req}, func(d clientcore.Done) {
			if d.Err == nil {
				g := gotten(d.Response)
				read := hlc.Timestamp(d.Response.Timestamp)
				if d.Response.GetCall().GetFuel() == sequenced {
					read--
				} else {
					cl.found(read, key, g, "a linearizable get")
				}
				l.gone[string(key)] = append(l.gone[string(key)], sighting{begin: begin, end: w.Now(), at: read, value: string(g.GetValue())})
				cl.seen = max(cl.seen, hlc.Timestamp(g.GetTimestamp()))
			}
			cl.rest()
		})
		return
	}
	ttl := time.Duration(w.Rand.IntN(2000)+1) * time.Millisecond
	value := fmt.Sprintf("t%d-%d", cl.id, cl.left)
	entry := l.begin(&written{key: string(key), value: value, ttl: ttl, begin: begin})
	req := &locuspb.Request{Op: &locuspb.Request_Write{Write: &locuspb.WriteRequest{
		Mutations: []*locuspb.Mutation{{Key: key, Value: []byte(value), TtlMs: ttl.Milliseconds()}},
	}}}
	seen := cl.seen
	cl.submit(clientcore.Op{Request: req}, func(d clientcore.Done) {
		cl.settled(entry, d, seen)
		cl.rest()
	})
}

// settled enters how a write ended.
func (cl *Client) settled(entry *written, d clientcore.Done, seen hlc.Timestamp) {
	switch {
	case d.Err == nil:
		cl.c.ledger.acknowledged(entry, stamp{hlc.Timestamp(d.Response.Timestamp), d.Response.Place}, cl.c.W.Now(), seen)
		cl.seen = max(cl.seen, hlc.Timestamp(d.Response.Timestamp))
	case !uncertain(d.Err):
		cl.c.ledger.forget(entry)
	}
}
