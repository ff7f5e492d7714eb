package main

import (
	"fmt"
	"strconv"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/cmd/locus/internal/output"
)

// planJSON is a run's plan for a machine.
type planJSON struct {
	Timestamp        string             `json:"timestamp"`
	EstimatedRecords uint64             `json:"estimated_records"`
	EstimatedFuel    uint64             `json:"estimated_fuel"`
	Sample           sampleJSON         `json:"sample"`
	Ranges           []plannedRangeJSON `json:"ranges"`
}

type sampleJSON struct {
	Ranges  uint64 `json:"ranges"`
	Records uint64 `json:"records"`
	Bytes   uint64 `json:"bytes"`
	Fuel    uint64 `json:"fuel"`
}

type plannedRangeJSON struct {
	Range       uint64 `json:"range"`
	Leaseholder uint64 `json:"leaseholder"`
	Records     uint64 `json:"records"`
	Bytes       uint64 `json:"bytes"`
	Part        bool   `json:"part"` // the run needs a part of the range alone
}

// tookJSON is what a range took.
type tookJSON struct {
	Range    uint64  `json:"range"`
	Store    uint64  `json:"store"`
	Records  uint64  `json:"records"`
	Bytes    uint64  `json:"bytes"`
	Fuel     uint64  `json:"fuel"`
	Seconds  float64 `json:"seconds"`
	Requests uint64  `json:"requests"`
	Failed   uint64  `json:"failed"`
}

// printPlan tells what a run is going to do. It goes to the error stream: the result is alone on the other one.
func (s *shell) printPlan(p client.Plan) {
	if s.json() {
		out := planJSON{
			Timestamp: p.Timestamp.String(), EstimatedRecords: p.Records(), EstimatedFuel: p.Fuel(), Sample: sampleJSON(p.Sample),
			Ranges: []plannedRangeJSON{},
		}
		for _, r := range p.Ranges {
			out.Ranges = append(out.Ranges, plannedRangeJSON{uint64(r.Range), uint64(r.Leaseholder), r.Records, r.Bytes, r.Part})
		}
		_ = output.JSONLine(s.err, map[string]any{"plan": out})
		return
	}
	most := ""
	t := output.NewTable(">range", ">leaseholder", ">records", ">size")
	for _, r := range p.Ranges {
		row := []string{"r" + strconv.FormatUint(uint64(r.Range), 10), "s" + strconv.FormatUint(uint64(r.Leaseholder), 10), "~" + output.Count(r.Records), "~" + output.Bytes(r.Bytes)}
		if r.Range == 0 {
			row[0] = "not known"
		}
		if r.Leaseholder == 0 {
			row[1] = "not known"
		}
		if r.Part {
			row[2], most = "<"+row[2][1:], "at most "
		}
		t.Row(row...)
	}
	fmt.Fprintf(s.err, "plan: %s at %s, %sabout %s records", plural(len(p.Ranges), "range"), p.Timestamp, most, output.Count(p.Records()))
	if p.Sample.Records > 0 {
		fmt.Fprintf(s.err, " and %s fuel, by a sample of %s records of %s", output.Count(p.Fuel()), output.Count(p.Sample.Records), plural(int(p.Sample.Ranges), "range"))
	}
	fmt.Fprintln(s.err)
	_ = t.Write(s.err, "  ")
}

// printAccount tells what a run took.
func (s *shell) printAccount(ranges []client.RangeAccount) {
	if s.json() {
		out := []tookJSON{}
		for _, r := range ranges {
			out = append(out, tookJSON{uint64(r.Range), uint64(r.Store), r.Records, r.Bytes, r.Fuel, r.Time.Seconds(), r.Requests, r.Failed})
		}
		_ = output.JSONLine(s.err, map[string]any{"took": out})
		return
	}
	var sum client.RangeAccount
	t := output.NewTable(">range", ">store", ">records", ">size", ">fuel", ">time", ">requests", ">failed")
	row := func(name, store string, r client.RangeAccount) {
		t.Row(name, store, output.Count(r.Records), output.Bytes(r.Bytes), output.Count(r.Fuel), output.Duration(r.Time),
			strconv.FormatUint(r.Requests, 10), strconv.FormatUint(r.Failed, 10))
	}
	for _, r := range ranges {
		row("r"+strconv.FormatUint(uint64(r.Range), 10), "s"+strconv.FormatUint(uint64(r.Store), 10), r)
		sum.Records, sum.Bytes, sum.Fuel, sum.Time = sum.Records+r.Records, sum.Bytes+r.Bytes, sum.Fuel+r.Fuel, sum.Time+r.Time
		sum.Requests, sum.Failed = sum.Requests+r.Requests, sum.Failed+r.Failed
	}
	row("all", "", sum)
	fmt.Fprintln(s.err, "took:")
	_ = t.Write(s.err, "  ")
}
