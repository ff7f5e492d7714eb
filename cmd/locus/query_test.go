package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/examples/flights"
)

// TestQuery is a session of a user with the sample of flights, over three ranges.
func TestQuery(t *testing.T) {
	t.Parallel()
	env := node(t)
	env["LOCUS_KEYSPACE"] = "flights"
	require.Zero(t, cli(t, env, "keyspace", "create", "flights", "--split-at", "D,M").code)
	file := filepath.Join(t.TempDir(), "flights.csv.gz")
	var exact flights.Accumulator
	var keys flights.Numberer
	require.NoError(t, flights.Read(flights.Sample(), func(r flights.Record) error { return exact.Add(keys.Key(r), flights.Value(r)) }))
	copySample(t, file)
	require.Zero(t, cli(t, env, "import", file, "--key", "origin/date:10/seq").code)

	// The answer of the demonstration, for a machine.
	a := cli(t, env, "query", "--key", "origin/date/seq", "--group", "origin", "--agg", "count(), mean(delay), p95(delay)", "-o", "json")
	require.Zero(t, a.code, a.err)
	var got queryJSON
	require.NoError(t, json.Unmarshal([]byte(a.out), &got))
	airports := exact.Airports()
	require.Len(t, got.Rows, len(airports))
	for i, row := range got.Rows {
		require.Equal(t, airports[i].Origin, row[0])
		require.EqualValues(t, airports[i].Flights, row[1])
		require.Equal(t, airports[i].MeanDelay, row[2])
		require.InEpsilon(t, 1e-9+float64(airports[i].P95), 1e-9+row[3].(float64), got.Columns[3].RelativeError)
	}

	a = cli(t, env, "query", "--where", "delay > 15", "--group", "origin", "--agg", "count(), mean(delay), p95(delay), distinct(destination)", "--top", "3")
	require.Zero(t, a.code, a.err)
	lines := strings.Split(a.out, "\n")
	require.Equal(t, "origin  count()  mean(delay)  p95(delay) ±1%  distinct(destination) ±0.81%", lines[0])
	require.Regexp(t, `^ORD +1362 +55\.253 +140\.009 +\d+$`, lines[1])
	require.Regexp(t, `^100,000 records, 19,909 of them fit; 3 of 212 groups; at \d+\.\d+$`, lines[5])
	require.Equal(t, "quantiles are within 1% of the value that has their rank\n"+
		"distinct counts have a standard error of 0.81%: 95% are within 1.6%\n", strings.Join(lines[6:], "\n"))

	// The most frequent destinations, over three ranges: exact, because they are few; and of too many values with an error.
	to := map[string]uint64{}
	require.NoError(t, flights.Read(flights.Sample(), func(r flights.Record) error { to[r.Destination]++; return nil }))
	a = cli(t, env, "query", "--agg", "topk(destination, 3) as busiest, count()", "-o", "json")
	require.Zero(t, a.code, a.err)
	var top struct {
		Columns []columnJSON
		Rows    [][]json.RawMessage
	}
	require.NoError(t, json.Unmarshal([]byte(a.out), &top))
	require.Equal(t, []columnJSON{{Name: "busiest", CountError: 0.001}, {Name: "count()"}}, top.Columns)
	var busiest topValuesJSON
	require.NoError(t, json.Unmarshal(top.Rows[0][0], &busiest))
	require.Len(t, busiest.Values, 3)
	require.Zero(t, busiest.Error)
	delete(to, "") // there is none
	for _, f := range busiest.Values {
		require.Equal(t, to[f.Value.(string)], f.Count)
		delete(to, f.Value.(string))
	}
	for destination, n := range to {
		require.LessOrEqual(t, n, busiest.Values[2].Count, destination)
	}
	a = cli(t, env, "query", "--key", "origin/date/seq", "--where", "delay > 15", "--group", "origin", "--agg", "count(), topk(destination, 2), max(delay)", "--top", "1")
	require.Zero(t, a.code, a.err)
	lines = strings.Split(a.out, "\n")
	require.Equal(t, "origin  count()  topk(destination, 2) ±0.1%  max(delay)", lines[0])
	require.Regexp(t, `^ORD +1362  [A-Z]{3} \d+, [A-Z]{3} \d+ +\d+$`, lines[1])
	require.Equal(t, "counts of topk may be too small, by at most the +n behind them, which is at most 0.1% of the values of the group; without it they are exact", lines[4])
	a = cli(t, env, "query", "--agg", "topk(delay < 0 ? destination : key, 2)")
	require.Zero(t, a.code, a.err)
	require.Regexp(t, `\n[A-Z]{3} \d+\+\d+, [A-Z]{3} \d+\+\d+\n`, a.out)
	cli(t, env, "query", "--agg", "topk(delay, 101)").fails(t, `k of aggregate "topk(delay, 101)" is 101, more than the limit of 100`)
	cli(t, env, "query", "--agg", "topk(delay)").fails(t, `aggregate "topk(delay)" is not topk(expression, k), for example topk(destination, 10)`)

	a = cli(t, env, "query", "--agg", "sum(destination), min(destination), sum(delay) as all, mean(missing)", "--prefix", "LAS/2001-01-01/")
	require.Zero(t, a.code, a.err)
	require.Regexp(t, `^sum\(destination\)  min\(destination\)  all  mean\(missing\)\n +null +[A-Z]{3} +-?\d+ +null\n\n(\d+) records; at .*\ndestination: in (\d+) records of the wrong type, taken for missing\n$`, a.out)

	// A projection, in the order of the keys, and its first rows.
	q := []string{"query", "--where", "delay > 600", "--select", "key, delay * 60, destination"}
	all := cli(t, env, append(q, "--key-order")...)
	require.Zero(t, all.code, all.err)
	require.Greater(t, strings.Count(all.out, "\n"), 3)
	first := strings.SplitAfter(all.out, "\n")[0]
	require.Regexp(t, `^[A-Z]{3}/2001-\d\d-\d\d/\d{4}\t\d+\t[A-Z]{3}\n$`, first)
	cli(t, env, append(q, "--key-order", "--limit", "1")...).is(t, first)
	machine := cli(t, env, append(q, "--key-order", "--limit", "1", "-o", "json")...)
	var row []any
	require.NoError(t, json.Unmarshal([]byte(machine.out), &row))
	require.Equal(t, strings.Split(first, "\t")[0], row[0])

	explained := cli(t, env, "query", "--explain")
	require.Zero(t, explained.code)
	require.Regexp(t, `(?s)^plan: 3 ranges .*took:.* all +100,000 `, explained.err)
	require.Contains(t, explained.out, "count()\n 100000\n")

	cli(t, env, "query", "--where", "delay > 'a' + 1").fails(t, `where: expression "delay > 'a' + 1", column 9: + takes a number, and this is a text`)
	cli(t, env, "query", "--select", "foo(key)").fails(t, `column 1: there is no function foo()`)
	cli(t, env, "query", "--layout", "x").fails(t, `is not name:type@offset`)
	cli(t, env, "query", "--agg", "mean").fails(t, `is not name(expression)`)
	cli(t, env, "query", "--agg", "mean(delay)", "--by", "count()").fails(t, `order by "count()": there is no such column; those there are are mean(delay)`)
	cli(t, env, "query", "-k", "nowhere").fails(t, `keyspace "nowhere" does not exist`)
	module := filepath.Join(t.TempDir(), "f.wasm")
	require.NoError(t, os.WriteFile(module, flights.Module, 0o600))
	cli(t, env, "fn", "register", "locus.mine", module).fails(t, "names that begin with locus. are reserved")
}

