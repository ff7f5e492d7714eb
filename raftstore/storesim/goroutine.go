//go:build amd64 || arm64

package storesim

// running names the calling goroutine for as long as it runs: by the address at which the runtime keeps it, as Go has no
// other name that is cheap to ask for.
func running() uintptr
