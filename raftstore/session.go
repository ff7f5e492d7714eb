package raftstore

import (
	"cmp"
	"container/list"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/raftstore/engine"
)

// SessionWindow is how long after its first attempt a command may still be retried (rule B2).
const SessionWindow = time.Hour

const (
	// maxKeptResult is the largest result that is kept for a retry (rule B3).
	maxKeptResult = 4 << 10
	// sessionOverhead is what a session costs beside its results, and a result beside its bytes.
	sessionOverhead = 64
	// maxExpiredPerEntry bounds the sessions that one entry may drop.
	maxExpiredPerEntry = 16
)

type sessionID [16]byte

// sessionResult is the outcome of one command, kept until the client's floor passes it.
type sessionResult struct {
	Number uint64
	Place  uint32
	Kind   resultKind
	Result []byte
	TS     hlc.Timestamp
	// base of the entry that applied it: while the range's count is not above it, the result is in the
	// overlay and must not be answered (rule B4).
	base uint64
}

// resultKind says how a command ended.
type resultKind uint8

const (
	// resultLost: it was applied, and its result was too large to keep.
	resultLost resultKind = 0
	// resultApplied: it was applied; Result is a call's CallResponse or a write's WriteResponse.
	resultApplied resultKind = 1
	// resultRefused: it did nothing, and Result is the Error. Refusals are remembered where an earlier attempt may
	// still be on its way: it must not succeed after the client was told of the refusal.
	resultRefused resultKind = 2
)

// sessionDelta is what one entry adds to one session; it is written as one record of the range.
type sessionDelta struct {
	TS      hlc.Timestamp
	Floor   uint64
	Results []sessionResult
}

const sessionFormat = 1

func (d *sessionDelta) encode() []byte {
	out := []byte{sessionFormat}
	out = binary.BigEndian.AppendUint64(out, uint64(d.TS))
	out = binary.AppendUvarint(out, d.Floor)
	out = binary.AppendUvarint(out, uint64(len(d.Results)))
	for i := range d.Results {
		r := &d.Results[i]
		out = binary.AppendUvarint(out, r.Number)
		out = binary.AppendUvarint(out, uint64(r.Place))
		out = binary.BigEndian.AppendUint64(out, uint64(r.TS))
		out = append(out, byte(r.Kind))
		out = appendBytes(out, r.Result)
	}
	return out
}

func decodeSessionDelta(b []byte) (sessionDelta, error) {
	d := decoder{b: b}
	if f := d.byte(); d.err == nil && f != sessionFormat {
		return sessionDelta{}, fmt.Errorf("raftstore: session record has format %d, this version reads %d", f, sessionFormat)
	}
	s := sessionDelta{TS: hlc.Timestamp(d.uint64()), Floor: d.uvarint()}
	for n := d.count(12); n > 0 && d.err == nil; n-- {
		r := sessionResult{Number: d.uvarint(), Place: uint32(d.uvarint()), TS: hlc.Timestamp(d.uint64())}
		if r.Kind = resultKind(d.byte()); r.Kind > resultRefused {
			d.fail()
		}
		r.Result = slices.Clone(d.bytes())
		s.Results = append(s.Results, r)
	}
	return s, d.end("session record")
}

func sessionSuffix(id sessionID, base uint64) []byte {
	out := make([]byte, 0, 25)
	out = append(out, suffixSession)
	out = append(out, id[:]...)
	return binary.BigEndian.AppendUint64(out, base)
}

// parseSessionKey splits a session record's engine key.
func parseSessionKey(key []byte) (id sessionID, base uint64, err error) {
	if len(key) != 9+25 {
		return id, 0, fmt.Errorf("raftstore: session key %q has length %d", key, len(key))
	}
	copy(id[:], key[10:26])
	return id, binary.BigEndian.Uint64(key[26:]), nil
}

