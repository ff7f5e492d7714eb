//go:build wasip1

package bare

import (
	"encoding/binary"
	"errors"
	"unsafe"

	"github.com/locuskv/locus/udf/internal/shape"
)

// What the host calls: docs/abi.md. Buffers that the host reads or writes are kept in package variables,
// so that the collector leaves them where they are until the host is done with them.
var (
	input  []byte // the buffer that the host asked for, and fills before an entry
	output []byte // the result that the host reads after an entry
	fold   Fold   // of the run under way, if it is a range function's

	mapBatch MapFunc // of the run under way, if it is a map function's
	outputs  []byte  // of one batch
)

// minInput is what the first buffer for the host holds, so that it seldom grows.
const minInput = 4 << 10

//go:wasmexport locus_abi_version
func abiVersion() int32 { return 1 }

//go:wasmexport locus_describe
func describe() int64 { return give(Manifest()) }

//go:wasmexport locus_alloc
func alloc(n int32) unsafe.Pointer {
	if n < 0 {
		return nil
	}
	if int(n) > cap(input) {
		input = make([]byte, max(int(n), 2*cap(input), minInput))
	}
	return unsafe.Pointer(unsafe.SliceData(input[:cap(input)]))
}

//go:wasmexport locus_call
func callEntry(index, ptr, n int32) int64 {
	f := entry(index)
	if f == nil || f.call == nil {
		fail(&shape.Error{Message: "the module has no such call function"})
		return 0
	}
	result, err := f.call(&Tx{host: wasmHost{}}, take(ptr, n))
	return finish(result, err)
}

//go:wasmexport locus_range_init
func rangeInit(index, ptr, n int32) {
	fold, mapBatch = nil, nil
	f := entry(index)
	if f == nil || f.begin == nil && f.beginMap == nil {
		fail(&shape.Error{Message: "the module has no such range or map function"})
		return
	}
	var err error
	arg := append([]byte(nil), take(ptr, n)...) // the run may keep it
	if f.begin != nil {
		fold, err = f.begin(arg)
	} else {
		mapBatch, err = f.beginMap(arg)
	}
	if err != nil {
		fail(err)
	}
}

//go:wasmexport locus_range_add
func rangeAdd(ptr, n int32) { check(func(f Fold) error { return f.Add(take(ptr, n)) }) }

//go:wasmexport locus_range_merge
func rangeMerge(ptr, n int32) { check(func(f Fold) error { return f.Merge(take(ptr, n)) }) }

//go:wasmexport locus_range_encode
func rangeEncode() int64 { return produce(Fold.Encode) }

//go:wasmexport locus_range_result
func rangeResult() int64 { return produce(Fold.Result) }

//go:wasmexport locus_map
func mapEntry(ptr, n int32) int64 {
	if mapBatch == nil {
		return finish(nil, errNoRun)
	}
	outputs = outputs[:0]
	err := mapBatch(take(ptr, n), func(b []byte) {
		outputs = binary.LittleEndian.AppendUint32(outputs, uint32(len(b)))
		outputs = append(outputs, b...)
	})
	return finish(outputs, err)
}

func entry(index int32) *function {
	if index < 0 || int(index) >= len(functions) {
		return nil
	}
	return &functions[index]
}

// take is the host's input. The host wrote it to the buffer it got from alloc, and nowhere else.
func take(_, n int32) []byte { return input[:n:n] }

func give(b []byte) int64 {
	output = b
	return int64(uintptr(unsafe.Pointer(unsafe.SliceData(b))))<<32 | int64(len(b))
}

func finish(b []byte, err error) int64 {
	if err != nil {
		fail(err)
		return 0
	}
	return give(b)
}

var errNoRun = errors.New("no run is under way")

func check(f func(Fold) error) {
	err := errNoRun
	if fold != nil {
		err = f(fold)
	}
	if err != nil {
		fail(err)
	}
}

func produce(f func(Fold) ([]byte, error)) int64 {
	if fold == nil {
		return finish(nil, errNoRun)
	}
	return finish(f(fold))
}

// fail tells the host that the entry failed.
func fail(err error) {
	code := int64(0)
	var own *shape.Error
	if errors.As(err, &own) {
		code = int64(own.Code)
	}
	msg := err.Error()
	hostError(code, unsafe.Pointer(unsafe.StringData(msg)), int32(len(msg)))
}
