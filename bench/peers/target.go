package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"

	"github.com/locuskv/locus/bench/load"
)

// defaultConns: see docs/benchmarks.md for how it was chosen.
const defaultConns = 4

// target is etcd under load, through several clients, each of which has one connection to each server and
// takes the servers in turn.
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
		c, err := clientv3.New(clientv3.Config{Endpoints: addrs, DialTimeout: timeout, Logger: zap.NewNop()})
		if err != nil {
			return nil, errors.Join(err, t.close())
		}
		t.clients = append(t.clients, c)
	}
	return t, nil
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

// Increment reads the key and writes it if it is unchanged, until that succeeds. A transaction that finds it
// changed brings the new value along, so that each further attempt is one round trip.
func (t *target) Increment(ctx context.Context, key []byte) (int, error) {
	ctx, cancel := t.limited(ctx)
	defer cancel()
	c, k := t.client(), string(key)
	now, err := c.Get(ctx, k)
	if err != nil {
		return 0, named(err)
	}
	kvs := now.Kvs
	for attempt := 1; ; attempt++ {
		var revision, old int64
		if len(kvs) > 0 {
			revision = kvs[0].ModRevision
			if old, err = strconv.ParseInt(string(kvs[0].Value), 10, 64); err != nil {
				return attempt, &load.Error{Kind: "not a number", Cause: err}
			}
		}
		r, err := c.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(k), "=", revision)).
			Then(clientv3.OpPut(k, strconv.FormatInt(old+1, 10))).
			Else(clientv3.OpGet(k)).Commit()
		if err != nil || r.Succeeded {
			return attempt, named(err)
		}
		kvs = r.Responses[0].GetResponseRange().Kvs
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