// session is one client's commands on one range.
type session struct {
	id      sessionID
	floor   uint64
	lastUse hlc.Timestamp
	results map[uint64]*sessionResult
	// records are the deltas on disk, oldest first, with the highest number each holds.
	records []sessionRecordRef
	element *list.Element
}

type sessionRecordRef struct {
	base, highest uint64
}

// sessionTable is a range's sessions as of its overlay. It belongs to the sequencer of the leaseholder,
// which loads it when it takes office; the truth is in the range's records.
type sessionTable struct {
	sessions map[sessionID]*session
	byUse    *list.List // of *session, least recently used first
	bytes    int
}

func newSessionTable() *sessionTable {
	return &sessionTable{sessions: make(map[sessionID]*session), byUse: list.New()}
}

// loadSessions reads a range's table as of seq.
func loadSessions(e engine.Engine, id ids.RangeID, seq ids.Seq) (*sessionTable, error) {
	t := newSessionTable()
	it := e.NewIterator(engine.IterOptions{Span: localSpan(id, suffixSession), Seq: seq})
	defer it.Close()
	for ; it.Valid(); it.Next() {
		sid, base, err := parseSessionKey(it.Key())
		if err != nil {
			return nil, err
		}
		delta, err := decodeSessionDelta(it.Value())
		if err != nil {
			return nil, err
		}
		t.add(sid, base, &delta)
	}
	t.sortByUse()
	return t, it.Err()
}

// sortByUse restores the order of a table that was read in the order of ids.
func (t *sessionTable) sortByUse() {
	all := make([]*session, 0, len(t.sessions))
	for e := t.byUse.Front(); e != nil; e = e.Next() {
		all = append(all, e.Value.(*session))
	}
	slices.SortStableFunc(all, func(a, b *session) int { return cmp.Compare(a.lastUse, b.lastUse) })
	for _, s := range all {
		t.byUse.MoveToBack(s.element)
	}
}

// get finds or makes a session.
func (t *sessionTable) get(id sessionID) *session {
	s := t.sessions[id]
	if s == nil {
		s = &session{id: id, results: make(map[uint64]*sessionResult)}
		s.element = t.byUse.PushBack(s)
		t.sessions[id] = s
		t.bytes += sessionOverhead
	}
	return s
}

// add merges a delta into the table.
func (t *sessionTable) add(id sessionID, base uint64, d *sessionDelta) {
	s := t.get(id)
	if d.TS > s.lastUse {
		s.lastUse = d.TS
		t.byUse.MoveToBack(s.element)
	}
	ref := sessionRecordRef{base: base}
	for i := range d.Results {
		r := d.Results[i]
		r.base = base
		ref.highest = max(ref.highest, r.Number)
		if r.Number < s.floor {
			continue
		}
		s.results[r.Number] = &r
		t.bytes += sessionOverhead + len(r.Result)
	}
	s.records = append(s.records, ref)
	t.raiseFloor(s, d.Floor)
}

func (t *sessionTable) raiseFloor(s *session, floor uint64) {
	if floor <= s.floor {
		return
	}
	s.floor = floor
	for n, r := range s.results {
		if n < floor {
			t.bytes -= sessionOverhead + len(r.Result)
			delete(s.results, n)
		}
	}
}

// frees says whether a floor lets results go.
func (t *sessionTable) frees(id sessionID, floor uint64) bool {
	s := t.sessions[id]
	if s == nil || floor <= s.floor {
		return false
	}
	for n := range s.results {
		if n < floor {
			return true
		}
	}
	return false
}

// record adds what an entry does to a session and returns the writes that make it last: the delta, and
// the removal of deltas that the floor has passed.
func (t *sessionTable) record(id sessionID, base uint64, d *sessionDelta) []localWrite {
	old := t.get(id).records
	t.add(id, base, d)
	s := t.sessions[id]
	d.Floor = s.floor
	writes := []localWrite{{Suffix: sessionSuffix(id, base), Value: d.encode()}}
	kept := s.records[:0:0]
	for _, ref := range old {
		if ref.highest < s.floor {
			writes = append(writes, localWrite{Suffix: sessionSuffix(id, ref.base)})
			continue
		}
		kept = append(kept, ref)
	}
	s.records = append(kept, s.records[len(old):]...)
	return writes
}