// TestQueryLayout: binary values, and texts that are no text.
func TestQueryLayout(t *testing.T) {
	t.Parallel()
	env := node(t)
	for key, value := range map[string]string{"a/1": "\x01\x00AB", "a/2": "\xff\xffCD", "b/1": "\x00\x80\xff\xff", "b/2": "x"} {
		require.Zero(t, cli(t, env, "put", key, value).code)
	}
	a := cli(t, env, "query", "--layout", "n:i16@0,s:s2@2", "--group", "s", "--agg", "sum(n)", "-o", "json")
	require.Zero(t, a.code, a.err)
	var got queryJSON
	require.NoError(t, json.Unmarshal([]byte(a.out), &got))
	require.Equal(t, [][]any{{nil, nil}, {"AB", 1.0}, {"CD", -1.0}, {map[string]any{"value_base64": "//8="}, -32768.0}}, got.Rows)
	require.Equal(t, []skippedJSON{{"s", 1}, {"n", 1}}, got.Skipped)
	require.Contains(t, cli(t, env, "query", "--layout", "n:i16@0,s:s2@2", "--group", "s").out, `\xff\xff        1`)
}

func copySample(t *testing.T, file string) {
	t.Helper()
	f, err := os.Create(file)
	require.NoError(t, err)
	_, err = io.Copy(f, flights.Sample())
	require.NoError(t, err)
	require.NoError(t, f.Close())
}
