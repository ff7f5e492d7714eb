package check

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/locuskv/locus/bench/history"
	"github.com/locuskv/locus/client"
)

// Registers come in generations, so that no history gets too long to judge, or to read where it is
// wrong. A value is never written twice, which judges rely on.
const (
	registers       = 12
	opsOfGeneration = registers * 150
)

// actor is who the history says works on registers for a client: another one after each unknown outcome.
type actor struct {
	id   int
	seen map[string]history.Value // what was last seen in a register
}

// work does operations on registers, one after another, until the load stops.
func (w *worker) work(ctx context.Context, _, n int, rng *rand.Rand) {
	if w.actor == nil {
		w.actor = &actor{id: w.load.clock.Client()}
	}
	generation := int(w.load.register.ops.Add(1)-1) / opsOfGeneration
	if g := int64(generation) + 1; g > w.load.register.generations.Load() {
		w.load.register.generations.Store(g)
	}
	if w.actor.seen == nil || len(w.actor.seen) > 4*registers {
		w.actor.seen = make(map[string]history.Value)
	}
	in := history.Input{Key: registerKey(generation, rng.IntN(registers))}
	fresh := history.Of(fmt.Sprintf("%d.%d", w.actor.id, n))
	switch p := rng.IntN(100); {
	case p < 45:
	case p < 70:
		in.Kind, in.New = history.Put, fresh
	case p < 92:
		in.Kind, in.Old, in.New = history.CompareAndSwap, w.actor.seen[in.Key], fresh
	default:
		in.Kind = history.Delete
	}
	w.operate(ctx, in)
}

// operate does one operation on a register and records it.
func (w *worker) operate(ctx context.Context, in history.Input) {
	o := history.Operation{Client: w.actor.id, Input: in, Call: w.load.clock.Now()}
	out, did := w.ask(ctx, in)
	o.Output, o.Return = out, w.load.clock.Now()
	if !did {
		return // it did nothing, and nobody was told anything
	}
	w.load.clock.Add(o)
	if out.Unknown {
		w.actor.id = w.load.clock.Client()
		return
	}
	wrote := in.Kind != history.Get && !out.Failed
	switch {
	case wrote:
		w.actor.seen[in.Key] = in.New
	default:
		w.actor.seen[in.Key] = out.Value
	}
	e := history.Event{Call: o.Call, Return: o.Return, Timestamp: out.Timestamp, Write: wrote, Name: history.Describe(in, out)}
	w.session.add(e)
	w.load.cuts.acknowledged(e)
}

// ask asks the cluster; did is false for an operation that did nothing.
func (w *worker) ask(ctx context.Context, in history.Input) (out history.Output, did bool) {
	var err error
	var ts client.Timestamp
	key := []byte(in.Key)
	switch in.Kind {
	case history.Get:
		return w.get(ctx, in.Key)
	case history.Put:
		ts, err = w.ks.Put(ctx, key, []byte(in.New.Data))
	case history.Delete:
		ts, err = w.ks.Delete(ctx, key)
	case history.CompareAndSwap:
		var old []byte
		if in.Old.Exists {
			old = []byte(in.Old.Data)
		}
		ts, err = w.ks.CompareAndSwap(ctx, key, old, []byte(in.New.Data))
	}
	var condition *client.ConditionError
	if errors.As(err, &condition) {
		v := history.Value{Exists: condition.Exists, Data: string(condition.Current.Value)}
		return history.Output{Failed: true, Value: v, Timestamp: uint64(condition.Current.Timestamp)}, true
	}
	switch w.load.outcomeOf(in.Kind.String(), err) {
	case acknowledged:
		return history.Output{Timestamp: uint64(ts)}, true
	case ambiguous:
		return history.Output{Unknown: true}, true
	default:
		return history.Output{}, false
	}
}

func (w *worker) get(ctx context.Context, key string) (history.Output, bool) {
	item, err := w.ks.Get(ctx, []byte(key))
	switch {
	case errors.Is(err, client.ErrNotFound):
		return history.Output{}, true
	case err != nil:
		w.load.errors.add("register get", err)
		return history.Output{Unknown: true}, true
	}
	return history.Output{Value: history.Of(string(item.Value)), Timestamp: uint64(item.Timestamp)}, true
}

// finalReads reads every register once more: what they hold in the end has to follow from the history.
func (l *Load) finalReads(ctx context.Context) {
	w := l.clients[0]
	for g := range int(l.register.generations.Load()) {
		for i := range registers {
			w.operate(ctx, history.Input{Key: registerKey(g, i)})
		}
	}
}
