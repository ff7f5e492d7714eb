package server

import (
	"os"
	"testing"

	"github.com/locuskv/locus/internal/testflag"
)

// Most tests here wait for clusters (elections, leases, windows of retention): four of them take one core.
func TestMain(m *testing.M) {
	testflag.Parallel(4)
	os.Exit(m.Run())
}
