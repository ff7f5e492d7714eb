package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/cmd/locus/internal/importer"
	"github.com/locuskv/locus/cmd/locus/internal/output"
	"github.com/locuskv/locus/cmd/locus/internal/progress"
)

// importedJSON is what an import did.
type importedJSON struct {
	Records int64   `json:"records"`
	Bytes   int64   `json:"bytes"` // of keys and values
	Seconds float64 `json:"seconds"`
	Rate    float64 `json:"records_per_second"`
}

func (s *shell) importCommand() *cobra.Command {
	var key, format string
	c := &cobra.Command{
		Use: "import FILE", Short: "Load a file of CSV or JSON lines",
		Long: `Load a file of CSV with a header, or of JSON lines, gzipped or not; "-" reads standard input.

Each record becomes one key. Its value is a JSON object of the record's fields, numbers as numbers.
--key says how the key is made: parts joined by '/', each of them
  FIELD     the field's value
  FIELD:N   its first N bytes
  seq       how many records before this one have the same parts before it, in 4 digits or more
  seq:N     the same in N digits or more
A file loaded twice writes the same keys twice. Records are written many at a time and not atomically: after a
failure some are there, and importing again mends that.`,
		Example: "  locus import flights.csv.gz -k flights --key origin/date:10/seq\n" +
			"  zcat people.jsonl.gz | locus import - --key country/id",
		Args: exactly(1),
	}
	c.Flags().StringVar(&key, "key", "", "how a record's key is made of its fields (required)")
	c.Flags().StringVar(&format, "format", "", "csv or json; default: by the file's first byte")
	c.RunE = s.long(func(args []string) (talk, error) {
		if key == "" {
			return nil, errors.New("--key is required, for example --key origin/date:10/seq")
		}
		template, err := importer.ParseTemplate(key)
		if err != nil {
			return nil, err
		}
		in, size, err := s.openInput(args[0])
		if err != nil {
			return nil, err
		}
		load := &load{template: template, format: importer.Format(format), in: in, size: size}
		return func(ctx context.Context, db *client.DB) error {
			defer in.Close()
			return s.runLoad(ctx, db.Keyspace(s.keyspace), load)
		}, nil
	})
	return c
}

// openInput opens a file, or standard input as "-". A size of 0 is not known.
func (s *shell) openInput(name string) (io.ReadCloser, int64, error) {
	if name == "-" {
		return io.NopCloser(s.in), 0, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory", name)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// load is one import.
type load struct {
	template importer.Template
	format   importer.Format
	in       io.Reader
	size     int64
	records  int64
	bytes    int64
}

func (s *shell) runLoad(ctx context.Context, ks *client.Keyspace, l *load) error {
	begun := time.Now()
	step := s.progress().Step("importing", l.size, progress.Bytes)
	err := l.copy(ctx, ks, step)
	step.Done()
	if err != nil {
		if l.records > 0 {
			return fmt.Errorf("after %d records: %w", l.records, err)
		}
		return err
	}
	took := time.Since(begun)
	if s.json() {
		return output.JSON(s.out, importedJSON{l.records, l.bytes, took.Seconds(), float64(l.records) / took.Seconds()})
	}
	_, err = fmt.Fprintf(s.out, "imported %s records (%s) into %s in %s: %s\n",
		output.Count(l.records), output.Bytes(l.bytes), ks.Name(), output.Duration(took), output.Rate(l.records, took))
	return err
}

// copy writes every record of the file.
func (l *load) copy(ctx context.Context, ks *client.Keyspace, step *progress.Step) error {
	r, err := importer.NewReader(step.Reader(l.in), l.format)
	if err != nil {
		return err
	}
	w := ks.BulkWriter(ctx, client.BulkOptions{})
	err = l.write(r, w)
	return errors.Join(err, w.Close())
}

func (l *load) write(r *importer.Reader, w *client.BulkWriter) error {
	keyer := importer.NewKeyer(l.template)
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		key, err := keyer.Key(rec)
		if err != nil {
			return err
		}
		if err := w.Put(key, rec.Value); err != nil {
			if broken := new(client.LimitError); errors.As(err, &broken) {
				return fmt.Errorf("record %d: %w", rec.Number, err)
			}
			return err // perhaps of an earlier record: they are written many at a time
		}
		l.records++
		l.bytes += int64(len(key) + len(rec.Value))
	}
}

// progress reports on the error stream: bars if that is a terminal.
func (s *shell) progress() *progress.Reporter {
	if f, ok := s.err.(*os.File); ok {
		return progress.New(f)
	}
	return progress.Lines(s.err)
}
