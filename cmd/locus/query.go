package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/cmd/locus/internal/output"
	"github.com/locuskv/locus/cmd/locus/internal/progress"
)

// queryFlags are a query.
type queryFlags struct {
	q       client.Query
	part    spanFlags
	group   []string
	agg     []string
	selects []string
	limit   int
	ordered bool
	hold    time.Duration
	explain bool
}

func (s *shell) queryCommand() *cobra.Command {
	var f queryFlags
	c := &cobra.Command{
		Use: "query", Short: "Filter, group and aggregate records where they lie",
		Long: `Filter, group and aggregate the records of --keyspace, or of a part of it, on the nodes that have them, at one timestamp.

Expressions have the fields of the value, which is a JSON object (delay, address.city, tags[0]) or has a --layout; the parts of
the key that --key names, or key[0], key[1] and so on; key and value; numbers, 'texts', true, false and null; the operators
  == != < <= > >=  and or not  + - * / %  in [...]  contains startsWith endsWith matches  ??  ?:
and the functions abs, ceil, float, floor, int, len, lower, round and upper. What is missing is null: aggregates skip it, and a
comparison with it fits no record. What is of the wrong type counts as missing, and how many those were is told.

Aggregates are count() and count, sum, mean, variance, stddev, min, max, median, p0 to p100 and distinct of an expression, and
topk(x, 10): the 10 most frequent values of x. Columns that are approximate say by how much. "AS" names a column: --agg 'mean(delay) as late'.

A --layout names the fields of binary values, NAME:TYPE@OFFSET: i8 to i64, u8 to u64, f32, f64 (little endian; i16be and so
on are big endian), bool, and s3 for a text of 3 bytes.

With --select the records that fit are printed as they come, one a line, instead.`,
		Example: "  locus query -k flights --key origin/date/seq --group origin --agg 'count(), mean(delay), p95(delay)' --top 10\n" +
			"  locus query -k flights --where 'delay > 15 and destination in [\"JFK\", \"LAX\"]' --group destination --top 10 --by 'count()'\n" +
			"  locus query -k flights --prefix LAS/ --agg 'count(), distinct(destination), max(delay)'\n" +
			"  locus query -k flights --where 'delay > 60' --agg 'topk(destination, 10)'\n" +
			"  locus query -k flights --where 'delay > 600' --select 'key, delay, destination' --limit 20\n" +
			"  locus query -k readings --layout 'delay:i16@0,distance:u32@4' --agg 'sum(distance)' --explain",
		Args: exactly(0),
	}
	f.register(c)
	c.RunE = s.long(func([]string) (talk, error) {
		span, err := f.part.span(s)
		return func(ctx context.Context, db *client.DB) error {
			return s.query(ctx, db, &f, span(db.Keyspace(s.keyspace)))
		}, cmp.Or(f.settle(c), err)
	})
	return c
}

func (f *queryFlags) register(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.q.Where, "where", "", "only records for which this is true: 'delay > 15'")
	flags.StringArrayVar(&f.group, "group", nil, "what makes a group: origin; several with commas")
	flags.StringArrayVar(&f.agg, "agg", nil, "what is computed of each group; several with commas (default count())")
	flags.IntVar(&f.q.Top, "top", 0, "only so many groups, those with the greatest first aggregate, or --by; 0: all, in order")
	flags.StringVar(&f.q.By, "by", "", "the column that groups are ordered by, the greatest first; with asc behind it, the least")
	flags.StringArrayVar(&f.selects, "select", nil, "print these of each record instead: 'key, delay'; several with commas")
	flags.IntVar(&f.limit, "limit", 0, "with --select: only so many records; 0: all")
	flags.BoolVar(&f.ordered, "key-order", false, "with --select: in the order of the keys")
	flags.StringVar(&f.q.Key, "key", "", "names of the key's parts, as import has them: origin/date:10/seq")
	flags.StringVar(&f.q.Delimiter, "delimiter", "/", "the byte between the key's parts")
	flags.StringVar(&f.q.Layout, "layout", "", "values are binary, with these fields: 'delay:i16@0,distance:u32@4'")
	flags.DurationVar(&f.hold, "hold", 0, "keep the query's timestamp readable for so long, at most 1h; 0: for 10 minutes")
	flags.BoolVar(&f.explain, "explain", false, "tell what the query is going to read, and what it took")
	f.part.register(c)
}

