package engine_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/raftstore/engine"
)

func put(key, value string) engine.Op { return engine.Op{Key: []byte(key), Value: []byte(value)} }
func del(key string) engine.Op        { return engine.Op{Key: []byte(key), Delete: true} }

func apply(t testing.TB, e engine.Engine, seq ids.Seq, ops ...engine.Op) {
	t.Helper()
	require.NoError(t, e.Apply([]engine.Batch{{Seq: seq, Ops: ops}}))
}

func contents(t testing.TB, e engine.Engine, seq ids.Seq) map[string]string {
	t.Helper()
	it := e.NewIterator(engine.IterOptions{Seq: seq})
	defer it.Close()
	out := map[string]string{}
	for ; it.Valid(); it.Next() {
		out[string(it.Key())] = string(it.Value())
	}
	require.NoError(t, it.Err())
	return out
}

// copyDir copies the files of an engine as a killed process leaves them: all of one moment. A flush or a compaction on
// the way would leave a MANIFEST that names a table which was not there yet when the copy began, so the copy counts
// only if the MANIFEST is the same before and after it.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	for {
		before := readManifest(t, from)
		to := copyFiles(t, from)
		if bytes.Equal(before, readManifest(t, from)) {
			return to
		}
	}
}

func readManifest(t testing.TB, dir string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "MANIFEST"))
	require.NoError(t, err)
	return b
}

func copyFiles(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	entries, err := os.ReadDir(from)
	require.NoError(t, err)
	for _, e := range entries {
		in, err := os.Open(filepath.Join(from, e.Name()))
		if os.IsNotExist(err) {
			continue
		}
		require.NoError(t, err)
		out, err := os.Create(filepath.Join(to, e.Name()))
		require.NoError(t, err)
		_, err = io.Copy(out, in)
		require.NoError(t, err)
		require.NoError(t, out.Close())
		require.NoError(t, in.Close())
	}
	return to
}

func TestBadgerReopen(t *testing.T) {
	dir := t.TempDir()
	e := openSmall(t, dir)
	apply(t, e, 1, put("a", "1"), put("b", "1"))
	apply(t, e, 7, put("a", "7"), del("b"))
	require.NoError(t, e.Sync())
	require.NoError(t, e.Close())
	require.NoError(t, e.Close())

	e = openSmall(t, dir)
	defer func() { require.NoError(t, e.Close()) }()
	require.EqualValues(t, 7, e.MaxSeq())
	require.Equal(t, map[string]string{"a": "7"}, contents(t, e, 7))
	require.Equal(t, map[string]string{"a": "1", "b": "1"}, contents(t, e, 6))
	_, version, found, err := e.Get([]byte("b"), 9)
	require.NoError(t, err)
	require.False(t, found)
	require.EqualValues(t, 7, version)
	require.NoError(t, e.Verify())
}

// Large enough values that memtables are flushed and tables compacted while the process runs.
func churn(t testing.TB, e engine.Engine, rng *rand.Rand, from, to ids.Seq) {
	t.Helper()
	for seq := from; seq <= to; seq++ {
		value := make([]byte, 20<<10+rng.Intn(60<<10))
		rng.Read(value)
		key := fmt.Sprintf("k%02d", rng.Intn(40))
		op := engine.Op{Key: []byte(key), Value: value}
		if rng.Intn(5) == 0 {
			op = del(key)
		}
		apply(t, e, seq, op, put("seq", fmt.Sprint(seq)))
	}
}

// A process killed between making a log file and giving it a length leaves one that Badger would not open.
func TestBadgerOpensBesideEmptyLogs(t *testing.T) {
	dir := t.TempDir()
	e := openSmall(t, dir)
	apply(t, e, 1, put("a", "1"))
	killed := copyDir(t, dir)
	require.NoError(t, e.Close())
	for _, name := range []string{"00077.mem", "000099.vlog"} {
		require.NoError(t, os.WriteFile(filepath.Join(killed, name), nil, 0o600))
	}
	e = openSmall(t, killed)
	value, _, found, err := e.Get([]byte("a"), 1)
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, "1", string(value))
	require.NoError(t, e.Close())
}

