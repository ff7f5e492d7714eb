package shape

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"time"
)

// Kind says what a function may touch.
type Kind uint8

// The kinds. Their numbers are part of no format; their names are (String).
const (
	KindPure      Kind = 1 // touches nothing: any node runs it
	KindReadOnly  Kind = 2 // reads one key or group
	KindReadWrite Kind = 3 // reads and writes one key or group, atomically and exactly once
	KindRange     Kind = 4 // visits every record of a span at one timestamp, and makes one result
	KindMap       Kind = 5 // visits every record of a span at one timestamp, and makes a stream of outputs
)

var kindNames = [...]string{KindPure: "pure", KindReadOnly: "read-only", KindReadWrite: "read-write", KindRange: "range", KindMap: "map"}

// String is the kind's name in manifests, listings and errors.
func (k Kind) String() string {
	if k == 0 || int(k) >= len(kindNames) {
		return "unknown"
	}
	return kindNames[k]
}

// ParseKind is the inverse of String.
func ParseKind(s string) (Kind, bool) {
	for k, name := range kindNames {
		if name != "" && name == s {
			return Kind(k), true
		}
	}
	return 0, false
}

// Codec says how the argument and the result of a function become bytes.
type Codec uint8

// The codecs, with their numbers on the wire.
const (
	CodecRaw   Codec = 0 // the bytes themselves
	CodecJSON  Codec = 1
	CodecProto Codec = 2
)

var codecNames = [...]string{CodecRaw: "raw", CodecJSON: "json", CodecProto: "proto"}

// String is the codec's name in manifests, listings and errors.
func (c Codec) String() string {
	if int(c) >= len(codecNames) {
		return "unknown"
	}
	return codecNames[c]
}

// ParseCodec is the inverse of String.
func ParseCodec(s string) (Codec, bool) {
	for c, name := range codecNames {
		if name == s {
			return Codec(c), true
		}
	}
	return 0, false
}

// Timestamp is a hybrid logical time: 48 bits of milliseconds since the Unix epoch, then 16 bits of
// counter. Comparing two as integers compares them as times.
type Timestamp uint64

// Time is the physical part as wall time.
func (t Timestamp) Time() time.Time { return time.UnixMilli(int64(t >> 16)) }

// CallID identifies a call for ever: a retry of the call has the same one.
type CallID [24]byte

// Info is what a function may know about the call it serves.
type Info struct {
	// ID is the call's identity, and what its randomness is seeded with.
	ID CallID
	// Timestamp is the time of a read-write call's writes, or the time that a read-only call reads at. It is
	// the only clock that a function sees.
	Timestamp Timestamp
	// Key is the key, or the group's prefix, that the call names.
	Key []byte
}

// Span is the half-open interval [Start, End) of keys. An empty End is the end of all keys.
type Span struct{ Start, End []byte }

// Batch is a run of records in key order.
type Batch interface {
	// Len counts the records.
	Len() int
	// All yields keys and values. The slices are valid until the loop's body returns: copy what is kept. They are not to be
	// changed: a native function sees what others see, too.
	All() iter.Seq2[[]byte, []byte]
}

// Reader is the data that a read-only call sees. An error of a Reader ends the call with that error,
// whatever the function then returns.
type Reader interface {
	// Get returns a key's value, and whether it exists. The value is the function's own.
	Get(key []byte) (value []byte, found bool, err error)
	// GetMany returns the values of keys in their order; nil for a key that does not exist.
	GetMany(keys [][]byte) ([][]byte, error)
	// Scan yields the records of a span in key order, in batches that are valid until the loop's body returns.
	// An error is the last thing it yields. In a read-write call every batch shows the call's own writes made
	// before that batch was read.
	Scan(Span) iter.Seq2[Batch, error]
	// Call describes the call.
	Call() Info
}

// Tx is what a read-write call sees and changes: its own writes lie on top of what it reads. All of them
// commit together, or none does.
type Tx interface {
	Reader
	Put(key, value []byte) error
	// PutTTL writes a value that ceases to exist ttl after the call's timestamp, rounded up to milliseconds; 0
	// is never.
	PutTTL(key, value []byte, ttl time.Duration) error
	Delete(key []byte) error
	// Rand is a source seeded with the call's ID: a retried call draws the same numbers.
	Rand() *rand.Rand
}

// Aggregate is a range function in parts. Each range of the span is folded into an accumulator of its
// own by Init and Add, where its data lives; the accumulators travel to one node, which merges them and
// makes the result.
//
// Init's value must be neutral, and Merge associative and commutative: how many accumulators there are,
// and the order in which they meet, depends on how the data happens to be split.
type Aggregate[In, Acc, Out any] struct {
	Init   func(In) (Acc, error)
	Add    func(context.Context, Acc, Batch) (Acc, error)
	Merge  func(a, b Acc) (Acc, error)
	Result func(Acc) (Out, error)
}

// Error is a function's own refusal.
type Error struct {
	Code    int
	Message string
}

func (e *Error) Error() string { return e.Message }

// Option changes a function's declaration.
type Option func(*Options)

// Options are what Option values set.
type Options struct {
	Codec Codec
	Capabilities
}

// Check says what is wrong with the options of a function; "" if nothing is. What may be said of a kind is what a
// manifest may say.
func (o Options) Check(name string, kind Kind) string {
	_, err := ParseManifest(string(AppendManifest(nil, []Entry{{Name: name, Kind: kind, Codec: o.Codec, Capabilities: o.Capabilities}})))
	var bad *ManifestError
	if errors.As(err, &bad) {
		return bad.Reason
	}
	return ""
}

// Restrict adds prefixes to a set of keys; without any, the set is empty.
func (a *Access) Restrict(prefixes []string) {
	a.Restricted = true
	a.Prefixes = append(a.Prefixes, prefixes...)
}

// Collect applies options to the defaults.
func Collect(options []Option) Options {
	o := Options{Codec: CodecJSON}
	for _, f := range options {
		f(&o)
	}
	return o
}

// Rand makes the source of a call: ChaCha8 seeded with its ID, followed by eight zero bytes.
func Rand(id CallID) *rand.Rand { return rand.New(RandSource(id)) }

// RandSource is the stream of Rand in bytes.
func RandSource(id CallID) *rand.ChaCha8 {
	var seed [32]byte
	copy(seed[:], id[:])
	return rand.NewChaCha8(seed)
}

// CodeBadArgument is the code with which a guest refuses an argument that it can't read. The host makes
// an invalid-argument error of it.
const CodeBadArgument = -2
