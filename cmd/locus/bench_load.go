package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	loadgen "github.com/locuskv/locus/bench/load"
	"github.com/locuskv/locus/bench/load/locusload"
	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/cmd/locus/internal/output"
	"github.com/locuskv/locus/cmd/locus/internal/progress"
)

func (s *shell) benchLoad() *cobra.Command {
	var (
		t      benchTarget
		o      = loadgen.Defaults()
		ranges int
	)
	c := &cobra.Command{
		Use: "load", Short: "Write the keys that \"bench run\" works on",
		Long: `Write the keys that "bench run" works on: --keys of them, with random values.

With --ranges, the keyspace is made if it is missing, in so many ranges with as many keys each, and loading
begins when its leaseholders are spread over the nodes. That is the cluster's own business and takes about two minutes
for 1,000 ranges; after ten minutes without rest it is an error. Without --ranges, the keyspace has to exist.`,
		Example: "  locus bench load --keys 100000\n  locus bench load -k bench --ranges 12 --keys 1000000\n" +
			"  locus bench load --target etcd --addr 127.0.0.1:2379",
		Args: exactly(0),
	}
	t.flags(c)
	goFlags(c, o.DataFlags)
	c.Flags().IntVar(&ranges, "ranges", 0, "make the keyspace in so many ranges, and spread their leaseholders; 0 leaves it as it is")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if err := t.validate(); err != nil {
			return err
		}
		if err := o.ValidateData(); err != nil {
			return err
		}
		if ranges < 0 || ranges > locusload.MaxRanges {
			return fmt.Errorf("--ranges %d is not between 0 and %d", ranges, locusload.MaxRanges)
		}
		if t.name == targetEtcd {
			out, err := s.onEtcd(cmd, t, "load", o.DataArgs())
			if err != nil {
				return err
			}
			var l loadgen.Loaded
			if err := json.Unmarshal(out, &l); err != nil {
				return fmt.Errorf("the helper's report: %w", err)
			}
			return s.printLoaded(l, t.name)
		}
		return s.long(plain(func(ctx context.Context, db *client.DB) error {
			return s.loadLocus(ctx, db, o, ranges)
		}))(cmd, args)
	}
	return c
}

func (s *shell) loadLocus(ctx context.Context, db *client.DB, o loadgen.Options, ranges int) error {
	if ranges > 0 {
		if err := s.prepareKeyspace(ctx, db, ranges); err != nil {
			return err
		}
	}
	step := s.progress().Step("loading", int64(o.Keys), progress.Things)
	defer step.Done()
	begun := time.Now()
	if err := locusload.Fill(ctx, db.Keyspace(s.keyspace), o, step.Set); err != nil {
		return err
	}
	step.Done()
	return s.printLoaded(loadgen.NewLoaded(o, time.Since(begun)), s.keyspace)
}

func (s *shell) prepareKeyspace(ctx context.Context, db *client.DB, ranges int) error {
	step := s.progress().Step("spreading leaseholders", int64(ranges), progress.Things)
	defer step.Done()
	return locusload.Prepare(ctx, db, s.keyspace, ranges, func(placed int) { step.Set(int64(placed)) })
}

func (s *shell) printLoaded(l loadgen.Loaded, where string) error {
	if s.json() {
		return output.JSON(s.out, l)
	}
	took := time.Duration(l.Seconds * float64(time.Second))
	_, err := fmt.Fprintf(s.out, "loaded %s keys with values of %s into %s in %s: %s\n", output.Count(l.Keys), output.Bytes(l.ValueSize),
		where, output.Duration(took), output.Rate(int64(l.Keys), took))
	return err
}
