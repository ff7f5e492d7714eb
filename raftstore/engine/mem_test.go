package engine

import (
	"errors"
	"fmt"
	"math/rand"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/ids"
)

func put(key, value string) Op { return Op{Key: []byte(key), Value: []byte(value)} }
func del(key string) Op        { return Op{Key: []byte(key), Delete: true} }

func apply(t *testing.T, e Engine, seq ids.Seq, ops ...Op) {
	t.Helper()
	require.NoError(t, e.Apply([]Batch{{Seq: seq, Ops: ops}}))
}

func get(t *testing.T, e Engine, key string, seq ids.Seq) string {
	t.Helper()
	v, _, found, err := e.Get([]byte(key), seq)
	require.NoError(t, err)
	if !found {
		return "-"
	}
	return string(v)
}

// A crash keeps all that was synced and whole batches of the rest.
func TestMemoryCrashKeepsSyncedAndWholeBatches(t *testing.T) {
	const synced, total = 5, 12
	m := NewMemory(Limits{})
	for seq := ids.Seq(1); seq <= total; seq++ {
		v := fmt.Sprint(seq)
		apply(t, m, seq, put("hot", v), put("a"+v, v), put("b"+v, v))
		if seq == synced {
			require.NoError(t, m.Sync())
		}
	}
	require.EqualValues(t, synced, m.Durable())

	holes, losses, alls := 0, 0, 0
	for seed := int64(1); seed <= 300; seed++ {
		c := m.Crash(rand.New(rand.NewSource(seed)))
		kept, last, hole := 0, ids.Seq(0), false
		for seq := ids.Seq(1); seq <= total; seq++ {
			v := fmt.Sprint(seq)
			here := get(t, c, "a"+v, total) == v
			require.Equal(t, here, get(t, c, "b"+v, total) == v, "seed %d: batch %d is torn", seed, seq)
			_, version, _, err := c.Get([]byte("hot"), seq)
			require.NoError(t, err)
			require.Equal(t, here, version == seq, "seed %d: batch %d is torn", seed, seq)
			if seq <= synced {
				require.True(t, here, "seed %d: synced batch %d is lost", seed, seq)
			}
			if here {
				hole = hole || seq != last+1
				last = seq
				kept++
			}
		}
		require.Equal(t, last, c.MaxSeq())
		switch {
		case hole:
			holes++
		case kept == synced:
			losses++
		case kept == total:
			alls++
		}
	}
	require.Positive(t, holes)
	require.Positive(t, losses)
	require.Positive(t, alls)
	require.Equal(t, "12", get(t, m, "hot", total), "the old engine is not touched")
	require.EqualValues(t, synced, m.Crash(nil).MaxSeq())
}

// Undo after a crash with holes, crashing again in the middle of it, ends at the synced state.
func TestMemoryUndoAfterRepeatedCrashes(t *testing.T) {
	for seed := int64(1); seed <= 60; seed++ {
		rng := rand.New(rand.NewSource(seed))
		m := NewMemory(Limits{MaxBatchBytes: 200, MaxBatchOps: 3})
		for seq := ids.Seq(1); seq <= 20; seq++ {
			ops := []Op{put(fmt.Sprint(rng.Intn(8)), fmt.Sprint(seq)), del(fmt.Sprint(8 + rng.Intn(8)))}
			if rng.Intn(2) == 0 {
				ops[1] = put(string(ops[1].Key), fmt.Sprint(seq))
			}
			apply(t, m, seq, ops...)
			if seq == 10 {
				require.NoError(t, m.Sync())
			}
		}
		want := dump(t, m, 10, IterOptions{})
		for round := rng.Intn(3); round >= 0; round-- {
			m = m.Crash(rng)
			m.FailAfter(FaultApply, rng.Intn(3), errors.New("power"))
			_, _ = m.Undo(10)
		}
		m = m.Crash(rng)
		last, err := m.Undo(10)
		require.NoError(t, err)
		require.Equal(t, want, dump(t, m, last, IterOptions{}), "seed %d", seed)
		require.Equal(t, want, dump(t, m, 10, IterOptions{}), "seed %d", seed)
	}
}

// dump lists what an iterator sees.
func dump(t *testing.T, e Engine, seq ids.Seq, o IterOptions) []string {
	t.Helper()
	o.Seq = seq
	it := e.NewIterator(o)
	defer it.Close()
	var out []string
	for ; it.Valid(); it.Next() {
		if it.Deleted() {
			out = append(out, string(it.Key())+"-")
		} else {
			out = append(out, string(it.Key())+"="+string(it.Value()))
		}
	}
	require.NoError(t, it.Err())
	return out
}

func TestMemoryFaults(t *testing.T) {
	m := NewMemory(Limits{})
	boom := errors.New("boom")
	apply(t, m, 1, put("a", "1"))
	m.FailNext(FaultSync, boom)
	require.ErrorIs(t, m.Sync(), boom)
	require.Zero(t, m.Durable())
	require.NoError(t, m.Sync())
	require.EqualValues(t, 1, m.Durable())

	m.FailNext(FaultApply, boom)
	require.ErrorIs(t, m.Apply([]Batch{{Seq: 2, Ops: []Op{put("a", "2")}}}), boom)
	require.Equal(t, "1", get(t, m, "a", 2), "not visible")
	survived := 0
	for seed := int64(0); seed < 50; seed++ {
		if get(t, m.Crash(rand.New(rand.NewSource(seed))), "a", 2) == "2" {
			survived++
		}
	}
	require.NotZero(t, survived, "a failed write may be on the disk all the same")
	require.NotEqual(t, 50, survived)
}

func TestMemoryRefusesKeyTwice(t *testing.T) {
	m := NewMemory(Limits{})
	require.Panics(t, func() { _ = m.Apply([]Batch{{Seq: 1, Ops: []Op{put("a", "1"), put("a", "2")}}}) })
}

func TestMemoryTrimsBelowDiscard(t *testing.T) {
	m := NewMemory(Limits{})
	for seq := ids.Seq(1); seq <= 1000; seq++ {
		apply(t, m, seq, put("hot", fmt.Sprintf("%04d", seq)))
		m.SetDiscard(seq - 1)
	}
	require.Less(t, m.Size(), int64(200))
	require.Equal(t, "0999", get(t, m, "hot", 999))
	require.Equal(t, "1000", get(t, m, "hot", 1000))
}
