package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/cmd/locus/internal/output"
)

func (s *shell) rangeCommand() *cobra.Command {
	return noun("range", "Look at, split and move ranges",
		"  locus range list\n  locus range split --at LAS -k flights", s.rangeList(), s.rangeSplit(), s.rangeTransfer())
}

func (s *shell) rangeList() *cobra.Command {
	c := &cobra.Command{
		Use: "list", Short: "List ranges in key order",
		Long:    "List ranges in key order: those of --keyspace if it is given, else all, the system's included.",
		Example: "  locus range list\n  locus range list -k flights", Args: exactly(0),
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		one := cmd.Flags().Changed("keyspace") || s.getenv("LOCUS_KEYSPACE") != ""
		return s.short(func(ctx context.Context, db *client.DB, _ []string) error {
			list := db.Ranges
			if one {
				list = db.Keyspace(s.keyspace).Ranges
			}
			ranges, err := list(ctx)
			if err != nil {
				return err
			}
			if s.json() {
				return output.JSON(s.out, s.toRangesJSON(ranges))
			}
			return s.rangeTable(ranges).Write(s.out, "")
		})(cmd, args)
	}
	return c
}

// rangeJSON is a range for a machine. A missing start or end is the keyspace's own.
type rangeJSON struct {
	ID          uint64        `json:"id"`
	Keyspace    string        `json:"keyspace,omitempty"`
	Start       *string       `json:"start,omitempty"`
	End         *string       `json:"end,omitempty"`
	Leaseholder uint64        `json:"leaseholder,omitempty"` // store
	Term        uint64        `json:"term"`
	ConfEpoch   uint64        `json:"conf_epoch"`
	BoundsEpoch uint64        `json:"bounds_epoch"`
	Records     uint64        `json:"records"`
	Bytes       uint64        `json:"bytes"`
	Replicas    []replicaJSON `json:"replicas"`
}

type replicaJSON struct {
	Store uint64 `json:"store"`
	ID    uint64 `json:"id"`
	Role  string `json:"role"`
}

func (s *shell) toRangesJSON(ranges []client.RangeInfo) []rangeJSON {
	bound := func(b []byte) *string {
		if b == nil {
			return nil
		}
		text := s.keys().Text(b)
		return &text
	}
	out := make([]rangeJSON, 0, len(ranges))
	for _, r := range ranges {
		j := rangeJSON{
			ID: uint64(r.ID), Keyspace: r.Keyspace, Start: bound(r.Start), End: bound(r.End),
			Leaseholder: uint64(r.Leaseholder), Term: r.Term, ConfEpoch: r.ConfEpoch, BoundsEpoch: r.BoundsEpoch,
			Records: r.Records, Bytes: r.Bytes, Replicas: []replicaJSON{},
		}
		for _, x := range r.Replicas {
			j.Replicas = append(j.Replicas, replicaJSON{uint64(x.Store), x.ID, x.Role})
		}
		out = append(out, j)
	}
	return out
}

// rangeTable shows ranges; the leaseholder's store has a star, and a replica that is no voter its role.
func (s *shell) rangeTable(ranges []client.RangeInfo) *output.Table {
	t := output.NewTable(">range", "keyspace", "from", "to", "stores", ">records", ">size", "epoch")
	bound := func(b []byte) string {
		if b == nil {
			return "-"
		}
		return s.keys().Text(b)
	}
	for _, r := range ranges {
		var stores []string
		for _, x := range r.Replicas {
			text := strconv.FormatUint(uint64(x.Store), 10)
			if x.Store == r.Leaseholder {
				text += "*"
			}
			if x.Role != "voter" {
				text += "(" + x.Role + ")"
			}
			stores = append(stores, text)
		}
		name := r.Keyspace
		if name == "" {
			name = "-"
		}
		t.Row(strconv.FormatUint(uint64(r.ID), 10), name, bound(r.Start), bound(r.End), strings.Join(stores, " "),
			output.Count(r.Records), output.Bytes(r.Bytes), fmt.Sprintf("%d.%d", r.ConfEpoch, r.BoundsEpoch))
	}
	return t
}

func (s *shell) rangeSplit() *cobra.Command {
	var at string
	c := &cobra.Command{
		Use: "split [RANGE]", Short: "Split a range, in its middle or at a key",
		Long: "Split a range: the one with the given number in the middle of its data, or, with --at, the range of\n" +
			"--keyspace that holds the key, at the start of that key's group. No data moves.",
		Example: "  locus range split 7\n  locus range split -k flights --at LAS",
		Args:    cobra.ArbitraryArgs,
	}
	c.Flags().StringVar(&at, "at", "", "key at which the right part begins")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if (len(args) == 1) == (at != "") || len(args) > 1 {
			return fmt.Errorf("locus range split takes either the number of a range or --at KEY")
		}
		return s.short(func(ctx context.Context, db *client.DB, args []string) error {
			split, err := s.split(ctx, db, args, at)
			if err != nil {
				return err
			}
			if s.json() {
				return output.JSONLine(s.out, splitJSON{uint64(split.Left), uint64(split.Right), s.keys().Text(split.Key)})
			}
			_, err = fmt.Fprintf(s.out, "range %d ends at %s, where range %d begins\n", split.Left, s.keys().Text(split.Key), split.Right)
			return err
		})(cmd, args)
	}
	return c
}

// splitJSON is what a split made.
type splitJSON struct {
	Left  uint64 `json:"left"`
	Right uint64 `json:"right"`
	Key   string `json:"key"`
}

func (s *shell) split(ctx context.Context, db *client.DB, args []string, at string) (client.Split, error) {
	if at == "" {
		id, err := number("range", args[0])
		if err != nil {
			return client.Split{}, err
		}
		return db.SplitRange(ctx, client.RangeID(id))
	}
	key, err := s.keys().Parse(at)
	if err != nil {
		return client.Split{}, err
	}
	return db.Keyspace(s.keyspace).Split(ctx, key)
}

func (s *shell) rangeTransfer() *cobra.Command {
	c := &cobra.Command{
		Use: "transfer RANGE STORE", Short: "Make a store's replica the leaseholder of a range",
		Example: "  locus range transfer 7 2", Args: exactly(2),
	}
	c.RunE = s.short(func(ctx context.Context, db *client.DB, args []string) error {
		id, err := number("range", args[0])
		if err != nil {
			return err
		}
		store, err := number("store", args[1])
		if err != nil {
			return err
		}
		return db.TransferRange(ctx, client.RangeID(id), client.StoreID(store))
	})
	return c
}

// number reads the number of a range or store, with or without the letter that logs put before it.
func number(what, text string) (uint64, error) {
	n, err := strconv.ParseUint(strings.TrimLeft(text, "rs"), 10, 64)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not the number of a %s", text, what)
	}
	return n, nil
}
