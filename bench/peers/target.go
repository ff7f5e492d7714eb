package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"

	"github.com/locuskv/locus/bench/load"
)

// defaultConns is how many connections there are to a server. With 256 clients on two cores, 4 and 16 were no
// faster than 1, and mostly slower.
const defaultConns = 1

// target is etcd under load, through several clients, each of which has one connection to each server.
type target struct {
	clients []*clientv3.Client
	turn    atomic.Uint64
	timeout time.Duration
}

func openTarget(addrs []string, conns int, timeout time.Duration) (*target, error) {
	if conns < 1 {
		return nil, fmt.Errorf("--conns %d is less than 1", conns)
	}
	t := &target{timeout: timeout}
	for range conns {
		c, err := newClient(addrs, timeout)
		if err != nil {
			return nil, errors.Join(err, t.close())
		}
		t.clients = append(t.clients, c)
	}
	return t, nil
}

func newClient(addrs []string, timeout time.Duration) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: addrs, DialTimeout: timeout, Logger: zap.NewNop()})
}

// leaderOf finds the server that leads: the one that says so. With no leader it is an error.
func leaderOf(ctx context.Context, addrs []string, timeout time.Duration) (leader string, err error) {
	c, err := newClient(addrs, timeout)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var errs []error
	for _, addr := range addrs {
		s, err := c.Status(ctx, addr)
		if err == nil && s.Leader == s.Header.MemberId {
			return addr, nil
		}
		errs = append(errs, err)
	}
	return "", fmt.Errorf("none of %s leads etcd: %w", strings.Join(addrs, ", "), errors.Join(errs...))
}

func (t *target) close() error {
	var errs []error
	for _, c := range t.clients {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

func (t *target) client() *clientv3.Client {
	return t.clients[t.turn.Add(1)%uint64(len(t.clients))]
}

func (t *target) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, t.timeout)
}

// Get reads a key; etcd's reads are linearizable unless one asks for less.
func (t *target) Get(ctx context.Context, key []byte) ([]byte, bool, error) {
	ctx, cancel := t.limited(ctx)
	defer cancel()
	r, err := t.client().Get(ctx, string(key))
	if err != nil || len(r.Kvs) == 0 {
		return nil, false, named(err)
	}
	return r.Kvs[0].Value, true, nil
}

// Put writes a key.
func (t *target) Put(ctx context.Context, key, value []byte) error {
	ctx, cancel := t.limited(ctx)
	defer cancel()
	_, err := t.client().Put(ctx, string(key), string(value))
	return named(err)
}

// Scan reads up to n of the loaded keys from a key on.
func (t *target) Scan(ctx context.Context, from []byte, n int) (int, error) {
	ctx, cancel := t.limited(ctx)
	defer cancel()
	r, err := t.client().Get(ctx, string(from),
		clientv3.WithRange(clientv3.GetPrefixRangeEnd(load.KeyPrefix)), clientv3.WithLimit(int64(n)))
	if err != nil {
		return 0, named(err)
	}
	return len(r.Kvs), nil
}

// Pauses of the compare-and-swap loop: random up to a bound that doubles with each attempt. The last is such that
// 256 clients try about as often as an attempt takes.
const (
	firstBackoff = 4 * time.Millisecond
	lastBackoff  = 2 * time.Second
)

// Increment reads the key and writes it if it is unchanged, until that succeeds, with a random pause after each
// failure. Without pauses, 256 clients made 13 increments a second where with them they make over 150: each
// success had to come through a queue of attempts that were out of date.
func (t *target) Increment(ctx context.Context, key []byte) (int, error) {
	ctx, cancel := t.limited(ctx)
	defer cancel()
	c, k, backoff := t.client(), string(key), firstBackoff
	for attempt := 1; ; attempt++ {
		done, err := swap(ctx, c, k)
		if done || err != nil {
			return attempt, named(err)
		}
		if err := pause(ctx, rand.N(backoff)); err != nil {
			return attempt, named(err)
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

// swap is one attempt; not done means that somebody came between.
func swap(ctx context.Context, c *clientv3.Client, key string) (done bool, err error) {
	r, err := c.Get(ctx, key)
	if err != nil {
		return false, err
	}
	var revision, old int64
	if len(r.Kvs) > 0 {
		revision = r.Kvs[0].ModRevision
		if old, err = strconv.ParseInt(string(r.Kvs[0].Value), 10, 64); err != nil {
			return false, err
		}
	}
	txn, err := c.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).
		Then(clientv3.OpPut(key, strconv.FormatInt(old+1, 10))).Commit()
	return err == nil && txn.Succeeded, err
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// named gives an error the kind that it is counted as.
func named(err error) error {
	if err == nil {
		return nil
	}
	return &load.Error{Kind: kind(err), Cause: err}
}

func kind(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return load.KindTimeout
	}
	e := new(rpctypes.EtcdError)
	if !errors.As(err, e) {
		return load.KindOther
	}
	switch e.Code() {
	case codes.ResourceExhausted:
		return "overloaded"
	case codes.Unavailable:
		return "unavailable"
	case codes.DeadlineExceeded:
		return load.KindTimeout
	}
	return load.KindOther
}
