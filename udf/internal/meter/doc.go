// Package meter rewrites WebAssembly modules.
package meter