// A killed process comes back with everything it was told, and an undo takes it back to the checkpoint; so
// does an undo of a process that is killed in its own undo.
func TestBadgerKillReopenUndo(t *testing.T) {
	const cut, last = 150, 330
	rng := rand.New(rand.NewSource(7))
	dir := t.TempDir()
	e := openSmall(t, dir)
	churn(t, e, rng, 1, cut)
	require.NoError(t, e.Sync())
	want := contents(t, e, cut)
	e.SetDiscard(cut - 20)
	churn(t, e, rng, cut+1, last)
	full := contents(t, e, last)
	killed := copyDir(t, dir)
	require.NoError(t, e.Close())

	e = openSmall(t, killed)
	require.EqualValues(t, last, e.MaxSeq())
	require.Equal(t, full, contents(t, e, last))
	first, err := e.Undo(cut)
	require.NoError(t, err)
	require.Equal(t, want, contents(t, e, first))
	again := copyDir(t, killed)
	require.NoError(t, e.Close())

	e = openSmall(t, again)
	second, err := e.Undo(cut)
	require.NoError(t, err)
	require.Equal(t, want, contents(t, e, second))
	require.Equal(t, want, contents(t, e, cut))
	apply(t, e, second+1, put("after", "x"))
	require.NoError(t, e.Close())
}

// Compaction drops versions below the discard sequence, and only those.
func TestBadgerDiscardsInCompaction(t *testing.T) {
	e := openSmall(t, t.TempDir())
	defer func() { require.NoError(t, e.Close()) }()
	rng := rand.New(rand.NewSource(3))
	model := map[ids.Seq]map[string]string{}
	for seq := ids.Seq(1); seq <= 600; seq++ {
		churn(t, e, rng, seq, seq)
		if seq%100 == 0 {
			model[seq] = contents(t, e, seq)
		}
		if seq > 150 {
			e.SetDiscard(seq - 150)
		}
	}
	for _, seq := range []ids.Seq{500, 600} {
		require.Equal(t, model[seq], contents(t, e, seq))
	}
	require.NoError(t, e.Verify())
	require.Positive(t, e.Size())
}

func TestBadgerOpenErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := engine.OpenBadger(smallBadger(file))
	require.ErrorIs(t, err, engine.ErrUnusable)

	dir := t.TempDir()
	e := openSmall(t, dir)
	_, err = engine.OpenBadger(smallBadger(dir))
	require.ErrorIs(t, err, engine.ErrLocked)
	require.ErrorContains(t, err, fmt.Sprintf("process %d", os.Getpid()))
	require.NoError(t, e.Close())

	manifest := filepath.Join(dir, "MANIFEST")
	head, err := os.ReadFile(manifest)
	require.NoError(t, err)
	newer := append([]byte{}, head...)
	binary.BigEndian.PutUint16(newer[4:], engine.FormatVersion+1)
	require.NoError(t, os.WriteFile(manifest, newer, 0o600))
	_, err = engine.OpenBadger(smallBadger(dir))
	require.ErrorIs(t, err, engine.ErrNewerFormat)
	require.NoError(t, os.WriteFile(manifest, []byte("junk"), 0o600))
	_, err = engine.OpenBadger(smallBadger(dir))
	require.ErrorIs(t, err, engine.ErrCorrupt)
	require.NoError(t, os.WriteFile(manifest, head, 0o600))

	o := smallBadger(dir)
	o.MinBatchBytes = 4 << 20
	_, err = engine.OpenBadger(o)
	require.ErrorContains(t, err, "must be at least 4194304")
	require.NoError(t, openSmall(t, dir).Close(), "a refused open lets go of the lock")
}

func TestBadgerOptionsValidate(t *testing.T) {
	for _, o := range []engine.BadgerOptions{
		{}, {Dir: "x", MemTableBytes: 1 << 20}, {Dir: "x", MemTableBytes: 1 << 40}, {Dir: "x", MemTables: -1},
		{Dir: "x", MinBatchBytes: -1},
	} {
		require.Error(t, o.Validate(), "%+v", o)
		_, err := engine.OpenBadger(o)
		require.Error(t, err)
	}
	require.NoError(t, engine.BadgerOptions{Dir: "x"}.Validate())
}

