package placement

import (
	"testing"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
)

func (b *dropBench) await() { b.AwaitMap(func(err error) { b.done = append(b.done, err) }) }

// TestAwaitMapWaitsForAll: it is answered when the last store reports the map, of which all are told without delay.
func TestAwaitMapWaitsForAll(t *testing.T) {
	b := newDropBench(t)
	for s := uint64(1); s <= 3; s++ {
		b.take(s)
	}
	b.await()
	for s := uint64(1); s <= 3; s++ {
		b.want("not all have heard")
		if resp := b.take(s); resp.NextMs != 1 {
			t.Errorf("store %d reports again in %d ms", s, resp.NextMs)
		}
	}
	b.want("the third has not said yet that it has heard")
	for s := uint64(1); s <= 3; s++ {
		b.take(s)
	}
	b.want("all have heard", nil)
}

// TestAwaitMapOutlastsTrust: a silent store is waited for until it has stopped going by the functions that it last heard of.
func TestAwaitMapOutlastsTrust(t *testing.T) {
	b := newDropBench(t)
	trust := time.Duration(b.take(3).FunctionsMs) * time.Millisecond
	if trust <= 0 {
		t.Fatal("no bound on how long a store may go by what it has heard")
	}
	b.await()
	step := func(d time.Duration) {
		b.now += d
		for s := uint64(1); s <= 2; s++ {
			b.take(s)
			b.take(s)
		}
		b.Tick()
	}
	step(trust)
	b.want("the third store may still go by what it heard")
	step(b.core.o.SuspectAfter - trust)
	b.want("it does not any more", nil)
}

// TestAwaitMapAndTheOffice: whoever waits hears that the office has ended, and the next driver has all stores told anew.
func TestAwaitMapAndTheOffice(t *testing.T) {
	b := newDropBench(t)
	b.await()
	b.Stop()
	if len(b.done) != 1 || api.CodeOf(b.done[0]) != api.CodeNotDriver {
		t.Fatalf("answers %v", b.done)
	}
	before, err := b.Office()
	if api.CodeOf(err) != api.CodeNotDriver {
		t.Fatalf("an office that has ended: %v, %v", before, err)
	}
	next := &dropBench{bench: started(t, b.rec), clock: b.clock}
	next.has = b.has
	next.await()
	next.want("nobody has heard")
	for range 2 {
		for s := uint64(1); s <= 3; s++ {
			next.take(s)
		}
	}
	next.want("all have heard", nil)
}

// TestOldDriversAreNoNews: who has heard of an office goes by none before it, also while the new driver has no whole map to give; and a
// driver that meets somebody who has heard of a later office ends its own.
func TestOldDriversAreNoNews(t *testing.T) {
	old := newDropBench(t)
	old.take(3)
	next := &dropBench{bench: started(t, old.rec), clock: old.clock}
	next.has = old.has
	before := old.has[3]
	resp := next.take(3) // the range's leader has not reported yet
	if resp.MapVersion <= before || len(resp.Nodes)+len(resp.Keyspaces)+len(resp.Routes) != 0 {
		t.Fatalf("the map of an office that knows no ranges: %v", resp)
	}
	again := next.take(3)
	if again.MapVersion != resp.MapVersion || again.NextMs == 1 {
		t.Fatalf("the same again: %v", again)
	}
	if next.take(1); next.take(3).MapVersion <= resp.MapVersion {
		t.Fatal("the whole map is no news")
	}

	_, err := old.Heartbeat(&locuspb.HeartbeatRequest{
		Node: &locuspb.NodeInfo{StoreId: 3, NodeId: "n3", Address: "a3"}, Clock: old.clock + 10, MapVersion: resp.MapVersion,
	})
	if api.CodeOf(err) != api.CodeNotDriver {
		t.Fatalf("a store that has heard of a later office got %v", err)
	}
	if old.Serving() {
		t.Fatal("a driver that has been replaced goes on")
	}
	next.take(3)
	if !next.Serving() {
		t.Fatal("its successor does not")
	}
}
