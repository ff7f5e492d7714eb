package cluster

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSetArgs: what a node is started with next, whenever it was made.
func TestSetArgs(t *testing.T) {
	c, err := Make(Options{Binary: "/nonexistent", Args: []string{"--reads", "index"}, In: t.TempDir()})
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Remove()) }()
	n, err := c.Add()
	require.NoError(t, err)
	require.Equal(t, []string{"--reads", "index"}, n.Args()[len(n.Args())-2:])
	c.SetArgs("--log-level", "info")
	require.NotContains(t, n.Args(), "--reads")
	require.Equal(t, []string{"--log-level", "info"}, n.Args()[len(n.Args())-2:])
	require.Contains(t, n.Args(), n.Dir(), "what it needs stays")
}
