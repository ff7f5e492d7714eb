package enginetest

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand"
	"slices"
	"sort"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/raftstore/engine"
)

var (
	modelSeed  = flag.Int64("engine.seed", 0, "seed of the engines' model test; 0: a new one")
	modelSteps = flag.Int("engine.steps", 0, "steps of the engines' model test; 0: what the test asks for")
)

// ModelOptions shape a run of Model.
type ModelOptions struct {
	Steps int
	// LargeValues now and then fill memtables, so that flushes and compactions happen in the middle.
	LargeValues bool
	// Crasher, if there is one, takes the power away at any step; undos happen after that only.
	Crasher Crasher
}

// Model compares an engine with a map of versions over a random sequence of batches, deletes, syncs,
// undos, reopenings, discards and reads, and returns the engine that it ended with. reopen stops the engine in an orderly way
// and opens it again.
func Model(t *testing.T, e engine.Engine, reopen func(*testing.T, engine.Engine) engine.Engine, o ModelOptions) engine.Engine {
	seed := *modelSeed
	if seed == 0 {
		seed = time.Now().UnixNano()
	}
	steps := o.Steps
	if *modelSteps > 0 {
		steps = *modelSteps
	}
	t.Logf("-engine.seed=%d -engine.steps=%d", seed, steps)
	m := &model{t: t, e: e, rng: rand.New(rand.NewSource(seed)), o: o, versions: map[string][]version{}, survived: map[bool]int{}}
	for i := range steps {
		m.step(reopen)
		if t.Failed() {
			t.Fatalf("step %d of -engine.seed=%d -engine.steps=%d", i, seed, steps)
		}
	}
	m.checkAll()
	if o.Crasher != nil {
		t.Logf("%d crashes; of the unsynced batches %d survived one, %d did not", m.crashes, m.survived[true], m.survived[false])
	}
	return m.e
}

// version is what the engine should hold.
type version struct {
	seq     ids.Seq
	value   []byte
	deleted bool
}

type model struct {
	t   *testing.T
	e   engine.Engine
	rng *rand.Rand
	o   ModelOptions

	versions map[string][]version // ascending
	last     ids.Seq
	discard  ids.Seq
	undone   []engine.Interval

	checkpoint ids.Seq
	unsynced   []engine.Batch // since the checkpoint
	crashes    int
	survived   map[bool]int
}

func (m *model) step(reopen func(*testing.T, engine.Engine) engine.Engine) {
	switch n := m.rng.Intn(1000); {
	case n < 450:
		m.apply()
	case n < 700:
		m.get()
	case n < 940:
		m.iterate()
	case n < 960:
		m.sync()
	case n < 980:
		m.raiseDiscard()
	case n < 990 && m.o.Crasher != nil:
		m.crashes++
		m.crash()
	case n < 990:
		m.undo()
	case n < 994:
		m.e = reopen(m.t, m.e)
		m.e.SetDiscard(m.discard)
	}
}

// key draws from names that are prefixes of one another, some of them often.
func (m *model) key() []byte {
	if m.rng.Intn(4) == 0 {
		return []byte([]string{"hot", "hot\x00", "\xff", "a"}[m.rng.Intn(4)])
	}
	alphabet := "\x00abm\xff"
	key := make([]byte, 1+m.rng.Intn(4))
	for i := range key {
		key[i] = alphabet[m.rng.Intn(len(alphabet))]
	}
	return key
}

func (m *model) value() []byte {
	n := m.rng.Intn(40)
	if m.o.LargeValues && m.rng.Intn(10) == 0 {
		n = m.rng.Intn(200 << 10)
	}
	v := make([]byte, n)
	m.rng.Read(v)
	return v
}

func (m *model) apply() { require.NoError(m.t, m.e.Apply(m.batches())) }

// batches draws what is applied next.
func (m *model) batches() []engine.Batch {
	var batches []engine.Batch
	for range 1 + m.rng.Intn(4) {
		m.last += ids.Seq(1 + m.rng.Intn(3))
		b := engine.Batch{Seq: m.last}
		for range m.rng.Intn(5) {
			op := engine.Op{Key: m.key(), Delete: m.rng.Intn(4) == 0}
			if slices.ContainsFunc(b.Ops, func(x engine.Op) bool { return bytes.Equal(x.Key, op.Key) }) {
				continue
			}
			if !op.Delete {
				op.Value = m.value()
			}
			b.Ops = append(b.Ops, op)
		}
		m.remember(b)
		batches = append(batches, b)
	}
	return batches
}

// readable draws a sequence that a reader may choose.
func (m *model) readable() ids.Seq {
	seq := m.discard + ids.Seq(m.rng.Int63n(int64(m.last-m.discard)+1))
	if m.rng.Intn(3) == 0 {
		seq = m.last
	}
	for {
		i := slices.IndexFunc(m.undone, func(u engine.Interval) bool { return seq > u.After && seq < u.Last })
		if i < 0 {
			return seq
		}
		seq = m.undone[i].Last
	}
}

func (m *model) at(key string, seq ids.Seq) (version, bool) {
	vs := m.versions[key]
	n := sort.Search(len(vs), func(i int) bool { return vs[i].seq > seq })
	if n == 0 {
		return version{}, false
	}
	return vs[n-1], true
}

