package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/cmd/locus/internal/output"
)

func (s *shell) functionCommand() *cobra.Command {
	return noun("fn", "Register, list, call and run functions",
		"  locus fn call square 5\n  locus fn run flights-delays -k flights",
		s.functionNew(), s.functionTest(),
		s.functionRegister(), s.functionList(), s.functionDescribe(), s.functionActivate(), s.functionRollback(), s.functionRemove(),
		s.functionCall(), s.functionRun(), s.functionStats())
}

// functionFlags say which version runs, and how its argument and result are written.
type functionFlags struct {
	version uint32
	raw     bool
}

func (f *functionFlags) register(c *cobra.Command) {
	c.Flags().Uint32Var(&f.version, "version", 0, "version to run; 0 the active one")
	c.Flags().BoolVar(&f.raw, "raw", false, "argument and result are bytes as they are, not JSON")
}

// name takes the version off NAME@VERSION.
func (f *functionFlags) name(arg string) (string, error) {
	name, version, err := nameAndVersion(arg)
	switch {
	case err != nil:
		return "", err
	case version != 0 && f.version != 0 && version != f.version:
		return "", fmt.Errorf("%q and --version %d name two versions", arg, f.version)
	case version != 0:
		f.version = version
	}
	return name, nil
}

// nameAndVersion cuts NAME@VERSION; without a version it is 0.
func nameAndVersion(arg string) (name string, version uint32, err error) {
	name, text, pinned := strings.Cut(arg, "@")
	if !pinned {
		return name, 0, nil
	}
	version, err = parseVersion(text)
	return name, version, err
}

func parseVersion(text string) (uint32, error) {
	v, err := strconv.ParseUint(text, 10, 32)
	if err != nil || v == 0 {
		return 0, fmt.Errorf("%q is no version of a function: versions are 1, 2 and so on", text)
	}
	return uint32(v), nil
}

func (f *functionFlags) options() []client.FuncOption {
	opts := []client.FuncOption{client.Version(f.version)}
	if f.raw {
		opts = append(opts, client.Raw)
	}
	return opts
}

// argument is the last argument of a command, if there is one; else JSON's null, or no bytes.
func (f *functionFlags) argument(args []string) (json.RawMessage, error) {
	switch {
	case len(args) == 0 && f.raw:
		return nil, nil
	case len(args) == 0:
		return json.RawMessage("null"), nil
	case !f.raw && !json.Valid([]byte(args[0])):
		return nil, fmt.Errorf("argument %q is not JSON; a text wants quotes, as in '\"text\"', and --raw takes bytes as they are", args[0])
	}
	return json.RawMessage(args[0]), nil
}

func nameAndArgument(cmd *cobra.Command, args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return fmt.Errorf("%s takes a name and at most one argument, not %d: locus %s", cmd.CommandPath(), len(args), useLine(cmd))
	}
	return nil
}

func (s *shell) functionCall() *cobra.Command {
	var (
		f   functionFlags
		key string
		dry bool
		opt bool
	)
	c := &cobra.Command{
		Use: "call NAME[@VERSION] [ARG]", Short: "Call a function, on no key or on one",
		Long: "Call a function and print its result. Without --key it may touch no key, and any node runs it; with --key\n" +
			"it reads and writes that key's group, atomically and exactly once. The argument is JSON; without one it is null.",
		Example: "  locus fn call square 5\n  locus fn call counter --key visits 1\n  locus fn call counter@3 --key visits 1",
		Args:    nameAndArgument,
	}
	f.register(c)
	c.Flags().StringVar(&key, "key", "", "the key, in --keyspace, that the function is called on")
	c.Flags().BoolVar(&dry, "dry-run", false, "print what the function would write, and write nothing")
	c.Flags().BoolVar(&opt, "optimistic", false, "run beside other writes, and again if they wrote what it read: for calls that take long")
	c.RunE = s.short(func(args []string) (talk, error) {
		name, err0 := f.name(args[0])
		argument, err1 := f.argument(args[1:])
		k, err2 := s.keys().Parse(key)
		var opts []client.CallOption
		if dry {
			opts = append(opts, client.DryRun())
		}
		if opt {
			opts = append(opts, client.Optimistic())
		}
		return func(ctx context.Context, db *client.DB) error {
			var target client.Target = db
			if c.Flags().Changed("key") {
				target = db.Keyspace(s.keyspace).Key(k)
			}
			r, err := call(ctx, &f, name, target, argument, opts)
			if err != nil {
				return err
			}
			if dry {
				return s.printDryRun(r, f.raw)
			}
			return s.printResult(r.Value, f.raw)
		}, cmp.Or(err0, err1, err2)
	})
	return c
}

// call calls a function whose types are not known here.
func call(ctx context.Context, f *functionFlags, name string, t client.Target, arg []byte, opts []client.CallOption) (client.Result[[]byte], error) {
	if f.raw {
		return client.NewFunc[[]byte, []byte](name, f.options()...).Do(ctx, t, arg, opts...)
	}
	r, err := client.NewFunc[json.RawMessage, json.RawMessage](name, f.options()...).Do(ctx, t, arg, opts...)
	return client.Result[[]byte]{Value: r.Value, Timestamp: r.Timestamp, Fuel: r.Fuel, Version: r.Version, Writes: r.Writes}, err
}

// writeJSON is what a call would write to a key, for a machine.
type writeJSON struct {
	Key    string `json:"key"`
	Delete bool   `json:"delete,omitempty"`
	*output.Value
	TTL float64 `json:"ttl_seconds,omitempty"`
}

func toWriteJSON(key string, value []byte, del bool, ttl time.Duration) writeJSON {
	out := writeJSON{Key: key, Delete: del, TTL: ttl.Seconds()}
	if !del {
		v := output.NewValue(value)
		out.Value = &v
	}
	return out
}

// printDryRun prints a result and, each on a line, what the call would write.
func (s *shell) printDryRun(r client.Result[[]byte], raw bool) error {
	if s.json() {
		writes := make([]writeJSON, 0, len(r.Writes))
		for _, w := range r.Writes {
			writes = append(writes, toWriteJSON(s.keys().Text(w.Key), w.Value, w.Delete, w.TTL))
		}
		var result any = json.RawMessage(r.Value)
		if raw {
			result = output.NewValue(r.Value)
		}
		return output.JSON(s.out, struct {
			Result  any         `json:"result"`
			Version uint32      `json:"version"`
			Fuel    uint64      `json:"fuel"`
			Writes  []writeJSON `json:"writes"`
		}{result, r.Version, r.Fuel, writes})
	}
	if err := s.printResult(r.Value, raw); err != nil {
		return err
	}
	for _, w := range r.Writes {
		line := "put\t" + s.keys().Text(w.Key) + "\t" + output.Printable(w.Value)
		switch {
		case w.Delete:
			line = "delete\t" + s.keys().Text(w.Key)
		case w.TTL > 0:
			line += "\texpires in " + output.Duration(w.TTL)
		}
		if _, err := fmt.Fprintln(s.out, line); err != nil {
			return err
		}
	}
	return nil
}

// printResult prints a result: JSON on a line of its own, bytes as they are.
func (s *shell) printResult(result []byte, raw bool) error {
	if raw {
		_, err := s.out.Write(result)
		return err
	}
	_, err := fmt.Fprintf(s.out, "%s\n", result)
	return err
}
