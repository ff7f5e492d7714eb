package guest

import (
	"context"

	"github.com/locuskv/locus/udf/guest/bare"
	"github.com/locuskv/locus/udf/internal/coder"
	"github.com/locuskv/locus/udf/internal/shape"
)

// The types that guests and native functions share.
type (
	// Reader is the data that a read-only call sees.
	Reader = shape.Reader
	// Tx is what a read-write call sees and changes.
	Tx = shape.Tx
	// Batch is a run of records in key order.
	Batch = shape.Batch
	// Span is the half-open interval [Start, End) of keys; an empty End is the end of all keys.
	Span = shape.Span
	// Info describes a call to the function that serves it.
	Info = shape.Info
	// CallID identifies a call for ever.
	CallID = shape.CallID
	// Timestamp is a hybrid logical time.
	Timestamp = shape.Timestamp
	// Option changes a function's declaration.
	Option = shape.Option
)

// Aggregate is a range function in parts: see the fields.
type Aggregate[In, Acc, Out any] = shape.Aggregate[In, Acc, Out]

// JSON is the default: arguments and results travel as encoding/json writes them.
func JSON() Option { return func(o *shape.Options) { o.Codec = shape.CodecJSON } }

// Raw passes bytes through: argument and result are []byte, string, or implement
// encoding.BinaryMarshaler and encoding.BinaryUnmarshaler.
func Raw() Option { return func(o *shape.Options) { o.Codec = shape.CodecRaw } }

// Reads restricts a function to keys that begin with one of the prefixes; without any, it may read nothing. For a
// range or map function these are the records that it may be run over. Whatever else it asks for fails the call.
func Reads(prefixes ...string) Option { return func(o *shape.Options) { o.Reads.Restrict(prefixes) } }

// Writes restricts what a function may put and delete to keys that begin with one of the prefixes; without any, it
// may write nothing.
func Writes(prefixes ...string) Option { return func(o *shape.Options) { o.Writes.Restrict(prefixes) } }

// MaxFuel limits what an entry into the function may use, in the unit in which fuel is told; the node's limit stays.
func MaxFuel(fuel uint64) Option { return func(o *shape.Options) { o.Limits.Fuel = fuel } }

// MaxMemory limits the memory of an instance, in bytes. A guest in Go needs about 4 MiB.
func MaxMemory(bytes uint64) Option { return func(o *shape.Options) { o.Limits.Memory = bytes } }

// MaxResult limits a result, an encoded accumulator, or each output of a map function, in bytes.
func MaxResult(bytes uint64) Option { return func(o *shape.Options) { o.Limits.Result = bytes } }

// MaxReads limits the keys and values that a call reads, in bytes.
func MaxReads(bytes uint64) Option { return func(o *shape.Options) { o.Limits.Reads = bytes } }

// MaxWrites limits the keys and values that a call writes, in bytes.
func MaxWrites(bytes uint64) Option { return func(o *shape.Options) { o.Limits.Writes = bytes } }

// Commutative says that calls of a read-write function on one key come to the same in any order.
func Commutative() Option { return func(o *shape.Options) { o.Commutative = true } }

// PrefixSpan is the span of the keys that begin with prefix.
func PrefixSpan(prefix []byte) Span { return shape.PrefixSpan(prefix) }

// Error aborts the call that returns it: the call writes nothing, and its caller gets code and message.
// Codes are the function's own; by convention above 0.
func Error(code int, msg string) error { return bare.Error(code, msg) }

// Log writes a line to the node's log. Lines are cut at 1 KiB, and a call may write 32 of them.
func Log(msg string) { bare.Log(msg) }

// Pure registers a function that touches no data.
func Pure[In, Out any](name string, f func(context.Context, In) (Out, error), options ...Option) {
	handle(name, shape.KindPure, options, func(_ *bare.Tx, in In) (Out, error) { return f(context.Background(), in) })
}

// ReadOnly registers a function that reads one key or group.
func ReadOnly[In, Out any](name string, f func(context.Context, Reader, In) (Out, error), options ...Option) {
	handle(name, shape.KindReadOnly, options, func(tx *bare.Tx, in In) (Out, error) { return f(context.Background(), tx, in) })
}

