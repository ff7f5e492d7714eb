//go:build wasip1

package bare

import (
	"encoding/binary"
	"errors"
	"time"
	"unsafe"

	"github.com/locuskv/locus/udf/internal/shape"
)

//go:wasmimport locus get
func hostGet(key unsafe.Pointer, keyLen int32, buf unsafe.Pointer, bufLen int32) int64

//go:wasmimport locus get_many
func hostGetMany(keys unsafe.Pointer, keysLen int32, buf unsafe.Pointer, bufLen int32) int64

//go:wasmimport locus scan_open
func hostScanOpen(start unsafe.Pointer, startLen int32, end unsafe.Pointer, endLen int32) int32

//go:wasmimport locus scan_next
func hostScanNext(scan int32, buf unsafe.Pointer, bufLen int32) int64

//go:wasmimport locus scan_close
func hostScanClose(scan int32)

//go:wasmimport locus put
func hostPut(key unsafe.Pointer, keyLen int32, value unsafe.Pointer, valueLen int32, ttlMillis int64) int32

//go:wasmimport locus delete
func hostDelete(key unsafe.Pointer, keyLen int32) int32

//go:wasmimport locus error
func hostError(code int64, msg unsafe.Pointer, msgLen int32)

//go:wasmimport locus log
func hostLog(msg unsafe.Pointer, msgLen int32)

//go:wasmimport locus timestamp
func hostTimestamp() int64

//go:wasmimport locus call_id
func hostCallID(buf unsafe.Pointer)

//go:wasmimport locus key
func hostKey(buf unsafe.Pointer, bufLen int32) int64

// What the host answers instead of a length.
const (
	answerAbsent = -1
	answerFailed = -2
)

// errHost stands for an error that the host knows better, and ends the call with.
var errHost = errors.New("the host ended the call")

// wasmHost is the Host of a real guest.
type wasmHost struct{}

// scratch receives values and keys; they are copied out of it.
var scratch = make([]byte, 4<<10)

// spare is the buffer of the last scan that was closed: most calls have one scan at a time.
var spare []byte

// scanBuffer holds a batch of the usual 64 KiB and the record that overshot it.
const scanBuffer = 96 << 10

func at(b []byte) (unsafe.Pointer, int32) { return unsafe.Pointer(unsafe.SliceData(b)), int32(len(b)) }

func (wasmHost) Get(key []byte) ([]byte, bool, error) {
	k, kn := at(key)
	return fetch(func(buf unsafe.Pointer, n int32) int64 { return hostGet(k, kn, buf, n) })
}

// maxMany is how many keys the host looks up at once.
const maxMany = 1024

func (wasmHost) GetMany(keys [][]byte) ([][]byte, error) {
	values := make([][]byte, 0, len(keys))
	var packed []byte
	for len(keys) > 0 {
		some := keys[:min(len(keys), maxMany)]
		keys = keys[len(some):]
		packed = packed[:0]
		for _, key := range some {
			packed = binary.LittleEndian.AppendUint32(packed, uint32(len(key)))
			packed = append(packed, key...)
		}
		k, kn := at(packed)
		answer, _, err := fetch(func(buf unsafe.Pointer, n int32) int64 { return hostGetMany(k, kn, buf, n) })
		if err != nil {
			return nil, err
		}
		values = cutValues(values, answer)
	}
	return values, nil
}

// cutValues takes the values of a get_many apart; nil stands for a key that does not exist.
func cutValues(values [][]byte, answer []byte) [][]byte {
	for len(answer) > 0 {
		n := binary.LittleEndian.Uint32(answer)
		answer = answer[4:]
		if n == 1<<32-1 {
			values = append(values, nil)
			continue
		}
		values = append(values, answer[:n:n])
		answer = answer[n:]
	}
	return values
}

// fetch reads into scratch, which it makes larger if the host asks for that, and copies.
func fetch(read func(unsafe.Pointer, int32) int64) ([]byte, bool, error) {
	for {
		n := read(at(scratch))
		switch {
		case n == answerAbsent:
			return nil, false, nil
		case n < 0:
			return nil, false, errHost
		case n > int64(len(scratch)):
			scratch = make([]byte, n)
		default:
			return append(make([]byte, 0, n), scratch[:n]...), true, nil
		}
	}
}

func (wasmHost) OpenScan(span shape.Span) (Cursor, error) {
	s, sn := at(span.Start)
	e, en := at(span.End)
	handle := hostScanOpen(s, sn, e, en)
	if handle < 0 {
		return nil, errHost
	}
	c := &wasmCursor{handle: handle, buf: spare}
	spare = nil
	if c.buf == nil {
		c.buf = make([]byte, scanBuffer)
	}
	return c, nil
}

type wasmCursor struct {
	handle int32
	buf    []byte
}

func (c *wasmCursor) Next() ([]byte, error) {
	for {
		p, size := at(c.buf)
		n := hostScanNext(c.handle, p, size)
		switch {
		case n < 0:
			return nil, errHost
		case n > int64(size):
			c.buf = make([]byte, n)
		default:
			return c.buf[:n], nil
		}
	}
}

func (c *wasmCursor) Close() {
	hostScanClose(c.handle)
	spare, c.buf = c.buf, nil
}

func (wasmHost) Put(key, value []byte, ttl time.Duration) error {
	k, kn := at(key)
	v, vn := at(value)
	// Rounded up: 0 would be never.
	return answer(hostPut(k, kn, v, vn, (ttl + time.Millisecond - 1).Milliseconds()))
}

func (wasmHost) Delete(key []byte) error {
	return answer(hostDelete(at(key)))
}

func answer(code int32) error {
	if code < 0 {
		return errHost
	}
	return nil
}

func (wasmHost) Info() (info shape.Info) {
	hostCallID(unsafe.Pointer(&info.ID))
	info.Timestamp = shape.Timestamp(hostTimestamp())
	info.Key, _, _ = fetch(hostKey)
	return info
}

// Log writes a line to the node's log. Lines are cut at 1 KiB, and a call may write 32 of them.
func Log(msg string) { hostLog(unsafe.Pointer(unsafe.StringData(msg)), int32(len(msg))) }
