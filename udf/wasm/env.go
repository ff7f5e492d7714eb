package wasm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"unicode"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/udf"
	"github.com/locuskv/locus/udf/internal/shape"
)

// env is what the guest can reach during one call: made new for each, so that nothing of one call is
// left for the next.
type env struct {
	function string
	view     udf.StoreView // nil: the function may not read
	tx       udf.StoreTx   // nil: the function may not write
	info     udf.Info
	log      func(function, line string)
	guard    udf.Guard // through which view and tx are asked
	maxMany  int       // bytes of the answer to one get_many
	// mapping: the entry maps a batch, and may emit.
	mapping bool

	// failed is the first error of the store or of a limit: the call ends with it.
	failed error
	// refusal is the guest's own error.
	refusal *api.FunctionError
	scans   [maxOpenScans]*scan
	outputs outputs
	logged  int
	chacha  *rand.ChaCha8
}

// scan is an open scan: what is left of its span, and the batch that the guest has not taken yet.
type scan struct {
	span    udf.Span
	pending []byte
	next    []byte
	done    bool
}

// bind gives the environment what it has of its function.
func (e *env) bind(f *Function) {
	o := f.runtime.options
	e.function, e.log, e.maxMany = f.name, o.Log, o.MaxResultBytes
	e.outputs = outputs{function: f.name, can: &f.entry.Capabilities}
	e.guard = udf.NewGuard(f.name, &f.entry.Capabilities, e.view, e.tx, uint64(o.MaxReadBytes), uint64(o.MaxWriteBytes))
}

// fail remembers the first error; nil is none.
func (e *env) fail(err error) {
	if e.failed == nil {
		e.failed = err
	}
}

// answer is 0, or that the call has failed.
func (e *env) answer() uint64 {
	if e.failed != nil {
		return failed32()
	}
	return 0
}

func (e *env) deny(what string) {
	e.fail(&api.FunctionError{Function: e.function, Code: udf.CodeCrashed, Message: "it is not of a kind that may " + what})
}

func (e *env) canRead() bool {
	if e.view == nil {
		e.deny("read")
	}
	return e.failed == nil
}

func (e *env) canWrite() bool {
	if e.tx == nil {
		e.deny("write")
	}
	return e.failed == nil
}

// absentLen stands where the length of a value would, for a key that does not exist.
const absentLen = 1<<32 - 1

// getMany looks packed keys up, each its length in 4 bytes and itself, and packs their values the same way. The
// toll is called before each. The
// answer is the host's until the guest has been given a copy: keys may lie where it is going to be.
func (e *env) getMany(keys []byte, toll func()) (values []byte, ok bool) {
	if !e.canRead() {
		return nil, false
	}
	for n := 1; len(keys) > 0; n++ {
		if n > maxGetMany {
			e.fail(&api.LimitError{What: fmt.Sprintf("number of keys in one get_many of function %q", e.function), Limit: maxGetMany, Got: maxGetMany + 1})
			return nil, false
		}
		key, rest, whole := cutLengthPrefixed(keys)
		if !whole {
			e.fail(&api.FunctionError{Function: e.function, Code: udf.CodeCrashed, Message: fmt.Sprintf("key %d that it gave to get_many is cut off", n)})
			return nil, false
		}
		keys = rest
		toll()
		value, found, err := e.guard.Get(key)
		if err != nil {
			e.fail(err)
			return nil, false
		}
		size := uint32(absentLen)
		if found {
			size = uint32(len(value))
		}
		values = append(binary.LittleEndian.AppendUint32(values, size), value...)
		if len(values) > e.maxMany {
			e.fail(&api.LimitError{What: fmt.Sprintf("answer to one get_many of function %q", e.function), Limit: int64(e.maxMany), Got: int64(len(values))})
			return nil, false
		}
	}
	return values, true
}

// emit takes an output of a map function.
func (e *env) emit(output []byte) {
	switch {
	case e.failed != nil:
	case !e.mapping:
		e.deny("emit")
	default:
		e.fail(e.outputs.add(output))
	}
}

func (e *env) openScan(start, end []byte) (handle int, ok bool) {
	if !e.canRead() {
		return 0, false
	}
	span := udf.Span{Start: bytes.Clone(start)}
	if len(end) > 0 {
		span.End = bytes.Clone(end)
	}
	if err := e.guard.CheckSpan(span); err != nil {
		e.fail(err)
		return 0, false
	}
	for i := range e.scans {
		if e.scans[i] == nil {
			e.scans[i] = &scan{span: span}
			return i, true
		}
	}
	e.fail(&api.LimitError{What: fmt.Sprintf("open scans of function %q", e.function), Limit: maxOpenScans, Got: maxOpenScans + 1})
	return 0, false
}

// scanBatch is the next batch of a scan, empty at its end; the same one until advance.
func (e *env) scanBatch(handle uint32) (batch []byte, ok bool) {
	if !e.canRead() {
		return nil, false
	}
	if handle >= maxOpenScans || e.scans[handle] == nil {
		e.fail(&api.FunctionError{Function: e.function, Code: udf.CodeCrashed, Message: fmt.Sprintf("it used scan %d, which is not open", handle)})
		return nil, false
	}
	s := e.scans[handle]
	if s.pending == nil && !s.done {
		b, next, err := udf.ScanStep(&e.guard, s.span)
		if err != nil {
			e.fail(err)
			return nil, false
		}
		s.pending, s.next, s.done = b, next, len(b) == 0
	}
	return s.pending, true
}

// advance goes past the batch that the guest has now.
func (s *scan) advance() {
	if !s.done {
		s.pending, s.span.Start = nil, s.next
	}
}

func (e *env) random() *rand.ChaCha8 {
	if e.chacha == nil {
		e.chacha = shape.RandSource(e.info.ID)
	}
	return e.chacha
}

// printable is guest text for logs and messages: valid UTF-8 without control characters.
func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(string(b), "\uFFFD"))
}
