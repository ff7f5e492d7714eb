package functions

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/locuskv/locus/bench/functions/native"
	"github.com/locuskv/locus/examples/guests"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/packed"
	"github.com/locuskv/locus/udf"
	"github.com/locuskv/locus/udf/wasm"
)

// batchBytes is how long the batches are that scans hand out.
const batchBytes = 64 << 10

// sumBatches are the records of the sums as the scan cache holds them.
func sumBatches(n int) (batches [][]byte) {
	var batch []byte
	for i := range n {
		if len(batch)+packed.Size(8, sumBytes, 0) > batchBytes {
			batches, batch = append(batches, batch), nil
		}
		batch = packed.Append(batch, sumKey(i), sumValue(i), hlc.Timestamp(i+1), 0)
	}
	return append(batches, batch)
}

// sumBatch is what a native program would do, with nothing in between: it reads the fields where they stand.
func sumBatch(t *native.Total, batch []byte) {
	for len(batch) > 0 {
		head := binary.LittleEndian.Uint64(batch)
		value := batch[packed.HeaderLen+int(head&0xffff):]
		t.Sum += int64(binary.LittleEndian.Uint64(value[sumOffset:]))
		t.Count++
		batch = value[head>>32:]
	}
}

// cached measures in this process, on one goroutine.
func (b *bench) cached(ctx context.Context, row *Row) (err error) {
	runtime, err := wasm.NewRuntime(wasm.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, runtime.Close()) }()
	guest, err := runtime.Compile(ctx, fixedSum, guests.FixedSum)
	if err != nil {
		return err
	}
	defer guest.Close()
	batches, want := sumBatches(b.size.sums), sumOf(0, b.size.sums)
	loop := func(add func() error) func(context.Context) (float64, error) {
		return func(context.Context) (float64, error) {
			begun, n := time.Now(), 0
			for ; n == 0 || time.Since(begun) < min(b.o.Duration, time.Second); n++ {
				if err := add(); err != nil {
					return 0, err
				}
			}
			return float64(n*b.size.sums) / time.Since(begun).Seconds(), nil
		}
	}
	plain := &contender{name: "native loop", unit: "records/s", turn: loop(func() error {
		var t native.Total
		for _, batch := range batches {
			sumBatch(&t, batch)
		}
		return sameTotal(t, want)
	})}
	contenders := []*contender{plain}
	argument := fmt.Append(nil, sumOffset)
	registry, err := udf.NewRegistry(native.All()...)
	if err != nil {
		return err
	}
	compiled, _ := registry.Lookup(native.Sum)
	for i, f := range []udf.Runnable{guest, compiled} {
		a, err := f.NewAccumulator(ctx, udf.CodecJSON, argument)
		if err != nil {
			return err
		}
		defer a.Close()
		if err := accumulates(ctx, f, a, argument, batches, want); err != nil {
			return err
		}
		contenders = append(contenders, &contender{
			name: []string{"guest in C, metered", "native function"}[i], unit: "records/s",
			turn: loop(func() error { return addAll(ctx, a, batches) }),
		})
	}
	if err := interleave(ctx, row, b.o.Rounds, contenders...); err != nil {
		return err
	}
	metered := contenders[1]
	row.aim("", metered.name+", share of the native loop", "x", times(metered.median(), plain.median()), 0.5, false)
	row.aim("", metered.name, "records/s", metered.median(), 40e6, false)
	return nil
}

func addAll(ctx context.Context, a udf.Accumulator, batches [][]byte) error {
	for _, batch := range batches {
		if err := a.Add(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

// accumulates is an error unless a new accumulator comes to what is wanted.
func accumulates(ctx context.Context, f udf.Runnable, a udf.Accumulator, argument []byte, batches [][]byte, want native.Total) error {
	if err := addAll(ctx, a, batches); err != nil {
		return err
	}
	encoded, err := a.Encode(ctx)
	if err != nil {
		return err
	}
	out, err := f.Result(ctx, udf.CodecJSON, argument, [][]byte{encoded})
	if err != nil {
		return err
	}
	if text := fmt.Sprintf(`{"count":%d,"sum":%d}`, want.Count, want.Sum); string(out.Result) != text {
		return fmt.Errorf("%s: a wrong answer: %s instead of %s", f.Name(), out.Result, text)
	}
	return nil
}
