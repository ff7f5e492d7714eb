// Package wait waits until a cluster is as it should be: every range with its replicas and a leaseholder.
package wait

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/locuskv/locus/client"
)

// every is how often the cluster is asked: its nodes report once a second, so more often shows little more.
const every = 100 * time.Millisecond

// Error says what a cluster still lacked when the waiting ended.
type Error struct {
	Missing string
	Cause   error
}

func (e *Error) Error() string {
	if errors.Is(e.Cause, context.DeadlineExceeded) {
		return "the cluster is not healthy in time: " + e.Missing
	}
	return e.Cause.Error()
}
func (e *Error) Unwrap() error { return e.Cause }

// IsHealthy says whether every range has its replicas and a leaseholder, and it is known of every node whether it
// lives.
func IsHealthy(s client.Status) bool { return Missing(s) == "" }

// Missing says what a cluster lacks; nothing when it is healthy.
func Missing(s client.Status) string {
	var out []string
	if s.Ranges == 0 {
		out = append(out, "no ranges are known yet")
	}
	if s.SuspectNodes > 0 {
		out = append(out, fmt.Sprintf("%d of %d nodes silent for a while", s.SuspectNodes, s.LiveNodes+s.SuspectNodes+s.DeadNodes))
	}
	if s.UnderReplicated > 0 {
		out = append(out, fmt.Sprintf("%d of %d ranges have fewer than %d replicas", s.UnderReplicated, s.Ranges, s.WantedReplicas))
	}
	if s.Unavailable > 0 {
		out = append(out, fmt.Sprintf("%d of %d ranges have no leaseholder", s.Unavailable, s.Ranges))
	}
	return strings.Join(out, ", ")
}

// Healthy asks for the status until the cluster is healthy and has at least so many live nodes, or ctx
// ends; then the error is *Error. A status that can't be had is asked for again: while a cluster forms, or
// fails over, nobody may know it.
func Healthy(ctx context.Context, status func(context.Context) (client.Status, error), live uint64) (client.Status, error) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	missing := "nobody answered"
	for {
		s, err := status(ctx)
		switch {
		case err == nil && IsHealthy(s) && s.LiveNodes >= live:
			return s, nil
		case err == nil && s.LiveNodes < live:
			missing = fmt.Sprintf("%d of %d nodes are live", s.LiveNodes, live)
		case err == nil:
			missing = Missing(s)
		case ctx.Err() == nil:
			missing = err.Error()
		}
		select {
		case <-ctx.Done():
			return s, &Error{Missing: missing, Cause: ctx.Err()}
		case <-tick.C:
		}
	}
}
