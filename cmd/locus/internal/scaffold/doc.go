// Package scaffold writes projects that build WebAssembly functions: locus fn new. A project has its SDK in it and builds
// without a network, and what it builds registers as it is.
//
// What is in templates is written as it stands, with the names put in: NAME is the function's. The SDKs are the sources
// that this binary was built with (udf.GuestSources).
package scaffold
