package sidebyside

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/locuskv/locus/bench/load"
	"github.com/locuskv/locus/bench/load/children"
)

// Run compares. An error means that there is no result: ctx ended, a node did not start or ended, or a load
// generator failed. Operations that failed are in the result.
func Run(ctx context.Context, o Options) (c *Comparison, err error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	g, err := children.NewGroup(o.Parent, "locus-peers-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.Close()) }() // also after a panic
	m := &match{o: o, group: g}
	return m.play(ctx)
}

// match is one comparison under way.
type match struct {
	o           Options
	group       *children.Group
	locus, etcd *store
	contestants []*contestant
	turns       map[turn][]*played
	result      Comparison
}

// turn is what is measured once a round.
type turn struct {
	row        Row
	contestant *contestant
}

// played is one measurement.
type played struct {
	report     *load.Report
	bystanders float64 // CPUs that the store not under test took
	servers    float64 // CPUs that the store under test took
}

func (m *match) tell(format string, args ...any) {
	if m.o.Tell != nil {
		m.o.Tell(fmt.Sprintf(format, args...))
	}
}

func (m *match) play(ctx context.Context) (*Comparison, error) {
	begun := time.Now()
	for _, step := range []func(context.Context) error{m.start, m.fill, m.rounds, m.end} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	m.result.Took = time.Since(begun).Seconds()
	return &m.result, nil
}

func (m *match) start(ctx context.Context) (err error) {
	m.result = Comparison{
		Rounds: m.o.Rounds, Duration: m.o.Duration.Seconds(), Warmup: m.o.Warmup.Seconds(), Keys: m.o.Keys, ValueSize: m.o.ValueSize,
		System: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(), InMemory: children.InMemory(m.group.Dir()),
		Begun: time.Now().UTC().Truncate(time.Second),
	}
	helper := m.o.Helper
	if helper == "" {
		m.tell("building the helper for etcd")
		if helper, err = BuildHelper(ctx, m.group, io.Discard); err != nil {
			return err
		}
	}
	m.tell("starting three nodes of each, data in %s", m.group.Dir())
	if m.locus, err = startLocus(ctx, m.group, m.o.Locus); err != nil {
		return err
	}
	if m.etcd, err = startEtcd(ctx, m.group, helper); err != nil {
		return err
	}
	for _, n := range m.o.Ranges {
		m.contestants = append(m.contestants, &contestant{m.locus, m.o.Locus, n})
	}
	m.contestants = append(m.contestants, &contestant{m.etcd, helper, 0})
	m.result.Locus.Version, m.result.Etcd.Version = m.locus.version, m.etcd.version
	return m.idle(ctx)
}

// idleTime is how long the nodes are watched for what they take when nobody asks for anything.
const idleTime = 3 * time.Second

// idle measures what the nodes take before there is any data.
func (m *match) idle(ctx context.Context) error {
	m.settle(ctx)
	before1, ok1 := m.locus.usage()
	before2, ok2 := m.etcd.usage()
	if err := sleep(ctx, idleTime); err != nil {
		return err
	}
	after1, ok3 := m.locus.usage()
	after2, ok4 := m.etcd.usage()
	if ok1 && ok2 && ok3 && ok4 {
		m.result.Locus.IdleCPUs = cpus(before1, after1, idleTime)
		m.result.Etcd.IdleCPUs = cpus(before2, after2, idleTime)
		m.result.Locus.Idle, m.result.Etcd.Idle = after1.Anon, after2.Anon
	}
	return nil
}

// fill loads the keys, and then reads the memory.
func (m *match) fill(ctx context.Context) error {
	for _, c := range m.contestants {
		m.tell("loading %d keys into %s", m.o.Keys, c.name())
		o := m.o.load(m.o.Rows[0])
		out, err := m.group.Run(ctx, c.command("load", o.DataArgs()), io.Discard)
		if err != nil {
			return err
		}
		var l load.Loaded
		if err := json.Unmarshal(out, &l); err != nil {
			return fmt.Errorf("the report of %s: %w", c.name(), err)
		}
		m.tell("  %.0f keys/s", l.Rate)
		m.result.Loads = append(m.result.Loads, Load{Store: c.store.name, Ranges: c.ranges, Seconds: l.Seconds, Rate: l.Rate})
	}
	m.settle(ctx)
	if u, ok := m.locus.usage(); ok {
		m.result.Locus.Loaded = u.Anon
	}
	if u, ok := m.etcd.usage(); ok {
		m.result.Etcd.Loaded, m.result.Etcd.LoadedMapped = u.Anon, u.Mapped
	}
	return nil
}

// rounds measures. Who begins turns from round to round.
func (m *match) rounds(ctx context.Context) error {
	m.turns = make(map[turn][]*played)
	for round := range m.o.Rounds {
		for _, row := range m.o.Rows {
			m.tell("round %d of %d: %s", round+1, m.o.Rounds, row.Name())
			for i := range m.contestants {
				c := m.contestants[(i+round)%len(m.contestants)]
				p, err := m.turn(ctx, row, c)
				if err != nil {
					return err
				}
				m.tell("  %-20s %s", c.name(), p.line())
				t := turn{row, c}
				m.turns[t] = append(m.turns[t], p)
			}
		}
	}
	return nil
}

// turn measures one contestant once.
func (m *match) turn(ctx context.Context, row Row, c *contestant) (*played, error) {
	m.settle(ctx)
	other := m.etcd
	if c.store == m.etcd {
		other = m.locus
	}
	o := m.o.load(row)
	before, ok1 := c.store.usage()
	idle1, ok2 := other.usage()
	begun := time.Now()
	out, err := m.group.Run(ctx, c.command("run", o.Args()), io.Discard)
	took := time.Since(begun)
	if err = errors.Join(err, m.locus.running(), m.etcd.running()); err != nil {
		return nil, err
	}
	after, ok3 := c.store.usage()
	idle2, ok4 := other.usage()
	p := new(played)
	if ok1 && ok2 && ok3 && ok4 {
		p.servers, p.bystanders = cpus(before, after, took), cpus(idle1, idle2, took)
	}
	if err := json.Unmarshal(out, &p.report); err != nil {
		return nil, fmt.Errorf("the report of %s: %w", c.name(), err)
	}
	return p, nil
}

func (p *played) line() string {
	a := p.report.All
	text := fmt.Sprintf("%8.0f ops/s  p50 %8.2f ms  p99 %8.2f ms", a.Rate, float64(a.P50)/1000, float64(a.P99)/1000)
	if a.Failed > 0 {
		text += fmt.Sprintf("  %d errors", a.Failed)
	}
	return text
}

// A turn begins when no store takes more than quiet of a CPU over settleLook, or after settleWithin. Idle, each
// takes under a tenth; a compaction takes more than half.
const (
	quiet        = 0.3
	settleLook   = 250 * time.Millisecond
	settleWithin = 5 * time.Second
)

// settle waits until what was left to do is done, as far as that comes soon.
func (m *match) settle(ctx context.Context) {
	for begun := time.Now(); time.Since(begun) < settleWithin; {
		before1, ok1 := m.locus.usage()
		before2, ok2 := m.etcd.usage()
		if !ok1 || !ok2 || sleep(ctx, settleLook) != nil {
			return
		}
		after1, _ := m.locus.usage()
		after2, _ := m.etcd.usage()
		if cpus(before1, after1, settleLook) < quiet && cpus(before2, after2, settleLook) < quiet {
			return
		}
	}
}

func cpus(before, after children.Usage, took time.Duration) float64 {
	return (after.CPU - before.CPU).Seconds() / took.Seconds()
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// end reads what the nodes take after all that, and makes the rows.
func (m *match) end(ctx context.Context) error {
	m.settle(ctx)
	if u, ok := m.locus.usage(); ok {
		m.result.Locus.End = u.Anon
	}
	if u, ok := m.etcd.usage(); ok {
		m.result.Etcd.End = u.Anon
	}
	for _, c := range m.contestants {
		if c.ranges == 0 {
			continue
		}
		leases, err := m.locus.leases(ctx, c.keyspace())
		if err != nil {
			return err
		}
		m.result.Leases = append(m.result.Leases, Leases{Ranges: c.ranges, ByStore: leases})
	}
	m.result.Rows = m.rows()
	return nil
}