// The default configuration takes the largest entry that the store forms.
func TestBadgerDefaultsFitTheLargestEntry(t *testing.T) {
	e, err := engine.OpenBadger(engine.BadgerOptions{Dir: t.TempDir()})
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	require.GreaterOrEqual(t, e.Limits().MaxBatchBytes, int64(engine.MinBatchBytes))
	b := engine.Batch{Seq: 1}
	for i := 0; b.Bytes()+keys.MaxValueLen+64 < engine.MinBatchBytes; i++ {
		b.Ops = append(b.Ops, engine.Op{Key: fmt.Appendf(nil, "k%d", i), Value: make([]byte, keys.MaxValueLen)})
	}
	require.NoError(t, e.Apply([]engine.Batch{b}))
}

// One flipped bit anywhere in a table is found at open, and named.
func TestBadgerFindsDamage(t *testing.T) {
	dir := t.TempDir()
	e := openSmall(t, dir)
	churn(t, e, rand.New(rand.NewSource(1)), 1, 40)
	require.NoError(t, e.Close())
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	require.NoError(t, err)
	require.NotEmpty(t, tables)
	content, err := os.ReadFile(tables[0])
	require.NoError(t, err)
	for _, at := range []int{10, len(content) / 2, len(content) - 200, len(content) - 20, len(content) - 2} {
		bad := append([]byte{}, content...)
		bad[at] ^= 0x10
		require.NoError(t, os.WriteFile(tables[0], bad, 0o600))
		_, err := engine.OpenBadger(smallBadger(dir))
		require.ErrorIs(t, err, engine.ErrCorrupt, "byte %d of %d", at, len(content))
		require.ErrorContains(t, err, filepath.Base(tables[0]))
	}
	require.NoError(t, os.WriteFile(tables[0], content, 0o600))
	require.NoError(t, openSmall(t, dir).Close())
}

// TestBadgerCloseEnds: Badger tries a failed flush again for ever; Close does not wait for it.
func TestBadgerCloseEnds(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "engine")
	e := openSmall(t, dir)
	require.NoError(t, e.Apply([]engine.Batch{{Seq: 1, Ops: []engine.Op{put("a", "1")}}}))
	require.NoError(t, os.RemoveAll(dir))
	var failed *engine.BackgroundError
	require.ErrorAs(t, e.Close(), &failed)
}

// TestBadgerReclaims: the space of deleted keys is free once their versions may be dropped.
func TestBadgerReclaims(t *testing.T) {
	dir := t.TempDir()
	e := openSmall(t, dir)
	defer func() { require.NoError(t, e.Close()) }()
	const keys, each = 100_000, 500
	seq := ids.Seq(0)
	write := func(op func(i int) engine.Op) {
		for i := 0; i < keys; i += each {
			seq++
			b := engine.Batch{Seq: seq}
			for j := range each {
				b.Ops = append(b.Ops, op(i+j))
			}
			require.NoError(t, e.Apply([]engine.Batch{b}))
		}
	}
	value := bytes.Repeat([]byte("v"), 200)
	key := func(i int) []byte { return fmt.Appendf(nil, "key/%08d", i) }
	write(func(i int) engine.Op { return engine.Op{Key: key(i), Value: value} })
	write(func(i int) engine.Op { return engine.Op{Key: key(i), Delete: true} })
	deleted := seq
	e.SetDiscard(deleted)
	write(func(i int) engine.Op { return engine.Op{Key: fmt.Appendf(nil, "other/%d", i%5000), Value: value} }) // the memtable is flushed
	tables := func() (n int64) {
		files, err := filepath.Glob(filepath.Join(dir, "*.sst"))
		require.NoError(t, err)
		for _, f := range files {
			info, err := os.Stat(f)
			require.NoError(t, err)
			n += info.Size()
		}
		return n
	}
	before := tables()
	require.NoError(t, e.Reclaim())
	t.Logf("%d bytes of tables, then %d", before, tables())
	require.Less(t, tables(), int64(keys*200*5/4), "more than the last keys, which all versions are kept of")
	_, _, found, err := e.Get(key(7), deleted)
	require.NoError(t, err)
	require.False(t, found)
	v, _, found, err := e.Get([]byte("other/7"), seq)
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, value, v)
}
