package udf

import (
	"context"

	"github.com/locuskv/locus/udf/internal/shape"
)

// The types that native functions and guests share.
type (
	// Reader is the data that a read-only call sees.
	Reader = shape.Reader
	// Tx is what a read-write call sees and changes.
	Tx = shape.Tx
	// Batch is a run of records in key order.
	Batch = shape.Batch
	// Span is the half-open interval [Start, End) of user keys; an empty End is the end of all keys.
	Span = shape.Span
	// Info describes a call to the function that serves it.
	Info = shape.Info
	// CallID identifies a call for ever.
	CallID = shape.CallID
	// Timestamp is a hybrid logical time.
	Timestamp = shape.Timestamp
	// Kind says what a function may touch.
	Kind = shape.Kind
	// Codec says how argument and result become bytes.
	Codec = shape.Codec
	// Option changes a function's declaration.
	Option = shape.Option
)

// Aggregate is a range function in parts: see the fields.
type Aggregate[In, Acc, Out any] = shape.Aggregate[In, Acc, Out]

// The kinds of functions.
const (
	KindPure      = shape.KindPure
	KindReadOnly  = shape.KindReadOnly
	KindReadWrite = shape.KindReadWrite
	KindRange     = shape.KindRange
	KindMap       = shape.KindMap
)

// The codecs, with their numbers on the wire.
const (
	CodecRaw   = shape.CodecRaw
	CodecJSON  = shape.CodecJSON
	CodecProto = shape.CodecProto
)

// JSON is the default: arguments and results travel as encoding/json writes them.
func JSON() Option { return func(o *shape.Options) { o.Codec = CodecJSON } }

// Raw passes bytes through: argument and result are []byte, string, or implement
// encoding.BinaryMarshaler and encoding.BinaryUnmarshaler.
func Raw() Option { return func(o *shape.Options) { o.Codec = CodecRaw } }

// Proto passes protobuf messages: argument and result are pointers to generated types.
func Proto() Option { return func(o *shape.Options) { o.Codec = CodecProto } }

// Error aborts the call that returns it: the call writes nothing, and its caller gets code and message as
// an *api.FunctionError. Codes are the function's own; by convention above 0.
func Error(code int, msg string) error { return &shape.Error{Code: code, Message: msg} }

// Function is a native function, made by Pure, ReadOnly, ReadWrite, Range or Map.
type Function interface{ native() *native }

// Pure declares a function that touches no data: any node may run it, any number of times.
func Pure[In, Out any](name string, f func(context.Context, In) (Out, error), options ...Option) Function {
	n := declare(name, KindPure, options)
	n.call = call(n, func(ctx context.Context, _ *storeTx, in In) (Out, error) { return f(ctx, in) })
	return n
}

// ReadOnly declares a function that reads one key or group.
func ReadOnly[In, Out any](name string, f func(context.Context, Reader, In) (Out, error), options ...Option) Function {
	n := declare(name, KindReadOnly, options)
	n.call = call(n, func(ctx context.Context, tx *storeTx, in In) (Out, error) { return f(ctx, tx, in) })
	return n
}

// ReadWrite declares a function that reads and writes one key or group: atomically, exactly once, and in
// one order with every other write there.
func ReadWrite[In, Out any](name string, f func(context.Context, Tx, In) (Out, error), options ...Option) Function {
	n := declare(name, KindReadWrite, options)
	n.call = call(n, func(ctx context.Context, tx *storeTx, in In) (Out, error) { return f(ctx, tx, in) })
	return n
}

// Range declares a function over the records of a span. Accumulators cross nodes by their MarshalBinary
// and UnmarshalBinary if Acc has them, as they are if Acc is []byte, and as JSON otherwise.
func Range[In, Acc, Out any](name string, a Aggregate[In, Acc, Out], options ...Option) Function {
	n := declare(name, KindRange, options)
	n.begin = newAggregate(n, a)
	return n
}

// Map declares a function that makes outputs of the records of a span, any number of each batch, which
// reach the caller as they are made. How the records are cut into batches depends on how the data happens
// to lie, so no output may depend on it. f returns the error of emit, if there is one; emit keeps nothing of
// its argument. The outputs of one batch are limited to MaxOutputBytes in all.
//
//	delayed := udf.Map("delayed", func(_ context.Context, min int, b udf.Batch, emit func(Flight) error) error {
//		for key, value := range b.All() {
//			if f := parse(key, value); f.Delay >= min {
//				if err := emit(f); err != nil {
//					return err
//				}
//			}
//		}
//		return nil
//	})
func Map[In, Out any](name string, f func(ctx context.Context, in In, b Batch, emit func(Out) error) error, options ...Option) Function {
	n := declare(name, KindMap, options)
	n.mapping = newMapping(n, f)
	return n
}

// RangeOf declares a range function whose accumulators read packed batches and their own encodings themselves: begin
// reads a run's argument and makes its neutral accumulator. It is called for each part of a range, and for each merge.
func RangeOf(name string, begin func(arg []byte) (Fold, error), options ...Option) Function {
	n := declare(name, KindRange, options)
	n.begin = begin
	return n
}

// MapOf declares a map function that reads packed batches itself: begin reads a run's argument, and what it returns makes
// outputs of a batch, in the bytes of the function's codec. emit keeps nothing of its argument.
func MapOf(name string, begin BeginMap, options ...Option) Function {
	n := declare(name, KindMap, options)
	n.mapping = begin
	return n
}
