// Package bare is the thin end of the Go SDK for WebAssembly guests: functions from bytes to bytes, and
// accumulators that encode themselves. Package udf/guest builds typed functions on it and is what most
// guests use; bare is for guests that must be small and fast, because it brings no encoding/json, no fmt
// and no reflection (about 1.8 MB instead of 3.2 MB, and half the time to compile).
//
// A guest registers its functions in an init function, because the host never calls main:
//
//	func init() {
//		bare.HandleRange("count", bare.CodecRaw, func([]byte) (bare.Fold, error) { return new(count), nil })
//	}
//
//	func main() {}
//
// and is built with
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o count.wasm
//
// On other systems the package compiles too, without its exports: Invoke and Begin run functions against
// any Host, which is what tests do (package guesttest).
//
// A guest runs on one goroutine. It must not start others that outlive a call: they don't run between
// calls. A panic ends the call with an error and the instance with it.
//
// Start with Handle and HandleRange; docs/abi.md is what export_wasip1.go implements.
package bare
