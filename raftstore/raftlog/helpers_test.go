package raftlog

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/vfs"
)

const testDir = "log"

func open(t testing.TB, fs vfs.FS, segmentSize int64) *log {
	t.Helper()
	l, err := Open(Options{FS: fs, Dir: testDir, SegmentSize: segmentSize})
	require.NoError(t, err)
	return l.(*log)
}

func entry(index ids.Index, term ids.Term, data string) *raftpb.Entry {
	e := &raftpb.Entry{Index: new(uint64(index)), Term: new(uint64(term)), Type: new(raftpb.EntryNormal)}
	if data != "" {
		e.Data = []byte(data)
	}
	return e
}

// entries makes the entries [lo, hi) of one term.
func entries(lo, hi ids.Index, term ids.Term) []*raftpb.Entry {
	var out []*raftpb.Entry
	for i := lo; i < hi; i++ {
		out = append(out, entry(i, term, fmt.Sprintf("entry %d of term %d", i, term)))
	}
	return out
}

func hardState(term, vote, commit uint64) *raftpb.HardState {
	return &raftpb.HardState{Term: &term, Vote: &vote, Commit: &commit}
}

func at(index ids.Index, term ids.Term) *Position { return &Position{Index: index, Term: term} }

func create(id ids.RangeID) Write { return Write{Group: id, Create: &Create{}} }

func write(t testing.TB, l Log, writes ...Write) {
	t.Helper()
	require.NoError(t, l.Append(&Batch{Groups: writes}))
}

// dump is everything that can be read from a log, as text.
func dump(t testing.TB, l Log) string {
	t.Helper()
	var b strings.Builder
	for _, id := range l.Groups() {
		g, ok := l.Group(id)
		require.True(t, ok)
		hs := g.HardState
		fmt.Fprintf(&b, "%v: term %d vote %d commit %d before %d/%d last %d meta %q\n", id, hs.GetTerm(), hs.GetVote(),
			hs.GetCommit(), g.Before.Index, g.Before.Term, g.Last, g.Meta)
		es, err := l.Entries(id, g.Before.Index+1, g.Last+1, math.MaxUint64)
		require.NoError(t, err)
		require.Len(t, es, int(g.Last-g.Before.Index))
		for i, e := range es {
			require.Equal(t, uint64(g.Before.Index)+uint64(i)+1, e.GetIndex())
			term, err := l.Term(id, ids.Index(e.GetIndex()))
			require.NoError(t, err)
			require.Equal(t, uint64(term), e.GetTerm())
			fmt.Fprintf(&b, "  %d/%d %v %q\n", e.GetIndex(), e.GetTerm(), e.GetType(), e.GetData())
		}
	}
	for kind := range 256 {
		for _, s := range l.StoreRecords(byte(kind)) {
			fmt.Fprintf(&b, "store %d %d %q\n", s.Kind, s.Key, s.Value)
		}
	}
	return b.String()
}

// model is the log without files: what every implementation must look like to its reader.
type model struct {
	groups map[ids.RangeID]*modelGroup
	store  map[storeKey]string
}

type modelGroup struct {
	before             Position
	entries            []*raftpb.Entry
	term, vote, commit uint64
	meta               string
}

func newModel() *model {
	return &model{groups: map[ids.RangeID]*modelGroup{}, store: map[storeKey]string{}}
}

func (m *model) clone() *model {
	c := newModel()
	c.store = maps.Clone(m.store)
	for id, g := range m.groups {
		copied := *g
		copied.entries = slices.Clone(g.entries)
		c.groups[id] = &copied
	}
	return c
}

func (g *modelGroup) last() ids.Index { return g.before.Index + ids.Index(len(g.entries)) }

func (g *modelGroup) termAt(i ids.Index) ids.Term {
	if i == g.before.Index {
		return g.before.Term
	}
	return ids.Term(g.entries[i-g.before.Index-1].GetTerm())
}

func (m *model) apply(b *Batch) {
	for _, w := range b.Groups {
		m.write(&w)
	}
	for _, s := range b.Store {
		if key := (storeKey{s.Kind, s.Key}); len(s.Value) > 0 {
			m.store[key] = string(s.Value)
		} else {
			delete(m.store, key)
		}
	}
}

func (m *model) write(w *Write) {
	g := m.groups[w.Group]
	if g == nil && (w.Create != nil || w.Reset != nil) {
		g = &modelGroup{}
		m.groups[w.Group] = g
		if c := w.Create; c != nil {
			g.before, g.term, g.commit, g.meta = c.Position, uint64(c.Term), uint64(c.Index), string(c.Meta)
		}
	}
	if g == nil {
		return
	}
	if r := w.Reset; r != nil {
		g.before, g.entries, g.commit = *r, nil, uint64(r.Index)
		if uint64(r.Term) > g.term {
			g.term, g.vote = uint64(r.Term), 0
		}
	}
	for _, e := range w.Entries {
		g.entries = append(slices.Clone(g.entries[:e.GetIndex()-uint64(g.before.Index)-1]), e)
	}
	if hs := w.HardState; hs != nil {
		g.term, g.vote, g.commit = hs.GetTerm(), hs.GetVote(), max(g.commit, hs.GetCommit())
	}
	g.commit = max(g.commit, uint64(w.Commit))
	if p := w.Truncate; p != nil && p.Index > g.before.Index {
		g.entries = g.entries[p.Index-g.before.Index:]
		g.before, g.commit = *p, max(g.commit, uint64(p.Index))
	}
	if w.Meta != nil {
		g.meta = string(w.Meta)
	}
	if w.Destroy {
		delete(m.groups, w.Group)
	}
}

func (m *model) dump() string {
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(m.groups)) {
		g := m.groups[id]
		fmt.Fprintf(&b, "%v: term %d vote %d commit %d before %d/%d last %d meta %q\n", id, g.term, g.vote, g.commit,
			g.before.Index, g.before.Term, g.last(), g.meta)
		for _, e := range g.entries {
			fmt.Fprintf(&b, "  %d/%d %v %q\n", e.GetIndex(), e.GetTerm(), e.GetType(), e.GetData())
		}
	}
	var keys []storeKey
	for k := range m.store {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b storeKey) int {
		return strings.Compare(fmt.Sprintf("%3d %20d", a.kind, a.key), fmt.Sprintf("%3d %20d", b.kind, b.key))
	})
	for _, k := range keys {
		fmt.Fprintf(&b, "store %d %d %q\n", k.kind, k.key, m.store[k])
	}
	return b.String()
}
