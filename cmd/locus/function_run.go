package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/cmd/locus/internal/progress"
)

// runFlags say how a range or map function is run.
type runFlags struct {
	functionFlags
	part    spanFlags
	stream  bool
	ordered bool
	hold    time.Duration
	resume  string
	explain bool
}

func (s *shell) functionRun() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use: "run NAME[@VERSION] [ARG]", Short: "Run a range or map function over a keyspace or a part of it",
		Long: "Run a range function over --keyspace, or a part of it, and print its result; or, with --stream, a map function,\n" +
			"and print its outputs as they come, each on a line. It runs where the data lies, at one timestamp. The argument\n" +
			"is JSON; without one it is null.\n\n" +
			"With --resume FILE the run keeps there where it is. The same command goes on from there if it was interrupted, at the\n" +
			"same timestamp, within an hour and as long as that can be read (--hold); outputs of the last page may come twice.\n" +
			"The file is removed when the run is done.\n\n" +
			"--explain writes, beside the result, on the error stream: before it the ranges, their leaseholders and an estimate by a\n" +
			"sample; after it what each range took. With --output json each is one line.",
		Example: "  locus fn run flights-delays -k flights\n  locus fn run flights-delays -k flights --prefix LAS/ --explain\n" +
			"  locus fn run find '\"hello\"' --stream\n  locus fn run find '\"hello\"' --stream --resume find.run --hold 1h",
		Args: nameAndArgument,
	}
	f.register(c)
	f.part.register(c)
	c.Flags().BoolVar(&f.stream, "stream", false, "run a map function, and print its outputs as they come")
	c.Flags().BoolVar(&f.ordered, "key-order", false, "print outputs in the order of the keys; with --stream")
	c.Flags().DurationVar(&f.hold, "hold", 0, "keep the run's timestamp readable for so long, at most 1h; 0: for 10 minutes")
	c.Flags().StringVar(&f.resume, "resume", "", "keep in this file where the run is, and go on from there")
	c.Flags().BoolVar(&f.explain, "explain", false, "tell what the run is going to do, and what it took")
	c.RunE = s.long(func(args []string) (talk, error) {
		name, err0 := f.name(args[0])
		argument, err1 := f.argument(args[1:])
		span, err2 := f.part.span(s)
		from, err3 := readContinuation(f.resume)
		var err4 error
		if f.ordered && !f.stream {
			err4 = errors.New("--key-order goes with --stream")
		}
		return func(ctx context.Context, db *client.DB) error {
			return s.runFunction(ctx, &f, name, span(db.Keyspace(s.keyspace)), argument, from)
		}, cmp.Or(err0, err1, err2, err3, err4)
	})
	return c
}

// runFunction runs it to its end, and forgets then where it was.
func (s *shell) runFunction(ctx context.Context, f *runFlags, name string, span client.Span, argument []byte, from client.Continuation) error {
	opts := []client.RunOption{client.Hold(f.hold), client.Continue(from)}
	var unwritten error
	if f.resume != "" {
		opts = append(opts, client.OnContinuation(func(c client.Continuation) { unwritten = writeContinuation(f.resume, c) }))
	}
	if f.explain {
		opts = append(opts, client.Explain(s.printPlan, s.printAccount))
	}
	var err error
	if f.stream {
		if f.ordered {
			opts = append(opts, client.KeyOrder())
		}
		err = s.streamOver(ctx, &f.functionFlags, name, span, argument, opts...)
	} else {
		var result []byte
		step := s.progress().Step("running "+name, 0, progress.Things)
		opts = append(opts, client.OnProgress(func(p client.Progress) { step.Set(int64(p.Records)) }))
		result, err = runOver(ctx, &f.functionFlags, name, span, argument, opts...)
		step.Done()
		if err == nil {
			err = s.printResult(result, f.raw)
		}
	}
	if err != nil || f.resume == "" {
		return err
	}
	if unwritten != nil {
		return unwritten
	}
	if err := os.Remove(f.resume); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// readContinuation is what a run left in a file; nil if there is no file, or none was named.
func readContinuation(name string) (client.Continuation, error) {
	if name == "" {
		return nil, nil
	}
	c, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && client.Continuation(c).Timestamp() == 0 {
		err = fmt.Errorf("%s does not hold where a run was: name another file, or remove it", name)
	}
	return c, err
}

// writeContinuation replaces the file, so that there is the old one or the new one whenever the program ends.
func writeContinuation(name string, c client.Continuation) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".tmp*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(c)
	if err = cmp.Or(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
}

// runOver runs a range function whose types are not known here.
func runOver(ctx context.Context, f *functionFlags, name string, span client.Span, arg []byte, opts ...client.RunOption) ([]byte, error) {
	if f.raw {
		return client.NewRangeFunc[[]byte, []byte](name, f.options()...).Run(ctx, span, arg, opts...)
	}
	return client.NewRangeFunc[json.RawMessage, json.RawMessage](name, f.options()...).Run(ctx, span, arg, opts...)
}

// streamOver prints the outputs of a map function whose types are not known here, as they come.
func (s *shell) streamOver(ctx context.Context, f *functionFlags, name string, span client.Span, arg []byte, opts ...client.RunOption) error {
	if f.raw {
		return printLines(s.out, client.NewRangeFunc[[]byte, []byte](name, f.options()...).Stream(ctx, span, arg, opts...))
	}
	return printLines(s.out, client.NewRangeFunc[json.RawMessage, json.RawMessage](name, f.options()...).Stream(ctx, span, arg, opts...))
}

func printLines[T ~[]byte](w io.Writer, outputs iter.Seq2[T, error]) error {
	for o, err := range outputs {
		if err == nil {
			_, err = fmt.Fprintf(w, "%s\n", o)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
