package engine_test

import (
	"bytes"
	"math/rand"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/raftstore/engine"
	"github.com/locuskv/locus/raftstore/engine/enginetest"
)

// cutPower models what a loss of power leaves of Badger's directory. It takes the files as they are at some moment, while
// Badger's flushes and compactions run, and cuts them back to what was fsynced:
//
//   - logs of memtables (*.mem): each sector is as at the last engine.Sync or as now, drawn sector by sector or for the
//     whole file; a log that is younger than the Sync has zeros instead, or no length, or is not there. One that was
//     removed since may be back, with those that were removed after it: file systems keep the order of removals.
//   - tables (*.sst) that the MANIFEST names are whole, because Badger syncs them before it names them. Others lose
//     sectors, are cut short, or are not there.
//   - MANIFEST is as it is now, because Badger fsyncs each record before it goes on; so is KEYREGISTRY, which is synced
//     before it gets its name.
//   - the other files (*.vlog, DISCARD) are like logs; nothing is ever in them.
//
// What it takes on trust is that Badger's own syncs are where the above says, and reach the disk: it sees the files from
// outside. TestBadgerPowerLoss runs the engine on a file system that knows each write and each sync, and trusts nothing.
type cutPower struct {
	t      *testing.T
	rng    *rand.Rand
	dir    string
	synced map[string]syncedFile
}

type syncedFile struct {
	info    os.FileInfo
	content []byte // without the zeros at its end
}

const sector = 512

func (c *cutPower) Synced(engine.Engine) { c.synced = c.read() }

func (c *cutPower) Crash(e engine.Engine, during func()) engine.Engine {
	done := make(chan struct{})
	go func() {
		defer close(done)
		during()
	}()
	for range c.rng.Intn(200) {
		runtime.Gosched()
	}
	now := c.read()
	<-done
	survivors := c.survivors(now)
	require.NoError(c.t, e.Close())

	to := c.t.TempDir()
	c.dir, c.synced = to, map[string]syncedFile{}
	for name, f := range survivors {
		path := filepath.Join(to, name)
		require.NoError(c.t, writeSparse(path, f.content, f.info.Size()))
		info, err := os.Stat(path)
		require.NoError(c.t, err)
		c.synced[name] = syncedFile{info, f.content} // what the next crash finds, unless it is synced again
	}
	return openSmall(c.t, to)
}

// read takes the files at one moment, as far as it matters: while the MANIFEST stays the same, no log and no table is
// removed that it makes necessary.
func (c *cutPower) read() map[string]syncedFile {
	manifest := filepath.Join(c.dir, "MANIFEST")
	for {
		before, err := os.ReadFile(manifest)
		require.NoError(c.t, err)
		files := map[string]syncedFile{}
		names, err := os.ReadDir(c.dir)
		require.NoError(c.t, err)
		for _, entry := range names {
			path := filepath.Join(c.dir, entry.Name())
			info, err := os.Stat(path)
			if err != nil {
				continue
			}
			content, err := os.ReadFile(path)
			if err != nil {
				continue
			}
			files[entry.Name()] = syncedFile{info, bytes.TrimRight(content, "\x00")}
		}
		after, err := os.ReadFile(manifest)
		require.NoError(c.t, err)
		if bytes.Equal(before, after) {
			files["MANIFEST"] = syncedFile{files["MANIFEST"].info, before}
			return files
		}
	}
}

// survivors draws what is on the disk.
func (c *cutPower) survivors(now map[string]syncedFile) map[string]syncedFile {
	out := map[string]syncedFile{}
	tables := engine.ManifestTables(c.t, now["MANIFEST"].content)
	for _, name := range sortedNames(now) {
		f := now[name]
		was, known := c.synced[name]
		known = known && os.SameFile(was.info, f.info)
		switch {
		case name == "MANIFEST" || name == "KEYREGISTRY" || tables[name]:
			out[name] = f
		case known:
			f.content = c.mix(was.content, f.content)
			out[name] = f
		case c.rng.Intn(3) == 0: // its name was not durable
		case c.rng.Intn(3) == 0 && !strings.HasSuffix(name, ".sst"):
			out[name] = syncedFile{info: emptyInfo{f.info}}
		default:
			f.content = c.mix(nil, f.content)
			out[name] = f
		}
	}
	var removed []string
	for _, name := range sortedNames(c.synced) {
		if _, ok := now[name]; !ok && strings.HasSuffix(name, ".mem") {
			removed = append(removed, name)
		}
	}
	for _, name := range removed[c.rng.Intn(len(removed)+1):] {
		out[name] = c.synced[name]
	}
	return out
}

// mix draws each sector from one of two states of a file.
func (c *cutPower) mix(was, now []byte) []byte {
	odds := [...]int{0, 10, 50, 90, 99, 100}[c.rng.Intn(6)]
	out := bytes.Clone(now)
	for at := 0; at < len(out); at += sector {
		if c.rng.Intn(100) >= odds {
			continue
		}
		end := min(at+sector, len(out))
		clear(out[at:end])
		if at < len(was) {
			copy(out[at:end], was[at:])
		}
	}
	return out
}

func sortedNames(files map[string]syncedFile) []string {
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// emptyInfo is a file whose length did not become durable.
type emptyInfo struct{ os.FileInfo }

func (emptyInfo) Size() int64 { return 0 }

func writeSparse(path string, content []byte, size int64) error {
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return err
	}
	return os.Truncate(path, max(size, int64(len(content))))
}

// TestMemoryCrashModel: the model test, with losses of power at any step.
func TestMemoryCrashModel(t *testing.T) {
	for seed := range int64(8) {
		e := engine.NewMemory(engine.Limits{MaxBatchBytes: 1 << 20, MaxBatchOps: 30})
		enginetest.Model(t, e, func(t *testing.T, e engine.Engine) engine.Engine {
			require.NoError(t, e.Close())
			return e
		}, enginetest.ModelOptions{Steps: 1000, Crasher: &memoryPower{rng: rand.New(rand.NewSource(seed))}})
	}
}

type memoryPower struct{ rng *rand.Rand }

func (memoryPower) Synced(engine.Engine) {}

func (p *memoryPower) Crash(e engine.Engine, during func()) engine.Engine {
	during()
	return e.(*engine.Memory).Crash(randomUint64{p.rng})
}

type randomUint64 struct{ *rand.Rand }

// TestBadgerCrashModel: the model test on real files, with losses of power at any step, in undos too (see cutPower).
func TestBadgerCrashModel(t *testing.T) {
	steps := 800
	if testing.Short() {
		steps = 300
	}
	power := &cutPower{t: t, rng: rand.New(rand.NewSource(5)), dir: t.TempDir()}
	e := enginetest.Model(t, openSmall(t, power.dir), func(t *testing.T, e engine.Engine) engine.Engine {
		require.NoError(t, e.Close())
		power.synced = nil // all is in tables, and the logs are new
		return openSmall(t, power.dir)
	}, enginetest.ModelOptions{Steps: steps, LargeValues: true, Crasher: power})
	require.NoError(t, e.Close())
}
