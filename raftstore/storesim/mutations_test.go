package storesim

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A mutation is a bug made on purpose, which the simulation must find. The core carries nothing of it: the bug is laid over
// its source when the simulation is built (go build -overlay).
//
// To add one: name it, say what is broken, and give the source before and after. Where two parts of the core guard each
// other, so that breaking one of them breaks no promise, the mutation breaks both.
type mutation struct {
	name  string
	edits []edit
	// seeds is how many seeds, from 1, may pass until it is found: several times what it took when it was entered.
	seeds int
}

// edit replaces text in a file of raftstore; old must be there exactly once.
type edit struct{ file, old, new string }

var mutations = []mutation{
	{name: "answer before the sync (I9)", seeds: 20, edits: []edit{{
		"logwriter.go",
		"\tw.queue.Post(func() { w.sync(tasks, sync) })\n",
		"\tfor _, t := range tasks {\n\t\tif t.r != nil {\n\t\t\tt.r.deliver(t.responses)\n\t\t\tt.responses = nil\n\t\t}\n\t}\n\tw.queue.Post(func() { w.sync(tasks, sync) })\n",
	}}},
	// None alone: a range that is frozen evaluates nothing until its split is applied, nor does one behind any change of its
	// descriptor, so no entry is late for its bounds; and one that is late is refused.
	{name: "no epoch check at apply, no freeze by a split, and no wait for changes (A1, A2)", seeds: 40, edits: []edit{
		{"apply.go", " && be.Bounds == r.apply.desc.Epoch.Bounds\n", "\n"},
		{"evaluate.go", "\t\tb.q.r.freeze()\n", ""},
		{"sequencer.go", " || q.changingLocked() || ", " || "},
	}},
	// Neither alone: a proposal that follows a dropped one is not made; and if it is, it is refused.
	{name: "no base check, and proposals of old generations are made (A1)", seeds: 100, edits: []edit{
		{"apply.go", " && be.Base == st.Count && ", " && "},
		{"driver.go", "\tif p.generation < r.raft.generation {\n\t\treturn\n\t}\n", ""},
	}},
	{name: "sessions are lost in a split (B5)", seeds: 150, edits: []edit{
		{"split.go", "for _, w := range sessions {", "for _, w := range sessions[:0] {"},
	}},
	{name: "the log is truncated before the checkpoint (I10)", seeds: 20, edits: []edit{
		{"checkpoint.go", "\ts.disk.Post(func() {\n", "\ts.truncate(applied)\n\ts.disk.Post(func() {\n"},
	}},
	{name: "a snapshot's log reset is in a frame before its checkpoint's (E4)", seeds: 40, edits: []edit{
		{"ingest.go", "\ta.s.checkpointNow(raftlog.Batch{Groups: []raftlog.Write{w}}, func() {\n", "\ta.s.logWriter.append(&appendTask{extra: raftlog.Batch{Groups: []raftlog.Write{w}}})\n\ta.s.checkpointNow(raftlog.Batch{}, func() {\n"},
	}},
	{name: "a snapshot's file is read without its checksums", seeds: 40, edits: []edit{
		{"snapshotfile.go", "\tif crc32.Checksum(chunk, castagnoli) != binary.BigEndian.Uint32(head[4:]) {\n", "\tif false {\n"},
	}},
	{name: "a removed replica is gone at once (I11)", seeds: 40, edits: []edit{{
		"apply.go",
		"\ta.s.metrics.apply(o.bytes, refused)\n\ta.s.yield()\n",
		"\ta.s.metrics.apply(o.bytes, refused)\n\ta.s.yield()\n\tif o.desc != nil && r.retired(o.desc) {\n\t\ta.s.destroy(r, o.desc.NextReplica)\n\t}\n",
	}}},
	{name: "a replica id is used twice (I11)", seeds: 20, edits: []edit{
		{"operators.go", "ID: n.NextReplica, Role: topology.Learner", "ID: n.Replicas[len(n.Replicas)-1].ID + 1, Role: topology.Learner"},
	}},
	{name: "reads at the engine's newest sequence (D1)", seeds: 20, edits: []edit{
		{"read.go", "v.seq, v.rows, v.count = r.store.holds.acquire(s.visible), s.rowsAt(published), s.applied.Count", "v.seq, v.count, _ = r.store.holds.acquire(r.store.engine.MaxSeq()), s.applied.Count, published"},
	}},
	{name: "a child begins without its parent's clock (C1)", seeds: 20, edits: []edit{
		{"split.go", "TS: o.entry.TS, Closed: o.entry.TS,\n", "\n"},
	}},
	{name: "a vote is lost in the replay of a split (E2)", seeds: 20, edits: []edit{
		{"split.go", "Groups: []raftlog.Write{{Group: r.id, Create:", "Groups: []raftlog.Write{{Group: r.id, Destroy: true}, {Group: r.id, Create:"},
	}},
	{name: "a lease is counted from the answer (D3)", seeds: 100, edits: []edit{
		{"lease.go", "until := asked + r.store.opts.leaseLength()", "until := r.store.opts.Monotonic() + r.store.opts.leaseLength()"},
	}},
	{name: "a lease stays in a transfer (D3)", seeds: 100, edits: []edit{
		{"transfer.go", "s.transferring, s.leaseVoid = true, true", "s.transferring = true"},
	}},
	{name: "the row cache is filled without the check (D4)", seeds: 40, edits: []edit{
		{"rowcache/cache.go", "\tif read < s.touched {\n\t\ts.stats.Refused++\n\t\treturn\n\t}\n", "\t_ = read\n"},
	}},
	{name: "a write does not end a block of the scan cache (D5)", seeds: 100, edits: []edit{
		{"scancache/cache.go", "\tif b := c.holder(key); b != nil {\n", "\tif b := c.holder(key); b != nil && false {\n"},
	}},
	{name: "a block of the scan cache forgets its tombstones (D5)", seeds: 100, edits: []edit{
		{"engine/scan.go", "\t\t\ts.facts.MaxVersion = max(s.facts.MaxVersion, r.Version)\n", ""},
	}},
	{name: "a block of the scan cache forgets what was written above its scan (D5)", seeds: 100, edits: []edit{
		{"scancache/fill.go", "to: eb.Later, ", "to: 0 * eb.Later, "},
	}},
	{name: "no undo (E1)", seeds: 20, edits: []edit{
		{"recover.go", "\tif have <= from {\n", "\tif have <= from || true {\n"},
	}},
	{name: "sessions are ignored (B1)", seeds: 20, edits: []edit{
		{"evaluate.go", "\t\tif prior != nil {\n\t\t\tb.repeat(c, prior)\n", "\t\tif prior != nil && false {\n\t\t\tb.repeat(c, prior)\n"},
	}},
	{name: "a fresh clock without the leadership check (C2)", seeds: 100, edits: []edit{
		{"store.go", "\tr.confirmLeadership(hlc.Timestamp(req.Token), func(err error) {\n\t\tst := r.snapshot()\n", "\tfunc(f func(error)) { f(nil) }(func(err error) {\n\t\tst := r.snapshot()\n"},
	}},
	{name: "garbage collection passes a held timestamp (C9)", seeds: 20, edits: []edit{
		{"holds.go", "start = min(start, t.Add(-apart))", "_ = t"},
	}},
	{name: "a checkpoint does not name what it kept (C9)", seeds: 20, edits: []edit{
		{"checkpoint.go", "uint64(discard), uint64(kept)", "uint64(discard), uint64(0*kept)"},
	}},
	{name: "a step of the wall clock is believed (C4)", seeds: 40, edits: []edit{
		{"../internal/hlc/steady.go", "return (ahead - c.mu.ahead).Abs() <= c.Tolerance() }", "return true }"},
	}},
	{name: "a store whose clock is off goes on (C4)", seeds: 40, edits: []edit{
		{"clocks.go", "return r.store.clocks.off.Load() && d != nil", "return false && d != nil"},
	}},
	{name: "what was said of a failed condition is not waited for (A3)", seeds: 100, edits: []edit{
		{"evaluate.go", "\t\tresp = &locuspb.Response{Error: api.ToProto(err)}\n", "\t\tresp = &locuspb.Response{Error: api.ToProto(err)}\n\t\tc.done(resp)\n\t\treturn\n"},
	}},
	{name: "a call that only reads asks nobody whether it leads (A3)", seeds: 60, edits: []edit{{
		"readcall.go", "\tr.confirmLeadership(hlc.Timestamp(req.Token), func(err error) {\n", "\tfunc(f func(error)) { f(nil) }(func(err error) {\n",
	}}},
	{name: "a call that only reads tells what has expired by the clock alone (C7)", seeds: 60, edits: []edit{{
		"readcall.go", "\tcase tx.view.judged:\n", "\tcase false:\n",
	}}},
}

