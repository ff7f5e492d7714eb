package local

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/udf"
	"github.com/locuskv/locus/udf/wasm"
)

// Options say what to run, and on what.
type Options struct {
	// Function is the name in the module's manifest; it may be anything if there is only one. Default "function".
	Function string
	// Key is the key that a read-only or read-write function is called on, which is a group of its own; Group is the
	// prefix of a group that it is called on instead. One of them is needed for these kinds, and neither for others.
	Key, Group []byte
	// Argument of the function, in its codec. Nil is none; a function with JSON gets null then.
	Argument []byte
	// Records are the data, in any order. Of two with one key the later counts.
	Records []Record
	// Parts is how many ranges a range function's records are taken for. Default 3.
	Parts int
	// CompiledDir keeps what the module was compiled to, for the next run. Empty: nothing is kept.
	CompiledDir string
	// Now is the call's timestamp. Default: the time.
	Now time.Time
}

// Report is what a run brought.
type Report struct {
	Function     string
	Kind         udf.Kind
	Codec        udf.Codec
	Capabilities udf.Capabilities
	Result       []byte   // of all kinds but map
	Outputs      [][]byte // of map
	Writes       []Write
	Logs         []string
	// Records and Bytes are what a range or map function was given.
	Records, Bytes int
	Fuel           uint64
}

// runner is one run.
type runner struct {
	o      Options
	f      *wasm.Function
	table  table
	report *Report
}

