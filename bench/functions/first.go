package functions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/locuskv/locus/bench/functions/native"
	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/examples/flights"
)

const (
	firstRecords = 10
	// readyPoll is how often a node is asked whether it has a function ready.
	readyPoll = time.Millisecond
)

// firstCalls starts one node again and again, and times the first call of a guest on it. Of active versions: the node makes them ready by
// itself when it starts, and is called as soon as it is there. Then of versions that are not active, for which a node does nothing before they
// are called: it finds the module and its compiled code on its disk.
func (b *bench) firstCalls(ctx context.Context, row *Row) (err error) {
	n, err := startNodes(ctx, b.o, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.remove()) }()
	if b.report.Version == "" {
		b.report.Version = n.version(ctx)
	}
	if err := fillFirst(ctx, n.db); err != nil {
		return err
	}
	if err := n.registerFirst(ctx); err != nil {
		return err
	}
	if err := b.firstRounds(ctx, n, row, "prepared", firstCallees()); err != nil {
		return err
	}
	if err := b.readyRounds(ctx, n, row); err != nil {
		return err
	}
	for _, f := range firstCallees() {
		if _, err := n.db.RemoveFunction(ctx, f.function); err != nil {
			return err
		}
	}
	if err := n.registerFirst(ctx, client.Inactive()); err != nil {
		return err
	}
	return b.firstRounds(ctx, n, row, "not prepared", firstCallees(client.Version(inactiveVersion)))
}

// inactiveVersion is what a function gets that is registered again after its removal: no number is given twice.
const inactiveVersion = 2

func firstCallees(o ...client.FuncOption) []near {
	return []near{guestC("delays", o...), {name: "guest in Go", run: airports(flights.FunctionName, o...), function: flights.FunctionName, module: flights.Module}}
}

func (n *nodes) registerFirst(ctx context.Context, o ...client.RegisterOption) error {
	for _, f := range firstCallees() {
		if _, err := n.db.RegisterFunction(ctx, f.function, f.module, o...); err != nil {
			return err
		}
	}
	return nil
}

func (n *nodes) restart(ctx context.Context) error {
	return errors.Join(n.stop(ctx), n.again(ctx, nodeArgs("0")...))
}

// firstRounds times first and second calls, after a round without measurement in which the modules come to the node's disk. The callees
// take turns at being first.
func (b *bench) firstRounds(ctx context.Context, n *nodes, row *Row, state string, callees []near) error {
	samples := map[string][2][]float64{} // first and second calls
	for round := range b.o.Rounds + 1 {
		if err := n.restart(ctx); err != nil {
			return err
		}
		// The native function over the same records comes first, so that the client knows its way.
		if _, err := builtin(native.DelaysJSON).run(ctx, n.db.Keyspace(jsonKeyspace).All()); err != nil {
			return err
		}
		for i := range callees {
			f := callees[(i+round)%len(callees)]
			took, err := twice(ctx, n.db, f)
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			if round > 0 {
				s := samples[f.name]
				samples[f.name] = [2][]float64{append(s[0], took[0]), append(s[1], took[1])}
			}
		}
	}
	for _, f := range callees {
		for j, which := range []string{"first", "second"} {
			row.Contenders = append(row.Contenders, Contender{State: state, Name: f.name + ", " + which + " call", Unit: "ms", Series: seriesOf(samples[f.name][j])})
		}
		row.aim(state, f.name+", first call", "ms", median(samples[f.name][0]), 30, true)
	}
	return nil
}

// twice times two calls.
func twice(ctx context.Context, db *client.DB, f near) (took [2]float64, err error) {
	for j := range took {
		took[j], err = timed(func(ctx context.Context) error {
			got, err := f.run(ctx, db.Keyspace(jsonKeyspace).All())
			if err == nil && (len(got) != 1 || got[0].Flights != firstRecords) {
				err = fmt.Errorf("a wrong answer: %+v", got)
			}
			return err
		})(ctx)
		if err != nil {
			return took, err
		}
	}
	return took, nil
}

// readyRounds times how long a node that is there still takes until it has the functions ready. Nobody calls them meanwhile.
func (b *bench) readyRounds(ctx context.Context, n *nodes, row *Row) error {
	var samples []float64
	for range b.o.Rounds {
		if err := n.restart(ctx); err != nil {
			return err
		}
		took, err := timed(n.awaitReady)(ctx)
		if err != nil {
			return err
		}
		samples = append(samples, took)
	}
	row.Contenders = append(row.Contenders, Contender{State: "prepared", Name: "from a node that is there to functions that are ready", Unit: "ms", Series: seriesOf(samples)})
	return nil
}

func (n *nodes) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	for _, f := range firstCallees() {
		for {
			d, err := n.db.DescribeFunction(ctx, f.function)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(d.Nodes, func(n client.FunctionNode) bool { return len(n.Compiled) > 0 }) {
				break
			}
			time.Sleep(readyPoll)
		}
	}
	return nil
}

func fillFirst(ctx context.Context, db *client.DB) error {
	if err := db.CreateKeyspace(ctx, jsonKeyspace, client.KeyspaceOptions{}); err != nil {
		return err
	}
	var numbers flights.Numberer
	for i := range firstRecords {
		r := flights.Record{Date: "2001-01-01T00:01", Delay: i, Origin: "LAS", Destination: "PHL"}
		if _, err := db.Keyspace(jsonKeyspace).Put(ctx, numbers.Key(r), flights.Value(r)); err != nil {
			return err
		}
	}
	return nil
}
