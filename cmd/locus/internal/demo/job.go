package demo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/cmd/locus/internal/output"
	"github.com/locuskv/locus/cmd/locus/internal/progress"
	"github.com/locuskv/locus/examples/flights"
)

// The table shows the worst airports among those that are not mere accidents.
const (
	topAirports = 10
	minFlights  = 100
)

// delays is the job: a range function without argument whose result is the summary of every airport.
var delays = client.NewRangeFunc[*struct{}, []flights.Airport](flights.FunctionName)

// answer is a result and what it cost.
type answer struct {
	airports []flights.Airport
	took     time.Duration
	received uint64 // bytes that came to this process
	sent     uint64
}

// measure runs f and counts the time and the bytes on the client's connections.
func (d *demo) measure(f func() ([]flights.Airport, error)) (answer, error) {
	before, begun := d.db.Stats(), time.Now()
	airports, err := f()
	took, after := time.Since(begun), d.db.Stats()
	return answer{
		airports: airports, took: took,
		received: after.BytesReceived - before.BytesReceived, sent: after.BytesSent - before.BytesSent,
	}, err
}

// register registers the job's WebAssembly module from a file.
func (d *demo) register(ctx context.Context) error {
	path := filepath.Join(d.cluster.dir, flights.FunctionName+".wasm")
	if err := os.WriteFile(path, flights.Module, 0o600); err != nil {
		return fmt.Errorf("writing the module: %w", err)
	}
	module, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading the module: %w", err)
	}
	step := d.progress.Step("registering "+flights.FunctionName, 0, progress.Things)
	defer step.Done()
	begun := time.Now()
	info, err := d.db.RegisterFunction(ctx, flights.FunctionName, module)
	if err != nil {
		return fmt.Errorf("registering %s: %w", flights.FunctionName, err)
	}
	step.Done()
	d.say("registered %s version %d from %s (%s of WebAssembly) in %s",
		info.Name, info.Version, filepath.Base(path), output.Bytes(len(module)), output.Duration(time.Since(begun)))
	return nil
}

// run runs the job over the whole keyspace.
func (d *demo) run(ctx context.Context, name string) (answer, error) {
	step := d.progress.Step(name, 0, progress.Things)
	defer step.Done()
	return d.measure(func() ([]flights.Airport, error) {
		return delays.Run(ctx, d.db.Keyspace(keyspace).All(), nil)
	})
}

// pages are the page sizes that the pull is tried with; the quickest counts.
var pages = []int{1 << 20, 256 << 10, 4 << 20}

// pull computes the same here, from every record: all ranges are read beside each other at one timestamp,
// and summed up while the next pages are on their way.
func (d *demo) pull(ctx context.Context, page int) (answer, error) {
	step := d.progress.Step("pulling every record", d.rows, progress.Things)
	defer step.Done()
	return d.measure(func() ([]flights.Airport, error) {
		snapshot, err := d.db.Snapshot(ctx)
		if err != nil {
			return nil, err
		}
		defer snapshot.Close()
		parts := make([]flights.Accumulator, len(d.spans))
		group, ctx := errgroup.WithContext(ctx)
		for i, s := range d.spans {
			records := d.db.Keyspace(keyspace).Scan(ctx, d.db.Keyspace(keyspace).Span(s.start, s.end),
				client.AtTimestamp(snapshot.Timestamp()), client.PageBytes(page))
			group.Go(guard(func() error { return accumulate(records, &parts[i], step) }))
		}
		if err := group.Wait(); err != nil {
			return nil, err
		}
		var sum flights.Accumulator
		for i := range parts {
			sum.Merge(&parts[i])
		}
		d.partials = parts
		return sum.Airports(), nil
	})
}

// accumulate sums up the records of one range.
func accumulate(records iter.Seq2[client.Item, error], into *flights.Accumulator, step *progress.Step) error {
	n := int64(0)
	for item, err := range records {
		if err != nil {
			return err
		}
		if err := into.Add(item.Key, item.Value); err != nil {
			return fmt.Errorf("record %q: %w", item.Key, err)
		}
		if n++; n%1024 == 0 {
			step.Add(1024)
		}
	}
	return nil
}

