package history

import (
	"fmt"
	"slices"
	"time"

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
	// Visualization is a page that shows the history; empty if none could be written.
	Visualization string
}

func (e *LinearizabilityError) Error() string {
	return fmt.Sprintf("history: %d operations on %s: linearizable: %s (picture: %s)", e.Operations, e.Key, e.Result, e.Visualization)
}

// CheckRegisters judges the histories of all keys, each within the timeout. picture, which may be empty, is
// where the picture of a history at fault goes.
func CheckRegisters(ops []Operation, timeout time.Duration, picture string) error {
	keys, byKey := split(ops)
	for _, key := range keys {
		if err := checkRegister(key, byKey[key], timeout, picture); err != nil {
			return err
		}
	}
	return nil
}

func checkRegister(key string, ops []Operation, timeout time.Duration, picture string) error {
	history := make([]porcupine.Operation, 0, len(ops))
	for _, o := range ops {
		history = append(history, porcupine.Operation{
			ClientId: o.Client, Input: o.Input, Output: o.Output, Call: int64(o.Call), Return: int64(o.Return),
		})
	}
	result, info := porcupine.CheckOperationsVerbose(RegisterModel, history, timeout)
	if result == porcupine.Ok {
		return nil
	}
	err := &LinearizabilityError{Key: key, Operations: len(ops), Result: result}
	if picture != "" && porcupine.VisualizePath(RegisterModel, info, picture) == nil {
		err.Visualization = picture
	}
	return err
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
