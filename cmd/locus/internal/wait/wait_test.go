package wait

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/client"
)

// script answers one status after another, the last one for ever.
func script(steps ...func() (client.Status, error)) func(context.Context) (client.Status, error) {
	i := 0
	return func(context.Context) (client.Status, error) {
		s, err := steps[min(i, len(steps)-1)]()
		i++
		return s, err
	}
}

func is(s client.Status) func() (client.Status, error) {
	return func() (client.Status, error) { return s, nil }
}

var healthy = client.Status{Ranges: 3, WantedReplicas: 3, LiveNodes: 3}

func TestMissing(t *testing.T) {
	for want, s := range map[string]client.Status{
		"":                        healthy,
		"no ranges are known yet": {},
		"1 of 3 ranges have fewer than 3 replicas":                                    {Ranges: 3, WantedReplicas: 3, UnderReplicated: 1},
		"1 of 3 nodes silent for a while":                                             {Ranges: 3, LiveNodes: 2, SuspectNodes: 1},
		"2 of 3 ranges have no leaseholder":                                           {Ranges: 3, Unavailable: 2},
		"1 of 4 ranges have fewer than 2 replicas, 1 of 4 ranges have no leaseholder": {Ranges: 4, WantedReplicas: 2, UnderReplicated: 1, Unavailable: 1},
	} {
		require.Equal(t, want, Missing(s))
		require.Equal(t, want == "", IsHealthy(s))
	}
}

func TestHealthyWaitsThroughEverything(t *testing.T) {
	status := script(
		func() (client.Status, error) { return client.Status{}, errors.New("no driver yet") },
		is(client.Status{}),
		is(client.Status{Ranges: 3, WantedReplicas: 3, LiveNodes: 3, UnderReplicated: 3}),
		is(client.Status{Ranges: 3, WantedReplicas: 1, LiveNodes: 1}),
		is(healthy),
	)
	s, err := Healthy(t.Context(), status, 3)
	require.NoError(t, err)
	require.Equal(t, healthy, s)
}

func TestHealthyTellsWhatIsMissing(t *testing.T) {
	for want, step := range map[string]func() (client.Status, error){
		"the cluster is not healthy in time: 2 of 3 nodes are live":             is(client.Status{Ranges: 3, LiveNodes: 2}),
		"the cluster is not healthy in time: 2 of 3 ranges have no leaseholder": is(client.Status{Ranges: 3, LiveNodes: 3, Unavailable: 2}),
		"the cluster is not healthy in time: no driver":                         func() (client.Status, error) { return client.Status{}, errors.New("no driver") },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := Healthy(ctx, script(step), 3)
		cancel()
		require.EqualError(t, err, want)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
}

func TestHealthyEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Healthy(ctx, script(is(client.Status{})), 3)
	require.ErrorIs(t, err, context.Canceled)
}
