package rowcache

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
)

var modelSteps = flag.Int("rowcache.steps", 20_000, "steps of each sequence of TestModel")

// check looks at what must hold between a shard's parts.
func (c *Cache) check(t testing.TB) {
	t.Helper()
	for i := range c.shards {
		s := &c.shards[i]
		require.LessOrEqual(t, len(s.ring.buf), s.ring.max)
		require.LessOrEqual(t, len(s.index.slots), s.index.max)
		require.LessOrEqual(t, s.ring.tail-s.ring.head, uint64(len(s.ring.buf)))
		used, live := 0, 0
		for _, slot := range s.index.slots {
			if slot != 0 {
				used++
			}
		}
		require.Equal(t, s.index.rows, used)
		for walk := s.ring; walk.head < walk.tail; {
			r, offset := walk.pop()
			if !r.is(flagLive) {
				continue
			}
			live++
			slot, same := s.find(r.tag(), r.key())
			require.Equal(t, offset, s.index.slots[slot].offset())
			require.True(t, &same[0] == &r[0])
			require.LessOrEqual(t, r.need(), r.size())
			owner, tag := c.locate(r.key())
			require.True(t, owner == s)
			require.Equal(t, tag, r.tag())
		}
		require.Equal(t, used, live)
	}
}

// model is a store of a few ranges in a map: every version of every key, the gen of each range, and reads that have
// ended and not yet offered what they found.
type model struct {
	t     testing.TB
	n     func(int) int // the next choice, below its argument
	cache *Cache
	large bool // the cache never evicts, so what it must hold is known

	seq     ids.Seq
	gens    [3][]lineage
	history map[string][]versioned
	late    []offer
	expect  map[string]offer // of a large cache
	touched map[*shard]ids.Seq
	hits    int
}

// lineage is a gen, and the first sequence whose readers are under it.
type lineage struct {
	gen   uint64
	begin ids.Seq
}

type versioned struct {
	seq ids.Seq
	row Row
}

type offer struct {
	key           string
	gen           uint64
	read, version ids.Seq
	row           Row
}

func (m *model) key() (key string, rng int) {
	i := m.n(24)
	return fmt.Sprintf("%d/%0*d", i%len(m.gens), 1+i*i%29, i), i % len(m.gens)
}

func (m *model) row() Row {
	if m.n(4) == 0 {
		return Row{}
	}
	sizes := [...]int{0, 8, 8, 8, 9, 40, 100}
	value := bytes.Repeat([]byte{byte(m.seq)}, sizes[m.n(len(sizes))])
	return Row{Found: true, Value: append(value, byte(m.seq>>8)), Timestamp: hlc.Timestamp(m.seq) + 1, Expires: hlc.Timestamp(m.n(2))}
}

// newest is what the engine answers at a sequence.
func (m *model) newest(key string, at ids.Seq) versioned {
	h := m.history[key]
	for i := len(h) - 1; i >= 0; i-- {
		if h[i].seq <= at {
			return h[i]
		}
	}
	return versioned{}
}

func (m *model) step() {
	switch m.n(10) {
	case 0, 1:
		m.write()
	case 2:
		if len(m.late) > 0 {
			i := m.n(len(m.late))
			o := m.late[i]
			m.late = append(m.late[:i], m.late[i+1:]...)
			m.fill(o)
		}
	case 3:
		if m.n(20) == 0 {
			m.replace()
		}
	default:
		m.read()
	}
}

// write is an entry of one or two keys.
func (m *model) write() {
	m.seq++
	for range 1 + m.n(2) {
		key, rng := m.key()
		if h := m.history[key]; len(h) > 0 && h[len(h)-1].seq == m.seq {
			continue
		}
		row := m.row()
		m.history[key] = append(m.history[key], versioned{m.seq, row})
		keep := uint64(0)
		if m.n(3) == 0 {
			keep = m.gen(rng, m.seq)
		}
		m.cache.Apply(m.seq, []byte(key), row, keep)
		s, _ := m.cache.locate([]byte(key))
		m.touched[s] = m.seq
		if o, ok := m.expect[key]; ok || keep != 0 && row.Found {
			o.version, o.row = m.seq, row
			if keep != 0 {
				o.gen = keep
			}
			m.expect[key] = o
		}
	}
}

// replace is a snapshot of a range, or its wipe and return: other data, past the cache, under another gen.
func (m *model) replace() {
	m.seq++
	rng := m.n(len(m.gens))
	m.gens[rng] = append(m.gens[rng], lineage{uint64(m.n(4))<<8 + uint64(len(m.gens[rng])) + 1, m.seq})
	for key := range m.history {
		if int(key[0]-'0') == rng {
			m.history[key] = append(m.history[key], versioned{m.seq, Row{Found: true, Value: []byte("replaced"), Timestamp: 3}})
		}
	}
}

