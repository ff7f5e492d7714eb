// Package guests holds compiled guests of its folders, for programs that register them: see README.md.
package guests

import _ "embed"

// Delays is c/delays.c: flights by origin, of values in JSON (the function "delays") or in a fixed layout ("delays-fixed").
//
//go:embed c/delays.wasm
var Delays []byte

// FixedSum is c/fixedsum.c: the sum of one field of values in a fixed layout ("fixedsum").
//
//go:embed c/fixedsum.wasm
var FixedSum []byte
