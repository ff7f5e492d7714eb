// Package testflag sets defaults of the flags of test binaries.
package testflag

import (
	"flag"
	"strconv"
)

// Parallel has so many parallel tests of a package run at a time, unless the flag -parallel says how many: those that wait for
// clusters can be more than there are cores, which is its default. It is for TestMain.
func Parallel(tests int) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", strconv.Itoa(tests)) // the flag is there in every test binary
	}
}
