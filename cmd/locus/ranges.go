package main

import (
	"cmp"
	"context"
	"errors"
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
		return s.short(plain(func(ctx context.Context, db *client.DB) error {
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
		}))(cmd, args)
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
		Long: "Split a range: the one with the given number in the middle of its records, or, with --at, the range of\n" +
			"--keyspace that holds the key, at the start of that key's group. No data moves; to find the middle, the\n" +
			"range's keys are read.",
		Example: "  locus range split 7\n  locus range split -k flights --at LAS",
		Args:    cobra.ArbitraryArgs,
	}
	c.Flags().StringVar(&at, "at", "", "key at which the right part begins")
	c.RunE = s.short(func(args []string) (talk, error) {
		split, err := s.prepareSplit(args, at)
		return func(ctx context.Context, db *client.DB) error {
			made, err := split(ctx, db)
			if err != nil {
				return err
			}
			key := s.keys().Text(made.Key)
			if s.json() {
				return output.JSONLine(s.out, splitJSON{uint64(made.Left), uint64(made.Right), key})
			}
			_, err = fmt.Fprintf(s.out, "range %d ends at %s, where range %d begins\n", made.Left, key, made.Right)
			return err
		}, err
	})
	return c
}

// splitJSON is what a split made.
type splitJSON struct {
	Left  uint64 `json:"left"`
	Right uint64 `json:"right"`
	Key   string `json:"key"`
}

// prepareSplit is the split of the range with a number, or of the one that holds a key.
func (s *shell) prepareSplit(args []string, at string) (func(context.Context, *client.DB) (client.Split, error), error) {
	if (len(args) == 1) == (at != "") || len(args) > 1 {
		return nil, errors.New("locus range split takes either the number of a range or --at KEY")
	}
	if at == "" {
		id, err := number("range", args[0])
		return func(ctx context.Context, db *client.DB) (client.Split, error) {
			return db.SplitRange(ctx, client.RangeID(id))
		}, err
	}
	key, err := s.keys().Parse(at)
	return func(ctx context.Context, db *client.DB) (client.Split, error) {
		return db.Keyspace(s.keyspace).Split(ctx, key)
	}, err
}

func (s *shell) rangeTransfer() *cobra.Command {
	c := &cobra.Command{
		Use: "transfer RANGE STORE", Short: "Make a store's replica the leaseholder of a range",
		Example: "  locus range transfer 7 2", Args: exactly(2),
	}
	c.RunE = s.short(func(args []string) (talk, error) {
		id, err1 := number("range", args[0])
		store, err2 := number("store", args[1])
		return func(ctx context.Context, db *client.DB) error {
			return db.TransferRange(ctx, client.RangeID(id), client.StoreID(store))
		}, cmp.Or(err1, err2)
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
