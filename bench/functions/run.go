package functions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/locuskv/locus/bench/load/children"
	"github.com/locuskv/locus/client"
)

// bench is one run.
type bench struct {
	o      Options
	size   sizes
	report *Report
	group  *children.Group
	redis  *redis // nil: there is none

	nodes *nodes // those of the stages warm and cold, while they run
	db    *client.DB
	// plans are how records are pulled the quickest, by keyspace and how far away the client is.
	plans map[string]plan
}

// Run measures, and leaves nothing. If rows fail or time runs out, the others are in the report all the same; the report is nil
// if there is none.
func Run(ctx context.Context, o Options) (r *Report, err error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Tell == nil {
		o.Tell = func(string) {}
	}
	g, err := children.NewGroup(o.Parent, "locus-functions-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	b := &bench{o: o, size: o.sizes(), group: g, plans: make(map[string]plan)}
	b.report = &Report{
		System: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(), Begun: time.Now(), Flights: o.Records, Rounds: o.Rounds,
		Quick: o.Quick, LoadBefore: loadAverage(), Data: o.source(),
	}
	limited, cancel := context.WithTimeout(ctx, o.Limit)
	defer cancel()
	err = b.all(limited)
	b.report.Seconds, b.report.LoadAfter = time.Since(b.report.Begun).Seconds(), loadAverage()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return b.report, err
}

// compiledDir is where this process keeps compiled functions from turn to turn.
func (b *bench) compiledDir() string {
	return cmp.Or(b.o.CompiledDir, filepath.Join(b.group.Dir(), "compiled"))
}

// job is a row that is wanted, with its line of the table.
type job struct {
	spec
	row *Row
}

func (b *bench) all(ctx context.Context) error {
	var jobs []job
	var needs need
	for _, s := range table {
		if len(b.o.Rows) == 0 || slices.Contains(b.o.Rows, s.name) {
			row := &Row{Name: s.name, Title: s.title, Contenders: []Contender{}, Aims: []Aim{}}
			jobs, needs = append(jobs, job{s, row}), needs.and(s.needs)
			b.report.Rows = append(b.report.Rows, row)
		}
	}
	if !over(ctx) {
		if err := b.startRedis(ctx); err != nil && !over(ctx) {
			return err
		}
	}
	errs := []error{b.stage(ctx, "alone", jobs, func(s spec) measureFunc { return s.alone })}
	if needs != (need{}) {
		errs = append(errs, b.onNodes(ctx, jobs, needs))
	}
	return errors.Join(errs...)
}

type measureFunc = func(*bench, context.Context, *Row) error

// stage measures what a stage has of each row. A row that fails is told in the row and in the error; the others go on.
func (b *bench) stage(ctx context.Context, name string, jobs []job, of func(spec) measureFunc) error {
	var errs []error
	for _, j := range jobs {
		f := of(j.spec)
		if f == nil || j.row.Failed != "" {
			continue
		}
		if over(ctx) {
			j.row.skip(name + ": the time of --limit was over")
			continue
		}
		b.o.Tell(fmt.Sprintf("%s, %s: %s", j.name, name, j.title))
		err := f(b, ctx, j.row)
		switch {
		case err == nil:
		case over(ctx):
			j.row.skip(name + ": the time of --limit was over before it was done")
		default:
			j.row.Failed = err.Error()
			errs = append(errs, fmt.Errorf("%s, %s: %w", j.name, name, err))
		}
	}
	return errors.Join(errs...)
}

// onNodes does the stages warm and cold on three nodes.
func (b *bench) onNodes(ctx context.Context, jobs []job, needs need) (err error) {
	defer func() {
		if b.nodes != nil {
			err = errors.Join(err, b.nodes.remove())
		}
	}()
	if !over(ctx) {
		if err := b.begin(ctx, needs); err != nil && !over(ctx) {
			return err
		}
	}
	errs := []error{b.stage(ctx, "warm", jobs, func(s spec) measureFunc { return s.warm })}
	if slices.ContainsFunc(jobs, func(j job) bool { return j.cold != nil }) {
		errs = append(errs, b.coldStage(ctx, jobs, needs))
	}
	return errors.Join(errs...)
}

// begin starts three nodes and fills them.
func (b *bench) begin(ctx context.Context, needs need) (err error) {
	b.o.Tell("starting three nodes")
	if b.nodes, err = startNodes(ctx, b.o, 3); err != nil {
		return err
	}
	b.db, b.report.Version = b.nodes.db, b.nodes.version(ctx)
	return b.fill(ctx, needs)
}

// coldStage does the stage cold.
func (b *bench) coldStage(ctx context.Context, jobs []job, needs need) error {
	if !over(ctx) {
		b.o.Tell("starting the nodes again, without the scan cache")
		if err := b.turnCold(ctx, needs); err != nil && !over(ctx) {
			return err
		}
	}
	err := b.stage(ctx, "cold", jobs, func(s spec) measureFunc { return s.cold })
	if over(ctx) {
		return err
	}
	return errors.Join(err, b.nodes.wereCold(ctx))
}

// over says whether the time of --limit is over: what fails then has failed by that, and stages say of each row that it is missing.
func over(ctx context.Context) bool { return errors.Is(ctx.Err(), context.DeadlineExceeded) }

// loadAverage is the machine's, of a minute; empty where the system does not tell.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
