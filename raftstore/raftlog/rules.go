package raftlog

import (
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/locuskv/locus/internal/ids"
)

// head is the small state of a group: everything but its entries.
type head struct {
	before   Position
	last     ids.Index
	lastTerm ids.Term
	term     ids.Term
	vote     uint64
	commit   ids.Index
	meta     []byte
}

func (h *head) String() string {
	return fmt.Sprintf("entries (%d, %d], the one before of term %d, the last of term %d, hard state term %d vote %d commit %d",
		h.before.Index, h.last, h.before.Term, h.lastTerm, h.term, h.vote, h.commit)
}

// staged is a group as it will be when the records looked at so far are applied. The rules are checked on it before
// anything is written: a frame that breaks them would be refused by every later recovery.
type staged struct {
	id     ids.RangeID
	base   *group // what the index holds; nil if nothing, or nothing that still counts
	exists bool
	head
	// from and terms are the entries that the staged records append, over those of base.
	from  ids.Index
	terms []ids.Term
}

// staging holds the groups of one frame.
type staging struct {
	groups map[ids.RangeID]*staged
	order  []*staged
	free   []*staged
}

func (s *staging) reset() {
	s.free = append(s.free, s.order...)
	s.order = s.order[:0]
	clear(s.groups)
}

func (s *staging) group(id ids.RangeID, base *group) *staged {
	if g := s.groups[id]; g != nil {
		return g
	}
	g := &staged{}
	if n := len(s.free); n > 0 {
		g, s.free = s.free[n-1], s.free[:n-1]
	}
	*g = staged{id: id, terms: g.terms[:0]}
	if base != nil {
		g.base, g.exists, g.head, g.from = base, true, base.head, base.last+1
	}
	if s.groups == nil {
		s.groups = map[ids.RangeID]*staged{}
	}
	s.groups[id] = g
	s.order = append(s.order, g)
	return g
}

// termAt is the term of an entry that exists; 0 where it isn't known (in a recovery, until the record of its move).
func (g *staged) termAt(i ids.Index) ids.Term {
	switch {
	case i == g.before.Index:
		return g.before.Term
	case i >= g.from:
		return g.terms[i-g.from]
	default:
		return g.base.slot(i).term
	}
}

// begin makes the log an empty one after p.
func (g *staged) begin(p Position) {
	g.base, g.exists = nil, true
	g.before, g.last, g.lastTerm = p, p.Index, p.Term
	g.from, g.terms = p.Index+1, g.terms[:0]
}

func (g *staged) refuse(format string, args ...any) error {
	state := "nothing of it"
	if g.exists {
		state = g.head.String()
	}
	return &InvariantError{Group: g.id, State: state, Reason: fmt.Sprintf(format, args...)}
}

// step does what a record asks, or says which law forbids it. keep is false for a record that changes nothing.
func (g *staged) step(r *record) (keep bool, err error) {
	if !g.exists {
		switch r.kind {
		case recordCreate, recordReset:
		case recordTruncate, recordDestroy:
			return false, nil
		default:
			return false, g.refuse("there is no such group")
		}
	}
	switch r.kind {
	case recordCreate:
		return g.create(r), nil
	case recordReset:
		keep = !g.exists || r.pos != g.before
		return keep, g.resetTo(r.pos)
	case recordEntry:
		return true, g.append(r.pos)
	case recordMoved:
		return true, g.move(r.pos)
	case recordHardState:
		return true, g.hardState(r)
	case recordCommit:
		keep = r.commit > g.commit // the highest ever seen counts: repeating it adds nothing
		return keep, g.commitTo(r.commit)
	case recordTruncate:
		keep = r.pos.Index > g.before.Index
		return keep, g.truncate(r.pos)
	case recordMeta:
		g.meta = slices.Clone(r.data)
		return true, nil
	case recordDestroy:
		*g = staged{id: g.id, terms: g.terms[:0]}
		return true, nil
	}
	return false, g.refuse("record kind %d is not a group's", r.kind)
}

// create: rule E2, the log's own knowledge wins.
func (g *staged) create(r *record) bool {
	if g.exists {
		return false
	}
	g.begin(r.pos)
	g.term, g.vote, g.commit, g.meta = r.pos.Term, 0, r.pos.Index, slices.Clone(r.data)
	return true
}

