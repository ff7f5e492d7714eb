package ids

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestStrings: what people read in logs and errors, and grep for.
func TestStrings(t *testing.T) {
	require.Equal(t, "r1 s2 3 4 5 6 7", fmt.Sprint(
		SystemRange, " ", StoreID(2), " ", ReplicaID(3), " ", KeyspaceID(4), " ", Index(5), " ", Term(6), " ", Seq(7)))
	require.Equal(t, "r18446744073709551615", RangeID(1<<64-1).String())
}