func (m *model) get() {
	key, seq := m.key(), m.readable()
	want, ok := m.at(string(key), seq)
	value, v, found, err := m.e.Get(key, seq)
	require.NoError(m.t, err)
	require.Equal(m.t, ok && !want.deleted, found, "%q at %d", key, seq)
	if !found {
		// A tombstone that the discard sequence lets go may be gone, or not.
		require.True(m.t, v == want.seq || v == 0 && want.seq <= m.discard, "%q at %d: version %d, want %d", key, seq, v, want.seq)
		return
	}
	require.Equal(m.t, want.seq, v, "%q at %d", key, seq)
	require.True(m.t, bytes.Equal(want.value, value), "%q at %d", key, seq)
}

func (m *model) options() engine.IterOptions {
	o := engine.IterOptions{Seq: m.readable(), Reverse: m.rng.Intn(2) == 0, Tombstones: m.rng.Intn(2) == 0}
	if m.rng.Intn(2) == 0 {
		o.Span.Start = m.key()
	}
	switch m.rng.Intn(3) {
	case 0:
		o.Span.End = m.key()
	case 1:
		o.Span = keys.PrefixSpan(m.key())
	}
	if m.rng.Intn(3) == 0 {
		o.Since = ids.Seq(m.rng.Int63n(int64(m.last) + 1))
	}
	return o
}

type record struct {
	key string
	version
}

// want lists what an iterator shows, without tombstones that may have gone.
func (m *model) want(o engine.IterOptions) []record {
	var out []record
	for key := range m.versions {
		v, ok := m.at(key, o.Seq)
		if ok && o.Span.Contains([]byte(key)) && v.seq > o.Since && (!v.deleted || o.Tombstones && v.seq > m.discard) {
			out = append(out, record{key, v})
		}
	}
	slices.SortFunc(out, func(a, b record) int {
		if o.Reverse {
			a, b = b, a
		}
		return bytes.Compare([]byte(a.key), []byte(b.key))
	})
	return out
}

func (m *model) iterate() {
	o := m.options()
	want := m.want(o)
	it := m.e.NewIterator(o)
	defer it.Close()
	m.follow(it, o, want)
	for range m.rng.Intn(3) {
		to := m.key()
		it.Seek(to)
		n := slices.IndexFunc(want, func(r record) bool {
			if o.Reverse {
				return r.key < string(to)
			}
			return r.key >= string(to)
		})
		if n < 0 {
			n = len(want)
		}
		rest := want[n:]
		if steps := m.rng.Intn(4); steps < len(rest) {
			rest = rest[:steps]
		}
		m.followSome(it, rest)
	}
}

// follow compares to the end, followSome only the records given.
func (m *model) follow(it engine.Iterator, o engine.IterOptions, want []record) {
	m.followSome(it, want)
	m.skipOldTombstones(it)
	require.NoError(m.t, it.Err())
	require.False(m.t, it.Valid(), "%+v: more than the %d records", o, len(want))
}

func (m *model) followSome(it engine.Iterator, want []record) {
	for _, w := range want {
		m.skipOldTombstones(it)
		require.True(m.t, it.Valid(), "%q is missing: %v", w.key, it.Err())
		got := fmt.Sprintf("%q@%d %v", it.Key(), it.Version(), it.Deleted())
		require.Equal(m.t, fmt.Sprintf("%q@%d %v", w.key, w.seq, w.deleted), got)
		if !w.deleted {
			require.True(m.t, bytes.Equal(w.value, it.Value()), "value of %q@%d", w.key, w.seq)
		}
		it.Next()
	}
}

func (m *model) skipOldTombstones(it engine.Iterator) {
	for it.Valid() && it.Deleted() && it.Version() <= m.discard {
		it.Next()
	}
}

func (m *model) raiseDiscard() {
	to := m.readable()
	if to > m.bound() {
		return
	}
	m.discard = max(m.discard, to)
	m.e.SetDiscard(to)
}

// undo takes the engine back to a sequence that a checkpoint could have.
func (m *model) undo() {
	to := m.readable()
	if slices.ContainsFunc(m.undone, func(u engine.Interval) bool { return to == u.Last }) {
		return // equal in content to a place before, and asked for there
	}
	last, err := m.e.Undo(to)
	require.NoError(m.t, err)
	require.GreaterOrEqual(m.t, last, m.last)
	for key, vs := range m.versions {
		if vs[len(vs)-1].seq > to {
			m.undoKey(key, to, last)
		}
	}
	m.undone = append(m.undone, engine.Interval{After: to, Last: last})
	m.last = last
}

// undoKey takes over the version at which the engine wrote the key back.
func (m *model) undoKey(key string, to, last ids.Seq) {
	vs := m.versions[key]
	was, ok := m.at(key, to)
	value, v, found, err := m.e.Get([]byte(key), last)
	require.NoError(m.t, err)
	require.Equal(m.t, ok && !was.deleted, found, "%q after the undo to %d", key, to)
	require.True(m.t, bytes.Equal(was.value, value), "%q after the undo to %d", key, to)
	require.Greater(m.t, v, to, "%q: its newest version is one that the undo wrote or left", key)
	kept := slices.DeleteFunc(vs, func(x version) bool { return x.seq > to })
	m.versions[key] = append(kept, version{v, was.value, !found})
}

func (m *model) checkAll() {
	for range 20 {
		for _, reverse := range []bool{false, true} {
			o := engine.IterOptions{Seq: m.readable(), Reverse: reverse, Tombstones: true}
			it := m.e.NewIterator(o)
			m.follow(it, o, m.want(o))
			it.Close()
		}
	}
}