// Run compiles a module and runs a function of it. The error is what the caller of a cluster would get, or says what
// is wrong with the options; of a report that comes with an error, Result and Writes are empty.
func Run(ctx context.Context, module []byte, o Options) (*Report, error) {
	report := &Report{}
	// Workers: an accumulator or two, and nobody else.
	r, err := wasm.NewRuntime(wasm.Options{
		Workers: runtime.NumCPU(), CacheDir: o.CompiledDir, Log: func(_, line string) { report.Logs = append(report.Logs, line) },
	})
	if err != nil {
		return report, err
	}
	defer r.Close()
	if o.Function == "" {
		o.Function = "function"
	}
	if o.Parts == 0 {
		o.Parts = 3
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	f, err := r.Compile(ctx, o.Function, module)
	if err != nil {
		return report, err
	}
	defer f.Close()
	report.Function, report.Kind, report.Codec, report.Capabilities = f.Name(), f.Kind(), f.Codec(), f.Capabilities()
	t, err := newTable(o.Records)
	if err != nil {
		return report, err
	}
	if err := o.check(f); err != nil {
		return report, err
	}
	if f.Codec() == udf.CodecJSON && o.Argument == nil {
		o.Argument = []byte("null")
	}
	run := &runner{o: o, f: f, table: t, report: report}
	return report, run.run(ctx)
}

// check compares the options with the function.
func (o Options) check(f *wasm.Function) error {
	kind := f.Kind()
	onKey := kind == udf.KindReadOnly || kind == udf.KindReadWrite
	switch {
	case onKey && (len(o.Key) == 0) == (len(o.Group) == 0):
		return &api.InvalidArgumentError{Reason: fmt.Sprintf("the function is %s: it is called on a key or on a group, and needs one of them", kind)}
	case !onKey && (len(o.Key) > 0 || len(o.Group) > 0):
		return &api.InvalidArgumentError{Reason: fmt.Sprintf("the function is %s: it is called on no key", kind)}
	case f.Codec() == udf.CodecJSON && o.Argument != nil && !json.Valid(o.Argument):
		return &api.InvalidArgumentError{Reason: fmt.Sprintf("argument %q is not JSON; a text wants quotes, as in '\"text\"'", o.Argument)}
	case o.Parts < 1:
		return &api.InvalidArgumentError{Reason: fmt.Sprintf("%d parts are less than 1", o.Parts)}
	}
	return nil
}

func (r *runner) run(ctx context.Context) error {
	switch r.f.Kind() {
	case udf.KindRange:
		return r.fold(ctx)
	case udf.KindMap:
		return r.mapAll(ctx)
	case udf.KindPure:
		out, err := r.f.CallPure(ctx, r.f.Codec(), r.o.Argument)
		r.report.Result, r.report.Fuel = out.Result, out.Fuel
		return err
	}
	return r.call(ctx)
}

func (r *runner) now() hlc.Timestamp { return hlc.Timestamp(r.o.Now.UnixMilli()) << 16 }

func (r *runner) call(ctx context.Context) error {
	key, prefix := r.o.Key, r.o.Group
	t := &tx{records: r.table, writes: make(map[string]Write), written: r.now() - 1<<16}
	if len(key) > 0 {
		t.in = func(k []byte) bool { return bytes.Equal(k, key) }
		t.span = udf.Span{Start: key, End: append(bytes.Clone(key), 0)}
	} else {
		key = prefix
		t.in = func(k []byte) bool { return bytes.HasPrefix(k, prefix) }
		t.span = udf.PrefixSpan(prefix)
	}
	info := udf.Info{Timestamp: udf.Timestamp(r.now()), Key: key}
	var out udf.Outcome
	var err error
	if r.f.Kind() == udf.KindReadOnly {
		out, err = r.f.CallRead(ctx, t, info, r.f.Codec(), r.o.Argument)
	} else {
		out, err = r.f.CallWrite(ctx, t, info, r.f.Codec(), r.o.Argument)
	}
	r.report.Result, r.report.Fuel = out.Result, out.Fuel
	if err == nil {
		r.report.Writes = t.list()
	}
	return err
}

// fold runs a range function over parts of the records, and merges what they come to, the last one first: no order is
// promised.
func (r *runner) fold(ctx context.Context) error {
	var accs [][]byte
	for i := range r.o.Parts {
		acc, err := r.part(ctx, len(r.table)*i/r.o.Parts, len(r.table)*(i+1)/r.o.Parts)
		if err != nil {
			return err
		}
		accs = append([][]byte{acc}, accs...)
	}
	codec, arg := r.f.Codec(), r.o.Argument
	some := len(accs) / 2
	merged, err := r.f.Merge(ctx, codec, arg, accs[:some])
	r.report.Fuel += merged.Fuel
	if err != nil {
		return err
	}
	out, err := r.f.Result(ctx, codec, arg, append([][]byte{merged.Result}, accs[some:]...))
	r.report.Fuel += out.Fuel
	r.report.Result = out.Result
	return err
}

func (r *runner) part(ctx context.Context, from, to int) (encoded []byte, err error) {
	acc, err := r.f.NewAccumulator(ctx, r.f.Codec(), r.o.Argument)
	if err != nil {
		return nil, err
	}
	defer acc.Close()
	defer func() { r.report.Fuel += acc.Fuel() }()
	if err := r.each(from, to, func(batch []byte) error { return acc.Add(ctx, batch) }); err != nil {
		return nil, err
	}
	return acc.Encode(ctx)
}

func (r *runner) mapAll(ctx context.Context) error {
	m, err := r.f.NewMapping(ctx, r.f.Codec(), r.o.Argument)
	if err != nil {
		return err
	}
	defer m.Close()
	err = r.each(0, len(r.table), func(batch []byte) error {
		outputs, err := m.Map(ctx, batch)
		r.report.Outputs = append(r.report.Outputs, outputs...)
		return err
	})
	r.report.Fuel = m.Fuel()
	return err
}

// each hands batches of records to f and counts them.
func (r *runner) each(from, to int, f func(batch []byte) error) error {
	for from < to {
		batch, next := r.table.batch(from, to, r.now()-1<<16)
		if err := f(batch); err != nil {
			return err
		}
		r.report.Records += next - from
		r.report.Bytes += len(batch)
		from = next
	}
	return nil
}
