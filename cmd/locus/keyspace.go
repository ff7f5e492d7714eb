package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/cmd/locus/internal/output"
)

func (s *shell) keyspaceCommand() *cobra.Command {
	return noun("keyspace", "Make, look at and drop keyspaces",
		"  locus keyspace create flights --split-at D,K,O\n  locus keyspace list",
		s.keyspaceCreate(), s.keyspaceList(), s.keyspaceShow(), s.keyspaceDrop())
}

// keyspaceFlags say how a keyspace is made.
type keyspaceFlags struct {
	partition string
	delimiter string
	depth     int
	length    int
	splitAt   []string
	splitInto int
}

func (s *shell) keyspaceCreate() *cobra.Command {
	var f keyspaceFlags
	c := &cobra.Command{
		Use: "create NAME", Short: "Make a keyspace; returns when its ranges have their replicas",
		Long: `Make a keyspace. The command returns when its ranges have min(3, live nodes) replicas.

A range-partitioned keyspace keeps its keys in order. A hash-partitioned one spreads them evenly, and scans
run in the order of the hashes. A group rule says which keys are never split apart, and can be written together:
those with the same prefix up to the N-th delimiter, or the same first N bytes. Without a rule each key is a group.`,
		Example: "  locus keyspace create flights --split-at D,K,O\n" +
			"  locus keyspace create orders --group-delim / --group-depth 1\n" +
			"  locus keyspace create sessions --partition hash --split-into 8",
		Args: exactly(1),
	}
	c.Flags().StringVar(&f.partition, "partition", "range", "range or hash")
	c.Flags().StringVar(&f.delimiter, "group-delim", "", "delimiter that ends a group's prefix, one byte")
	c.Flags().IntVar(&f.depth, "group-depth", 0, "how many delimiters a group's prefix has")
	c.Flags().IntVar(&f.length, "group-len", 0, "length of a group's prefix in bytes")
	c.Flags().StringSliceVar(&f.splitAt, "split-at", nil, "keys at which ranges begin, KEY,... (range partition)")
	c.Flags().IntVar(&f.splitInto, "split-into", 0, "number of ranges to begin with (hash partition)")
	c.RunE = s.short(func(args []string) (talk, error) {
		o, err := f.options(s.keys())
		return func(ctx context.Context, db *client.DB) error {
			if err := db.CreateKeyspace(ctx, args[0], o); err != nil {
				return err
			}
			return s.showKeyspace(ctx, db, args[0])
		}, err
	})
	return c
}

// options checks the flags and turns them into what the client takes.
func (f *keyspaceFlags) options(keys output.Keys) (client.KeyspaceOptions, error) {
	o := client.KeyspaceOptions{SplitInto: f.splitInto}
	switch f.partition {
	case "range":
		o.Partition = client.PartitionRange
	case "hash":
		o.Partition = client.PartitionHash
	default:
		return o, fmt.Errorf("--partition %q is neither range nor hash", f.partition)
	}
	switch {
	case f.delimiter == "" && f.depth != 0:
		return o, errors.New("--group-depth needs --group-delim")
	case f.delimiter != "" && f.length != 0:
		return o, errors.New("--group-len goes with neither --group-delim nor --group-depth")
	case f.delimiter != "":
		if len(f.delimiter) != 1 {
			return o, fmt.Errorf("--group-delim %q is not one byte", f.delimiter)
		}
		if f.depth < 1 {
			return o, fmt.Errorf("--group-delim needs a --group-depth of at least 1, not %d", f.depth)
		}
		o.Group = client.GroupRule{Delimiter: f.delimiter[0], Depth: f.depth}
	}
	if f.length < 0 || f.splitInto < 0 {
		return o, errors.New("--group-len and --split-into can't be negative")
	}
	o.Group.Length = f.length
	if len(f.splitAt) > 0 && o.Partition == client.PartitionHash {
		return o, errors.New("--split-at is for range partition; a hash-partitioned keyspace takes --split-into")
	}
	if f.splitInto > 0 && o.Partition == client.PartitionRange {
		return o, errors.New("--split-into is for hash partition; a range-partitioned keyspace takes --split-at")
	}
	for _, text := range f.splitAt {
		k, err := keys.Parse(text)
		if err != nil {
			return o, fmt.Errorf("--split-at: %w", err)
		}
		if len(k) == 0 {
			return o, errors.New("--split-at has an empty key")
		}
		o.SplitAt = append(o.SplitAt, k)
	}
	return o, nil
}

