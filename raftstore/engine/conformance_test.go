package engine_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/raftstore/engine"
	"github.com/locuskv/locus/raftstore/engine/enginetest"
)

// smallBadger keeps many engines in one test process.
func smallBadger(dir string) engine.BadgerOptions {
	return engine.BadgerOptions{Dir: dir, MemTableBytes: 4 << 20, BlockCacheBytes: 1 << 20, MinBatchBytes: 512 << 10}
}

func openSmall(t testing.TB, dir string) *engine.Badger {
	t.Helper()
	e, err := engine.OpenBadger(smallBadger(dir))
	require.NoError(t, err)
	return e
}

func TestMemoryConformance(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) engine.Engine {
		e := engine.NewMemory(engine.Limits{MaxBatchBytes: 2 << 20, MaxBatchOps: 5000})
		t.Cleanup(func() { require.NoError(t, e.Close()) })
		return e
	})
}

func TestBadgerConformance(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) engine.Engine {
		e := openSmall(t, t.TempDir())
		t.Cleanup(func() { require.NoError(t, e.Close()) })
		return e
	})
}
