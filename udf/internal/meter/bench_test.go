package meter

import (
	"encoding/binary"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// ample is fuel that no test uses up.
const ample = 1 << 60

// setFuel gives a module its fuel for an entry, as a host does.
func setFuel(i api.Module, n int64) {
	i.ExportedGlobal(Left).(api.MutableGlobal).Set(uint64(min(n, Slice)))
	i.ExportedGlobal(Rest).(api.MutableGlobal).Set(uint64(n - min(n, Slice)))
}

func remaining(i api.Module) int64 {
	return int64(i.ExportedGlobal(Left).Get()) + int64(i.ExportedGlobal(Rest).Get())
}

// workload is a guest that is ready to run.
type workload func() error

// contender is a way of running a module.
type contender struct {
	config  wazero.RuntimeConfig
	metered bool
}

var contenders = []contender{{compiler(), false}, {compiler(), true}, {compiler().WithCloseOnContextDone(true), false}}

// BenchmarkOverhead compares, in turns, a module as it is, metered, and with wazero's own check of the context. The numbers are
// ratios of the best of the turns to that of the module as it is.
func BenchmarkOverhead(b *testing.B) {
	type work struct {
		name  string
		start func(testing.TB, contender) (workload, api.Module)
	}
	var all []work
	for _, l := range tightLoops {
		all = append(all, work{l.name, tightLoop(l.body)})
	}
	for _, w := range append(all, []work{
		{"c-fieldsum", aggregate("../../../examples/guests/c/fieldsum.wasm", `"delay"`)},
		{"go-flights", aggregate("../../../examples/flights/flights.wasm", "null")},
	}...) {
		b.Run(w.name, func(b *testing.B) {
			runs := make([]workload, len(contenders))
			best := make([]time.Duration, len(contenders))
			var metered api.Module
			for i, c := range contenders {
				var m api.Module
				if runs[i], m = w.start(b, c); c.metered {
					metered = m
				}
				best[i] = time.Hour
			}
			var used int64
			for b.Loop() {
				for i, run := range runs {
					setFuel(metered, ample)
					began := time.Now()
					require.NoError(b, run())
					best[i] = min(best[i], time.Since(began))
					if contenders[i].metered {
						used = ample - remaining(metered)
					}
				}
			}
			b.ReportMetric(float64(best[1])/float64(best[0]), "metered/plain")
			b.ReportMetric(float64(best[2])/float64(best[0]), "closeOnDone/plain")
			b.ReportMetric(float64(best[1].Nanoseconds())/float64(used), "ns/fuel")
			b.ReportMetric(float64(used), "fuel")
			b.ReportMetric(float64(best[0].Microseconds()), "plain-µs")
			b.ReportMetric(0, "ns/op") // of all three together it says nothing
		})
	}
}

// flightsBatch is a packed batch of about n bytes.
func flightsBatch(n int) (batch []byte) {
	for k := 0; len(batch) < n; k++ {
		key, value := fmt.Sprintf("LAS/2001-01-01/%04d", k), fmt.Sprintf(`{"dest":"PHX","distance":255,"delay":%d,"origin":"LAS"}`, k%100-10)
		batch = binary.LittleEndian.AppendUint32(batch, uint32(len(key)))
		batch = binary.LittleEndian.AppendUint32(batch, uint32(len(value)))
		batch = binary.LittleEndian.AppendUint64(batch, 1)
		batch = append(append(batch, key...), value...)
	}
	return batch
}

// aggregate adds a batch of flights to a range function.
func aggregate(path, arg string) func(testing.TB, contender) (workload, api.Module) {
	batch := flightsBatch(64 << 10)
	return func(t testing.TB, c contender) (workload, api.Module) {
		module, err := os.ReadFile(path)
		require.NoError(t, err)
		if c.metered {
			module, err = Rewrite(module)
			require.NoError(t, err)
		}
		r := engine(t, c.config)
		m, err := r.CompileModule(ctx, module)
		require.NoError(t, err)
		serve(t, r, m)
		i, err := r.InstantiateModule(ctx, m, wazero.NewModuleConfig().WithStartFunctions())
		require.NoError(t, err)
		if c.metered {
			setFuel(i, ample)
		}
		call := func(name string, args ...uint64) (result uint64) {
			got, err := i.ExportedFunction(name).Call(ctx, args...)
			require.NoError(t, err)
			if len(got) > 0 {
				result = got[0]
			}
			return result
		}
		put := func(b []byte) (ptr, n uint64) {
			ptr = call("locus_alloc", uint64(len(b)))
			require.True(t, i.Memory().Write(uint32(ptr), b))
			return ptr, uint64(len(b))
		}
		if i.ExportedFunction("_initialize") != nil {
			call("_initialize")
		}
		ptr, n := put([]byte(arg))
		call("locus_range_init", 0, ptr, n)
		return func() error {
			ptr, n := put(batch)
			call("locus_range_add", ptr, n)
			return nil
		}, i
	}
}

// BenchmarkRewrite is part of what a node pays for a module that it meets for the first time.
func BenchmarkRewrite(b *testing.B) {
	module := guestFile(b, examples+"flights/flights.wasm")
	b.SetBytes(int64(len(module)))
	b.ReportAllocs()
	for b.Loop() {
		_, err := Rewrite(module)
		require.NoError(b, err)
	}
}
