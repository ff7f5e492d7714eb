// Package shape holds the types that native functions (package udf) and WebAssembly guests (package
// udf/guest) share, so that the body of a function is the same Go code in both. Both packages export
// them as aliases; nobody else imports this one.
//
// It is part of every guest, so it stays small: it knows no JSON, no protobuf, no fmt and none of the
// rest of Locus.
package shape
