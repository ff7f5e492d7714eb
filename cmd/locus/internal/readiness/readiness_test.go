package readiness

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var block = Block{
	Version: "0.1.0", ClusterID: "c1", NodeID: "n1", StoreID: 3, Address: "127.0.0.1:7400",
	Gossip: "127.0.0.1:17400", HTTP: "127.0.0.1:27400", Data: "/data", Insecure: true, PID: 42,
}

func TestJSONComesBack(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, block.WriteJSON(&b))
	require.Equal(t, 1, strings.Count(b.String(), "\n"), "one line")
	got, err := Read(&b)
	require.NoError(t, err)
	require.Equal(t, block, got)
}

func TestNothingIsEOF(t *testing.T) {
	_, err := Read(strings.NewReader(""))
	require.ErrorIs(t, err, io.EOF)
}

func TestTextNamesEveryAddress(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, block.WriteText(&b))
	for _, want := range []string{"store 3 of cluster c1", " 127.0.0.1:7400\n", " 127.0.0.1:17400\n", "http://127.0.0.1:27400 ", " /data\n", "loopback only"} {
		require.Contains(t, b.String(), want)
	}
}
