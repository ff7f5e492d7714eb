package main

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/locuskv/locus/cmd/locus/internal/importer"
	"github.com/locuskv/locus/cmd/locus/internal/output"
	"github.com/locuskv/locus/cmd/locus/internal/scaffold"
	"github.com/locuskv/locus/udf"
	"github.com/locuskv/locus/udf/local"
)

func (s *shell) functionNew() *cobra.Command {
	var language string
	c := &cobra.Command{
		Use: "new NAME", Short: "Begin a project that builds a WebAssembly function",
		Long: "Write a folder NAME with the source of a function in Go, Rust or C, its build script, the SDK, and a README.\n" +
			"It builds without a network, and what it builds registers as it is.",
		Example: "  locus fn new --lang go counter\n  locus fn new --lang c counter && counter/build.sh && locus fn test counter/counter.wasm --key visits 5",
		Args:    exactly(1),
	}
	c.Flags().StringVar(&language, "lang", "", "go, rust or c (required)")
	c.RunE = func(_ *cobra.Command, args []string) error {
		if language == "" {
			return errors.New("--lang is required: go, rust or c")
		}
		files, err := scaffold.Write(args[0], language, args[0])
		if err != nil {
			return err
		}
		if s.json() {
			return output.JSON(s.out, struct {
				Folder string   `json:"folder"`
				Files  []string `json:"files"`
			}{args[0], files})
		}
		_, err = fmt.Fprintf(s.out, "made %s: %d files; see %[1]s/README.md\n  %[1]s/build.sh\n  locus fn test %[1]s/%[1]s.wasm --key visits --data %[1]s/data.jsonl 5\n", args[0], len(files))
		return err
	}
	return c
}

// trial is the flags of fn test.
type trial struct {
	function, data, dataKey, format string
	key, group                      string
	ranges                          int
}

func (s *shell) functionTest() *cobra.Command {
	var o trial
	c := &cobra.Command{
		Use: "test FILE.wasm [ARG]", Short: "Run a function of a module on the records of a file, without a cluster",
		Long: `Run a function of a module here, without a cluster, under the bounds and with the capabilities that it has on a node,
and print its result, what it wrote and logged, and the fuel that it used. Nothing of that is kept.

A function on a key needs --key, or --group with the prefix of a group; range and map functions get all records.
With a directory in LOCUS_COMPILED_DIR what the module was compiled to is kept there, and the next run begins sooner.

The records come from --data: a file of CSV with a header or of JSON lines, gzipped or not; "-" is standard input.
With --data-key they are what "locus import" makes of them. Without, each has a field "key" (or "key_hex") and a
field "value" (or "value_hex"), which is the text of a JSON string, or any other JSON as it stands.

The argument is JSON, null without one, or for a function with another codec the bytes as they are.`,
		Example: "  locus fn test square.wasm 5\n" +
			"  locus fn test counter.wasm --key visits --data records.jsonl 5\n" +
			"  locus fn test flights.wasm --data flights.csv.gz --data-key origin/date:10/seq",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return fmt.Errorf("%s takes a file and at most one argument, not %d: locus %s", cmd.CommandPath(), len(args), useLine(cmd))
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&o.function, "function", "", "name of the function, if the module has several")
	f.StringVar(&o.key, "key", "", "the key that the function is called on")
	f.StringVar(&o.group, "group", "", "the prefix of a group that the function is called on")
	f.StringVar(&o.data, "data", "", "file of records")
	f.StringVar(&o.dataKey, "data-key", "", "how a record's key is made of its fields, as import's --key")
	f.StringVar(&o.format, "format", "", "csv or json; default: by the file's first byte")
	f.IntVar(&o.ranges, "ranges", 3, "how many ranges a range function's records are in")
	c.RunE = func(cmd *cobra.Command, args []string) error { return s.tryFunction(cmd, o, args) }
	return c
}

func (s *shell) tryFunction(cmd *cobra.Command, o trial, args []string) error {
	if o.function == "" { // as people name files after functions
		o.function = strings.TrimSuffix(filepath.Base(args[0]), ".wasm")
		if strings.ContainsFunc(o.function, notInName) {
			o.function = ""
		}
	}
	if o.ranges < 1 {
		return fmt.Errorf("--ranges %d is less than 1", o.ranges)
	}
	if o.key != "" && o.group != "" {
		return errors.New("--key and --group don't go together")
	}
	module, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	key, err1 := s.keys().Parse(o.key)
	group, err2 := s.keys().Parse(o.group)
	if err := cmp.Or(err1, err2); err != nil {
		return err
	}
	records, err := s.trialRecords(o)
	if err != nil {
		return err
	}
	var argument []byte
	if len(args) > 1 {
		argument = []byte(args[1])
	}
	ctx, cancel := s.limited(cmd.Context())
	defer cancel()
	report, err := local.Run(ctx, module, local.Options{
		Function: o.function, Key: key, Group: group, Argument: argument, Records: records, Parts: o.ranges,
		CompiledDir: s.getenv(compiledDirVariable),
	})
	if err != nil {
		for _, line := range report.Logs {
			fmt.Fprintf(s.err, "log: %s\n", output.Printable([]byte(line)))
		}
		return err
	}
	if s.json() {
		return output.JSON(s.out, newTrialJSON(report))
	}
	return s.printTrial(report)
}

