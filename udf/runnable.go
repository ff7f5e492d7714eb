package udf

import (
	"context"
	"time"
)

// Runnable is a function as the server runs it. Calling a method of another kind than the function's is
// an *api.InvalidArgumentError. All methods may be called concurrently.
type Runnable interface {
	Name() string
	Kind() Kind
	Codec() Codec
	Caller
	Aggregator
	Mapper
}

// Caller runs calls. The codec is the caller's; it must be the function's.
type Caller interface {
	// CallPure runs a pure function.
	CallPure(ctx context.Context, codec Codec, arg []byte) (Outcome, error)
	// CallRead runs a pure or read-only function.
	CallRead(ctx context.Context, view StoreView, info Info, codec Codec, arg []byte) (Outcome, error)
	// CallWrite runs a function of any kind but range. On an error the caller must drop what tx holds.
	CallWrite(ctx context.Context, tx StoreTx, info Info, codec Codec, arg []byte) (Outcome, error)
}

// Aggregator runs range functions: on each range an Accumulator, on the gateway Merge as accumulators
// come, and Result at the end.
type Aggregator interface {
	// NewAccumulator begins a run over one range. It may wait for a free instance; close it soon.
	NewAccumulator(ctx context.Context, codec Codec, arg []byte) (Accumulator, error)
	// Merge makes one accumulator of several, without keeping any. It takes a run's argument because no
	// accumulators at all make the one that the argument gives.
	Merge(ctx context.Context, codec Codec, arg []byte, accs [][]byte) (Outcome, error)
	// Result merges the accumulators that are left and makes the run's result.
	Result(ctx context.Context, codec Codec, arg []byte, accs [][]byte) (Outcome, error)
}

// Accumulator folds the batches of one range. It is not for concurrent use.
type Accumulator interface {
	// Add folds a packed batch with user keys in. The batch is read only, and not kept.
	Add(ctx context.Context, batch []byte) error
	// Encode is the accumulator as Merge and Result take it. The bytes are the caller's.
	Encode(ctx context.Context) ([]byte, error)
	// Fuel is what the accumulator has used so far.
	Fuel() uint64
	// Close gives back what the accumulator holds. It may be called twice, and after an error it must be.
	Close()
}

// Mapper runs map functions: on each range a Mapping for each page of outputs.
type Mapper interface {
	// NewMapping begins a page. It may wait for a free instance; close it soon.
	NewMapping(ctx context.Context, codec Codec, arg []byte) (Mapping, error)
}

// Mapping makes outputs of batches. It is not for concurrent use.
type Mapping interface {
	// Map returns the outputs of a packed batch with user keys in, MaxOutputBytes of them at most
	// (*api.LimitError). The batch is read only, and not kept; the outputs are the caller's.
	Map(ctx context.Context, batch []byte) (outputs [][]byte, err error)
	// Fuel is what the mapping has used so far.
	Fuel() uint64
	// Close gives back what the mapping holds. It may be called twice, and after an error it must be.
	Close()
}

// MaxOutputBytes limits what a map function emits for one batch (of up to 64 KiB, or one record that is
// larger). An output counts its bytes and OutputOverhead.
const (
	MaxOutputBytes = 4 << 20
	OutputOverhead = 24
)

// Outcome is what a call brings back.
type Outcome struct {
	Result []byte
	// Fuel is the cost of the call. Of a guest it is the instructions that it ran, with the prices of docs/abi.md for what the host
	// did for it; of a native function the nanoseconds that it ran, the time its reads took included.
	Fuel uint64
}

// StoreView is the data that a call may see, given by the server. Keys are user keys.
type StoreView interface {
	// Get returns a value that the caller may keep.
	Get(key []byte) (value []byte, found bool, err error)
	// Scan calls f with packed batches in key order until f returns false. The batch is valid until f returns
	// and must not be changed.
	Scan(span Span, f func(batch []byte) bool) error
}

// StoreTx is a view that can be written. What is written shows in later reads.
type StoreTx interface {
	StoreView
	// Put writes a value; a ttl of 0 is never. Key and value are not kept after it returns.
	Put(key, value []byte, ttl time.Duration) error
	Delete(key []byte) error
}
