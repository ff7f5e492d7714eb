package functions

import _ "embed"

//go:embed guests/keyvalue.wasm
var keyValueModule []byte

//go:embed guests/spin.wasm
var spinModule []byte

//go:embed guests/hostile.wasm
var hostileModule []byte
