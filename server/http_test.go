package server

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func fetch(t testing.TB, n *Node, path string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + n.HTTPAddr() + path)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

func TestHTTP(t *testing.T) {
	n := startNode(t, testOptions(t, filepath.Join(t.TempDir(), "data")))
	code, body := fetch(t, n, "/healthz")
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "ok\n", body)
	eventually(t, "ready", func() bool { code, _ := fetch(t, n, "/readyz"); return code == http.StatusOK })

	c := newTestClient(t, one(n))
	require.NoError(t, c.put(defaultLayout, "a", "1"))
	_, body = fetch(t, n, "/metrics")
	for _, verb := range []string{"evaluate", "propose", "append", "commit", "apply", "acknowledge"} {
		require.Contains(t, body, "\nlocus_"+verb+"_")
	}
	require.Contains(t, body, "\nlocus_replicas 3\n")
	require.Contains(t, body, "\nlocus_driver 1\n")
	for _, m := range metricTable {
		require.True(t, strings.HasPrefix(m.name, "locus_"), m.name)
		require.Contains(t, body, "\n"+m.name+" ")
	}
	code, _ = fetch(t, n, "/debug/pprof/goroutine?debug=1")
	require.Equal(t, http.StatusOK, code)
	code, _ = fetch(t, n, "/")
	require.Equal(t, http.StatusNotFound, code)

	// After a failure the process is to be restarted, and says so.
	n.fail(io.ErrUnexpectedEOF)
	require.ErrorIs(t, n.Wait(), io.ErrUnexpectedEOF)
	code, body = fetch(t, n, "/healthz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, body, "unexpected EOF")
	code, _ = fetch(t, n, "/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code)
}