// compare runs the job where the data lies and by pulling, several times each, checks that all answers are
// equal, and prints the table and the best times. The first run of the job also fetches and compiles the
// module on every node, and is told apart.
func (d *demo) compare(ctx context.Context) error {
	first, err := d.run(ctx, "running where the data lies")
	if err != nil {
		return fmt.Errorf("running %s: %w", flights.FunctionName, err)
	}
	d.truth = first.airports
	if err := d.check(first); err != nil {
		return err
	}
	d.table()
	pushed, pulled, err := d.rounds(ctx)
	if err != nil {
		return err
	}
	d.say("pulling every record to the client gives the same answer: %d airports, %s flights", len(d.truth), output.Count(d.rows))
	between, err := d.partialBytes()
	if err != nil {
		return err
	}
	t := output.NewTable("", ">time", ">client and nodes", ">between nodes")
	for _, row := range []struct {
		name    string
		a       answer
		between string
	}{
		{"function where the data lies, first run", first, "+ the module"},
		{"function where the data lies, best of 3", pushed, "at most " + output.Bytes(between)},
		{"pulling every record, best of 3", pulled, "none"},
	} {
		t.Row(row.name, output.Duration(row.a.took), output.Bytes(row.a.received+row.a.sent), row.between)
	}
	d.write(t)
	wire := time.Duration(float64(pulled.received) * 8 / gigabit * float64(time.Second))
	d.say("(bytes on the network; loopback carries them for nothing, 1 Gbit/s would take %s for the pull's alone)", output.Duration(wire))
	return nil
}

// gigabit is the bits per second of the network that the bytes are put in proportion with.
const gigabit = 1e9

// partialBytes is the size of the partial results of all ranges, in the encoding in which the function's
// accumulators cross from node to node. Those of the gateway's own ranges don't cross, so it is a bound.
func (d *demo) partialBytes() (uint64, error) {
	var sum uint64
	for i := range d.partials {
		b, err := d.partials[i].MarshalBinary()
		if err != nil {
			return 0, fmt.Errorf("encoding a partial result: %w", err)
		}
		sum += uint64(len(b))
	}
	return sum, nil
}

// rounds runs the job and pulls in turn, so that both see the same state of the machine and of the engines,
// which go on compacting after a load, and returns the quickest of each. Every answer has to be the true one.
func (d *demo) rounds(ctx context.Context) (pushed, pulled answer, err error) {
	for i, page := range pages {
		a, err := d.run(ctx, "running it again")
		if err == nil {
			err = d.check(a)
		}
		if err != nil {
			return pushed, pulled, fmt.Errorf("running %s again: %w", flights.FunctionName, err)
		}
		b, err := d.pull(ctx, page)
		if err == nil {
			err = d.check(b)
		}
		if err != nil {
			return pushed, pulled, fmt.Errorf("pulling every record: %w", err)
		}
		if i == 0 || a.took < pushed.took {
			pushed = a
		}
		if i == 0 || b.took < pulled.took {
			pulled = b
		}
	}
	return pushed, pulled, nil
}

// check compares an answer with the first one, to the last digit.
func (d *demo) check(a answer) error {
	if !reflect.DeepEqual(a.airports, d.truth) {
		return errors.New("the answer differs from the function's: this must not happen, please report it")
	}
	var sum int64
	for _, x := range a.airports {
		sum += x.Flights
	}
	if sum != d.rows {
		return fmt.Errorf("the answer counts %d flights, and %d were loaded", sum, d.rows)
	}
	return nil
}

// table prints the airports with the highest mean delay.
func (d *demo) table() {
	t := output.NewTable("origin", ">flights", ">mean delay", ">late > 15 min", ">95th percentile")
	for _, a := range flights.Top(d.truth, topAirports, minFlights) {
		t.Row(a.Origin, output.Count(a.Flights), fmt.Sprintf("%.2f min", a.MeanDelay),
			fmt.Sprintf("%.1f %%", 100*a.DelayedShare), fmt.Sprintf("%d min", a.P95))
	}
	d.write(t)
}
