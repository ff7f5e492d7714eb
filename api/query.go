package api

import "encoding/json"

// The functions of every node that answer queries: FunctionQuery is a range function from a Query to a QueryResult,
// FunctionSelect a map function from a Query to rows. Both are JSON.
const (
	FunctionQuery  = "locus.query"
	FunctionSelect = "locus.select"
)

// Query is what the nodes are asked. Lists may also be written into one string, with commas.
type Query struct {
	Where      string   `json:"where,omitempty"`
	GroupBy    []string `json:"group_by,omitempty"`
	Aggregates []string `json:"aggregates,omitempty"`
	By         string   `json:"by,omitempty"`
	Top        int      `json:"top,omitempty"`
	Select     []string `json:"select,omitempty"`
	Key        string   `json:"key,omitempty"`
	Delimiter  string   `json:"delimiter,omitempty"`
	Layout     string   `json:"layout,omitempty"`
}

// QueryResult is their answer. A row has a cell per column: a JSON scalar, {"base64": ...} for a text that is not UTF-8, or
// a QueryTopValues.
type QueryResult struct {
	Columns []QueryColumn       `json:"columns"`
	Rows    [][]json.RawMessage `json:"rows"`
	Records uint64              `json:"records"`
	Matched uint64              `json:"matched"`
	Groups  uint64              `json:"groups"`
	Skipped []QuerySkipped      `json:"skipped,omitempty"`
}

// QueryColumn is a column. One of the errors is above 0 if it is approximate.
type QueryColumn struct {
	Name          string  `json:"name"`
	Group         bool    `json:"group,omitempty"`
	RelativeError float64 `json:"relative_error,omitempty"`
	StandardError float64 `json:"standard_error,omitempty"`
	CountError    float64 `json:"count_error,omitempty"`
}

// QueryTopValues is what topk(x, k) comes to: values, the most frequent first, whose counts are too small by at most Error.
type QueryTopValues struct {
	Values []QueryFrequency `json:"values"`
	Error  uint64           `json:"error"`
}

// QueryFrequency is a value, which is as in rows, and how often it was there.
type QueryFrequency struct {
	Value json.RawMessage `json:"value"`
	Count uint64          `json:"count"`
}

// QuerySkipped says for how many records an expression met a value of another type than it takes.
type QuerySkipped struct {
	Expression string `json:"expression"`
	Records    uint64 `json:"records"`
}

// QueryBytes is a text that is not UTF-8.
type QueryBytes struct {
	Base64 []byte `json:"base64"`
}
