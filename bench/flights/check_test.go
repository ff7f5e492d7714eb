package flights

import (
	"encoding/json"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/examples/flights"
)

var file = flag.String("flights.file", "", "also check this file of flights (CSV, gzipped or not)")

// independent is what the other program says of a file.
func independent(t *testing.T, path string) []flights.Airport {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not in PATH")
	}
	cmd := exec.Command(python, "check.py", path)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	var answer []flights.Airport
	require.NoError(t, json.Unmarshal(out, &answer))
	return answer
}

// job is what the job's own code says, fed with the records that it is fed with in a cluster.
func job(t *testing.T, r io.Reader) []flights.Airport {
	t.Helper()
	var a flights.Accumulator
	var keys flights.Numberer
	require.NoError(t, flights.Read(r, func(r flights.Record) error {
		return a.Add(keys.Key(r), flights.Value(r))
	}))
	return a.Airports()
}

func TestSample(t *testing.T) { check(t, sampleFile(t), 100_000) }

// sampleFile is the bundled file of flights, as a file.
func sampleFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sample.csv.gz")
	sample := flights.Sample()
	defer sample.Close()
	text, err := io.ReadAll(sample)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, text, 0o600))
	return path
}

func TestFile(t *testing.T) {
	if *file == "" {
		t.Skip("no -flights.file")
	}
	check(t, *file, 0)
}

// check wants equal answers, to the last bit, about so many flights (0: any number).
func check(t *testing.T, path string, want int64) {
	t.Helper()
	other := independent(t, path)
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	mine := job(t, f)
	require.Equal(t, other, mine)
	var sum int64
	for _, a := range mine {
		sum += a.Flights
	}
	require.NotZero(t, sum)
	if want != 0 {
		require.Equal(t, want, sum)
	}
	t.Logf("%d flights from %d origins, equal to the last bit", sum, len(mine))
}