// gen is what a reader at a sequence finds its range under.
func (m *model) gen(rng int, at ids.Seq) (gen uint64) {
	for _, l := range m.gens[rng] {
		if l.begin <= at {
			gen = l.gen
		}
	}
	return gen
}

// read asks at the present, or at a sequence not long past.
func (m *model) read() {
	key, rng := m.key()
	at := m.seq
	if m.n(4) == 0 {
		at -= min(at, ids.Seq(m.n(8)))
	}
	gen, want := m.gen(rng, at), m.newest(key, at)
	row, ok := m.cache.Get([]byte(key), gen, at)
	if m.large {
		o, kept := m.expect[key]
		require.Equal(m.t, kept && o.gen == gen && o.version <= at, ok, "key %s at %d: %+v", key, at, o)
	}
	if ok {
		m.hits++
		require.Equal(m.t, want.row.Found, row.Found, "key %s at %d", key, at)
		require.True(m.t, bytes.Equal(want.row.Value, row.Value), "key %s at %d", key, at)
		require.Equal(m.t, want.row.Timestamp, row.Timestamp)
		require.Equal(m.t, want.row.Expires, row.Expires)
		return
	}
	o := offer{key, gen, at, want.seq, want.row}
	if m.n(2) == 0 && len(m.late) < 8 {
		m.late = append(m.late, o)
		return
	}
	m.fill(o)
}

func (m *model) fill(o offer) {
	m.cache.Fill([]byte(o.key), o.gen, o.read, o.row, o.version)
	if s, _ := m.cache.locate([]byte(o.key)); o.read >= m.touched[s] {
		if !o.row.Found {
			o.version = o.read
		}
		m.expect[o.key] = o
	}
}

func newModel(t testing.TB, maxBytes, shards int64, n func(int) int) *model {
	return &model{
		t: t, n: n, cache: newCache(maxBytes, 0, 1, shards), large: maxBytes >= 1<<20,
		history: make(map[string][]versioned), expect: make(map[string]offer), touched: make(map[*shard]ids.Seq),
	}
}

// TestModel: a cache of any size, under a random sequence of reads, late fills, writes and replaced ranges, answers like
// the store's whole history or not at all; one that never evicts answers whenever the rules allow it.
func TestModel(t *testing.T) {
	for _, size := range []struct{ bytes, shards int64 }{{1 << 20, 1}, {1 << 20, 4}, {1 << 10, 1}, {2 << 10, 1}, {3000, 1}, {4 << 10, 4}, {3 << 10, 2}} {
		t.Run(fmt.Sprintf("%d bytes in %d shards", size.bytes, size.shards), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(size.bytes), uint64(size.shards)))
			m := newModel(t, size.bytes, size.shards, rng.IntN)
			for i := range *modelSteps {
				m.step()
				if i%50 == 0 {
					m.cache.check(t)
					require.LessOrEqual(t, m.cache.Stats().Bytes, size.bytes)
				}
			}
			st := m.cache.Stats()
			require.Equal(t, int64(m.hits), st.Hits)
			require.NotZero(t, st.Refused)
			if !m.large {
				require.NotZero(t, st.Evictions)
			}
			t.Logf("%+v", st)
		})
	}
}

// FuzzModel is TestModel with the choices made by bytes.
func FuzzModel(f *testing.F) {
	f.Add([]byte("a short story of reads, fills, writes and evictions"), uint16(1100))
	f.Add(bytes.Repeat([]byte{0, 3, 200, 4, 17, 9, 2, 1}, 60), uint16(2000))
	f.Fuzz(func(t *testing.T, choices []byte, size uint16) {
		choices = choices[:min(len(choices), 4096)] // histories are searched from their ends
		m := newModel(t, max(int64(size), minBytes), 1, func(n int) int {
			if len(choices) == 0 {
				return 0
			}
			b := choices[0]
			choices = choices[1:]
			return int(b) % n
		})
		for len(choices) > 0 {
			m.step()
		}
		m.cache.check(t)
		require.LessOrEqual(t, m.cache.Stats().Bytes, max(int64(size), minBytes))
	})
}

// TestNoPointers: a row is not an object for the garbage collector, neither in the ring nor on its way there.
func TestNoPointers(t *testing.T) {
	c := New(4<<20, 0)
	keys := make([][]byte, 50_000)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "key%d", i)
		c.Fill(keys[i], 1, 1, Row{Found: true, Value: keys[i]}, 1)
	}
	require.Greater(t, c.Stats().Rows, int64(20_000))
	seq := ids.Seq(1)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		seq++
		for i := range 100 {
			c.Fill(keys[i*7], 1, seq, Row{Found: true, Value: keys[i]}, 1)
			c.Apply(seq+1, keys[i*7], Row{Found: true, Value: keys[i*8]}, 1)
		}
		seq++
	}))
}
