package functions

import (
	"context"
	"errors"
	"fmt"

	"github.com/locuskv/locus/bench/functions/native"
	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/examples/flights"
	"github.com/locuskv/locus/examples/guests"
)

// firstCalls starts one node again and again, and times the first call of a guest on it, which loads what was compiled before; the native
// function over the same records comes first, so that the client knows its way.
func (b *bench) firstCalls(ctx context.Context, row *Row) (err error) {
	n, err := startNodes(ctx, b.o, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.remove()) }()
	if b.report.Version == "" {
		b.report.Version = n.version(ctx)
	}
	const records = 10
	if err := fillFirst(ctx, n.db, records); err != nil {
		return err
	}
	callees := []near{
		{name: "guest in C", run: guestC("delays").run, function: "delays", module: guests.Delays},
		{name: "guest in Go", run: airports(flights.FunctionName), function: flights.FunctionName, module: flights.Module},
	}
	for _, f := range callees {
		if _, err := n.db.RegisterFunction(ctx, f.function, f.module); err != nil {
			return err
		}
		if _, err := f.run(ctx, n.db.Keyspace(jsonKeyspace).All()); err != nil { // compiles it
			return err
		}
	}
	samples := make([][2][]float64, len(callees)) // first and second calls
	for range b.o.Rounds {
		if err := errors.Join(n.stop(ctx), n.again(ctx, nodeArgs("0")...)); err != nil {
			return err
		}
		if err := firstRound(ctx, n.db, callees, samples, records); err != nil {
			return err
		}
	}
	for i, f := range callees {
		for j, which := range []string{"first", "second"} {
			row.Contenders = append(row.Contenders, Contender{Name: f.name + ", " + which + " call", Unit: "ms", Series: seriesOf(samples[i][j])})
		}
		row.aim("", f.name+", first call", "ms", median(samples[i][0]), 30, true)
	}
	return nil
}

func firstRound(ctx context.Context, db *client.DB, callees []near, samples [][2][]float64, records int64) error {
	ks := db.Keyspace(jsonKeyspace)
	if _, err := builtin(native.DelaysJSON).run(ctx, ks.All()); err != nil {
		return err
	}
	for i, f := range callees {
		for j := range 2 {
			took, err := timed(func(ctx context.Context) error {
				got, err := f.run(ctx, ks.All())
				if err == nil && (len(got) != 1 || got[0].Flights != records) {
					err = fmt.Errorf("a wrong answer: %+v", got)
				}
				return err
			})(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			samples[i][j] = append(samples[i][j], took)
		}
	}
	return nil
}

func fillFirst(ctx context.Context, db *client.DB, records int) error {
	if err := db.CreateKeyspace(ctx, jsonKeyspace, client.KeyspaceOptions{}); err != nil {
		return err
	}
	var numbers flights.Numberer
	for i := range records {
		r := flights.Record{Date: "2001-01-01T00:01", Delay: i, Origin: "LAS", Destination: "PHL"}
		if _, err := db.Keyspace(jsonKeyspace).Put(ctx, numbers.Key(r), flights.Value(r)); err != nil {
			return err
		}
	}
	return nil
}
