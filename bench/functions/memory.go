package functions

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/locuskv/locus/bench/load/children"
	"github.com/locuskv/locus/examples/flights"
	"github.com/locuskv/locus/examples/guests"
	"github.com/locuskv/locus/udf"
	"github.com/locuskv/locus/udf/wasm"
)

// memory weighs instances in this process, where nothing else happens meanwhile: what it holds more with all of them than with one,
// after a batch each.
func (b *bench) memory(ctx context.Context, row *Row) error {
	var contenders []*contender
	for _, g := range []struct {
		name, function, argument string
		module                   []byte
		count                    int
		batches                  [][]byte
	}{
		{"guest in C", fixedSum, fmt.Sprint(sumOffset), guests.FixedSum, b.size.instances, sumBatches(1000)},
		{"guest in Go", flights.FunctionName, "null", flights.Module, max(2, b.size.instances/4), nil},
	} {
		contenders = append(contenders, &contender{name: g.name, unit: "bytes", turn: func(ctx context.Context) (float64, error) {
			return weigh(ctx, g.function, g.module, []byte(g.argument), g.batches, wasm.Options{
				MaxInstances: g.count, PoolBytes: 1 << 40, CacheDir: b.compiledDir(),
			})
		}})
	}
	if err := interleave(ctx, row, b.o.Rounds, contenders...); err != nil {
		return err
	}
	row.aim("", contenders[0].name, "bytes", contenders[0].median(), 0.3e6, true)
	row.Notes = append(row.Notes, "all instances of a node together are bounded: by 256 MiB, and those at work")
	return nil
}

// weigh is the mean memory of the instances but the first.
func weigh(ctx context.Context, name string, module, argument []byte, batches [][]byte, o wasm.Options) (bytes float64, err error) {
	r, err := wasm.NewRuntime(o)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	f, err := r.Compile(ctx, name, module)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var before int64
	for i := range o.MaxInstances {
		a, err := f.NewAccumulator(ctx, udf.CodecJSON, argument)
		if err != nil {
			return 0, err
		}
		defer a.Close()
		if err := addAll(ctx, a, batches); err != nil {
			return 0, err
		}
		if i == 0 {
			if before, err = held(); err != nil {
				return 0, err
			}
		}
	}
	after, err := held()
	return float64(after-before) / float64(o.MaxInstances-1), err
}

// held is the memory that this process holds for itself: of guests, what they have touched.
func held() (int64, error) {
	debug.FreeOSMemory()
	u, ok := children.UsageOf(os.Getpid())
	if !ok {
		return 0, errors.New("the system does not tell what a process holds")
	}
	return u.Anon, nil
}