func (s *shell) keyspaceList() *cobra.Command {
	c := &cobra.Command{
		Use: "list", Short: "List the keyspaces", Example: "  locus keyspace list", Args: exactly(0),
	}
	c.RunE = s.short(plain(func(ctx context.Context, db *client.DB) error {
		spaces, err := db.Keyspaces(ctx)
		if err != nil {
			return err
		}
		slices.SortFunc(spaces, func(a, b client.KeyspaceInfo) int { return strings.Compare(a.Name, b.Name) })
		if s.json() {
			out := make([]keyspaceJSON, 0, len(spaces))
			for _, k := range spaces {
				out = append(out, toKeyspaceJSON(k))
			}
			return output.JSON(s.out, out)
		}
		t := output.NewTable("name", "partition", "group")
		for _, k := range spaces {
			t.Row(k.Name, partitionName(k.Partition), groupText(k.Group))
		}
		return t.Write(s.out, "")
	}))
	return c
}

func (s *shell) keyspaceShow() *cobra.Command {
	c := &cobra.Command{
		Use: "show NAME", Short: "Print a keyspace and its ranges", Example: "  locus keyspace show flights", Args: exactly(1),
	}
	c.RunE = s.short(func(args []string) (talk, error) {
		return func(ctx context.Context, db *client.DB) error { return s.showKeyspace(ctx, db, args[0]) }, nil
	})
	return c
}

func (s *shell) keyspaceDrop() *cobra.Command {
	c := &cobra.Command{
		Use: "drop NAME", Short: "Drop a keyspace and all its data",
		Example: "  locus keyspace drop flights", Args: exactly(1),
	}
	c.RunE = s.short(func(args []string) (talk, error) {
		return func(ctx context.Context, db *client.DB) error {
			// Dropping what is not there is no error to the cluster, so that it can be repeated. To a user it is
			// a mistyped name.
			if _, err := db.Keyspace(args[0]).Info(ctx); err != nil {
				return err
			}
			return db.DropKeyspace(ctx, args[0])
		}, nil
	})
	return c
}

// keyspaceJSON is a keyspace for a machine.
type keyspaceJSON struct {
	Name       string      `json:"name"`
	Partition  string      `json:"partition"`
	GroupDelim string      `json:"group_delim,omitempty"`
	GroupDepth int         `json:"group_depth,omitempty"`
	GroupLen   int         `json:"group_len,omitempty"`
	Ranges     []rangeJSON `json:"ranges,omitempty"`
}

func toKeyspaceJSON(k client.KeyspaceInfo) keyspaceJSON {
	out := keyspaceJSON{
		Name: k.Name, Partition: partitionName(k.Partition), GroupDepth: k.Group.Depth, GroupLen: k.Group.Length,
	}
	if k.Group.Depth > 0 {
		out.GroupDelim = string([]byte{k.Group.Delimiter})
	}
	return out
}

// showKeyspace prints one keyspace and its ranges.
func (s *shell) showKeyspace(ctx context.Context, db *client.DB, name string) error {
	ks := db.Keyspace(name)
	info, err := ks.Info(ctx)
	if err != nil {
		return err
	}
	ranges, err := ks.Ranges(ctx)
	if err != nil {
		return err
	}
	if s.json() {
		out := toKeyspaceJSON(info)
		out.Ranges = s.toRangesJSON(ranges)
		return output.JSON(s.out, out)
	}
	if _, err := fmt.Fprintf(s.out, "keyspace   %s\npartition  %s\ngroup      %s\nranges     %d\n",
		info.Name, partitionName(info.Partition), groupText(info.Group), len(ranges)); err != nil {
		return err
	}
	return s.rangeTable(ranges).Write(s.out, "  ")
}

func partitionName(p client.Partition) string {
	if p == client.PartitionHash {
		return "hash"
	}
	return "range"
}

// groupText is a group rule in words.
func groupText(g client.GroupRule) string {
	switch {
	case g.Depth > 0:
		return fmt.Sprintf("up to %q number %d", g.Delimiter, g.Depth)
	case g.Length > 0:
		return fmt.Sprintf("first %d bytes", g.Length)
	}
	return "each key"
}
