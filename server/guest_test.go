package server

import (
	"encoding/binary"
	"slices"
)

// versionGuest is a module whose every output is the one byte v, so that a result shows which versions made it: vcall returns
// it, vread does on a key, vrange returns it once for each batch, and vmap emits it once for each batch.
func versionGuest(v byte) []byte {
	const (
		manifestAt, outputAt, accumulatorAt, bufferAt = 16, 1024, 4096, 0x10000
		manifest                                      = "locus 1\nfunction vcall pure raw\nfunction vread read-only raw\nfunction vrange range raw\nfunction vmap map raw\n"
		i, l                                          = 0x7f, 0x7e
	)
	i32 := func(n int64) []byte { return append([]byte{0x41}, sleb(n)...) }
	at := func(ptr, n int64) []byte { return append([]byte{0x42}, sleb(ptr<<32|n)...) }
	code := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	get := func(local byte) []byte { return []byte{0x20, local} }
	load, store, store8, add := []byte{0x28, 2, 0}, []byte{0x36, 2, 0}, []byte{0x3a, 0, 0}, []byte{0x6a}
	// The accumulator's length is the number at address 0.
	length := code(i32(0), load)
	end := code(i32(accumulatorAt), length, add)
	grow := func(by []byte) []byte { return code(i32(0), length, by, add, store) }
	accumulator := code(at(accumulatorAt, 0), length, []byte{0xad, 0x84}) // i64.extend_i32_u, i64.or
	funcs := []struct {
		name            string
		params, results []byte
		body            []byte
	}{
		{"locus_abi_version", nil, []byte{i}, i32(1)},
		{"locus_describe", nil, []byte{l}, at(manifestAt, int64(len(manifest)))},
		{"locus_alloc", []byte{i}, []byte{i}, i32(bufferAt)},
		{"locus_call", []byte{i, i, i}, []byte{l}, code(i32(outputAt), i32(int64(v)), store8, at(outputAt, 1))},
		{"locus_range_init", []byte{i, i, i}, nil, code(i32(0), i32(0), store)},
		{"locus_range_add", []byte{i, i}, nil, code(end, i32(int64(v)), store8, grow(i32(1)))},
		{"locus_range_merge", []byte{i, i}, nil, code(end, get(0), get(1), []byte{0xfc, 10, 0, 0}, grow(get(1)))},
		{"locus_range_encode", nil, []byte{l}, accumulator},
		{"locus_range_result", nil, []byte{l}, accumulator},
		{"locus_map", []byte{i, i}, []byte{l}, code(i32(outputAt), i32(1), store, i32(outputAt+4), i32(int64(v)), store8, at(outputAt, 5))},
	}
	counted := func(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }
	sized := func(b []byte) []byte { return append(counted(len(b)), b...) }
	types, indices, exports, codes := counted(len(funcs)), counted(len(funcs)), counted(len(funcs)+1), counted(len(funcs))
	for n, f := range funcs {
		types = append(append(append(types, 0x60), sized(f.params)...), sized(f.results)...)
		indices = append(indices, byte(n))
		exports = append(append(exports, sized([]byte(f.name))...), 0, byte(n))
		codes = append(codes, sized(append(append([]byte{0}, f.body...), 0x0b))...)
	}
	exports = append(append(exports, sized([]byte("memory"))...), 2, 0)
	data := code([]byte{1, 0}, i32(manifestAt), []byte{0x0b}, sized([]byte(manifest)))
	module := []byte("\x00asm\x01\x00\x00\x00")
	for _, s := range []struct {
		id   byte
		body []byte
	}{{1, types}, {3, indices}, {5, []byte{1, 0, 20}}, {7, exports}, {10, codes}, {11, data}} {
		module = append(append(module, s.id), sized(s.body)...)
	}
	return module
}

func sleb(v int64) (b []byte) {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}