// expire drops sessions that no command can belong to any more (rule B2), a few per entry.
func (t *sessionTable) expire(now hlc.Timestamp, maxOffset time.Duration) []localWrite {
	var writes []localWrite
	for range maxExpiredPerEntry {
		front := t.byUse.Front()
		if front == nil {
			break
		}
		s := front.Value.(*session)
		if now <= s.lastUse.Add(SessionWindow+maxOffset) {
			break
		}
		for _, ref := range s.records {
			writes = append(writes, localWrite{Suffix: sessionSuffix(s.id, ref.base)})
		}
		for _, r := range s.results {
			t.bytes -= sessionOverhead + len(r.Result)
		}
		t.bytes -= sessionOverhead
		t.byUse.Remove(front)
		delete(t.sessions, s.id)
	}
	return writes
}

// check judges a command before it is evaluated at timestamp now. A result means that the command has
// taken effect already.
func (t *sessionTable) check(p *locuspb.Session, now hlc.Timestamp, maxOffset time.Duration, maxBytes int) (*sessionResult, error) {
	id, err := parseSessionID(p)
	if err != nil {
		return nil, err
	}
	if s := t.sessions[id]; s != nil {
		if r := s.results[p.Number]; r != nil {
			return r, nil
		}
		if p.Number < s.floor {
			return nil, api.ErrSessionExpired
		}
	}
	first := hlc.Timestamp(p.FirstAttempt)
	if first > now.Add(maxOffset) {
		return nil, &api.ClockOffsetError{Remote: first, Local: now, Max: maxOffset}
	}
	if now > first.Add(SessionWindow) {
		return nil, api.ErrSessionExpired
	}
	if t.bytes > maxBytes {
		return nil, &api.OverloadedError{What: "session table", RetryAfter: time.Second}
	}
	return nil, nil
}

func parseSessionID(p *locuspb.Session) (sessionID, error) {
	if p == nil || len(p.Id) != 16 || p.Number == 0 {
		return sessionID{}, &api.InvalidArgumentError{Reason: "a command needs a session of 16 bytes and a number above 0"}
	}
	return sessionID(p.Id), nil
}

// splitSessions is the parent's table as one record per session, for the child (rule B5), named by base. It
// reads the parent's records in key order, so every replica writes the same.
func splitSessions(e engine.Engine, parent ids.RangeID, seq ids.Seq, base uint64) ([]localWrite, error) {
	it := e.NewIterator(engine.IterOptions{Span: localSpan(parent, suffixSession), Seq: seq})
	defer it.Close()
	var (
		out     []localWrite
		current sessionID
		merged  *sessionDelta
	)
	flush := func() {
		if merged == nil {
			return
		}
		merged.Results = slices.DeleteFunc(merged.Results, func(r sessionResult) bool { return r.Number < merged.Floor })
		slices.SortFunc(merged.Results, func(a, b sessionResult) int {
			switch {
			case a.Number < b.Number:
				return -1
			case a.Number > b.Number:
				return 1
			}
			return 0
		})
		out = append(out, localWrite{Suffix: sessionSuffix(current, base), Value: merged.encode()})
	}
	for ; it.Valid(); it.Next() {
		sid, _, err := parseSessionKey(it.Key())
		if err != nil {
			return nil, err
		}
		delta, err := decodeSessionDelta(it.Value())
		if err != nil {
			return nil, err
		}
		if merged == nil || sid != current {
			flush()
			current, merged = sid, &sessionDelta{}
		}
		merged.TS = max(merged.TS, delta.TS)
		merged.Floor = max(merged.Floor, delta.Floor)
		merged.Results = append(merged.Results, delta.Results...)
	}
	flush()
	return out, it.Err()
}
