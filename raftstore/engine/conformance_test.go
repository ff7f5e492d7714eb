package engine_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/raftstore/engine"
	"github.com/locuskv/locus/raftstore/engine/enginetest"
)

// smallBadger keeps many engines in one test process.
func smallBadger(dir string) engine.BadgerOptions {
	return engine.BadgerOptions{Dir: dir, MemTableBytes: 4 << 20, MinBatchBytes: 512 << 10}
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

func TestMemoryModel(t *testing.T) {
	e := engine.NewMemory(engine.Limits{})
	enginetest.Model(t, e, func(t *testing.T, e engine.Engine) engine.Engine {
		require.NoError(t, e.Close())
		return e
	}, enginetest.ModelOptions{Steps: 3000})
}

func TestBadgerModel(t *testing.T) {
	dir := t.TempDir()
	reopen := func(t *testing.T, e engine.Engine) engine.Engine {
		require.NoError(t, e.Close())
		return openSmall(t, dir)
	}
	var e engine.Engine = openSmall(t, dir)
	enginetest.Model(t, e, func(t *testing.T, old engine.Engine) engine.Engine {
		e = reopen(t, old)
		return e
	}, enginetest.ModelOptions{Steps: 1500, LargeValues: true})
	require.NoError(t, e.Close())
}
