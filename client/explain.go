package client

import (
	"time"

	"github.com/locuskv/locus/api/locuspb"
)

// Plan is what a run of a range function is going to do.
type Plan struct {
	Timestamp Timestamp
	Ranges    []PlannedRange // in key order; of a run that is gone on with, those that are left
	Sample    Sample
}

// PlannedRange is a part of the span.
type PlannedRange struct {
	Range       RangeID // 0: nobody is known to have this part
	Leaseholder StoreID // 0: not known
	// Records and Bytes are about what is in the range. Where Part is true the span has only a part of it, so they are at most
	// about that.
	Records, Bytes uint64
	Part           bool
}

// Sample is what the function read and used on the beginnings of a few ranges, before the run. What it made of them was dropped.
type Sample struct {
	Ranges, Records, Bytes, Fuel uint64
}

// Records are about how many the run will read: at most, where a range is in the span in part.
func (p Plan) Records() (n uint64) {
	for _, r := range p.Ranges {
		n += r.Records
	}
	return n
}

// Fuel is about what the run will use, by the sample; 0 if the sample has no records.
func (p Plan) Fuel() uint64 {
	if p.Sample.Records == 0 {
		return 0
	}
	return uint64(float64(p.Sample.Fuel) / float64(p.Sample.Records) * float64(p.Records()))
}

// RangeAccount is what a run took on one range.
type RangeAccount struct {
	Range                RangeID
	Store                StoreID // that did the last part of it
	Records, Bytes, Fuel uint64
	// Time that requests took, one after another, waiting for their turn on the store included.
	Time time.Duration
	// Requests did a part of the range each; Failed ones had to be sent again.
	Requests, Failed uint64
}

type explainOption struct {
	plan    func(Plan)
	account func([]RangeAccount)
}

func (e explainOption) applyRun(o *runOptions) {
	o.explain, o.plan, o.account = true, e.plan, e.account
}

// Explain has plan told what a run is going to do, and account what it took on each range, in the order in which ranges
// were first asked; either may be nil. Both run on the goroutine of Run, or of the loop over Stream. The account is the last gateway's: where
// another one has failed, what that one did is missing.
func Explain(plan func(Plan), account func([]RangeAccount)) RunOption {
	return explainOption{plan, account}
}

func planOf(m *locuspb.Plan) Plan {
	p := Plan{
		Timestamp: Timestamp(m.Timestamp),
		Sample:    Sample{m.SampleRanges, m.SampleRecords, m.SampleBytes, m.SampleFuel},
	}
	for _, r := range m.Ranges {
		p.Ranges = append(p.Ranges, PlannedRange{RangeID(r.RangeId), StoreID(r.LeaseholderStore), r.Records, r.Bytes, r.Part})
	}
	return p
}

func accountOf(list []*locuspb.RangeAccount) []RangeAccount {
	out := make([]RangeAccount, 0, len(list))
	for _, a := range list {
		out = append(out, RangeAccount{
			Range: RangeID(a.RangeId), Store: StoreID(a.Store), Records: a.Records, Bytes: a.Bytes, Fuel: a.Fuel,
			Time: time.Duration(a.TimeUs) * time.Microsecond, Requests: a.Requests, Failed: a.Failed,
		})
	}
	return out
}