var (
	mutate     = flag.Bool("sim.mutations", false, "build the simulation with each mutation and let it look for it")
	mutateOnly = flag.String("sim.mutation", "", "only mutations whose name holds this")
)

// Each mutation still says what it means: a refactoring that moves the text must move the mutation too.
func TestMutationsMatch(t *testing.T) {
	for _, m := range mutations {
		for _, e := range m.edits {
			if _, err := e.apply(); err != nil {
				t.Errorf("%s: %v", m.name, err)
			}
		}
		if m.seeds == 0 || len(m.edits) == 0 {
			t.Errorf("%s: how many seeds, which edits?", m.name)
		}
	}
}

// TestMutationsAreFound takes half an hour with all of them.
func TestMutationsAreFound(t *testing.T) {
	if !*mutate {
		t.Skip("-sim.mutations builds and plays them")
	}
	for _, m := range mutations {
		if !strings.Contains(m.name, *mutateOnly) {
			continue
		}
		t.Run(m.name, func(t *testing.T) { m.find(t) })
	}
}

// apply is the file with the edit.
func (e *edit) apply() (string, error) {
	source, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(e.file)))
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(source), e.old); n != 1 {
		return "", fmt.Errorf("%s has %q %d times, not once", e.file, e.old, n)
	}
	return strings.Replace(string(source), e.old, e.new, 1), nil
}