// notInName says whether the name of a function can't have a character, or might not.
func notInName(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
}

// trialRecords reads the records of a trial.
func (s *shell) trialRecords(o trial) ([]local.Record, error) {
	if o.data == "" {
		if o.dataKey != "" || o.format != "" {
			return nil, errors.New("--data-key and --format are about the records of --data")
		}
		return nil, nil
	}
	keyOf, valueOf := plainField("key"), plainField("value")
	if o.dataKey != "" {
		template, err := importer.ParseTemplate(o.dataKey)
		if err != nil {
			return nil, err
		}
		keyOf = importer.NewKeyer(template).Key
		valueOf = func(r importer.Record) ([]byte, error) { return append([]byte(nil), r.Value...), nil }
	}
	in, _, err := s.openInput(o.data)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	records, err := readRecords(in, importer.Format(o.format), keyOf, valueOf)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.data, err)
	}
	return records, nil
}

func readRecords(in io.Reader, format importer.Format, keyOf, valueOf func(importer.Record) ([]byte, error)) ([]local.Record, error) {
	r, err := importer.NewReader(in, format)
	if err != nil {
		return nil, err
	}
	var records []local.Record
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err != nil {
			return nil, err
		}
		key, err1 := keyOf(rec)
		value, err2 := valueOf(rec)
		if err := cmp.Or(err1, err2); err != nil {
			return nil, err
		}
		records = append(records, local.Record{Key: key, Value: value})
	}
}

// plainField reads the field of a name, or the bytes of the one with _hex behind it.
func plainField(name string) func(importer.Record) ([]byte, error) {
	return func(r importer.Record) ([]byte, error) {
		if digits, ok := r.Text(name + "_hex"); ok {
			b, err := hex.DecodeString(digits)
			if err != nil {
				return nil, fmt.Errorf("record %d: field %q is not hexadecimal", r.Number, name+"_hex")
			}
			return b, nil
		}
		text, ok := r.Text(name)
		if !ok {
			return nil, fmt.Errorf("record %d: no field %q (without --data-key a record has a key and a value)", r.Number, name)
		}
		return []byte(text), nil
	}
}

// trialJSON is a report for a machine.
type trialJSON struct {
	Function string         `json:"function"`
	Kind     string         `json:"kind"`
	Codec    string         `json:"codec"`
	Result   *string        `json:"result,omitempty"`
	Base64   []byte         `json:"result_base64,omitempty"`
	Outputs  []output.Value `json:"outputs,omitempty"`
	Writes   []writeJSON    `json:"writes"`
	Logs     []string       `json:"logs"`
	Records  int            `json:"records"`
	Fuel     uint64         `json:"fuel"`
}

func newTrialJSON(r *local.Report) trialJSON {
	result := output.NewValue(r.Result)
	out := trialJSON{
		Function: r.Function, Kind: r.Kind.String(), Codec: r.Codec.String(), Result: result.Text, Base64: result.Base64,
		Writes: []writeJSON{}, Logs: append([]string{}, r.Logs...), Records: r.Records, Fuel: r.Fuel,
	}
	if r.Kind == udf.KindMap {
		out.Result = nil
	}
	for _, o := range r.Outputs {
		out.Outputs = append(out.Outputs, output.NewValue(o))
	}
	for _, w := range r.Writes {
		out.Writes = append(out.Writes, toWriteJSON(output.Printable(w.Key), w.Value, w.Deleted, w.TTL))
	}
	return out
}

// printTrial prints a report for people: one thing a line, its name first.
func (s *shell) printTrial(r *local.Report) error {
	var lines []string
	line := func(name, format string, args ...any) {
		lines = append(lines, fmt.Sprintf("%-8s ", name)+fmt.Sprintf(format, args...))
	}
	if r.Kind != udf.KindMap {
		line("result", "%s", shown(r.Codec, r.Result))
	}
	for _, o := range r.Outputs {
		line("output", "%s", shown(r.Codec, o))
	}
	for _, w := range r.Writes {
		switch {
		case w.Deleted:
			line("deleted", "%s", s.keys().Text(w.Key))
		case w.TTL > 0:
			line("wrote", "%s = %s, expires after %s", s.keys().Text(w.Key), output.Printable(w.Value), w.TTL.Round(time.Millisecond))
		default:
			line("wrote", "%s = %s", s.keys().Text(w.Key), output.Printable(w.Value))
		}
	}
	for _, l := range r.Logs {
		line("log", "%s", output.Printable([]byte(l)))
	}
	if r.Kind == udf.KindRange || r.Kind == udf.KindMap {
		line("records", "%s (%s)", output.Count(r.Records), output.Bytes(r.Bytes))
	}
	line("fuel", "%s", output.Count(r.Fuel))
	for _, l := range lines {
		if _, err := fmt.Fprintln(s.out, l); err != nil {
			return err
		}
	}
	return nil
}

// shown is a result as a line.
func shown(codec udf.Codec, b []byte) string {
	if codec == udf.CodecJSON && json.Valid(b) {
		return string(b)
	}
	return output.Printable(b)
}
