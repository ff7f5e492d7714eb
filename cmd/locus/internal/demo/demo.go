package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/cmd/locus/internal/output"
	"github.com/locuskv/locus/cmd/locus/internal/progress"
	"github.com/locuskv/locus/cmd/locus/internal/wait"
	"github.com/locuskv/locus/examples/flights"
)

// Options say what a demo is to do.
type Options struct {
	// Binary is the locus executable that the nodes run.
	Binary string
	// Keep leaves the cluster running when the demo has succeeded.
	Keep bool
	// File holds the flights: CSV, gzipped or not. Empty: the bundled sample.
	File string
	// Rows is how many flights are loaded at most. 0: all.
	Rows int64
	// Parent is the directory in which the demo makes its own. Empty: the system's temporary directory.
	Parent string
	// CompiledDir is where nodes keep compiled functions. Empty: the demo's own directory.
	CompiledDir string
	// Out takes the results, Progress what happens meanwhile.
	Out      io.Writer
	Progress *progress.Reporter
	// Command is how a user calls locus, for the advice at the end. Empty: "locus".
	Command string
}

// demo is one run.
type demo struct {
	o        Options
	out      io.Writer
	progress *progress.Reporter
	source   source
	cluster  *cluster
	db       *client.DB

	spans    []span // of the ranges that the flights begin with
	expected int64  // rows, as far as the sampling saw
	rows     int64  // loaded
	truth    []flights.Airport
	partials []flights.Accumulator // of the ranges, as the last pull summed them up
	outErr   error                 // the first failure to print
}

// Run plays the demo. See the package comment for what it leaves behind: nothing.
func Run(ctx context.Context, o Options) (err error) {
	begun := time.Now()
	if o.Command == "" {
		o.Command = "locus"
	}
	c, err := newCluster(o.Binary, o.Parent, o.CompiledDir, o.Keep)
	if err != nil {
		return err
	}
	d := &demo{
		o: o, out: o.Out, progress: o.Progress, cluster: c, source: source{path: o.File, rows: o.Rows},
	}
	memory := watchMemory(c.running)
	kept := false
	// Deferred, so that a panic cleans up too.
	defer func() {
		memory.stop()
		if d.db != nil {
			err = errors.Join(err, d.db.Close())
		}
		if !kept {
			err = errors.Join(err, c.close())
		}
	}()
	if err := d.play(ctx); err != nil {
		return err
	}
	if err := d.summary(begun, memory); err != nil {
		return err
	}
	kept = o.Keep
	return nil
}

// play runs the acts in order.
func (d *demo) play(ctx context.Context) error {
	acts := []struct {
		title string
		steps []func(context.Context) error
	}{
		{"Three nodes on this machine", []func(context.Context) error{d.startNodes, d.connect}},
		{"Real data", []func(context.Context) error{d.makeKeyspace, d.load}},
		{"A function that runs where the data lies", []func(context.Context) error{d.register, d.compare}},
		{"Functions on no key, and on one", []func(context.Context) error{d.callSquare, d.raiseCounter}},
		{"A node is killed", []func(context.Context) error{d.failure}},
	}
	for i, act := range acts {
		d.printf("\n%d. %s\n", i+1, act.title)
		for _, step := range act.steps {
			if err := step(ctx); err != nil {
				return err
			}
			if d.outErr != nil {
				return fmt.Errorf("printing: %w", d.outErr)
			}
		}
	}
	return nil
}

// startNodes starts the three processes.
func (d *demo) startNodes(ctx context.Context) error {
	step := d.progress.Step("starting nodes", 0, progress.Things)
	defer step.Done()
	begun := time.Now()
	if err := d.cluster.start(ctx); err != nil {
		return err
	}
	step.Done()
	t := output.NewTable("", ">pid", ">store", "clients", "http")
	for _, p := range d.cluster.procs {
		t.Row(p.name, fmt.Sprint(p.pid()), fmt.Sprint(p.ready.StoreID), p.ready.Address, p.ready.HTTP)
	}
	d.write(t)
	d.say("started in %s; data in %s", output.Duration(time.Since(begun)), d.cluster.dir)
	return nil
}

// connect opens the cluster and waits until every range is on all nodes.
func (d *demo) connect(ctx context.Context) error {
	begun := time.Now()
	db, err := client.Open(ctx, client.Options{Addrs: d.cluster.addresses(), Timeout: patience})
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	d.db = db
	st, err := d.awaitHealthy(ctx, "waiting for replicas")
	if err != nil {
		return err
	}
	d.say("a cluster: %d ranges, each on %d nodes, %s after the last node was there", st.Ranges, st.WantedReplicas,
		output.Duration(time.Since(begun)))
	return nil
}

// patience is how long the demo waits for the cluster to do one thing: far longer than it takes, so that a
// busy machine is slow and does not fail.
const patience = 60 * time.Second

// awaitHealthy waits until all nodes are live and every range has its replicas and a leaseholder.
func (d *demo) awaitHealthy(ctx context.Context, name string) (client.Status, error) {
	step := d.progress.Step(name, 0, progress.Things)
	defer step.Done()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return wait.Healthy(ctx, d.db.Status, nodes)
}

// summary prints what the demo took and what to do next.
func (d *demo) summary(begun time.Time, m *memory) error {
	disk, err := d.cluster.diskUsage()
	if err != nil {
		return fmt.Errorf("looking at the disk: %w", err)
	}
	d.printf("\n")
	if peak := m.peak(); peak > 0 {
		d.say("memory of the three nodes together: %s at most", output.Bytes(peak))
	}
	d.say("disk: %s for %d copies of everything, logs included", output.Bytes(disk), nodes)
	d.say("all of it took %s", output.Duration(time.Since(begun)))
	d.printf("\n")
	if d.o.Keep {
		d.advice()
	} else {
		d.say("What to try next: \"%s demo --keep\" leaves the cluster running to play with; README.md has a tour of five minutes.", d.o.Command)
	}
	return d.outErr
}

// advice tells how to use and how to end the cluster that stays.
func (d *demo) advice() {
	var pids []string
	for _, pid := range d.cluster.running() {
		pids = append(pids, fmt.Sprint(pid))
	}
	d.say("The cluster stays: %s", strings.Join(d.cluster.addresses(), " "))
	d.say("What to try next:")
	addr := d.cluster.addresses()[0]
	for _, line := range []string{
		"export LOCUS_ADDR=" + addr,
		d.o.Command + " scan -k " + keyspace + " --prefix LAS/2001-01-01/ --limit 3",
		d.o.Command + " fn run " + flights.FunctionName + " -k " + keyspace + " --prefix LAS/",
		d.o.Command + " range list -k " + keyspace,
	} {
		d.say("  %s", line)
	}
	d.say("To end it: kill %s; rm -r %s", strings.Join(pids, " "), d.cluster.dir)
}

// say prints one indented line.
func (d *demo) say(format string, args ...any) { d.printf("  "+format+"\n", args...) }

func (d *demo) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(d.out, format, args...); err != nil && d.outErr == nil {
		d.outErr = err
	}
}

func (d *demo) write(t *output.Table) {
	if err := t.Write(d.out, "  "); err != nil && d.outErr == nil {
		d.outErr = err
	}
}
