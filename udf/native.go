package udf

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/udf/internal/coder"
	"github.com/locuskv/locus/udf/internal/shape"
)

// Codes of an *api.FunctionError that a function did not choose itself.
const (
	// CodeUnnamed: the function returned an error that was not made by Error.
	CodeUnnamed = 0
	// CodeCrashed: the function panicked or trapped.
	CodeCrashed = -1
	// CodeBadArgument is how a guest says that it can't read its argument; callers get an
	// *api.InvalidArgumentError instead.
	CodeBadArgument = shape.CodeBadArgument
)

// native is a function compiled into the node.
type native struct {
	name  string
	kind  Kind
	codec Codec
	can   Capabilities
	// problem is what NewRegistry refuses the function for.
	problem error
	// One of them is set, by the kind: call, begin for range functions, mapping for map functions.
	call    func(ctx context.Context, tx *storeTx, arg []byte) ([]byte, error)
	begin   beginFold
	mapping BeginMap
}

func declare(name string, kind Kind, options []Option) *native {
	o := shape.Collect(options)
	n := &native{name: name, kind: kind, codec: o.Codec, can: o.Capabilities}
	if reason := shape.CheckName(name); reason != "" {
		n.problem = fmt.Errorf("udf: the function name %q %s", name, reason)
	} else if reason := o.Check(name, kind); reason != "" {
		n.problem = fmt.Errorf("udf: function %q: %s", name, reason)
	}
	return n
}

// native makes *native a Function.
func (n *native) native() *native { return n }

func (n *native) Name() string { return n.name }
func (n *native) Kind() Kind   { return n.kind }
func (n *native) Codec() Codec { return n.codec }

// Capabilities are what the function was declared with.
func (n *native) Capabilities() Capabilities { return n.can }

// refuse remembers the first thing that is wrong with the declaration.
func (n *native) refuse(what string, err error) {
	if err != nil && n.problem == nil {
		n.problem = fmt.Errorf("udf: function %q: %s: %w", n.name, what, err)
	}
}

// call makes the bytes-to-bytes form of a function.
func call[In, Out any](n *native, f func(context.Context, *storeTx, In) (Out, error)) func(context.Context, *storeTx, []byte) ([]byte, error) {
	in, err := coderOf[In](n.codec)
	n.refuse("argument", err)
	out, err := coderOf[Out](n.codec)
	n.refuse("result", err)
	return func(ctx context.Context, tx *storeTx, arg []byte) ([]byte, error) {
		v, err := decodeArgument(n, in, arg)
		if err != nil {
			return nil, err
		}
		r, err := f(ctx, tx, v)
		if err != nil {
			return nil, err
		}
		return out.Encode(r)
	}
}

func decodeArgument[In any](n *native, in coder.Coder[In], arg []byte) (In, error) {
	v, err := in.Decode(arg)
	if err != nil {
		return v, &api.InvalidArgumentError{Reason: fmt.Sprintf("function %q takes a %s argument of type %s: %v", n.name, n.codec, coder.TypeName[In](), err)}
	}
	return v, nil
}

// CallPure runs a pure function.
func (n *native) CallPure(ctx context.Context, codec Codec, arg []byte) (Outcome, error) {
	return n.run(ctx, KindPure, nil, codec, arg)
}

// CallRead runs a pure or read-only function.
func (n *native) CallRead(ctx context.Context, view StoreView, info Info, codec Codec, arg []byte) (Outcome, error) {
	g := NewGuard(n.name, &n.can, view, nil, 0, 0)
	return n.run(ctx, KindReadOnly, &storeTx{view: &g, info: info}, codec, arg)
}

// CallWrite runs a function of any kind but range.
func (n *native) CallWrite(ctx context.Context, tx StoreTx, info Info, codec Codec, arg []byte) (Outcome, error) {
	g := NewGuard(n.name, &n.can, tx, tx, 0, 0)
	return n.run(ctx, KindReadWrite, &storeTx{view: &g, tx: &g, info: info}, codec, arg)
}

func (n *native) run(ctx context.Context, as Kind, tx *storeTx, codec Codec, arg []byte) (Outcome, error) {
	if err := CheckCall(n, as, codec); err != nil {
		return Outcome{}, err
	}
	began := time.Now()
	result, err := protect(n.name, func() ([]byte, error) { return n.call(ctx, tx, arg) })
	if tx != nil && tx.failed != nil {
		return Outcome{}, tx.failed
	}
	if err != nil {
		return Outcome{}, n.failure(ctx, err)
	}
	if err := CheckResult(n.name, "result", &n.can, len(result)); err != nil {
		return Outcome{}, err
	}
	return Outcome{Result: result, Fuel: since(began)}, nil
}

func since(t time.Time) uint64 { return uint64(max(0, time.Since(t))) }

// CheckCall refuses to run a function as something it is not, or with another codec than it was declared
// with. Every Runnable asks it first.
func CheckCall(r Runnable, as Kind, codec Codec) error {
	kind := r.Kind()
	if kind >= KindRange || as >= KindRange || kind > as {
		if kind != as {
			return &api.InvalidArgumentError{Reason: fmt.Sprintf("function %q is %s and can't be run as %s%s", r.Name(), kind, as, instead(kind))}
		}
	}
	if codec != r.Codec() {
		return &api.InvalidArgumentError{Reason: fmt.Sprintf("function %q takes codec %s, not %s", r.Name(), r.Codec(), codec)}
	}
	return nil
}

// instead says how a function of a kind is run.
func instead(kind Kind) string {
	switch kind {
	case KindRange:
		return ": it is run over a span of keys"
	case KindMap:
		return ": its outputs are streamed, over a span of keys"
	case KindPure:
		return ": it is called, with a key or without"
	}
	return ": it is called on a key"
}

// protect runs f and makes an error of its panic.
func protect[T any](name string, f func() (T, error)) (v T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &api.FunctionError{Function: name, Code: CodeCrashed, Message: fmt.Sprintf("panic: %v", p)}
		}
	}()
	return f()
}

// failure is what an error that f returned is for its caller: a cancelled context and what this package
// said itself stay what they are, everything else is the function's own.
func (n *native) failure(ctx context.Context, err error) error {
	var own *shape.Error
	if errors.As(err, &own) {
		return &api.FunctionError{Function: n.name, Code: int64(own.Code), Message: own.Message}
	}
	if isTyped(err) || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return err
	}
	return &api.FunctionError{Function: n.name, Code: CodeUnnamed, Message: err.Error()}
}

// isTyped knows the errors that this package itself returns from a call.
func isTyped(err error) bool {
	var function *api.FunctionError
	var argument *api.InvalidArgumentError
	var limit *api.LimitError
	var internal *api.InternalError
	return errors.As(err, &function) || errors.As(err, &argument) || errors.As(err, &limit) || errors.As(err, &internal)
}
