package wasm

import (
	"context"
	"sync/atomic"
	"time"

	wasm "github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/udf"
	"github.com/locuskv/locus/udf/internal/meter"
)

// bound is what an entry into a guest may use.
type bound struct {
	fuel int64
	time time.Duration
}

// bounds are the node's for an entry of a kind, or the function's own limit on fuel if that is lower.
func (f *Function) bounds(ctx context.Context, as udf.Kind) bound {
	o := &f.runtime.options
	b := bound{o.Fuel, o.CallTimeout}
	switch {
	case udf.IsOptimistic(ctx):
		b = bound{o.OptimisticFuel, o.OptimisticTimeout}
	case as == udf.KindReadWrite:
		b = bound{o.WriteFuel, o.WriteTimeout}
	}
	if own := f.entry.Limits.Fuel; own > 0 && own < uint64(b.fuel) {
		b.fuel = int64(own)
	}
	return b
}

// tank is the fuel of an instance: the globals that package meter added to its module.
type tank struct {
	left, rest, stop wasm.MutableGlobal
	// bound and deadline are those of the entry that runs.
	bound    bound
	deadline time.Time
	// late: the deadline has passed. cancelled: the caller has gone.
	late, cancelled bool
	// gone is cancelled while the guest runs.
	gone atomic.Bool
}

// find looks for the globals of a new instance.
func (t *tank) find(m wasm.Module) {
	global := func(name string) wasm.MutableGlobal { return m.ExportedGlobal(name).(wasm.MutableGlobal) }
	t.left, t.rest, t.stop = global(meter.Left), global(meter.Rest), global(meter.Stop)
}

// fill gives the guest fuel for an entry.
func (t *tank) fill(b bound) {
	t.bound, t.deadline, t.late, t.cancelled = b, time.Now().Add(b.time), false, false
	first := min(b.fuel, meter.Slice)
	t.left.Set(uint64(first))
	t.rest.Set(uint64(b.fuel - first))
}

// remaining is below zero if there was too little. It is what the guest had at its last call, return or trap of its own.
func (t *tank) remaining() int64 { return int64(t.left.Get()) + int64(t.rest.Get()) }

func (t *tank) used() uint64 { return uint64(t.bound.fuel - max(0, t.remaining())) }

// exhausted ends a guest that has used up its bound.
type exhausted struct{}

func (exhausted) Error() string { return "it used up its bound" }

// charge takes fuel for what the host does. It ends the guest, by a panic, if there is not enough.
func (t *tank) charge(n uint64) {
	t.left.Set(t.left.Get() - n)
	if t.remaining() < 0 {
		panic(exhausted{})
	}
}

// await ends the guest, by a panic, if its time is over or its caller has gone.
func (t *tank) await() {
	t.late = time.Now().After(t.deadline)
	if t.late || t.gone.Load() {
		panic(exhausted{})
	}
}

// watch lets the end of ctx end the guest, at the end of its slice. unwatch returns when it no longer can.
func (t *tank) watch(ctx context.Context) (unwatch func()) {
	if ctx.Done() == nil {
		return func() {}
	}
	ended := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		t.gone.Store(true)
		// The guest may be running: it only reads the global, and this only writes it.
		t.stop.Set(1)
		close(ended)
	})
	return func() {
		if !cancel() {
			<-ended
			t.stop.Set(0)
			t.gone.Store(false)
			t.cancelled = true
		}
	}
}

// out says whether an entry has used up a bound.
func (t *tank) out(function string) error {
	switch {
	case t.late:
		return &api.FuelError{Function: function, Bound: t.bound.time}
	case t.remaining() < 0:
		return &api.FuelError{Function: function, Limit: uint64(t.bound.fuel)}
	}
	return nil
}

// tolls charge for the functions of WASI, which are wazero's own.
type tolls struct{}

func (tolls) NewFunctionListener(d wasm.FunctionDefinition) experimental.FunctionListener {
	list := -1 // which parameter is the length of a list
	switch d.Name() {
	case "fd_read", "fd_write", "poll_oneoff":
		list = 2
	}
	return experimental.FunctionListenerFunc(func(ctx context.Context, _ wasm.Module, _ wasm.FunctionDefinition, params []uint64, _ experimental.StackIterator) {
		n := uint64(hostFuel)
		if list >= 0 {
			n += itemFuel * uint64(uint32(params[list]))
		}
		ctx.Value(instanceKey{}).(*instance).charge(n)
	})
}
