package idle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/locuskv/locus/bench/load/children"
	"github.com/locuskv/locus/client"
)

// nodes is how many there are: each range has a replica on each.
const nodes = 3

// Limits of Options.
const (
	MaxRanges   = 4000 // of one keyspace to begin with, about
	MinDuration = time.Second
	MaxDuration = time.Hour
)

const (
	startWithin  = 90 * time.Second
	createWithin = 10 * time.Minute
	// settleWithin is how long the CPU may go on falling before it is measured all the same.
	settleWithin = 5 * time.Minute
	// lookFor is the default of Options.Look.
	lookFor   = 5 * time.Second
	pollEvery = 100 * time.Millisecond
	keyspace  = "idle"
)

// Options say what Run does.
type Options struct {
	Binary   string        // the locus to run
	Parent   string        // where the temporary directory is made; empty: the system's place
	Ranges   int           // of the keyspace
	Duration time.Duration // of the measurement
	// Look is how long the CPU is looked at, each time, to find out whether it still falls; 0: 5 s.
	Look time.Duration
	// Profile, if not empty, is a directory that gets a CPU profile of each node, taken after the measurement and as long.
	Profile string
	// Tell, if not nil, is told what is done next.
	Tell func(string)
}

// Defaults are those of the command.
func Defaults() Options { return Options{Ranges: 1000, Duration: 30 * time.Second} }

// Validate says what is wrong, by the names of the command's flags.
func (o Options) Validate() error {
	switch {
	case o.Ranges < 1 || o.Ranges > MaxRanges:
		return fmt.Errorf("--ranges %d is not between 1 and %d", o.Ranges, MaxRanges)
	case o.Duration < MinDuration || o.Duration > MaxDuration:
		return fmt.Errorf("--duration %s is not between %s and %s", o.Duration, MinDuration, MaxDuration)
	}
	return nil
}

// Report is what was measured.
type Report struct {
	Version  string    `json:"version"`
	System   string    `json:"system"`
	CPUs     int       `json:"cpus"`
	Begun    time.Time `json:"begun"`
	Ranges   int       `json:"ranges"`           // of the cluster, those of its own among them
	Creating float64   `json:"creating_seconds"` // until all had their replicas
	Settling float64   `json:"settling_seconds"` // after that, until the CPU no longer fell
	Seconds  float64   `json:"seconds"`          // of the measurement
	// CPUPercent is of one core, of all nodes together.
	CPUPercent float64 `json:"cpu_percent"`
	Nodes      []Node  `json:"nodes"`
	// LoadBefore and LoadAfter are the machine's load averages of a minute; empty where the system does not tell.
	LoadBefore string `json:"load_before,omitempty"`
	LoadAfter  string `json:"load_after,omitempty"`
}

// Node is one of the three.
type Node struct {
	Name       string  `json:"name"`
	CPUPercent float64 `json:"cpu_percent"` // of one core
	RSSAnon    int64   `json:"rss_anon_bytes"`
	Replicas   uint64  `json:"replicas"`
	Leases     uint64  `json:"leases"`
}

// said is what a node says when it serves.
type said struct {
	Version string `json:"version"`
	Address string `json:"address"`
	HTTP    string `json:"http"`
	Store   uint64 `json:"store"`
}

// cluster is the nodes that run.
type cluster struct {
	procs []*children.Process
	said  []said
	db    *client.DB
}

// Run starts the nodes, makes the ranges, measures, and leaves nothing.
func Run(ctx context.Context, o Options) (r *Report, err error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Tell == nil {
		o.Tell = func(string) {}
	}
	g, err := children.NewGroup(o.Parent, "locus-idle-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	r = &Report{System: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(), Begun: time.Now()}
	c, err := start(ctx, g, o.Binary)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.db.Close()) }()
	r.Version = c.said[0].Version
	o.Tell(fmt.Sprintf("making %d ranges", o.Ranges))
	if r.Creating, err = took(func() error { return c.create(ctx, o.Ranges) }); err != nil {
		return nil, err
	}
	o.Tell(fmt.Sprintf("all replicated after %.1f s; waiting until the nodes are quiet", r.Creating))
	if r.Settling, err = took(func() error { return c.settle(ctx, cmp.Or(o.Look, lookFor)) }); err != nil {
		return nil, err
	}
	o.Tell(fmt.Sprintf("measuring for %s", o.Duration))
	if err := c.measure(ctx, o.Duration, r); err != nil {
		return nil, err
	}
	if o.Profile != "" {
		o.Tell(fmt.Sprintf("profiling for %s", o.Duration))
		if err := c.profile(ctx, o.Duration, o.Profile); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func took(f func() error) (seconds float64, err error) {
	begun := time.Now()
	err = f()
	return time.Since(begun).Seconds(), err
}

// start starts the nodes, one after the other, and a client.
func start(ctx context.Context, g *children.Group, binary string) (*cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	c := &cluster{}
	var addrs []string
	for i := range nodes {
		name := fmt.Sprintf("locus%d", i+1)
		args := []string{
			"start", "--insecure", "--output", "json", "--data", filepath.Join(g.Dir(), name),
			"--listen", "127.0.0.1:0", "--gossip-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
		}
		if i > 0 {
			args = append(args, "--join", strings.Join(addrs, ","))
		}
		var word said
		p, err := g.Start(ctx, children.Spec{Name: name, Path: binary, Args: args}, &word)
		if err != nil {
			return nil, err
		}
		c.procs, c.said, addrs = append(c.procs, p), append(c.said, word), append(addrs, word.Address)
	}
	var err error
	if c.db, err = client.Open(ctx, client.Options{Addrs: addrs, Timeout: createWithin}); err != nil {
		return nil, err
	}
	if err := c.awaitReplicas(ctx, 1); err != nil {
		return nil, errors.Join(err, c.db.Close())
	}
	return c, nil
}

// create makes the keyspace.
func (c *cluster) create(ctx context.Context, ranges int) error {
	ctx, cancel := context.WithTimeout(ctx, createWithin)
	defer cancel()
	var at [][]byte
	for i := 1; i < ranges; i++ {
		at = append(at, fmt.Appendf(nil, "%08d", i))
	}
	if err := c.db.CreateKeyspace(ctx, keyspace, client.KeyspaceOptions{SplitAt: at}); err != nil {
		return fmt.Errorf("making %d ranges: %w", ranges, err)
	}
	return c.awaitReplicas(ctx, ranges)
}

// awaitReplicas waits until there are so many ranges, complete.
func (c *cluster) awaitReplicas(ctx context.Context, ranges int) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		s, err := c.db.Status(ctx)
		if err == nil && s.LiveNodes >= nodes && s.Ranges >= uint64(ranges) && s.UnderReplicated == 0 && s.Unavailable == 0 {
			return nil
		}
		if err := c.running(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%d of %d ranges, %d without all replicas, %d without a leaseholder: %w",
				s.Ranges, ranges, s.UnderReplicated, s.Unavailable, ctx.Err()), err)
		case <-tick.C:
		}
	}
}