// settle makes one query of the flags, and refuses those that don't go together.
func (f *queryFlags) settle(c *cobra.Command) error {
	f.q.GroupBy, f.q.Aggregates, f.q.Select = f.group, f.agg, f.selects
	changed := c.Flags().Changed
	for _, with := range []string{"group", "agg", "top", "by"} {
		if changed("select") && changed(with) {
			return fmt.Errorf("--select and --%s don't go together", with)
		}
	}
	for _, with := range []string{"limit", "key-order"} {
		if !changed("select") && changed(with) {
			return fmt.Errorf("--%s goes with --select", with)
		}
	}
	switch {
	case f.limit < 0:
		return fmt.Errorf("--limit %d is negative", f.limit)
	case f.q.Top < 0:
		return fmt.Errorf("--top %d is negative", f.q.Top)
	case len(f.q.Delimiter) != 1:
		return fmt.Errorf("--delimiter %q is not one byte", f.q.Delimiter)
	}
	return nil
}

func (s *shell) query(ctx context.Context, db *client.DB, f *queryFlags, span client.Span) error {
	opts := []client.RunOption{client.Hold(f.hold)}
	if f.explain {
		opts = append(opts, client.Explain(s.printPlan, s.printAccount))
	}
	if len(f.selects) > 0 {
		return s.selected(ctx, db, f, span, opts)
	}
	step := s.progress().Step("query", 0, progress.Things)
	opts = append(opts, client.OnProgress(func(p client.Progress) { step.Set(int64(p.Records)) }))
	r, err := db.Query(ctx, span, f.q, opts...)
	step.Done()
	if err != nil {
		return err
	}
	if s.json() {
		return output.JSON(s.out, toQueryJSON(r))
	}
	return s.printAnswer(r)
}

// selected prints rows as they come: their values with tabs between them, or as a JSON array.
func (s *shell) selected(ctx context.Context, db *client.DB, f *queryFlags, span client.Span, opts []client.RunOption) error {
	if f.ordered {
		opts = append(opts, client.KeyOrder())
	}
	w := bufio.NewWriterSize(s.out, 64<<10)
	n := 0
	for row, err := range db.Select(ctx, span, f.q, opts...) {
		if err == nil {
			err = s.printRow(w, row)
		}
		if err != nil {
			return errors.Join(w.Flush(), err) // what came before the failure is good
		}
		if n++; n == f.limit {
			break
		}
	}
	return w.Flush()
}

func (s *shell) printRow(w *bufio.Writer, row []any) error {
	if s.json() {
		return output.JSONLine(w, jsonRow(row))
	}
	cells := make([]string, len(row))
	for i, v := range row {
		cells[i] = cellText(v, -1)
	}
	_, err := fmt.Fprintln(w, strings.Join(cells, "\t"))
	return err
}

// printAnswer prints groups as a table, and below it what there is to know about it.
func (s *shell) printAnswer(r *client.QueryResult) error {
	var heads, notes []string
	for _, c := range r.Columns {
		head := c.Name
		if e := max(c.RelativeError, c.StandardError, c.CountError); e > 0 {
			head += " ±" + percent(e)
		}
		if !c.Group && c.CountError == 0 { // lists are read from the left
			head = ">" + head
		}
		heads = append(heads, head)
	}
	t := output.NewTable(heads...)
	for _, row := range r.Rows {
		cells := make([]string, len(row))
		for i, v := range row {
			cells[i] = cellText(v, 3)
		}
		t.Row(cells...)
	}
	if err := t.Write(s.out, ""); err != nil {
		return err
	}
	notes = append(notes, summary(r))
	notes = append(notes, errorNotes(r.Columns)...)
	for _, x := range r.Skipped {
		notes = append(notes, fmt.Sprintf("%s: in %s records of the wrong type, taken for missing", x.Expression, output.Count(x.Records)))
	}
	_, err := fmt.Fprintf(s.out, "\n%s\n", strings.Join(notes, "\n"))
	return err
}

func summary(r *client.QueryResult) string {
	text := output.Count(r.Records) + " records"
	if r.Matched != r.Records {
		text += ", " + output.Count(r.Matched) + " of them fit"
	}
	if n := uint64(len(r.Rows)); n < r.Groups {
		text += fmt.Sprintf("; %s of %s groups", output.Count(n), output.Count(r.Groups))
	}
	return text + "; at " + r.Timestamp.String()
}

