package engine

import "github.com/locuskv/locus/internal/ids"

// Random is the part of math/rand and math/rand/v2 that Crash draws from.
type Random interface{ Uint64() uint64 }

// Crash is the engine that a store finds after the power went: everything up to the last Sync, and of
// what followed an arbitrary set of whole batches. As with Badger that may be a beginning, or have holes,
// because each memtable's log loses its own tail. Batches of a failed Apply may be among them.
// A nil rng keeps nothing.
//
// The engine it is called on lives on apart from the new one; the dead process may hold it. The new one
// begins without faults and with a discard sequence of 0, like every engine that was just opened.
func (m *Memory) Crash(rng Random) *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := NewMemory(m.limits)
	out.mu.maxSeq = m.mu.synced
	out.mu.synced = m.mu.synced
	m.mu.tree.Scan(func(k memKey) bool {
		out.keep(k, k.versions[:k.upTo(m.mu.synced)])
		return true
	})
	for i, kept := range survivors(len(m.mu.unsynced), rng) {
		if b := &m.mu.unsynced[i]; kept && b.Seq > out.mu.maxSeq {
			out.write(b)
		}
	}
	return out
}

// keep adds the durable versions of a key. REQUIRES: mu.
func (m *Memory) keep(k memKey, versions []memVersion) {
	if len(versions) == 0 {
		return
	}
	// In ascending order. The versions are shared up to their end: who appends to them gets a copy.
	m.mu.tree.Load(memKey{key: k.key, versions: versions[:len(versions):len(versions)]})
	for _, v := range versions {
		m.mu.bytes += int64(len(k.key)+len(v.value)) + OpOverhead
	}
}

// survivors draws which of n batches outlive a crash: none, all, a beginning, or any of them.
func survivors(n int, rng Random) []bool {
	kept := make([]bool, n)
	if rng == nil || n == 0 {
		return kept
	}
	first := 0
	shape := rng.Uint64() % 4
	switch shape {
	case 1:
		first = n
	case 2:
		first = int(rng.Uint64() % uint64(n+1))
	}
	for i := range kept {
		kept[i] = i < first || shape == 3 && rng.Uint64()%2 == 0
	}
	return kept
}

// Durable is the highest sequence that a crash cannot take back.
func (m *Memory) Durable() ids.Seq {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.synced
}
