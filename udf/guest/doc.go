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
// A project of your own, with a copy of this SDK in it, begins with locus fn new --lang go NAME; locus fn test runs
// what it builds on the records of a file.
//
// Options restrict what a function may touch, and set limits below the node's: Reads and Writes take prefixes of keys,
// and whatever else it asks for fails the call.
//
//	guest.ReadWrite("transfer", transfer, guest.Reads("accounts/"), guest.Writes("accounts/"), guest.MaxResult(64))
//
// A function on a key works on the key that the caller names, and on others of its group (Tx: Get, GetMany,
// Scan, Put, PutTTL, Delete, Rand and Call, which says what the key and the time are):
//
//	guest.ReadWrite("append", func(_ context.Context, tx guest.Tx, item string) (int, error) {
//		var list []string
//		if old, found, err := tx.Get(tx.Call().Key); err != nil {
//			return 0, err
//		} else if found && json.Unmarshal(old, &list) != nil {
//			return 0, guest.Error(1, "the value is no list")
//		}
//		list = append(list, item)
//		value, err := json.Marshal(list)
//		if err != nil {
//			return 0, err
//		}
//		return len(list), tx.Put(tx.Call().Key, value)
//	})
//
// A range function is four functions: how to begin, how to add a batch of records, how to merge what two
// ranges came to, and what the result is. Here the argument is not used, and the accumulator is a map:
//
//	guest.Range("letters", guest.Aggregate[any, map[string]int, map[string]int]{
//		Init: func(any) (map[string]int, error) { return map[string]int{}, nil },
//		Add: func(_ context.Context, m map[string]int, b guest.Batch) (map[string]int, error) {
//			for key := range b.All() { // and the value; both are valid until the next
//				m[string(key[:1])]++
//			}
//			return m, nil
//		},
//		Merge: func(a, b map[string]int) (map[string]int, error) {
//			for letter, n := range b {
//				a[letter] += n
//			}
//			return a, nil
//		},
//		Result: func(m map[string]int) (map[string]int, error) { return m, nil },
//	})
//
// A map function has no result: its outputs are streamed to the caller, as many as it emits.
//
//	guest.Map("find", func(_ context.Context, text string, b guest.Batch, emit func(string) error) error {
//		for key, value := range b.All() {
//			if bytes.Contains(value, []byte(text)) {
//				if err := emit(string(key)); err != nil {
//					return err
//				}
//			}
//		}
//		return nil
//	})
//
// The fields and methods of Aggregate, Tx, Reader, Batch and Info: go doc ./udf/internal/shape.
//
// Functions are registered in init functions, because the host never calls main. A module may hold
// several functions; the name they are registered under picks one, so register the file once for each. A
// call without an argument sends null, which is the zero value here.
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
