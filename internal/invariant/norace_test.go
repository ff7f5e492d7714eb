//go:build !race

package invariant

import (
	"runtime/debug"
	"slices"
	"strings"
)

// wantEnabled reads the build tags from the test binary itself.
var wantEnabled = func() bool {
	info, _ := debug.ReadBuildInfo()
	return slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool {
		return s.Key == "-tags" && strings.Contains(s.Value, "locus_invariants")
	})
}()
