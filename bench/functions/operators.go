package functions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/locuskv/locus/bench/functions/native"
	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/examples/flights"
)

// The built-in operators are a range function that every node has, in versions of Locus that have operators. Nodes that don't are
// measured without, and the report says so.
const (
	operators     = "locus.query"
	operatorsName = "built-in operators"
)

// query is what the operators are asked, as far as it is needed here.
type query struct {
	Key        string   `json:"key,omitempty"` // the names of the key's parts
	Layout     string   `json:"layout,omitempty"`
	GroupBy    []string `json:"group_by,omitempty"`
	Aggregates []string `json:"aggregates"`
}

type queried struct {
	Columns []struct {
		RelativeError float64 `json:"relative_error"`
	} `json:"columns"`
	Rows [][]json.RawMessage `json:"rows"`
}

var runOperators = client.NewRangeFunc[query, queried](operators)

// cells reads a row.
func cells(row []json.RawMessage, to ...any) error {
	if len(row) != len(to) {
		return fmt.Errorf("a row of %d cells instead of %d", len(row), len(to))
	}
	for i, cell := range row {
		if err := json.Unmarshal(cell, to[i]); err != nil {
			return fmt.Errorf("cell %d: %w", i, err)
		}
	}
	return nil
}

// airportsByOperators is the aggregate over flights. The percentile is within the error that the answer states, and rounded.
func airportsByOperators(layout string) near {
	q := query{Key: "origin/date/seq", Layout: layout, GroupBy: []string{"origin"}, Aggregates: []string{"count()", "mean(delay)", "p95(delay)"}}
	run := func(ctx context.Context, span client.Span) ([]flights.Airport, error) {
		got, err := runOperators.Run(ctx, span, q)
		if err != nil {
			return nil, err
		}
		if n := len(got.Columns); n != 4 || got.Columns[3].RelativeError > p95Error {
			return nil, fmt.Errorf("the columns are %+v", got.Columns)
		}
		var out []flights.Airport
		for _, row := range got.Rows {
			var a flights.Airport
			var p95 float64
			if err := cells(row, &a.Origin, &a.Flights, &a.MeanDelay, &p95); err != nil {
				return nil, err
			}
			a.P95 = int(math.Round(p95))
			out = append(out, a)
		}
		return out, nil
	}
	return near{name: operatorsName, function: operators, aimed: true, approximate: true, run: run}
}

// p95Error is the most that a percentile of the operators may be off, as a part of itself.
const p95Error = 0.02

// sumByOperators is the sum of a field.
func sumByOperators(ctx context.Context, span client.Span, offset uint32) (t native.Total, err error) {
	q := query{Layout: fmt.Sprintf("field:i64@%d", offset), Aggregates: []string{"count()", "sum(field)"}}
	got, err := runOperators.Run(ctx, span, q)
	if err != nil {
		return t, err
	}
	if len(got.Rows) != 1 {
		return t, fmt.Errorf("%d rows instead of 1", len(got.Rows))
	}
	return t, cells(got.Rows[0], &t.Count, &t.Sum)
}

// noOperators says whether an error is that the nodes have none.
func noOperators(err error) bool {
	missing := new(client.FunctionNotFoundError)
	return errors.As(err, &missing) && missing.Name == operators
}

const withoutOperators = operatorsName + ": the nodes have no function " + operators
