package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/cmd/locus/internal/output"
	"github.com/locuskv/locus/cmd/locus/internal/progress"
	"github.com/locuskv/locus/examples/flights"
)

// keyspace holds the flights.
const keyspace = "flights"

// ranges is how many ranges the flights begin with: enough that every node leads some.
const ranges = 8

// sampled bounds how many rows are looked at to choose the split keys. The file is in the order of time,
// so its beginning has every airport about as often as the rest.
const sampled = 100_000

// errEnough ends the reading of a file before its end.
var errEnough = errors.New("enough rows")

// source is where the flights come from.
type source struct {
	path string // empty: the bundled sample
	rows int64  // at most this many; 0 all
}

// open returns the file and its size; 0 is not known.
func (s source) open() (io.ReadCloser, int64, error) {
	if s.path == "" {
		return flights.Sample(), 0, nil
	}
	f, err := os.Open(s.path)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// read calls f with up to limit flights of in, in file order; 0 is no limit.
func read(in io.Reader, limit int64, f func(flights.Record) error) error {
	n := int64(0)
	err := flights.Read(in, func(r flights.Record) error {
		if limit > 0 && n == limit {
			return errEnough
		}
		n++
		return f(r)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// weigh counts the flights of each airport in the first rows, and those rows.
func (s source) weigh() (weight map[string]int64, rows int64, err error) {
	in, _, err := s.open()
	if err != nil {
		return nil, 0, err
	}
	defer in.Close()
	limit := int64(sampled)
	if s.rows > 0 {
		limit = min(limit, s.rows)
	}
	weight = map[string]int64{}
	err = read(in, limit, func(r flights.Record) error {
		weight[r.Origin]++
		rows++
		return nil
	})
	if err == nil && rows == 0 {
		err = errors.New("the file holds no flights")
	}
	return weight, rows, err
}

// makeKeyspace makes the keyspace, cut into ranges of about equal size.
func (d *demo) makeKeyspace(ctx context.Context) error {
	weight, rows, err := d.source.weigh()
	if err != nil {
		return err
	}
	d.expected = rows
	splits := splitKeys(weight, ranges)
	d.spans = spans(splits)
	begun := time.Now()
	step := d.progress.Step(fmt.Sprintf("making keyspace %s", keyspace), 0, progress.Things)
	err = d.db.CreateKeyspace(ctx, keyspace, client.KeyspaceOptions{SplitAt: splits})
	step.Done()
	if err != nil {
		return fmt.Errorf("making keyspace %s: %w", keyspace, err)
	}
	d.say("keyspace %s: %d ranges, each with %d replicas (%s)", keyspace, len(d.spans), nodes, output.Duration(time.Since(begun)))
	return nil
}

// load writes the flights through the client's BulkWriter.
func (d *demo) load(ctx context.Context) error {
	in, size, err := d.source.open()
	if err != nil {
		return err
	}
	defer in.Close()
	// Of a file of a known size the bytes tell how far it is; of the sample, the rows.
	var step *progress.Step
	var from io.Reader = in
	if size > 0 && d.source.rows == 0 {
		step = d.progress.Step("loading", size, progress.Bytes)
		from = step.Reader(in)
	} else {
		step = d.progress.Step("loading", max(d.expected, d.source.rows), progress.Things)
	}
	defer step.Done()

	begun := time.Now()
	w := d.db.Keyspace(keyspace).BulkWriter(ctx, client.BulkOptions{})
	var number flights.Numberer
	var bytes int64
	err = read(from, d.source.rows, func(r flights.Record) error {
		key, value := number.Key(r), flights.Value(r)
		d.rows++
		bytes += int64(len(key) + len(value))
		if from == in {
			step.Add(1)
		}
		return w.Put(key, value)
	})
	if err = errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("loading: %w", err)
	}
	took := time.Since(begun)
	step.Done()
	d.say("loaded %s flights (%s) in %s: %s", output.Count(d.rows), output.Bytes(bytes), output.Duration(took), output.Rate(d.rows, took))
	return nil
}
