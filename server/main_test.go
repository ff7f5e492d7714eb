package server

import (
	flags "flag" // the package has a flag of its own
	"os"
	"testing"
)

// TestMain lets four of the tests that begin with t.Parallel go on beside each other, wherever there are fewer processors and
// nobody says otherwise: they wait for clusters (elections, leases, windows of retention), and four of them use one core.
func TestMain(m *testing.M) {
	flags.Parse()
	given := false
	flags.Visit(func(f *flags.Flag) { given = given || f.Name == "test.parallel" })
	if parallel := flags.Lookup("test.parallel"); !given && parallel.Value.(flags.Getter).Get().(int) < 4 {
		if err := parallel.Value.Set("4"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
