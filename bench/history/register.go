package history

import (
	"fmt"
	"slices"

	"github.com/anishathalye/porcupine"
)

// RegisterModel is a register that begins without a value. A write of unknown outcome that never took
// effect can stand at the end of all, where nobody sees it; so the model needs no choice.
var RegisterModel = porcupine.Model{
	Init: func() any { return Value{} },
	Step: func(state, input, output any) (bool, any) {
		return step(state.(Value), input.(Input), output.(Output))
	},
	DescribeOperation: func(input, output any) string { return Describe(input.(Input), output.(Output)) },
	DescribeState:     func(state any) string { return state.(Value).String() },
}

// step says whether a register may answer so, and what it holds then.
func step(now Value, in Input, out Output) (bool, Value) {
	switch in.Kind {
	case Get:
		return out.Unknown || out.Value == now, now
	case Put:
		return true, in.New
	case Delete:
		return true, Value{}
	case CompareAndSwap:
		holds := now == in.Old
		switch {
		case out.Unknown && !holds:
			return true, now
		case out.Unknown:
			return true, in.New
		case out.Failed:
			return !holds && out.Value == now, now
		default:
			return holds, in.New
		}
	}
	return false, now
}

// Describe is an operation in a line.
func Describe(in Input, out Output) string {
	what := fmt.Sprintf("%s(%s)", in.Kind, in.Key)
	switch in.Kind {
	case Put:
		what = fmt.Sprintf("put(%s, %s)", in.Key, in.New)
	case CompareAndSwap:
		what = fmt.Sprintf("cas(%s, %s -> %s)", in.Key, in.Old, in.New)
	}
	switch {
	case out.Unknown:
		return what + " -> unknown"
	case out.Failed || in.Kind == Get:
		return fmt.Sprintf("%s -> %s @%d", what, out.Value, out.Timestamp)
	default:
		return fmt.Sprintf("%s -> ok @%d", what, out.Timestamp)
	}
}

// LinearizabilityError says that the history of one key is not linearizable, or could not be judged.
type LinearizabilityError struct {
	Key        string
	Operations int
	Result     porcupine.CheckResult
	// Steps that the search for an order took.
	Steps int
	// Visualization is a page that shows the history; empty if none could be written.
	Visualization string
}

func (e *LinearizabilityError) Error() string {
	text := fmt.Sprintf("history: %d operations on %q are not linearizable", e.Operations, e.Key)
	if e.Result == porcupine.Unknown {
		text = fmt.Sprintf("history: %d operations on %q could not be judged in %d steps", e.Operations, e.Key, e.Steps)
	}
	if e.Visualization != "" {
		text += fmt.Sprintf(" (picture: %s)", e.Visualization)
	}
	return text
}

// Limits on the steps of a search, which takes some 100 bytes for each.
const (
	stepLimit = 2_000_000
	// pictureLimit is for the picture, which is of the whole history and shows how far the search came.
	pictureLimit = 100_000
)

// CheckRegisters judges the histories of all keys. Its verdict depends on the histories alone: the search for an order is
// limited by its steps, not by time. picture, which may be empty, is where the picture of a history at fault goes.
// It is quick where no value is written to a key twice.
func CheckRegisters(ops []Operation, picture string) error {
	keys, byKey := split(ops)
	for _, key := range keys {
		if err := checkRegister(key, byKey[key], picture); err != nil {
			return err
		}
	}
	return nil
}

func checkRegister(key string, ops []Operation, picture string) error {
	result, steps := judge(ops, stepLimit)
	if result == porcupine.Ok {
		return nil
	}
	err := &LinearizabilityError{Key: key, Operations: len(ops), Result: result, Steps: steps}
	if picture != "" {
		model, history := plain(ops, &budget{left: pictureLimit})
		_, info := porcupine.CheckOperationsVerbose(model, history, 0)
		if porcupine.VisualizePath(RegisterModel, info, picture) == nil {
			err.Visualization = picture
		}
	}
	return err
}

// judge says whether the history of one key has an order, and how many steps it took to find out.
func judge(ops []Operation, limit int) (porcupine.CheckResult, int) {
	b := &budget{left: limit}
	if !unique(ops) {
		model, history := plain(ops, b)
		return b.verdict(model, history), limit - b.left
	}
	reduced, legal := reduce(ops)
	if !legal {
		return porcupine.Illegal, 0
	}
	model, history := pruned(reduced, b)
	return b.verdict(model, history), limit - b.left
}

// plain is RegisterModel and a history as it is.
func plain(ops []Operation, b *budget) (porcupine.Model, []porcupine.Operation) {
	history := make([]porcupine.Operation, 0, len(ops))
	for _, o := range ops {
		history = append(history, porcupine.Operation{
			ClientId: o.Client, Input: o.Input, Output: o.Output, Call: int64(o.Call), Return: int64(o.Return),
		})
	}
	model := RegisterModel
	model.Step = func(state, input, output any) (bool, any) {
		if !b.take() {
			return false, state
		}
		return RegisterModel.Step(state, input, output)
	}
	return model, history
}

// budget is how many steps a search may still take. A model refuses every step when none is left, so that porcupine
// comes to an end.
type budget struct {
	left  int
	spent bool // a step was asked for when none was left
}

func (b *budget) take() bool {
	if b.left == 0 {
		b.spent = true
		return false
	}
	b.left--
	return true
}

// verdict runs a search whose model takes its steps from b.
func (b *budget) verdict(model porcupine.Model, history []porcupine.Operation) porcupine.CheckResult {
	result := porcupine.CheckOperationsTimeout(model, history, 0)
	if b.spent {
		return porcupine.Unknown
	}
	return result
}

// split sorts operations by key, in their order.
func split(ops []Operation) (keys []string, byKey map[string][]Operation) {
	byKey = make(map[string][]Operation)
	for _, o := range ops {
		if byKey[o.Input.Key] == nil {
			keys = append(keys, o.Input.Key)
		}
		byKey[o.Input.Key] = append(byKey[o.Input.Key], o)
	}
	slices.Sort(keys)
	return keys, byKey
}

// ValueError says that a read showed what nobody wrote, or at another timestamp than its writer was told.
type ValueError struct {
	Read   Operation
	Reason string
}

func (e *ValueError) Error() string {
	return fmt.Sprintf("history: %s: %s", Describe(e.Read.Input, e.Read.Output), e.Reason)
}

// CheckValues judges each read by the write that wrote its value. REQUIRES: no value is written to a key
// twice.
func CheckValues(ops []Operation) error {
	type place struct{ key, data string }
	writes := make(map[place]*Operation)
	for i := range ops {
		o := &ops[i]
		if o.Input.New.Exists {
			writes[place{o.Input.Key, o.Input.New.Data}] = o
		}
	}
	for _, o := range ops {
		if o.Output.Unknown || !o.Output.Value.Exists {
			continue
		}
		w := writes[place{o.Input.Key, o.Output.Value.Data}]
		switch {
		case w == nil:
			return &ValueError{o, "nobody wrote this value"}
		case w.Output.Failed:
			return &ValueError{o, "its writer was told that the write did not happen"}
		case w.wrote() && w.Output.Timestamp != o.Output.Timestamp:
			return &ValueError{o, fmt.Sprintf("its writer was told the timestamp %d", w.Output.Timestamp)}
		case w.Call > o.Return:
			return &ValueError{o, "it was written later"}
		}
	}
	return nil
}
