package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/cmd/locus/internal/output"
)

// statsJSON is what a version of a function has done, for a machine.
type statsJSON struct {
	Name           string            `json:"name"`
	Version        uint32            `json:"version"`
	Range          uint64            `json:"range,omitempty"`
	Calls          uint64            `json:"calls"`
	Parts          uint64            `json:"parts"`
	Errors         map[string]uint64 `json:"errors"`
	Fuel           uint64            `json:"fuel"`
	Seconds        float64           `json:"seconds"`
	RecordsRead    uint64            `json:"records_read"`
	BytesRead      uint64            `json:"bytes_read"`
	RecordsWritten uint64            `json:"records_written"`
	BytesWritten   uint64            `json:"bytes_written"`
}

func (s *shell) functionStats() *cobra.Command {
	var ranges bool
	c := &cobra.Command{
		Use: "stats [NAME]", Short: "Print what functions have done: calls, errors, fuel, time, data read and written",
		Long: "Print what functions have done on all nodes since these were started, for each version: calls (of range functions, runs), parts of runs\n" +
			"(each on one range), errors by kind, fuel, time, and records and bytes that were read and written.",
		Example: "  locus fn stats\n  locus fn stats flights-delays --by-range\n  locus fn stats --output json",
		Args:    atMostOneName,
	}
	c.Flags().BoolVar(&ranges, "by-range", false, "tell the ranges apart")
	c.RunE = s.short(func(args []string) (talk, error) {
		var opts []client.StatsOption
		if ranges {
			opts = append(opts, client.ByRange())
		}
		return func(ctx context.Context, db *client.DB) error {
			report, err := db.FunctionStats(ctx, strings.Join(args, ""), opts...)
			if err != nil {
				return err
			}
			return s.printStats(report, ranges)
		}, nil
	})
	return c
}

func atMostOneName(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("%s takes at most one name, not %d: locus %s", cmd.CommandPath(), len(args), useLine(cmd))
	}
	return nil
}

func (s *shell) printStats(r client.FunctionReport, ranges bool) error {
	silent, warning := storeList(r.Silent, "nodes that did not answer, whose part is missing:%s\n")
	if s.json() {
		out := make([]statsJSON, 0, len(r.Functions))
		for _, f := range r.Functions {
			failed := f.Errors
			if failed == nil {
				failed = map[string]uint64{}
			}
			out = append(out, statsJSON{
				f.Name, f.Version, uint64(f.Range), f.Calls, f.Parts, failed, f.Fuel, f.Time.Seconds(),
				f.RecordsRead, f.BytesRead, f.RecordsWritten, f.BytesWritten,
			})
		}
		return output.JSON(s.out, struct {
			Functions []statsJSON `json:"functions"`
			Silent    []uint64    `json:"silent_stores"`
		}{out, silent})
	}
	head := []string{"name", ">version", ">range", ">calls", ">parts", "errors", ">fuel", ">time", ">records read", ">bytes read", ">records written", ">bytes written"}
	if !ranges {
		head = slices.Delete(head, 2, 3)
	}
	t := output.NewTable(head...)
	for _, f := range r.Functions {
		row := []string{f.Name, orDash(uint64(f.Version)), orDash(uint64(f.Range)), output.Count(f.Calls), output.Count(f.Parts), errorCounts(f.Errors),
			output.Count(f.Fuel), output.Duration(f.Time), output.Count(f.RecordsRead), output.Bytes(f.BytesRead),
			output.Count(f.RecordsWritten), output.Bytes(f.BytesWritten)}
		if !ranges {
			row = slices.Delete(row, 2, 3)
		}
		t.Row(row...)
	}
	if err := t.Write(s.out, ""); err != nil {
		return err
	}
	_, err := fmt.Fprint(s.out, warning)
	return err
}

func orDash(n uint64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatUint(n, 10)
}

// errorCounts lists errors by kind.
func errorCounts(by map[string]uint64) string {
	var out []string
	for _, kind := range slices.Sorted(maps.Keys(by)) {
		out = append(out, fmt.Sprintf("%d %s", by[kind], kind))
	}
	if len(out) == 0 {
		return "-"
	}
	return strings.Join(out, ", ")
}