// running is an error if a node has ended.
func (c *cluster) running() error {
	for _, p := range c.procs {
		if !p.Running() {
			return fmt.Errorf("%s has ended: %s", p.Name(), p.LastWords())
		}
	}
	return nil
}

// usage is what each node takes.
func (c *cluster) usage() ([]children.Usage, error) {
	out := make([]children.Usage, 0, nodes)
	for _, p := range c.procs {
		u, ok := p.Usage()
		if !ok {
			return nil, errors.Join(errors.New("the system does not tell what a process takes"), c.running())
		}
		out = append(out, u)
	}
	return out, nil
}

// during is what the nodes take of the CPU in some time.
func (c *cluster) during(ctx context.Context, d time.Duration) (cpu [nodes]time.Duration, took time.Duration, err error) {
	before, err := c.usage()
	if err != nil {
		return cpu, 0, err
	}
	begun := time.Now()
	if err := pass(ctx, d); err != nil {
		return cpu, 0, err
	}
	after, err := c.usage()
	if err != nil {
		return cpu, 0, err
	}
	took = time.Since(begun)
	for i := range cpu {
		cpu[i] = after[i].CPU - before[i].CPU
	}
	return cpu, took, nil
}

func sum(cpu [nodes]time.Duration) (all time.Duration) {
	for _, d := range cpu {
		all += d
	}
	return all
}

// settle waits until the leases mostly stay where they are, which placement evens out some per second, and what the nodes
// take no longer falls, because ranges fall quiet one by one: both for two looks in a row. Some leases always move, because
// quiet followers wake now and then.
func (c *cluster) settle(ctx context.Context, look time.Duration) error {
	least := time.Duration(1<<63 - 1)
	var leases [nodes]uint64
	calm := 0
	for begun := time.Now(); calm < 2 && time.Since(begun) < settleWithin; {
		cpu, _, err := c.during(ctx, look)
		if err != nil {
			return err
		}
		list, err := c.db.Nodes(ctx)
		if err != nil {
			return err
		}
		moved, all := uint64(0), uint64(0)
		for i := range min(nodes, len(list)) {
			n := list[i].Leases
			moved, all = moved+max(n, leases[i])-min(n, leases[i]), all+n
			leases[i] = n
		}
		if taken := sum(cpu); taken < least-least/20 || moved > max(6, all/50) {
			least, calm = min(least, taken), 0
		} else {
			calm++
		}
	}
	return nil
}

// measure fills in the report.
func (c *cluster) measure(ctx context.Context, d time.Duration, r *Report) error {
	r.LoadBefore = loadAverage()
	cpu, took, err := c.during(ctx, d)
	if err != nil {
		return err
	}
	r.LoadAfter = loadAverage()
	r.Seconds = took.Seconds()
	percent := func(d time.Duration) float64 { return 100 * d.Seconds() / took.Seconds() }
	r.CPUPercent = percent(sum(cpu))
	usage, err := c.usage()
	if err != nil {
		return err
	}
	list, err := c.db.Nodes(ctx)
	if err != nil {
		return err
	}
	for i, p := range c.procs {
		n := Node{Name: p.Name(), CPUPercent: percent(cpu[i]), RSSAnon: usage[i].Anon}
		for _, info := range list {
			if uint64(info.Store) == c.said[i].Store {
				n.Replicas, n.Leases = info.Replicas, info.Leases
			}
		}
		r.Nodes = append(r.Nodes, n)
	}
	s, err := c.db.Status(ctx)
	r.Ranges = int(s.Ranges)
	return err
}

// profile asks all nodes for a CPU profile at once.
func (c *cluster) profile(ctx context.Context, d time.Duration, dir string) error {
	errs := make(chan error, nodes)
	for i, p := range c.procs {
		url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", c.said[i].HTTP, max(1, int(d.Seconds())))
		go func() { errs <- download(ctx, url, filepath.Join(dir, p.Name()+".pprof")) }()
	}
	var all []error
	for range nodes {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

func download(ctx context.Context, url, to string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = f.ReadFrom(resp.Body)
	return errors.Join(err, f.Close())
}

func pass(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// loadAverage is the machine's, of a minute; empty where the system does not tell.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
