package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/internal/hlc"
)

// consistencyFlag says what a read may miss (docs/consistency.md).
type consistencyFlag struct{ text string }

// The levels, as users write them.
const (
	levelLinearizable = "linearizable"
	levelSnapshot     = "snapshot"
	levelStale        = "stale"
	levelEventual     = "eventual"
)

func (f *consistencyFlag) register(c *cobra.Command) {
	c.Flags().StringVar(&f.text, "consistency", levelLinearizable,
		"what is read: linearizable, the newest; snapshot[=TIMESTAMP], all at one timestamp; stale=DURATION, at most so old, from any replica; eventual, whatever a replica has")
}

// readOptions makes the options of a read, asking the cluster for a timestamp if need be.
type readOptions func(ctx context.Context, db *client.DB) ([]client.ReadOption, error)

// parse reads the flag.
func (f *consistencyFlag) parse() (readOptions, error) {
	always := func(o ...client.ReadOption) readOptions {
		return func(context.Context, *client.DB) ([]client.ReadOption, error) { return o, nil }
	}
	level, value, has := strings.Cut(f.text, "=")
	switch {
	case level == levelLinearizable && !has:
		return always(), nil
	case level == levelEventual && !has:
		return always(client.Eventual()), nil
	case level == levelSnapshot && !has:
		return fresh, nil
	case level == levelSnapshot:
		ts, err := parseTimestamp(value)
		return always(client.AtTimestamp(ts)), err
	case level == levelStale && has:
		d, err := time.ParseDuration(value)
		if err != nil || d < 0 {
			return nil, fmt.Errorf("--consistency stale=%s: %q is not a duration such as 500ms or 2s", value, value)
		}
		return always(client.MaxStaleness(d)), nil
	}
	return nil, fmt.Errorf("--consistency %q is none of linearizable, snapshot, snapshot=TIMESTAMP, stale=DURATION and eventual", f.text)
}

// fresh reads at a timestamp that is above every write acknowledged before, in all keyspaces.
func fresh(ctx context.Context, db *client.DB) ([]client.ReadOption, error) {
	s, err := db.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return []client.ReadOption{client.AtTimestamp(s.Timestamp())}, s.Close()
}

// parseTimestamp reads a timestamp as commands print it: milliseconds since the Unix epoch, a point, and a counter of
// five digits.
func parseTimestamp(text string) (client.Timestamp, error) {
	millis, counter, _ := strings.Cut(text, ".")
	ms, err := strconv.ParseInt(millis, 10, 48)
	n, err2 := strconv.ParseUint(counter, 10, 16)
	ts := client.Timestamp(hlc.Make(ms, uint32(n)))
	if err != nil || err2 != nil || ms < 0 || ts.String() != text {
		return 0, fmt.Errorf("--consistency snapshot=%s: %q is not a timestamp as \"put --output json\" prints it, such as 1767225600000.00001", text, text)
	}
	return ts, nil
}
