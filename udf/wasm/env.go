package wasm

import (
	"bytes"
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
	maxWrite int

	// failed is the first error of the store or of a limit: the call ends with it.
	failed error
	// refusal is the guest's own error.
	refusal *api.FunctionError
	scans   [maxOpenScans]*scan
	written int
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

// canWrite counts n bytes.
func (e *env) canWrite(n int) bool {
	if e.tx == nil {
		e.deny("write")
	} else if e.written += n; e.written > e.maxWrite {
		e.fail(&api.LimitError{What: fmt.Sprintf("bytes written by function %q", e.function), Limit: int64(e.maxWrite), Got: int64(e.written)})
	}
	return e.failed == nil
}

func (e *env) openScan(start, end []byte) (handle int, ok bool) {
	if !e.canRead() {
		return 0, false
	}
	for i := range e.scans {
		if e.scans[i] == nil {
			e.scans[i] = &scan{span: udf.Span{Start: bytes.Clone(start), End: bytes.Clone(end)}}
			if len(end) == 0 {
				e.scans[i].span.End = nil
			}
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
		b, next, err := udf.ScanStep(e.view, s.span)
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
