package server

import (
	"bytes"
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/packed"
	"github.com/locuskv/locus/placement"
	"github.com/locuskv/locus/server/clustermap"
)

// Pauses between attempts to reach a range.
const (
	firstRetry   = 10 * time.Millisecond
	longestRetry = 500 * time.Millisecond
)

// system reads and writes the system keyspace, and whatever else the node itself has to ask of ranges, by
// way of the leaseholders, wherever they are.
type system struct {
	peers   *peers
	cmap    *clustermap.Map
	store   store
	session *session
	refresh func()
}

// do sends a request to the leaseholder of the range that holds key until it has an answer that is not one
// of routing, or ctx ends. It fills in the range and its epoch.
func (s *system) do(ctx context.Context, key []byte, req *locuspb.Request) (*locuspb.Response, error) {
	pause := firstRetry
	for attempt := 0; ; attempt++ {
		resp, err := s.attempt(ctx, key, attempt, req)
		if err == nil && resp.Error != nil {
			err = api.FromProto(resp.Error)
			s.cmap.Learn(clustermap.Cure(err))
		}
		if err == nil {
			return resp, nil
		}
		if !elsewhere(err) {
			return nil, err
		}
		s.refresh()
		select {
		case <-ctx.Done():
			// Reads did nothing and commands carry a session, but whether one took effect is not known here.
			return nil, &api.AmbiguousError{Cause: errors.Join(ctx.Err(), err)}
		case <-time.After(pause):
		}
		pause = min(2*pause, longestRetry)
	}
}

// attempt sends the request once.
func (s *system) attempt(ctx context.Context, key []byte, attempt int, req *locuspb.Request) (*locuspb.Response, error) {
	route, ok := s.route(key)
	if !ok {
		return nil, &api.UnavailableError{Reason: "no range is known for a key of the node's own"}
	}
	to := route.Leaseholder
	if voters := route.Descriptor.Voters(); to == 0 || attempt%2 == 1 {
		if len(voters) == 0 {
			return nil, &api.UnavailableError{Reason: "range " + route.Descriptor.ID.String() + " has no voters"}
		}
		to = voters[attempt/2%len(voters)].Store
	}
	req.RangeId, req.BoundsEpoch = uint64(route.Descriptor.ID), route.Descriptor.Epoch.Bounds
	responses, err := s.peers.Do(ctx, to, []*locuspb.Request{proto.CloneOf(req)})
	if err != nil {
		return nil, err
	}
	return responses[0], nil
}

// route to a key: what the local replica knows comes first, because it takes part in the range.
func (s *system) route(key []byte) (api.Route, bool) {
	if info, ok := s.store.Lookup(key); ok && info.Leader != 0 {
		return api.Route{Descriptor: info.Descriptor, Leaseholder: info.Leader, Term: info.Term}, true
	}
	p, ok := s.cmap.Locate(key)
	return p.Route, ok
}

// elsewhere says whether an error may go away when the request is sent again, perhaps to another node.
func elsewhere(err error) bool {
	switch api.CodeOf(err) {
	case api.CodeRangeNotFound, api.CodeEpochMismatch, api.CodeNotLeaseholder, api.CodeRetry,
		api.CodeUnavailable, api.CodeOverloaded:
		return true
	}
	return false
}

// scan reads all records of a span of the system keyspace, linearizably.
func (s *system) scan(ctx context.Context, span keys.Span) ([]placement.Record, error) {
	return s.scanAll(ctx, span, false)
}

// scanKeys is scan without the values.
func (s *system) scanKeys(ctx context.Context, span keys.Span) ([]placement.Record, error) {
	return s.scanAll(ctx, span, true)
}

func (s *system) scanAll(ctx context.Context, span keys.Span, keysOnly bool) ([]placement.Record, error) {
	var out []placement.Record
	for !span.Empty() {
		req := &locuspb.Request{Op: &locuspb.Request_Scan{Scan: &locuspb.ScanRequest{Span: api.SpanToProto(span), KeysOnly: keysOnly}}}
		resp, err := s.do(ctx, span.Start, req)
		if err != nil {
			return nil, err
		}
		if out, err = appendRecords(out, resp.GetScan()); err != nil {
			return nil, err
		}
		resume := resp.GetScan().GetResume()
		if len(resume) == 0 {
			return out, nil
		}
		span.Start = resume
	}
	return out, nil
}

// appendRecords unpacks a scan's answer, whose batches hold global keys.
func appendRecords(out []placement.Record, scan *locuspb.ScanResponse) ([]placement.Record, error) {
	for _, batch := range scan.GetBatches() {
		r := packed.NewReader(batch)
		for r.Next() {
			out = append(out, placement.Record{
				Key: bytes.Clone(r.Key()), Value: bytes.Clone(r.Value()),
			})
		}
		if err := r.Err(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// write applies a write of one range under this node's session.
func (s *system) write(ctx context.Context, key []byte, w *locuspb.WriteRequest) (more bool, err error) {
	p := s.session.begin()
	defer s.session.end(p)
	resp, err := s.do(ctx, key, &locuspb.Request{Session: p, Op: &locuspb.Request_Write{Write: w}})
	return resp.GetWrite().GetMore(), err
}

// writeTimeout bounds a write of the placement driver.
const writeTimeout = 10 * time.Second

// records are the placement driver's durable state: the system range, which this node leads while the
// driver runs here. An answer that sends it elsewhere therefore ends the office.
type records struct {
	ctx    context.Context // of the office
	system *system
	spawn  func(func())
}

var (
	_ placement.Records = (*records)(nil)
	_ placement.Eraser  = (*records)(nil)
)

func (r *records) Load(span keys.Span, done func([]placement.Record, error)) {
	r.spawn(func() {
		ctx, cancel := context.WithTimeout(r.ctx, writeTimeout)
		defer cancel()
		done(r.system.scan(ctx, span))
	})
}

func (r *records) Write(w *locuspb.WriteRequest, done func(error)) {
	r.spawn(func() {
		ctx, cancel := context.WithTimeout(r.ctx, writeTimeout)
		defer cancel()
		_, err := r.system.write(ctx, keys.KeyspacePrefix(systemKeyspace), w)
		done(err)
	})
}

func (r *records) Erase(span keys.Span, limit uint64, done func(more bool, err error)) {
	r.spawn(func() {
		ctx, cancel := context.WithTimeout(r.ctx, writeTimeout)
		defer cancel()
		w := &locuspb.WriteRequest{DeleteSpan: true, Span: api.SpanToProto(span), Limit: limit}
		done(r.system.write(ctx, span.Start, w))
	})
}
