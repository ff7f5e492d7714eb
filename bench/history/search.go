package history

import (
	"cmp"
	"slices"

	"github.com/anishathalye/porcupine"
)

// A search is the model by which porcupine looks for an order of a reduced history: RegisterModel, which refuses besides
// what cannot lead to the end, so that a wrong turn is noticed at once:
//
//   - A value with readers yet to come is not overwritten: it never returns, since a value stands for one write.
//   - Deletes of unknown outcome take effect in the order of their calls. Each may be late, so where several have
//     been called it makes no difference which of them it was.
//   - Such a delete takes effect only where somebody finds nothing before the next write; where nobody does, the order is
//     one without it too, and it can stand at the end of all.
//
// All of the state but the value follows from which operations were put in order, so there are no more states than before.
type search struct {
	readers map[Value]int // of each value
	sure    int           // operations that are no deletes of unknown outcome
	budget  *budget
}

// place is a state of the search.
type place struct {
	value   Value
	readers int  // of the value, yet to come
	owed    bool // a delete of unknown outcome took effect, and nobody found nothing yet
	deletes int  // of unknown outcome, so far
	sure    int  // all others, so far
}

// asked is an input of the search.
type asked struct {
	Input
	turn int // of a delete of unknown outcome
}

// pruned is the model of a search and its history.
func pruned(ops []Operation, b *budget) (porcupine.Model, []porcupine.Operation) {
	s := &search{readers: make(map[Value]int), budget: b}
	ops = slices.Clone(ops)
	slices.SortStableFunc(ops, func(a, b Operation) int { return cmp.Compare(a.Call, b.Call) })
	turns := 0
	all := make([]porcupine.Operation, 0, len(ops))
	for i := range ops {
		o := &ops[i]
		in := asked{Input: o.Input}
		if o.Output.Unknown {
			in.turn = turns
			turns++
		} else if v, ok := o.saw(); ok {
			s.readers[v]++
		}
		all = append(all, porcupine.Operation{ClientId: o.Client, Input: in, Output: o.Output, Call: int64(o.Call), Return: int64(o.Return)})
	}
	s.sure = len(ops) - turns
	delete(s.readers, Value{}) // which comes back
	return porcupine.Model{
		Init: func() any { return place{} },
		Step: func(state, in, out any) (bool, any) { return s.step(state.(place), in.(asked), out.(Output)) },
	}, all
}

func (s *search) step(now place, in asked, out Output) (bool, place) {
	if !s.budget.take() {
		return false, now
	}
	if out.Unknown {
		return s.maybeDelete(now, in.turn)
	}
	ok, value := step(now.value, in.Input, out)
	if !ok {
		return false, now
	}
	now.sure++
	o := Operation{Input: in.Input, Output: out}
	if v, saw := o.saw(); saw && v.Exists {
		now.readers--
	} else if saw {
		now.owed = false
	}
	if o.wrote() {
		if now.readers > 0 || now.owed {
			return false, now
		}
		now.value, now.readers = value, s.readers[value]
	}
	return true, now
}

func (s *search) maybeDelete(now place, turn int) (bool, place) {
	end := now.sure == s.sure
	if turn != now.deletes || !end && (!now.value.Exists || now.readers > 0) {
		return false, now
	}
	now.deletes++
	now.value, now.readers, now.owed = Value{}, 0, true
	return true, now
}
