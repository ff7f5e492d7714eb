package client_test

import (
	"errors"
	"fmt"

	"github.com/locuskv/locus/client"
)

// bookings are a few flights over three ranges.
func bookings(name string) (*client.DB, *client.Keyspace) {
	db, ks := newKeyspace(name, client.KeyspaceOptions{SplitAt: [][]byte{[]byte("JFK"), []byte("LAX/2001-01-02")}})
	for key, value := range map[string]string{
		"DEN/2001-01-01/0001": `{"delay":5,"to":"JFK"}`,
		"DEN/2001-01-02/0001": `{"delay":40,"to":"LAX"}`,
		"JFK/2001-01-01/0001": `{"delay":-3,"to":"LAX"}`,
		"LAX/2001-01-01/0001": `{"delay":20,"to":"DEN"}`,
		"LAX/2001-01-02/0001": `{"to":"DEN"}`,
		"LAX/2001-01-03/0001": `{"delay":"late","to":"JFK"}`,
	} {
		must(ks.Put(ctx, []byte(key), []byte(value)))
	}
	return db, ks
}

// The nodes filter, group and aggregate; what travels are the groups.
func ExampleDB_Query() {
	db, ks := bookings("query")
	r := must(db.Query(ctx, ks.All(), client.Query{
		Key:        "origin/date/seq",
		GroupBy:    []string{"origin"},
		Aggregates: []string{"count()", "mean(delay)", "p95(delay)", "distinct(to)"},
	}))
	for _, c := range r.Columns {
		fmt.Printf("%s ±%.2g%% ±%.2g%%\n", c.Name, 100*c.RelativeError, 100*c.StandardError)
	}
	for _, row := range r.Rows {
		fmt.Println(row...)
	}
	fmt.Println(r.Records, r.Skipped)

	_, err := db.Query(ctx, ks.All(), client.Query{Where: "delay > 'late' + 1"})
	var wrong *client.InvalidArgumentError
	fmt.Println(errors.As(err, &wrong), err)
	// Output:
	// origin ±0% ±0%
	// count() ±0% ±0%
	// mean(delay) ±0% ±0%
	// p95(delay) ±1% ±0%
	// distinct(to) ±0% ±0.81%
	// DEN 2 22.5 40 2
	// JFK 1 -3 -3 1
	// LAX 3 20 20 2
	// 6 [{delay 1}]
	// true locus: where: expression "delay > 'late' + 1", column 9: + takes a number, and this is a text
}

// Without groups there is one row; with Top the rows are ordered by a column.
func ExampleDB_Query_top() {
	db, ks := bookings("query-top")
	r := must(db.Query(ctx, ks.All(), client.Query{
		GroupBy: []string{"to"}, Aggregates: []string{"count() as flights", "max(delay)"}, Top: 2, By: "max(delay)",
		Where: "delay != null",
	}))
	for _, row := range r.Rows {
		fmt.Println(row...)
	}
	fmt.Println(r.Groups, "groups")
	// Output:
	// JFK 2 late
	// LAX 2 40
	// 3 groups
}

// The most frequent values, and by how much their counts may be too small: of few values, not at all.
func ExampleDB_Query_topK() {
	db, ks := bookings("query-topk")
	r := must(db.Query(ctx, ks.All(), client.Query{Aggregates: []string{"topk(to, 2)", "topk(key[1], 1)"}}))
	for i, c := range r.Columns {
		top := r.Rows[0][i].(client.TopValues)
		fmt.Println(c.Name, top.Values, top.Error, c.CountError)
	}
	_, err := db.Query(ctx, ks.All(), client.Query{Aggregates: []string{"topk(to, 1000)"}})
	var limit *client.LimitError
	fmt.Println(errors.As(err, &limit), err)
	// Output:
	// topk(to, 2) [{DEN 2} {JFK 2}] 0 0.001
	// topk(key[1], 1) [{2001-01-01 3}] 0 0.001
	// true locus: k of aggregate "topk(to, 1000)" is 1000, more than the limit of 100
}

// A projection is a stream of rows, here in the order of the keys.
func ExampleDB_Select() {
	db, ks := bookings("select")
	q := client.Query{Where: "delay > 0", Select: []string{"key[0]", "key[1]", "delay * 60"}}
	for row, err := range db.Select(ctx, ks.All(), q, client.KeyOrder()) {
		fmt.Println(row, err)
	}
	// Output:
	// [DEN 2001-01-01 300] <nil>
	// [DEN 2001-01-02 2400] <nil>
	// [LAX 2001-01-01 1200] <nil>
}
