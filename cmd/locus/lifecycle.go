package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/cmd/locus/internal/output"
)

// functionJSON is a version of a function for a machine.
type functionJSON struct {
	Name       string `json:"name"`
	Version    uint32 `json:"version"`
	Kind       string `json:"kind"`
	Codec      string `json:"codec,omitempty"`
	Runtime    string `json:"runtime"`
	Hash       string `json:"hash,omitempty"`
	Size       uint64 `json:"size,omitempty"`
	Active     bool   `json:"active"`
	Previous   bool   `json:"previous"`
	Registered string `json:"registered,omitempty"`
}

func toFunctionJSON(f client.FunctionInfo) functionJSON {
	out := functionJSON{f.Name, f.Version, f.Kind, f.Codec, f.Runtime, f.Hash, f.Size, f.Active, f.Previous, ""}
	if !f.Registered.IsZero() {
		out.Registered = f.Registered.UTC().Format(time.RFC3339)
	}
	return out
}

func toFunctionsJSON(list []client.FunctionInfo) []functionJSON {
	out := make([]functionJSON, 0, len(list))
	for _, f := range list {
		out = append(out, toFunctionJSON(f))
	}
	return out
}

func (s *shell) functionRegister() *cobra.Command {
	var inactive bool
	c := &cobra.Command{
		Use: "register NAME FILE.wasm", Short: "Store a WebAssembly module as the next version of a function",
		Long: "Store a WebAssembly module as the next version of a function, and make it the active one: calls that begin afterwards\n" +
			"run it, on every node. A module that the name has already is the version that it is.",
		Example: "  locus fn register flights-delays examples/flights/flights.wasm\n  locus fn register --inactive counter counter.wasm", Args: exactly(2),
	}
	c.Flags().BoolVar(&inactive, "inactive", false, "leave the active version as it is; this one runs for those who name it")
	c.RunE = s.short(func(args []string) (talk, error) {
		module, err := os.ReadFile(args[1])
		var opts []client.RegisterOption
		if inactive {
			opts = append(opts, client.Inactive())
		}
		return func(ctx context.Context, db *client.DB) error {
			info, err := db.RegisterFunction(ctx, args[0], module, opts...)
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
			return output.JSON(s.out, toFunctionsJSON(functions))
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

// nodeFunctionJSON is what a node has ready of a function, for a machine.
type nodeFunctionJSON struct {
	Store    uint64   `json:"store"`
	Native   bool     `json:"native"`
	Compiled []uint32 `json:"compiled_versions"`
	Silent   bool     `json:"silent"`
}

func (s *shell) functionDescribe() *cobra.Command {
	c := &cobra.Command{
		Use: "describe NAME", Short: "Print the versions of a function, and which nodes have them ready",
		Example: "  locus fn describe flights-delays\n  locus fn describe flights-delays --output json", Args: exactly(1),
	}
	c.RunE = s.short(func(args []string) (talk, error) {
		return func(ctx context.Context, db *client.DB) error {
			d, err := db.DescribeFunction(ctx, args[0])
			if err != nil {
				return err
			}
			if s.json() {
				nodes := make([]nodeFunctionJSON, 0, len(d.Nodes))
				for _, n := range d.Nodes {
					nodes = append(nodes, nodeFunctionJSON{uint64(n.Store), n.Native, append([]uint32{}, n.Compiled...), n.Silent})
				}
				return output.JSON(s.out, struct {
					Name     string             `json:"name"`
					Versions []functionJSON     `json:"versions"`
					Nodes    []nodeFunctionJSON `json:"nodes"`
				}{args[0], toFunctionsJSON(d.Versions), nodes})
			}
			return s.printFunction(d)
		}, nil
	})
	return c
}

func (s *shell) printFunction(d client.FunctionDetails) error {
	t := output.NewTable(">version", "state", "kind", "codec", "runtime", ">size", "registered", "hash")
	for _, f := range d.Versions {
		row := []string{strconv.FormatUint(uint64(f.Version), 10), "", f.Kind, f.Codec, f.Runtime, output.Bytes(f.Size), "-", f.Hash}
		switch {
		case f.Version == 0:
			row[0], row[1], row[5], row[7] = "-", "active", "-", "-"
		case f.Active:
			row[1] = "active"
		case f.Previous:
			row[1] = "previous"
		}
		if !f.Registered.IsZero() {
			row[6] = f.Registered.UTC().Format(time.RFC3339)
		}
		t.Row(row...)
	}
	if err := t.Write(s.out, ""); err != nil {
		return err
	}
	for _, n := range d.Nodes {
		if _, err := fmt.Fprintf(s.out, "node s%d: %s\n", n.Store, readyText(n)); err != nil {
			return err
		}
	}
	return nil
}

// readyText says what a node has ready of a function.
func readyText(n client.FunctionNode) string {
	switch {
	case n.Silent:
		return "did not answer"
	case n.Native:
		return "native"
	case len(n.Compiled) == 0:
		return "nothing compiled yet"
	}
	var versions []string
	for _, v := range n.Compiled {
		versions = append(versions, strconv.FormatUint(uint64(v), 10))
	}
	return "version " + strings.Join(versions, ", ") + " compiled"
}

// activationJSON is a change of the active version for a machine.
type activationJSON struct {
	Name   string `json:"name"`
	Active uint32 `json:"active"`
	Before uint32 `json:"before"` // 0: none
}

func (s *shell) printActivation(a activationJSON) error {
	if s.json() {
		return output.JSON(s.out, a)
	}
	instead := ""
	switch a.Before {
	case 0, a.Active:
	default:
		instead = fmt.Sprintf(" instead of %d", a.Before)
	}
	_, err := fmt.Fprintf(s.out, "version %d of %s is active%s\n", a.Active, a.Name, instead)
	return err
}

func (s *shell) functionActivate() *cobra.Command {
	c := &cobra.Command{
		Use: "activate NAME VERSION", Short: "Make a version the one that calls run which name none",
		Long: "Make a version of a function, newer or older, the one that calls run which name none. When the command returns, every\n" +
			"call that begins runs it, on every node; what began before keeps its version to its end.",
		Example: "  locus fn activate flights-delays 2", Args: exactly(2),
	}
	c.RunE = s.short(func(args []string) (talk, error) {
		version, err := parseVersion(args[1])
		return func(ctx context.Context, db *client.DB) error {
			before, err := db.ActivateFunction(ctx, args[0], version)
			if err != nil {
				return err
			}
			return s.printActivation(activationJSON{args[0], version, before})
		}, err
	})
	return c
}

func (s *shell) functionRollback() *cobra.Command {
	c := &cobra.Command{
		Use: "rollback NAME", Short: "Activate the version that was active before",
		Long:    "Activate the version that was active before the one that is. Twice in a row changes nothing.",
		Example: "  locus fn rollback flights-delays", Args: exactly(1),
	}
	c.RunE = s.short(func(args []string) (talk, error) {
		return func(ctx context.Context, db *client.DB) error {
			now, before, err := db.RollbackFunction(ctx, args[0])
			if err != nil {
				return err
			}
			return s.printActivation(activationJSON{args[0], now.Version, before})
		}, nil
	})
	return c
}

func (s *shell) functionRemove() *cobra.Command {
	c := &cobra.Command{
		Use: "remove NAME[@VERSION]", Short: "Remove a function, or a version of it that is not active",
		Long: "Remove a function with all its versions, or one version of it that is not active. Modules that no version uses any more\n" +
			"are deleted; numbers of versions are not given again.",
		Example: "  locus fn remove flights-delays@1\n  locus fn remove flights-delays", Args: exactly(1),
	}
	c.RunE = s.short(func(args []string) (talk, error) {
		name, version, err := nameAndVersion(args[0])
		return func(ctx context.Context, db *client.DB) error {
			if version != 0 {
				return db.RemoveFunctionVersion(ctx, name, version)
			}
			_, err := db.RemoveFunction(ctx, name)
			return err
		}, err
	})
	return c
}
