package raftlog

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/vfs"
)

var seeds = flag.Uint64("raftlog.seeds", 60, "histories that TestModel tries")

func rng(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 7)) }

// TestModel runs random histories of several groups against the model, with reopenings, crashes and failing files.
// After a crash the log must equal the model after some batch that was not before the last sync.
func TestModel(t *testing.T) {
	for seed := range *seeds {
		h := &history{t: t, rng: rng(seed), disk: vfs.NewMemory(), model: newModel()}
		h.segment = int64(minSegmentSize << h.rng.IntN(3))
		h.cache = []int64{0, -1, 3000}[h.rng.IntN(3)]
		h.log = h.open(h.disk)
		h.synced()
		for range 250 {
			h.step()
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
}

// TestModelIsDeterministic: one seed leaves the same bytes.
func TestModelIsDeterministic(t *testing.T) {
	run := func() string {
		h := &history{t: t, rng: rng(5), disk: vfs.NewMemory(), model: newModel(), segment: minSegmentSize}
		h.log = h.open(h.disk)
		h.synced()
		for range 300 {
			h.step()
		}
		names, err := h.disk.List(testDir)
		require.NoError(t, err)
		var all strings.Builder
		for _, n := range names {
			all.WriteString(n)
			all.Write(contentOf(t, h.disk, testDir+"/"+n))
		}
		return all.String()
	}
	first, second := run(), run()
	require.True(t, first == second, "one seed, two logs")
}

type history struct {
	t       *testing.T
	rng     *rand.Rand
	disk    *vfs.Memory
	log     Log
	segment int64
	cache   int64
	model   *model
	// possible are the states that a crash may leave, the last synced one first.
	possible []*model
}

func (h *history) open(disk *vfs.Memory) Log {
	l, err := Open(Options{FS: disk, Dir: testDir, SegmentSize: h.segment, CacheBytes: h.cache})
	require.NoError(h.t, err)
	return l
}

func (h *history) synced() { h.possible = []*model{h.model.clone()} }

func (h *history) step() {
	switch n := h.rng.IntN(100); {
	case n < 62:
		h.append()
	case n < 80:
		require.NoError(h.t, h.log.Sync())
		h.synced()
	case n < 88:
		require.NoError(h.t, h.log.Compact())
	case n < 91:
		require.NoError(h.t, h.log.MarkEnd())
		h.synced()
	case n < 94:
		require.NoError(h.t, h.log.Close())
		h.log = h.open(h.disk)
		h.synced()
	case n < 97:
		h.crash()
	default:
		h.fail()
	}
	if h.rng.IntN(4) == 0 {
		require.Equal(h.t, h.model.dump(), dump(h.t, h.log))
	}
}

func (h *history) append() {
	b := h.batch()
	require.NoError(h.t, h.log.Append(b))
	h.model.apply(b)
	h.possible = append(h.possible, h.model.clone())
}

// crash takes the power away, and looks which of the possible states is there.
func (h *history) crash() {
	h.disk = h.disk.Crash(h.rng)
	h.log = h.open(h.disk)
	got := dump(h.t, h.log)
	i := slices.IndexFunc(h.possible, func(m *model) bool { return m.dump() == got })
	if i < 0 {
		h.t.Errorf("after a crash, none of %d possible states:\n%s\nsynced:\n%s\nlast:\n%s", len(h.possible), got,
			h.possible[0].dump(), h.model.dump())
		h.t.FailNow()
	}
	h.model = h.possible[i]
	h.synced()
}

// fail lets an operation fail some time soon, goes on until the log refuses, and restarts: the process alone, or the
// machine.
func (h *history) fail() {
	op := []vfs.Op{vfs.OpWrite, vfs.OpSync, vfs.OpSync, vfs.OpCreate, vfs.OpRename, vfs.OpSyncDir, vfs.OpTruncate}[h.rng.IntN(7)]
	h.disk.FailNth(op, 1+h.rng.IntN(4), []error{syscall.EIO, syscall.ENOSPC}[h.rng.IntN(2)])
	for range 200 {
		b := h.batch()
		// Whether the batch that fails, or one whose sync fails, is there later, nobody knows.
		next := h.model.clone()
		next.apply(b)
		h.possible = append(h.possible, next)
		if err := h.log.Append(b); err != nil {
			require.ErrorIs(h.t, err, ErrFailed)
			break
		}
		h.model = next
		if h.rng.IntN(3) == 0 {
			if err := h.log.Sync(); err != nil {
				require.ErrorIs(h.t, err, ErrFailed)
				break
			}
			h.synced()
		}
	}
	if h.rng.IntN(2) == 0 {
		require.NoError(h.t, h.log.Close())
		h.disk = h.disk.Clone() // the same kernel, with what it believes to be clean
		h.log = h.open(h.disk)
		got := dump(h.t, h.log)
		i := slices.IndexFunc(h.possible, func(m *model) bool { return m.dump() == got })
		require.GreaterOrEqual(h.t, i, 0, "a state that never was:\n%s", got)
		h.model = h.possible[i]
		h.synced()
	}
	h.crash()
}

func (h *history) batch() *Batch {
	b := &Batch{}
	m := h.model.clone() // as the batch's own writes leave it
	for range 1 + h.rng.IntN(4) {
		id := ids.RangeID(1 + h.rng.IntN(6))
		w := h.write(id, m.groups[id])
		b.Groups = append(b.Groups, w)
		m.write(&w)
	}
	if h.rng.IntN(5) == 0 {
		s := StoreRecord{Kind: byte(h.rng.IntN(3)), Key: h.rng.Uint64N(4)}
		if h.rng.IntN(4) > 0 {
			s.Value = []byte(strings.Repeat("v", 1+h.rng.IntN(100)))
		}
		b.Store = append(b.Store, s)
	}
	return b
}

// write makes a lawful Write.
func (h *history) write(id ids.RangeID, g *modelGroup) Write {
	w := Write{Group: id}
	if g == nil {
		p := Position{Index: ids.Index(h.rng.IntN(30)), Term: ids.Term(1 + h.rng.IntN(3))}
		if h.rng.IntN(3) == 0 {
			w.Reset = &p
		} else {
			w.Create = &Create{Position: p, Meta: []byte(fmt.Sprint("meta ", h.rng.IntN(100)))}
		}
		g = &modelGroup{before: p, term: uint64(p.Term), commit: uint64(p.Index)}
	} else if h.rng.IntN(10) == 0 {
		w.Create = &Create{Position: Position{Index: 1000, Term: 1000}} // must be ignored
	}
	switch n := h.rng.IntN(20); {
	case n < 10:
		h.appendTo(&w, g)
	case n < 12:
		hs := hardState(g.term, g.vote, h.rng.Uint64N(uint64(g.last())+1)) // a lower index must be ignored
		if h.rng.IntN(2) == 0 {
			hs = hardState(g.term+1, h.rng.Uint64N(3), g.commit)
		}
		w.HardState = hs
	case n < 16:
		i := g.before.Index + ids.Index(h.rng.IntN(int(g.last()-g.before.Index)+1))
		w.Truncate = &Position{Index: i, Term: g.termAt(i)}
	case n < 17:
		w.Meta = []byte(strings.Repeat("m", h.rng.IntN(50)))
	case n < 18:
		w.Reset = &Position{Index: ids.Index(g.commit) + 1 + ids.Index(h.rng.IntN(20)), Term: ids.Term(g.term) + 1}
		w.HardState = hardState(g.term+1, 0, uint64(w.Reset.Index))
	case n < 19:
		w.Destroy = true
	}
	return w
}

func (h *history) appendTo(w *Write, g *modelGroup) {
	lo := ids.Index(g.commit) + 1 + ids.Index(h.rng.IntN(int(g.last()-ids.Index(g.commit))+1))
	if h.rng.IntN(3) > 0 {
		lo = g.last() + 1
	}
	term := max(g.termAt(g.last()), ids.Term(g.term))
	n := ids.Index(1 + h.rng.IntN(5))
	for i := lo; i < lo+n; i++ {
		w.Entries = append(w.Entries, entry(i, term, strings.Repeat("d", h.rng.IntN(h.rng.IntN(600)+1))))
	}
	w.Commit = ids.Index(g.commit) + ids.Index(h.rng.IntN(int(lo+n-ids.Index(g.commit))))
}
