package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"math/big"
	"strings"

	"github.com/locuskv/locus/api"
)

// Query is a question about the records of a span, which the nodes answer where the records lie. Its language, and what
// is exact, is in docs/query.md. Names in expressions are fields of the value, a JSON object unless there is a Layout;
// parts of the key, where Key names them; key and value.
type Query struct {
	// Where leaves out records for which it is not true: "delay > 15 and destination != 'JFK'". Empty: none.
	Where string
	// GroupBy are the expressions whose values make groups. None: all records are one.
	GroupBy []string
	// Aggregates are what is computed of each group: count(), count(x), sum(x), mean(x), variance(x), stddev(x), min(x),
	// max(x), p0(x) to p100(x), median(x), distinct(x) and topk(x, k) of an expression x. None: count().
	Aggregates []string
	// By names the column that rows are ordered by, the greatest first ("mean(delay)"), or the least ("mean(delay) asc").
	// Empty: with Top the first aggregate, else the groups.
	By string
	// Top is how many rows there are at most. 0: all groups.
	Top int
	// Select are the expressions that DB.Select yields of each record. None: key and value.
	Select []string

	// Key names the parts of the key: "origin/date/seq". Parts are also key[0], key[1] and so on.
	Key string
	// Delimiter is the byte between them; empty: '/'.
	Delimiter string
	// Layout says that values are binary, and where their fields are: "delay:i16@0,distance:u32@4".
	Layout string
}

func (q Query) wire() api.Query { return api.Query(q) }

// QueryResult is the answer to a Query.
type QueryResult struct {
	Columns []Column // of the groups, and then of the aggregates
	// Rows have a value per column: nil, bool, int64, *big.Int beyond that, float64, string, []byte for a text that is not
	// UTF-8, or TopValues.
	Rows      [][]any
	Records   uint64 // read
	Matched   uint64 // that fit Where
	Groups    uint64 // before Top
	Skipped   []Skipped
	Timestamp Timestamp // that was read at
}

// Column is a column of a QueryResult. It is exact if all errors are 0.
type Column struct {
	Name  string
	Group bool
	// RelativeError is a bound: a quantile is no further than this from the value of its rank, by that value.
	RelativeError float64
	// StandardError is that of an estimate, by what is estimated: two thirds of all are as near as that, 95% within twice.
	StandardError float64
	// CountError is a bound: no count of topk is too small by more than this, by the number of values in its group.
	CountError float64
}

// TopValues is what topk(x, k) comes to: the k most frequent values, as far as is known.
type TopValues struct {
	// Values begin with the most frequent. A value that is not among them was there at most Error times more than the
	// last of them, if there are k; else at most Error times.
	Values []Frequency
	// Error is by how much counts are too small, at most: 0 if they are exact.
	Error uint64
}

// Frequency is a value, as in QueryResult.Rows, and how often it was there: at least Count times.
type Frequency struct {
	Value any
	Count uint64
}

// Skipped says of how many records an expression met a value of another type than it takes, and took it for missing.
type Skipped struct {
	Expression string
	Records    uint64
}

var queryFunction = NewRangeFunc[api.Query, api.QueryResult](api.FunctionQuery)

// Query answers a query over a span: on the nodes that have the records, at one timestamp, all in memory there; what
// travels are the groups. It runs as a range function does, with its options and errors. What is wrong with the query is
// *InvalidArgumentError, which says where; too many groups are *LimitError.
func (db *DB) Query(ctx context.Context, span Span, q Query, opts ...RunOption) (*QueryResult, error) {
	if err := db.owns(span); err != nil {
		return nil, err
	}
	r, err := queryFunction.Do(ctx, span, q.wire(), opts...)
	if err != nil {
		return nil, err
	}
	out := &QueryResult{Records: r.Value.Records, Matched: r.Value.Matched, Groups: r.Value.Groups, Timestamp: r.Timestamp}
	for _, c := range r.Value.Columns {
		out.Columns = append(out.Columns, Column(c))
	}
	for _, s := range r.Value.Skipped {
		out.Skipped = append(out.Skipped, Skipped(s))
	}
	for _, raw := range r.Value.Rows {
		row, err := rowOf(raw)
		if err == nil {
			err = readTopValues(row)
		}
		if err == nil && len(row) != len(out.Columns) {
			err = &ResultError{Cause: fmt.Errorf("a row has %d cells for %d columns", len(row), len(out.Columns))}
		}
		if err != nil {
			return nil, err
		}
		out.Rows = append(out.Rows, row)
	}
	return out, nil
}

var selectFunction = NewRangeFunc[api.Query, []json.RawMessage](api.FunctionSelect)

// Select yields a row for each record of a span that fits: the values of Query.Select, as in QueryResult.Rows, and JSON
// objects and arrays as json.RawMessage. It is a stream, as RangeFunc.Stream is, with its options and errors; leaving the
// loop ends the work.
func (db *DB) Select(ctx context.Context, span Span, q Query, opts ...RunOption) iter.Seq2[[]any, error] {
	return func(yield func([]any, error) bool) {
		if err := db.owns(span); err != nil {
			yield(nil, err)
			return
		}
		for raw, err := range selectFunction.Stream(ctx, span, q.wire(), opts...) {
			var row []any
			if err == nil {
				row, err = rowOf(raw)
			}
			if !yield(row, err) || err != nil {
				return
			}
		}
	}
}

// readTopValues reads the cells of an answer that are no scalars.
func readTopValues(row []any) error {
	for i, v := range row {
		raw, ok := v.(json.RawMessage)
		if !ok {
			continue
		}
		var wire api.QueryTopValues
		if err := json.Unmarshal(raw, &wire); err != nil {
			return &ResultError{Cause: err}
		}
		top := TopValues{Values: make([]Frequency, len(wire.Values)), Error: wire.Error}
		for j, f := range wire.Values {
			value, err := cellOf(f.Value)
			if err != nil {
				return &ResultError{Cause: err}
			}
			top.Values[j] = Frequency{Value: value, Count: f.Count}
		}
		row[i] = top
	}
	return nil
}

func (db *DB) owns(span Span) error {
	if span.ks != nil && span.ks.db != db {
		return &InvalidArgumentError{Reason: "the span is of another DB"}
	}
	return nil
}

func rowOf(raw []json.RawMessage) ([]any, error) {
	row := make([]any, len(raw))
	for i, cell := range raw {
		v, err := cellOf(cell)
		if err != nil {
			return nil, &ResultError{Cause: err}
		}
		row[i] = v
	}
	return row, nil
}

func cellOf(cell json.RawMessage) (any, error) {
	switch {
	case bytes.HasPrefix(cell, []byte(`{"base64":`)):
		var b api.QueryBytes
		if err := json.Unmarshal(cell, &b); err == nil {
			return b.Base64, nil
		}
		return cell, nil
	case len(cell) > 0 && (cell[0] == '{' || cell[0] == '['):
		return cell, nil
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(cell))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	n, ok := v.(json.Number)
	if !ok {
		return v, nil
	}
	if strings.ContainsAny(n.String(), ".eE") {
		return n.Float64()
	}
	if i, err := n.Int64(); err == nil {
		return i, nil
	}
	if i, ok := new(big.Int).SetString(n.String(), 10); ok {
		return i, nil
	}
	return n.Float64()
}
