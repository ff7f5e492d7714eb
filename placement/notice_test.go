package placement

import (
	"slices"
	"testing"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
)

// dropBench is a driver with three stores that have the keyspace "a" and the newest map.
type dropBench struct {
	*bench
	clock uint64
	done  []error
}

func newDropBench(t *testing.T) *dropBench {
	t.Helper()
	rec := newTable()
	b := &dropBench{bench: started(t, rec)}
	for _, node := range []string{"n2", "n3"} {
		if _, err := b.join(node, "a"+node[1:]); err != nil {
			t.Fatal(err)
		}
	}
	b.has = map[uint64]uint64{}
	b.beatOf(1, bootstrapped(1)...)
	b.CreateKeyspace(&locuspb.CreateKeyspaceRequest{Name: "a"}, func(*locuspb.Keyspace, error) {})
	for s := uint64(1); s <= 3; s++ {
		b.take(s)
	}
	return b
}

func (b *dropBench) beatOf(s uint64, reports ...*locuspb.RangeReport) *locuspb.HeartbeatResponse {
	b.clock++
	if s == 1 && reports == nil {
		reports = bootstrapped(1)
	}
	return b.beat(s, b.clock, reports...)
}

// take gives a store the newest map, which its next heartbeat says.
func (b *dropBench) take(s uint64) *locuspb.HeartbeatResponse {
	resp := b.beatOf(s)
	b.has[s] = resp.MapVersion
	return resp
}

func (b *dropBench) drop(name string) {
	b.DropKeyspace(name, func(err error) { b.done = append(b.done, err) })
}

func (b *dropBench) want(what string, errs ...error) {
	b.t.Helper()
	if !slices.Equal(b.done, errs) {
		b.t.Fatalf("%s: answers %v, want %v", what, b.done, errs)
	}
}

// TestDropWaitsForAll: a drop is answered when the last store reports a map without the keyspace.
func TestDropWaitsForAll(t *testing.T) {
	b := newDropBench(t)
	b.drop("a")
	b.want("dropped")
	if _, err := b.LookupKeyspace("a"); api.CodeOf(err) != api.CodeKeyspaceNotFound {
		t.Errorf("the name is not free: %v", err)
	}
	for s := uint64(1); s <= 3; s++ {
		resp := b.take(s)
		if !slices.ContainsFunc(resp.Keyspaces, func(k *locuspb.Keyspace) bool { return k.Name == "a" && k.Dropped }) {
			t.Fatalf("store %d is not told: %v", s, resp.Keyspaces)
		}
		if resp.NextMs != 1 {
			t.Errorf("store %d is to report in %d ms", s, resp.NextMs)
		}
	}
	b.want("all have been told")
	b.drop("a") // the same drop: whoever lost the answer asks again
	b.beatOf(1)
	b.beatOf(2)
	b.want("two have heard")
	b.beatOf(3)
	b.want("all have heard", nil, nil)
	if resp := b.beatOf(3); resp.NextMs == 1 {
		t.Error("still hurried")
	}
	var missing error
	b.DropKeyspace("a", func(err error) { missing = err })
	wantError[*api.KeyspaceNotFoundError](t, missing)
}

// TestDropPassesSilentStores: a store that is silent for SuspectAfter is not waited for.
func TestDropPassesSilentStores(t *testing.T) {
	b := newDropBench(t)
	b.drop("a")
	b.now += b.core.o.SuspectAfter - 1
	for range 2 {
		b.take(1)
		b.take(2)
	}
	b.Tick()
	b.want("the third may still speak")
	b.now++
	b.Tick()
	b.want("the third is suspect", nil)
}

// TestDropAcrossOffices: whoever waits hears that the office ended, asks the next driver, and is answered when
// that one has told all nodes, which may have heard nothing so far.
func TestDropAcrossOffices(t *testing.T) {
	b := newDropBench(t)
	b.drop("a")
	b.Stop()
	if len(b.done) != 1 || api.CodeOf(b.done[0]) != api.CodeNotDriver {
		t.Fatalf("told %v", b.done)
	}
	next := &dropBench{bench: started(t, b.rec), clock: b.clock}
	next.has = b.has
	next.drop("a")
	next.want("nobody has heard of the new office")
	for s := uint64(1); s <= 3; s++ {
		next.take(s)
		next.take(s)
	}
	next.want("all have heard", nil)
}

// TestDropThenCreate: a notice is of one keyspace; the next of the name has its own.
func TestDropThenCreate(t *testing.T) {
	b := newDropBench(t)
	b.drop("a")
	b.CreateKeyspace(&locuspb.CreateKeyspaceRequest{Name: "a"}, func(*locuspb.Keyspace, error) {})
	second, err := b.LookupKeyspace("a")
	if err != nil {
		t.Fatal(err)
	}
	b.drop("a")
	if b.core.noticeOf("a") != b.core.burials[ids.KeyspaceID(second.Id)].notice {
		t.Error("the notice of the name is not the newest drop's")
	}
	for s := uint64(1); s <= 3; s++ {
		b.take(s)
		b.take(s)
	}
	b.want("both", nil, nil)
}
