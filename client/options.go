package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/locuskv/locus/internal/clientcore"
)

// Options of Open. The zero value of every field but Addrs is its default.
type Options struct {
	// Addrs are host:port of some nodes of the cluster. The client learns of the others from them. Required.
	Addrs []string
	// TLS for all connections, with the client's certificate if the cluster asks for one. Nil: no TLS, for
	// clusters that run with --insecure.
	TLS *tls.Config
	// Timeout ends an operation whose context has no deadline. Default: 10 s.
	Timeout time.Duration
	// Retry says how failed attempts are repeated.
	Retry RetryOptions
	// Balance says which node does what more than one can do.
	Balance BalanceOptions
	// MaxInFlight and MaxInFlightBytes bound what waits for an answer; above them operations fail with
	// *OverloadedError (a BulkWriter waits instead). Defaults: 32,768 operations, 128 MiB.
	MaxInFlight      int
	MaxInFlightBytes int
	// Dial makes the connection to a node's address: through a proxy, say. Default: TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
}

// RetryOptions bound how operations are repeated. Repeating is always safe: commands carry a session and a
// number, by which the cluster knows them again.
type RetryOptions struct {
	// Min and Max are the first and the longest pause; pauses double in between and carry jitter. Defaults:
	// 4 ms and 250 ms. A small Max finds a new leaseholder sooner and asks a failing cluster more often.
	Min, Max time.Duration
	// Attempt is how long one answer may take before another replica is asked; each further attempt gets twice
	// as long, up to 5 s or Attempt itself, and a function call four times as long. Default: 3 s.
	Attempt time.Duration
}

// BalanceOptions choose nodes for calls that touch no key and for reads that allow staleness.
type BalanceOptions struct {
	Policy BalancePolicy
	// Weights give nodes, by address, a share other than 1. The policy Random ignores them.
	Weights map[string]int
}

// BalancePolicy names a way to choose a node.
type BalancePolicy uint8

// The policies.
const (
	// LeastOutstanding takes the less busy of two nodes chosen at random.
	LeastOutstanding BalancePolicy = iota
	// Random takes any node.
	Random
	// RoundRobin takes one node after another, in proportion to their weights.
	RoundRobin
)

const defaultTimeout = 10 * time.Second

// Validate says what is wrong with the options.
func (o *Options) Validate() error {
	if len(o.Addrs) == 0 {
		return &InvalidArgumentError{Reason: "client options name no address"}
	}
	for _, a := range o.Addrs {
		_, port, err := net.SplitHostPort(a)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil {
			return &InvalidArgumentError{Reason: fmt.Sprintf("address %q is not host:port", a)}
		}
	}
	for _, d := range []time.Duration{o.Timeout, o.Retry.Min, o.Retry.Max, o.Retry.Attempt} {
		if d < 0 {
			return &InvalidArgumentError{Reason: fmt.Sprintf("client options have a negative duration %s", d)}
		}
	}
	if o.Retry.Max != 0 && o.Retry.Min > o.Retry.Max {
		return &InvalidArgumentError{Reason: "client options have a shortest pause above the longest"}
	}
	if o.Balance.Policy > RoundRobin {
		return &InvalidArgumentError{Reason: fmt.Sprintf("balance policy %d is unknown", o.Balance.Policy)}
	}
	return nil
}

var policies = map[BalancePolicy]clientcore.Policy{
	LeastOutstanding: clientcore.LeastOutstanding,
	Random:           clientcore.Random,
	RoundRobin:       clientcore.RoundRobin,
}
