//go:build race

package invariant

const wantEnabled = true
