package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/server"
)

// defaultAddress is where a node listens when it is told nothing.
const defaultAddress = server.DefaultListen

// talk is what a command says to a cluster.
type talk func(ctx context.Context, db *client.DB) error

// prepare reads a command's arguments, so that what is wrong with them is told before a cluster is asked.
type prepare func(args []string) (talk, error)

// runE is what cobra runs.
type runE = func(cmd *cobra.Command, args []string) error

// short runs a command that asks one thing: all of it ends after --timeout.
func (s *shell) short(p prepare) runE {
	return func(cmd *cobra.Command, args []string) error {
		f, err := p(args)
		if err != nil {
			return err
		}
		ctx, cancel := s.limited(cmd.Context())
		defer cancel()
		return s.with(ctx, f)
	}
}

// long runs a command that takes as long as the data needs: --timeout bounds each request.
func (s *shell) long(p prepare) runE {
	return func(cmd *cobra.Command, args []string) error {
		f, err := p(args)
		if err != nil {
			return err
		}
		return s.with(cmd.Context(), f)
	}
}

// plain is a command without arguments to read.
func plain(f talk) prepare { return func([]string) (talk, error) { return f, nil } }

// limited ends ctx after --timeout.
func (s *shell) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.timeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, s.timeout)
}

// with opens the cluster for f. A signal of the user ends f's context.
func (s *shell) with(ctx context.Context, f talk) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	db, err := s.open(ctx)
	if err == nil {
		err = errors.Join(f(ctx, db), db.Close())
	}
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return errInterrupted // whatever the interruption made of the request under way
	}
	return err
}

func (s *shell) open(ctx context.Context) (*client.DB, error) {
	conf, err := s.clientTLS()
	if err != nil {
		return nil, err
	}
	timeout := s.timeout
	if timeout == 0 {
		timeout = never
	}
	if err := s.reach(ctx); err != nil {
		return nil, err
	}
	return client.Open(ctx, client.Options{Addrs: s.addrs, TLS: conf, Timeout: timeout})
}

// reachTime is how long a command waits for the first of its nodes to take a connection: one that is being
// started again has done so by then, and whoever forgot to start one learns it soon.
const reachTime = 3 * time.Second

// reach waits until one of the addresses takes a connection. Only what refuses is an answer: whether a
// silent one is slow or gone is for --timeout to tell.
func (s *shell) reach(ctx context.Context) error {
	if s.patient {
		return nil
	}
	return reach(ctx, s.addrs, (&net.Dialer{}).DialContext)
}

func reach(ctx context.Context, addrs []string, dial func(ctx context.Context, network, address string) (net.Conn, error)) error {
	limited, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	for round := 0; ; round++ {
		for _, address := range addrs {
			conn, err := dial(limited, "tcp", address)
			if err == nil {
				return conn.Close()
			}
			if round > 0 && limited.Err() != nil {
				break // all have refused before, and this says only that the time is up
			}
			if !errors.Is(err, syscall.ECONNREFUSED) {
				return nil // the client says better what is wrong
			}
		}
		select {
		case <-limited.Done():
			if ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			return fmt.Errorf("no node runs at %s: connection refused", strings.Join(addrs, ", "))
		case <-time.After(reachPause):
		}
	}
}

const reachPause = 100 * time.Millisecond

// never is a timeout that does not come.
const never = 1000 * time.Hour

// clientTLS is nil when no TLS flag is given.
func (s *shell) clientTLS() (*tls.Config, error) {
	if s.tls.ca == "" && s.tls.cert == "" && s.tls.key == "" {
		return nil, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS13}
	if s.tls.ca != "" {
		pem, err := os.ReadFile(s.tls.ca)
		if err != nil {
			return nil, fmt.Errorf("--tls-ca: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--tls-ca: %s holds no certificate", s.tls.ca)
		}
	}
	if s.tls.cert != "" || s.tls.key != "" {
		cert, err := tls.LoadX509KeyPair(s.tls.cert, s.tls.key)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert and --tls-key: %w", err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	return conf, nil
}
