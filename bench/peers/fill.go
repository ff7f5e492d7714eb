package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locuskv/locus/bench/load"
)

// How the keys are written: in the largest transactions that etcd takes by default (128 operations, and 1.5 MiB
// of which we stay clear), several at a time.
const (
	txnOps   = 128
	txnBytes = 1 << 20
	writers  = 16
)

// txns cuts the keys into transactions.
type txns struct {
	o    load.Options
	size uint64
	next atomic.Uint64 // the first key that no transaction has
}

func newTxns(o load.Options) *txns {
	size := min(txnOps, max(1, txnBytes/(o.ValueSize+load.KeySize)))
	return &txns{o: o, size: uint64(size)}
}

// take is the next transaction; nil: there is none.
func (t *txns) take(values *load.Values) []clientv3.Op {
	end := t.next.Add(t.size)
	begin, end := end-t.size, min(end, uint64(t.o.Keys))
	var ops []clientv3.Op
	for i := begin; i < end; i++ {
		ops = append(ops, clientv3.OpPut(string(load.AppendKey(nil, i)), string(values.Next())))
	}
	return ops
}

// fill writes the keys from 0 on, and tells of each transaction how many it wrote.
func (t *target) fill(ctx context.Context, o load.Options, wrote func(int)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	work := newTxns(o)
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			if errs[i] = t.fillSome(ctx, work, load.NewValues(o.Seed+uint64(i), o.ValueSize), wrote); errs[i] != nil {
				cancel() // the others
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return errors.Join(errs...)
}

func (t *target) fillSome(ctx context.Context, work *txns, values *load.Values, wrote func(int)) error {
	for ops := work.take(values); len(ops) > 0; ops = work.take(values) {
		if err := t.write(ctx, ops); err != nil {
			return err
		}
		wrote(len(ops))
	}
	return nil
}

func (t *target) write(ctx context.Context, ops []clientv3.Op) error {
	ctx, cancel := t.limited(ctx)
	defer cancel()
	_, err := t.client().Txn(ctx).Then(ops...).Commit()
	return named(err)
}