// errorNotes say once what the errors in the headings mean.
func errorNotes(columns []client.Column) (notes []string) {
	var relative, standard, count float64
	for _, c := range columns {
		relative, standard, count = max(relative, c.RelativeError), max(standard, c.StandardError), max(count, c.CountError)
	}
	if relative > 0 {
		notes = append(notes, "quantiles are within "+percent(relative)+" of the value that has their rank")
	}
	if standard > 0 {
		notes = append(notes, "distinct counts have a standard error of "+percent(standard)+": 95% are within "+percent(2*standard))
	}
	if count > 0 {
		notes = append(notes, "counts of topk may be too small, by at most the +n behind them, which is at most "+percent(count)+" of the values of the group; without it they are exact")
	}
	return notes
}

func percent(f float64) string { return strconv.FormatFloat(100*f, 'g', 2, 64) + "%" }

// cellText is a value for a reader, with so many decimals at most; -1 is all of them.
func cellText(v any, decimals int) string {
	switch x := v.(type) {
	case nil:
		return "null"
	case string:
		return output.Printable([]byte(x))
	case []byte:
		return output.Printable(x)
	case client.TopValues:
		return topText(x, decimals)
	case float64:
		if size := math.Abs(x); size >= 1e15 || size > 0 && size < 1e-3 {
			if decimals >= 0 {
				decimals++ // digits, in this form
			}
			return strconv.FormatFloat(x, 'g', decimals, 64)
		}
		text := strconv.FormatFloat(x, 'f', decimals, 64)
		if strings.Contains(text, ".") {
			text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
		}
		return text
	}
	return cellOther(v)
}

// topText is a list of values with their counts, and how much greater these may be.
func topText(t client.TopValues, decimals int) string {
	unsure := ""
	if t.Error > 0 {
		unsure = fmt.Sprintf("+%d", t.Error)
	}
	list := make([]string, len(t.Values))
	for i, f := range t.Values {
		list[i] = fmt.Sprintf("%s %d%s", cellText(f.Value, decimals), f.Count, unsure)
	}
	if len(list) == 0 && t.Error > 0 {
		return "none more than " + strconv.FormatUint(t.Error, 10)
	}
	return strings.Join(list, ", ")
}

func cellOther(v any) string {
	if raw, ok := v.(interface{ MarshalJSON() ([]byte, error) }); ok {
		if b, err := raw.MarshalJSON(); err == nil {
			return string(b) // JSON, and integers beyond 64 bits
		}
	}
	return fmt.Sprint(v)
}

// queryJSON is an answer for a machine.
type queryJSON struct {
	Columns   []columnJSON  `json:"columns"`
	Rows      [][]any       `json:"rows"`
	Records   uint64        `json:"records"`
	Matched   uint64        `json:"matched"`
	Groups    uint64        `json:"groups"`
	Skipped   []skippedJSON `json:"skipped"`
	Timestamp string        `json:"timestamp"`
}

type columnJSON struct {
	Name          string  `json:"name"`
	Group         bool    `json:"group"`
	RelativeError float64 `json:"relative_error,omitempty"`
	StandardError float64 `json:"standard_error,omitempty"`
	CountError    float64 `json:"count_error,omitempty"`
}

type topValuesJSON struct {
	Values []frequencyJSON `json:"values"`
	Error  uint64          `json:"error"`
}

type frequencyJSON struct {
	Value any    `json:"value"`
	Count uint64 `json:"count"`
}

type skippedJSON struct {
	Expression string `json:"expression"`
	Records    uint64 `json:"records"`
}

func toQueryJSON(r *client.QueryResult) queryJSON {
	out := queryJSON{
		Columns: []columnJSON{}, Rows: [][]any{}, Skipped: []skippedJSON{},
		Records: r.Records, Matched: r.Matched, Groups: r.Groups, Timestamp: r.Timestamp.String(),
	}
	for _, c := range r.Columns {
		out.Columns = append(out.Columns, columnJSON(c))
	}
	for _, x := range r.Skipped {
		out.Skipped = append(out.Skipped, skippedJSON(x))
	}
	for _, row := range r.Rows {
		out.Rows = append(out.Rows, jsonRow(row))
	}
	return out
}

// jsonRow has bytes as scan has them.
func jsonRow(row []any) []any {
	out := make([]any, len(row))
	for i, v := range row {
		out[i] = jsonCell(v)
	}
	return out
}

func jsonCell(v any) any {
	switch x := v.(type) {
	case []byte:
		return output.NewValue(x)
	case client.TopValues:
		out := topValuesJSON{Values: make([]frequencyJSON, len(x.Values)), Error: x.Error}
		for i, f := range x.Values {
			out.Values[i] = frequencyJSON{jsonCell(f.Value), f.Count}
		}
		return out
	}
	return v
}
