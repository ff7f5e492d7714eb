package clustertest

import (
	"flag"
	"strconv"
)

// AtOnce has so many parallel tests of this package run at a time, unless the flag -parallel says how many: those that wait
// for processes can be more than there are cores, which is the default. It is for TestMain.
func AtOnce(tests int) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", strconv.Itoa(tests)) // the flag is there in every test binary
	}
}
