package functions

import (
	"context"
	"fmt"
	"time"

	"github.com/locuskv/locus/bench/load"
	"github.com/locuskv/locus/bench/load/locusload"
	"github.com/locuskv/locus/client"
)

var (
	loadCall  = client.NewFunc[[]byte, []byte]("bench-load", client.Raw)
	storeCall = client.NewFunc[[]byte, []byte]("bench-store", client.Raw)
)

func (b *bench) registerCalls(ctx context.Context) error {
	return b.register(ctx, []near{{function: "bench-load", module: keyValueModule}, {function: "bench-store", module: keyValueModule}})
}

// called does gets and puts by calling guests on the keys.
type called struct {
	*locusload.Target
	ks *client.Keyspace
}

func (c called) Get(ctx context.Context, key []byte) ([]byte, bool, error) {
	value, err := loadCall.Call(ctx, c.ks.Key(key), nil)
	return value, err == nil, err
}

func (c called) Put(ctx context.Context, key, value []byte) error {
	_, err := storeCall.Call(ctx, c.ks.Key(key), value)
	return err
}

// loaded is a turn of the load generator on the keyspace of the calls.
func (b *bench) loaded(ctx context.Context, t load.Target, workload string, clients int, d time.Duration) (*load.Report, error) {
	o := load.Defaults()
	o.Workload, o.Clients, o.Keys, o.Duration, o.Warmup = workload, clients, b.size.callKeys, d, d/5
	r, err := load.Run(ctx, t, o, nil)
	if err != nil {
		return nil, err
	}
	if n := len(r.Errors); n > 0 {
		return nil, fmt.Errorf("%d operations failed (%s), for example: %s", r.Errors[0].Count, r.Errors[0].Kind, r.Errors[0].Example)
	}
	return r, nil
}

// rates is a contender whose turns are runs of the load generator.
func (b *bench) rates(name string, t load.Target, workload string, clients int) *contender {
	return &contender{name: name, unit: "calls/s", turn: func(ctx context.Context) (float64, error) {
		r, err := b.loaded(ctx, t, workload, clients, b.o.Duration)
		if err != nil {
			return 0, err
		}
		return r.All.Rate, nil
	}}
}

func (b *bench) targets() (calls, plain load.Target) {
	ks := b.db.Keyspace(callKeyspace)
	t := locusload.NewTarget(ks)
	return called{t, ks}, t
}

func (b *bench) readCalls(ctx context.Context, row *Row) error {
	if err := b.registerCalls(ctx); err != nil {
		return err
	}
	const clients = 64
	calls, plain := b.targets()
	call := b.rates("guest in C that reads the key", calls, "get", clients)
	contenders := []*contender{call, b.rates("get", plain, "get", clients)}
	if b.redis == nil {
		row.skip("Redis: " + b.report.Redis)
		return interleave(ctx, row, b.o.Rounds, contenders...)
	}
	other, err := b.redis.readCalls(ctx, clients, b.size.callKeys, b.o.Duration)
	if err != nil {
		return err
	}
	if err := interleave(ctx, row, b.o.Rounds, append(contenders, other)...); err != nil {
		return err
	}
	row.aim("", "calls, share of Redis", "x", times(call.median(), other.median()), 0.5, false)
	row.Notes = append(row.Notes, "Redis is one process without replicas; its load generator is redis-benchmark, in C; ours is the client in Go, in one process")
	return nil
}

func (b *bench) writeCalls(ctx context.Context, row *Row) error {
	if err := b.registerCalls(ctx); err != nil {
		return err
	}
	const clients = 256
	calls, plain := b.targets()
	call, put := b.rates("guest in C that writes the key", calls, "put", clients), b.rates("put", plain, "put", clients)
	if err := interleave(ctx, row, b.o.Rounds, call, put); err != nil {
		return err
	}
	row.aim("", "calls, share of puts", "x", times(call.median(), put.median()), 0.7, false)
	return nil
}