// ReadWrite registers a function that reads and writes one key or group, atomically and exactly once.
func ReadWrite[In, Out any](name string, f func(context.Context, Tx, In) (Out, error), options ...Option) {
	handle(name, shape.KindReadWrite, options, func(tx *bare.Tx, in In) (Out, error) { return f(context.Background(), tx, in) })
}

func handle[In, Out any](name string, kind shape.Kind, options []Option, f func(*bare.Tx, In) (Out, error)) {
	codec := shape.Collect(options).Codec
	in, out := coderOf[In](name, codec), coderOf[Out](name, codec)
	bare.Handle(name, kind, codec, func(tx *bare.Tx, arg []byte) ([]byte, error) {
		v, err := decodeArgument(name, in, arg)
		if err != nil {
			return nil, err
		}
		r, err := f(tx, v)
		if err != nil {
			return nil, err
		}
		return out.Encode(r)
	}, options...)
}

// Range registers a function over the records of a span. Accumulators travel by their MarshalBinary and
// UnmarshalBinary if Acc has them, as they are if Acc is []byte, and as JSON otherwise.
func Range[In, Acc, Out any](name string, a Aggregate[In, Acc, Out], options ...Option) {
	if a.Init == nil || a.Add == nil || a.Merge == nil || a.Result == nil {
		panic("locus guest: function " + name + ": Init, Add, Merge and Result must all be set")
	}
	codec := shape.Collect(options).Codec
	in, out, acc := coderOf[In](name, codec), coderOf[Out](name, codec), coder.Accumulator[Acc]()
	bare.HandleRange(name, codec, func(arg []byte) (bare.Fold, error) {
		v, err := decodeArgument(name, in, arg)
		if err != nil {
			return nil, err
		}
		first, err := a.Init(v)
		return &fold[In, Acc, Out]{a: a, acc: first, code: acc, out: out}, err
	}, options...)
}

// fold is one accumulator at work.
type fold[In, Acc, Out any] struct {
	a    Aggregate[In, Acc, Out]
	acc  Acc
	code coder.Coder[Acc]
	out  coder.Coder[Out]
	// used: acc holds more than Init's value, and must not be replaced.
	used bool
}

func (f *fold[In, Acc, Out]) Add(batch []byte) (err error) {
	f.used = true
	f.acc, err = f.a.Add(context.Background(), f.acc, bare.Batch(batch))
	return err
}

func (f *fold[In, Acc, Out]) Merge(encoded []byte) error {
	// Clone: a decoded accumulator may be made of the bytes it was decoded from, which are the host's.
	acc, err := f.code.Decode(append([]byte(nil), encoded...))
	if err != nil {
		return err
	}
	if f.used {
		if acc, err = f.a.Merge(f.acc, acc); err != nil {
			return err
		}
	}
	f.acc, f.used = acc, true
	return nil
}

func (f *fold[In, Acc, Out]) Encode() ([]byte, error) { return f.code.Encode(f.acc) }

func (f *fold[In, Acc, Out]) Result() ([]byte, error) {
	out, err := f.a.Result(f.acc)
	if err != nil {
		return nil, err
	}
	return f.out.Encode(out)
}

// Map registers a function that makes outputs of the records of a span, any number of each batch. f returns
// the error of emit, if there is one; emit keeps nothing of its argument. How the records are cut into
// batches depends on how the data happens to lie, so no output may depend on it. The outputs of one batch
// are limited to 4 MiB in all.
func Map[In, Out any](name string, f func(ctx context.Context, in In, b Batch, emit func(Out) error) error, options ...Option) {
	codec := shape.Collect(options).Codec
	in, out := coderOf[In](name, codec), coderOf[Out](name, codec)
	bare.HandleMap(name, codec, func(arg []byte) (bare.MapFunc, error) {
		v, err := decodeArgument(name, in, arg)
		if err != nil {
			return nil, err
		}
		return func(batch []byte, emit func([]byte)) error {
			return f(context.Background(), v, bare.Batch(batch), func(o Out) error {
				encoded, err := out.Encode(o)
				if err == nil {
					emit(encoded)
				}
				return err
			})
		}, nil
	}, options...)
}
