package delays

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAddRecordIsAdd(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var quick, slow Accumulator
	for range 3000 {
		origin := []string{"LAS", "PHL", "X", "LONG-NAME", "LA"}[rng.IntN(5)]
		key := []byte(origin + "/2001-01-01/0001")
		v := value(rng.IntN(3000) - 1000)
		if rng.IntN(5) == 0 {
			v = []byte(`{"a":{"delay":1},"delay" : -7}`)
		}
		require.NoError(t, quick.AddRecord(key, v))
		require.NoError(t, slow.Add(key, v))
	}
	require.Equal(t, slow.Airports(), quick.Airports())

	require.Error(t, quick.AddRecord([]byte("LAS"), value(1)))
	require.Error(t, quick.AddRecord([]byte("LAS/1"), []byte(`{}`)))
	require.NoError(t, quick.Count([]byte("LAS/1"), MaxDelay))
	require.Error(t, quick.Count([]byte("LAS/1"), MaxDelay+1), "also of the origin before")
	require.Error(t, quick.Count([]byte("PHL/1"), -MaxDelay-1))
}