var failedSeed = regexp.MustCompile(`seed (\d+) failed`)

func (m *mutation) find(t *testing.T) {
	binary := m.build(t)
	ctx, cancel := context.WithTimeout(t.Context(), 45*time.Minute)
	defer cancel()
	began := time.Now()
	run := exec.CommandContext(ctx, binary, "-test.run=^TestSimulation$", "-sim.seeds", strconv.Itoa(m.seeds), "-sim.parallel", "1")
	run.Env = append(os.Environ(), "GOMAXPROCS=2")
	out, err := run.CombinedOutput()
	if err == nil {
		t.Fatalf("%d seeds did not find it", m.seeds)
	}
	found := failedSeed.FindSubmatch(out)
	if found == nil {
		t.Fatalf("the run failed without naming a seed: %v\n%s", err, out)
	}
	_, what, _ := bytes.Cut(out, []byte("seed "))
	line, _, _ := bytes.Cut(what, []byte("\n"))
	t.Logf("found by seed %s after %s", bytes.TrimSpace(line[:min(len(line), 300)]), time.Since(began).Round(100*time.Millisecond))
}

// build compiles the simulation with the mutation and returns the binary.
func (m *mutation) build(t *testing.T) string {
	dir := t.TempDir()
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for i, e := range m.edits {
		source, err := e.apply()
		if err != nil {
			t.Fatal(err)
		}
		original, err := filepath.Abs(filepath.Join("..", filepath.FromSlash(e.file)))
		if err != nil {
			t.Fatal(err)
		}
		mutant := filepath.Join(dir, fmt.Sprintf("%d.go", i))
		if err := os.WriteFile(mutant, []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
		if overlay.Replace[original] != "" {
			t.Fatalf("two edits of %s", e.file)
		}
		overlay.Replace[original] = mutant
	}
	content, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	file, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "sim.test")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-overlay", file, "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("the mutant does not build: %v\n%s", err, out)
	}
	return binary
}
