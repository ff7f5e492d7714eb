package bare

import (
	"github.com/locuskv/locus/udf/internal/shape"
)

// Kind says what a function may touch.
type Kind = shape.Kind

// Codec says what a function's argument and result are, for the host to check and for people to read.
type Codec = shape.Codec

// Option changes a function's declaration; package guest has those that there are (guest.Reads, guest.MaxResult, ...).
type Option = shape.Option

// The kinds that Handle takes.
const (
	KindPure      = shape.KindPure
	KindReadOnly  = shape.KindReadOnly
	KindReadWrite = shape.KindReadWrite
)

// The codecs.
const (
	CodecRaw   = shape.CodecRaw
	CodecJSON  = shape.CodecJSON
	CodecProto = shape.CodecProto
)

// CodeBadArgument is the code of the error for an argument that can't be read: the caller gets an invalid-argument
// error.
const CodeBadArgument = shape.CodeBadArgument

// CallFunc serves a call. The argument is valid until it returns; the result until the next call.
type CallFunc func(tx *Tx, arg []byte) (result []byte, err error)

// BeginFunc makes the neutral accumulator of a run.
type BeginFunc func(arg []byte) (Fold, error)

// Fold is an accumulator of a range function.
type Fold interface {
	// Add folds a packed batch in. The batch is valid until Add returns.
	Add(batch []byte) error
	// Merge folds in what the Encode of another accumulator of the run returned.
	Merge(encoded []byte) error
	Encode() ([]byte, error)
	Result() ([]byte, error)
}

// BeginMapFunc reads the argument of a map function, and returns what maps batches.
type BeginMapFunc func(arg []byte) (MapFunc, error)

// MapFunc maps a packed batch, which is valid until it returns; emit keeps nothing.
type MapFunc func(batch []byte, emit func(output []byte)) error

// Error is a refusal with a code; any other error has code 0.
func Error(code int, msg string) error { return &shape.Error{Code: code, Message: msg} }

// function is one registered function: one of call, begin and beginMap is set.
type function struct {
	shape.Entry
	call     CallFunc
	begin    BeginFunc
	beginMap BeginMapFunc
}

// functions is the module's table, in the order of registration: filled by init functions, read
// afterwards. A guest has one goroutine, so nothing guards it.
var functions []function

// Handle registers a function that serves calls. A name that is bad or taken panics, which the host
// reports when the module is registered.
func Handle(name string, kind Kind, codec Codec, f CallFunc, options ...Option) {
	if kind >= shape.KindRange {
		panic("locus guest: range functions are registered with HandleRange, map functions with HandleMap")
	}
	register(function{Entry: entryOf(name, kind, codec, options), call: f})
}

// HandleRange registers a range function, as Handle does.
func HandleRange(name string, codec Codec, begin BeginFunc, options ...Option) {
	register(function{Entry: entryOf(name, shape.KindRange, codec, options), begin: begin})
}

// HandleMap registers a map function, as Handle does.
func HandleMap(name string, codec Codec, begin BeginMapFunc, options ...Option) {
	register(function{Entry: entryOf(name, shape.KindMap, codec, options), beginMap: begin})
}

// entryOf is a function's entry in the manifest. The codec is an argument here; an option about it changes nothing.
func entryOf(name string, kind Kind, codec Codec, options []Option) shape.Entry {
	return shape.Entry{Name: name, Kind: kind, Codec: codec, Capabilities: shape.Collect(options).Capabilities}
}

func register(f function) {
	if reason := shape.CheckName(f.Name); reason != "" {
		panic("locus guest: the function name \"" + f.Name + "\" " + reason)
	}
	if lookup(f.Name) != nil {
		panic("locus guest: two functions are named " + f.Name)
	}
	functions = append(functions, f)
}

func lookup(name string) *function {
	for i := range functions {
		if functions[i].Name == name {
			return &functions[i]
		}
	}
	return nil
}

// Manifest is the manifest of the registered functions.
func Manifest() []byte {
	entries := make([]shape.Entry, len(functions))
	for i, f := range functions {
		entries[i] = f.Entry
	}
	return shape.AppendManifest(nil, entries)
}

// Invoke runs a registered call function against a host: what an exported entry does, for tests.
func Invoke(name string, h Host, arg []byte) ([]byte, error) {
	f := lookup(name)
	if f == nil || f.call == nil {
		return nil, &shape.Error{Message: "no call function is named " + name}
	}
	tx := &Tx{host: h}
	result, err := f.call(tx, arg)
	if tx.failed != nil {
		return nil, tx.failed
	}
	return result, err
}

// Begin starts a run of a registered range function, for tests.
func Begin(name string, arg []byte) (Fold, error) {
	f := lookup(name)
	if f == nil || f.begin == nil {
		return nil, &shape.Error{Message: "no range function is named " + name}
	}
	return f.begin(arg)
}

// BeginMap starts a run of a registered map function, for tests.
func BeginMap(name string, arg []byte) (MapFunc, error) {
	f := lookup(name)
	if f == nil || f.beginMap == nil {
		return nil, &shape.Error{Message: "no map function is named " + name}
	}
	return f.beginMap(arg)
}
