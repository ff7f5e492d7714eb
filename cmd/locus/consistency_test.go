package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/internal/hlc"
)

// TestConsistency reads a key that was written twice, at every level.
func TestConsistency(t *testing.T) {
	t.Parallel()
	env := node(t)
	put := func(value string) string {
		var w writtenJSON
		require.NoError(t, json.Unmarshal([]byte(cli(t, env, "put", "a", value, "--output", "json").out), &w))
		return w.Timestamp
	}
	first := put("old")
	put("new")
	for level, want := range map[string]string{
		"linearizable": "new", "snapshot": "new", "snapshot=" + first: "old", "stale=0s": "new", "eventual": "new",
	} {
		cli(t, env, "get", "a", "--consistency", level).is(t, want+"\n")
		cli(t, env, "scan", "--consistency", level).is(t, "a\t"+want+"\n")
	}
	cli(t, env, "get", "a", "--consistency", "snapshot=1.00000").fails(t, "timestamp")
}

func TestParseTimestamp(t *testing.T) {
	for _, ts := range []hlc.Timestamp{0, 1, hlc.Make(1_767_225_600_000, 42), hlc.Make(1, 65535)} {
		got, err := parseTimestamp(ts.String())
		require.NoError(t, err)
		require.Equal(t, client.Timestamp(ts), got)
	}
	for _, text := range []string{"", "1", "1.", ".00001", "1.1", "1.65536", "1.00001x", "+1.00001"} {
		_, err := parseTimestamp(text)
		require.Error(t, err, text)
	}
}