// resetTo: a snapshot is taken only beyond what is committed. One that is there already was applied again by a recovery;
// what has been acknowledged on top of it stays (rule E2).
func (g *staged) resetTo(p Position) error {
	if g.exists && p == g.before {
		return nil
	}
	if g.exists && p.Index <= g.commit {
		return g.refuse("a snapshot at %d does not lie beyond the commit index", p.Index)
	}
	g.begin(p)
	g.commit = p.Index
	if p.Term > g.term {
		g.term, g.vote = p.Term, 0
	}
	return nil
}

func (g *staged) append(p Position) error {
	switch {
	case p.Index <= g.before.Index:
		return g.refuse("entry %d lies below the truncated position", p.Index)
	case p.Index > g.last+1:
		return g.refuse("entry %d leaves a gap", p.Index)
	case p.Index <= g.commit:
		return g.refuse("entry %d of term %d would replace a committed one", p.Index, p.Term)
	}
	if prev := g.termAt(p.Index - 1); p.Term == 0 || p.Term < prev {
		return g.refuse("entry %d has term %d after one of term %d", p.Index, p.Term, prev)
	}
	if p.Index < g.from {
		g.from, g.terms = p.Index, g.terms[:0]
	}
	g.terms = append(g.terms[:p.Index-g.from], p.Term)
	g.last, g.lastTerm = p.Index, p.Term
	return nil
}

func (g *staged) move(p Position) error {
	if p.Index <= g.before.Index || p.Index > g.last {
		return g.refuse("entry %d was moved and is not there", p.Index)
	}
	if term := g.termAt(p.Index); term != 0 && term != p.Term {
		return g.refuse("entry %d was moved with term %d and has term %d", p.Index, p.Term, term)
	}
	return nil
}

func (g *staged) hardState(r *record) error {
	switch {
	case r.pos.Term < g.term:
		return g.refuse("the term would fall to %d", r.pos.Term)
	case r.pos.Term == g.term && g.vote != 0 && r.vote != g.vote:
		return g.refuse("a second vote, for %d, in term %d", r.vote, r.pos.Term)
	}
	g.term, g.vote = r.pos.Term, r.vote
	return g.commitTo(r.commit)
}

func (g *staged) commitTo(i ids.Index) error {
	if i > g.last {
		return g.refuse("commit index %d lies beyond the log", i)
	}
	g.commit = max(g.commit, i)
	return nil
}

// truncate: only what is applied is truncated (Invariant: I10), and what is applied is committed.
func (g *staged) truncate(p Position) error {
	if p.Index <= g.before.Index {
		return nil
	}
	if p.Index > g.last {
		return g.refuse("truncation at %d lies beyond the log", p.Index)
	}
	if term := g.termAt(p.Index); term != 0 && term != p.Term {
		return g.refuse("truncation at %d names term %d, the entry has %d", p.Index, p.Term, term)
	}
	g.before = p
	g.commit = max(g.commit, p.Index)
	return nil
}

// recordsOf lists what a Write asks for, in the order in which it takes effect.
func recordsOf(dst []record, w *Write) []record {
	add := func(r record) { r.group = uint64(w.Group); dst = append(dst, r) }
	if w.Create != nil {
		add(record{kind: recordCreate, pos: w.Create.Position, data: w.Create.Meta})
	}
	if w.Reset != nil {
		add(record{kind: recordReset, pos: *w.Reset})
	}
	for _, e := range w.Entries {
		add(entryRecord(recordEntry, e))
	}
	if hs := w.HardState; hs != nil {
		add(record{kind: recordHardState, pos: Position{Term: ids.Term(hs.GetTerm())}, vote: hs.GetVote(),
			commit: ids.Index(hs.GetCommit())})
	}
	if w.Commit != 0 {
		add(record{kind: recordCommit, commit: w.Commit})
	}
	if w.Truncate != nil {
		add(record{kind: recordTruncate, pos: *w.Truncate})
	}
	if w.Meta != nil {
		add(record{kind: recordMeta, data: w.Meta})
	}
	if w.Destroy {
		add(record{kind: recordDestroy})
	}
	return dst
}

func entryRecord(kind recordKind, e *raftpb.Entry) record {
	return record{
		kind: kind, entryType: byte(e.GetType()), data: e.GetData(), entry: e,
		pos: Position{Index: ids.Index(e.GetIndex()), Term: ids.Term(e.GetTerm())},
	}
}
