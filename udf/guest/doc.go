// Package guest is the Go SDK for WebAssembly functions. Its types are those of package udf, so that one
// function body builds both into a node and into a guest:
//
//	package main
//
//	import (
//		"context"
//
//		"github.com/locuskv/locus/udf/guest"
//	)
//
//	func init() {
//		guest.Pure("square", func(_ context.Context, x int64) (int64, error) { return x * x, nil })
//	}
//
//	func main() {}
//
// Build it with the standard toolchain, and register the file:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -ldflags="-s -w" -o square.wasm
//	locus fn register square square.wasm
//
// Functions are registered in init functions, because the host never calls main. A module may hold
// several functions; the name they are registered under picks one.
//
// What it guarantees: arguments and results travel as JSON, or as they are with the option Raw; an error
// of the function writes nothing and reaches the caller, with its code if Error made it; a panic is an
// error of that call. What it never does: it keeps no state between calls, and gives a function no file,
// no network, no environment, and no clock but Info.Timestamp. A call's random numbers come from Tx.Rand.
// Globals of the program live as long as the instance, which serves many calls: don't keep data in them.
//
// On other systems than wasip1 the package compiles too: package guesttest runs the functions in tests.
// Package bare is the same without JSON, for guests that must be small. Guests in other languages:
// docs/abi.md.
package guest
