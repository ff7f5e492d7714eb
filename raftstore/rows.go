package raftstore

import (
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/raftstore/engine"
	"github.com/locuskv/locus/raftstore/rowcache"
)

// rowsAt is what a reader of a range's newest data needs to use the store's row cache (rule D4).
type rowsAt struct {
	// at is a sequence of the store at which the range shows what it shows at its visible sequence; 0: the reader does
	// not use the cache.
	at ids.Seq
	// gen is the range's lineage of applied state.
	gen uint64
	// fill: what is read is worth keeping, because this replica leads.
	fill bool
}

// rowsAt is for a reader of newest data. published is what Store.published was before s was looked at: all of the
// range's entries up to it are visible, so the range has nothing between its visible sequence and that.
func (s *replicaState) rowsAt(published ids.Seq) rowsAt {
	return rowsAt{at: max(s.visible, published), gen: s.gen, fill: s.leaseholder}
}

// get reads one key at seq, from the cache if it has it. The row's value may be a part of what the engine returned.
func (s *Store) get(key []byte, seq ids.Seq, rows rowsAt) (engine.Value, bool, error) {
	if rows.at != 0 {
		if row, ok := s.rows.Get(key, rows.gen, rows.at); ok {
			return engine.Value{Timestamp: row.Timestamp, Expires: row.Expires, Data: row.Value}, row.Found, nil
		}
	}
	s.yield()
	raw, version, found, err := s.engine.Get(dataKey(key), seq)
	if err != nil {
		return engine.Value{}, false, err
	}
	var v engine.Value
	if found {
		if v, err = engine.ParseValue(raw); err != nil {
			return engine.Value{}, false, err
		}
	}
	s.yield()
	if rows.at != 0 && rows.fill {
		s.rows.Fill(key, rows.gen, rows.at, rowcache.Row{Found: found, Value: v.Data, Timestamp: v.Timestamp, Expires: v.Expires}, version)
	}
	return v, found, nil
}

// applyRows tells the row cache what accepted entries write, which are in the engine and not visible yet. Where this
// replica leads, what was just written is as good as what was just read: the next read need not look for it in the engine.
func (s *Store) applyRows(outcomes []outcome) {
	for i := range outcomes {
		o := &outcomes[i]
		if !o.accepted {
			continue
		}
		keep := o.r.rowsKept()
		for j := range o.entry.Data {
			w := &o.entry.Data[j]
			row := rowcache.Row{}
			if !w.Delete {
				row = rowcache.Row{Found: true, Value: w.Value, Timestamp: o.entry.TS, Expires: w.Expires}
			}
			s.rows.Apply(o.seq, w.Key, row, keep)
		}
	}
}

// rowsKept is the gen under which rows are kept as they are written; 0 on followers. Should it die in this moment, so does
// what is kept under it.
func (r *Replica) rowsKept() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.mu.state.leaseholder {
		return 0
	}
	return r.mu.state.gen
}

// getCached answers a linearizable get at once, if this replica has a lease and the cache has the row: all in one step
// (rule D1), on the caller's goroutine. False: the get has to take the long way.
func (r *Replica) getCached(req *locuspb.Request, key []byte) (*locuspb.Response, bool) {
	s := r.store
	if s.rows == nil || s.opts.Reads != ReadLease {
		return nil, false
	}
	published := ids.Seq(s.published.Load())
	now := s.opts.Monotonic()
	token := hlc.Timestamp(req.Token)
	r.mu.RLock()
	st := &r.mu.state
	ok := st.leased(now) && req.BoundsEpoch == st.desc.Epoch.Bounds && st.desc.Span.Contains(key) &&
		(token <= st.applied.TS || st.committed <= st.applied.Index)
	rows, at := st.rowsAt(published), st.applied.TS
	r.mu.RUnlock()
	if !ok {
		return nil, false
	}
	row, ok := s.rows.Get(key, rows.gen, rows.at)
	if !ok || (row.Expires != 0 && (!s.clock.Anchored() || row.Expires <= s.clock.Now())) {
		return nil, false // what has expired by the clock is the log's to decide (rule C7)
	}
	r.leaseUsed()
	s.metrics.read()
	return &locuspb.Response{Timestamp: uint64(at), Result: &locuspb.Response_Get{Get: getResponse(row.Found, row.Value, row.Timestamp, row.Expires)}}, true
}

func getResponse(found bool, value []byte, ts, expires hlc.Timestamp) *locuspb.GetResponse {
	if !found {
		return &locuspb.GetResponse{}
	}
	return &locuspb.GetResponse{Found: true, Value: value, Timestamp: uint64(ts), Expires: uint64(expires)}
}
