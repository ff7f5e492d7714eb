package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/cmd/locus/internal/output"
)

func (s *shell) functionCommand() *cobra.Command {
	return noun("fn", "Register, list, call and run functions",
		"  locus fn call square 5\n  locus fn run flights-delays -k flights",
		s.functionNew(), s.functionTest(),
		s.functionRegister(), s.functionList(), s.functionCall(), s.functionRun())
}

// functionJSON is a function for a machine.
type functionJSON struct {
	Name    string `json:"name"`
	Version uint32 `json:"version"`
	Kind    string `json:"kind"`
	Runtime string `json:"runtime"`
	Hash    string `json:"hash,omitempty"`
	Size    uint64 `json:"size,omitempty"`
	Active  bool   `json:"active"`
}

func toFunctionJSON(f client.FunctionInfo) functionJSON {
	return functionJSON{f.Name, f.Version, f.Kind, f.Runtime, f.Hash, f.Size, f.Active}
}

func (s *shell) functionRegister() *cobra.Command {
	c := &cobra.Command{
		Use: "register NAME FILE.wasm", Short: "Store a WebAssembly module as the newest version of a function",
		Example: "  locus fn register flights-delays examples/flights/flights.wasm", Args: exactly(2),
	}
	c.RunE = s.short(func(args []string) (talk, error) {
		module, err := os.ReadFile(args[1])
		return func(ctx context.Context, db *client.DB) error {
			info, err := db.RegisterFunction(ctx, args[0], module)
			if err != nil {
				return err
			}
			if s.json() {
				return output.JSON(s.out, toFunctionJSON(info))
			}
			_, err = fmt.Fprintf(s.out, "registered %s version %d (%s, %s)\n", info.Name, info.Version, info.Kind, output.Bytes(info.Size))
			return err
		}, err
	})
	return c
}

func (s *shell) functionList() *cobra.Command {
	c := &cobra.Command{
		Use: "list", Short: "List the functions of the cluster", Example: "  locus fn list", Args: exactly(0),
	}
	c.RunE = s.short(plain(func(ctx context.Context, db *client.DB) error {
		functions, err := db.Functions(ctx)
		if err != nil {
			return err
		}
		if s.json() {
			out := make([]functionJSON, 0, len(functions))
			for _, f := range functions {
				out = append(out, toFunctionJSON(f))
			}
			return output.JSON(s.out, out)
		}
		t := output.NewTable("name", ">version", "active", "kind", "runtime", ">size", "hash")
		for _, f := range functions {
			row := []string{f.Name, "-", strconv.FormatBool(f.Active), f.Kind, f.Runtime, "-", "-"}
			if f.Version > 0 {
				row[1] = strconv.FormatUint(uint64(f.Version), 10)
			}
			if f.Hash != "" {
				row[5], row[6] = output.Bytes(f.Size), f.Hash[:min(12, len(f.Hash))]
			}
			t.Row(row...)
		}
		return t.Write(s.out, "")
	}))
	return c
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
		Use: "call NAME [ARG]", Short: "Call a function, on no key or on one",
		Long: "Call a function and print its result. Without --key it may touch no key, and any node runs it; with --key\n" +
			"it reads and writes that key's group, atomically and exactly once. The argument is JSON; without one it is null.",
		Example: "  locus fn call square 5\n  locus fn call counter --key visits 1",
		Args:    nameAndArgument,
	}
	f.register(c)
	c.Flags().StringVar(&key, "key", "", "the key, in --keyspace, that the function is called on")
	c.Flags().BoolVar(&dry, "dry-run", false, "drop what the function writes")
	c.Flags().BoolVar(&opt, "optimistic", false, "run beside other writes, and again if they wrote what it read: for calls that take long")
	c.RunE = s.short(func(args []string) (talk, error) {
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
			result, err := call(ctx, &f, args[0], target, argument, opts)
			if err != nil {
				return err
			}
			return s.printResult(result, f.raw)
		}, cmp.Or(err1, err2)
	})
	return c
}

// call calls a function whose types are not known here.
func call(ctx context.Context, f *functionFlags, name string, t client.Target, arg []byte, opts []client.CallOption) ([]byte, error) {
	if f.raw {
		return client.NewFunc[[]byte, []byte](name, f.options()...).Call(ctx, t, arg, opts...)
	}
	return client.NewFunc[json.RawMessage, json.RawMessage](name, f.options()...).Call(ctx, t, arg, opts...)
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
