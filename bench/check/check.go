package check

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/locuskv/locus/bench/cluster"
)

// Limits of Options.
const (
	MinNodes   = copies
	MaxNodes   = 9
	MaxClients = 64
	MaxTime    = time.Hour
)

// maxOperations of a run, about: all that clients were told is kept in memory until it is judged, some 200 bytes each.
// Clients of long runs work more slowly.
const maxOperations = 3_000_000

// every is how far apart a goroutine's operations have to be.
func (o Options) every() time.Duration {
	return o.Time / (maxOperations / time.Duration(goroutines*o.Clients))
}

// Options say what Run does. Zero values are defaults.
type Options struct {
	// Binary is the locus to run. Required.
	Binary string
	// Args are further arguments of each "locus start".
	Args []string
	// Time is how long clients work and faults happen. Default: a minute.
	Time time.Duration
	// Faults to make. Nil: all; empty: none.
	Faults []Fault
	// Clients, each with five goroutines. Default: 8.
	Clients int
	// Nodes to start. Default: 3.
	Nodes int
	// Seed of the choices of faults, though what processes do between two is not the seed's to say.
	Seed uint64
	// Keep leaves logs and data of a run that found nothing.
	Keep bool
	// Tell, if not nil, is told of each fault when it is over, in lines below Heading.
	Tell func(string)
	// Started, if not nil, is called when the clients begin.
	Started func()
}

// WithDefaults fills in what was left out.
func (o Options) WithDefaults() Options {
	if o.Time == 0 {
		o.Time = time.Minute
	}
	if o.Faults == nil {
		o.Faults = Faults()
	}
	if o.Clients == 0 {
		o.Clients = 8
	}
	if o.Nodes == 0 {
		o.Nodes = MinNodes
	}
	return o
}

// Validate says what is wrong with the options, by the names that the command has for them.
func (o Options) Validate() error {
	o = o.WithDefaults()
	switch {
	case o.Time < 0 || o.Time > MaxTime:
		return fmt.Errorf("--time %s is not between 0 and %s", o.Time, MaxTime)
	case o.Clients < 0 || o.Clients > MaxClients:
		return fmt.Errorf("--clients %d is not between 1 and %d", o.Clients, MaxClients)
	case o.Nodes < MinNodes || o.Nodes > MaxNodes:
		return fmt.Errorf("--nodes %d is not between %d and %d", o.Nodes, MinNodes, MaxNodes)
	}
	for _, f := range o.Faults {
		if !slices.Contains(Faults(), f) {
			return fmt.Errorf("--nemesis %q is none of %v", f, Faults())
		}
	}
	return nil
}

// Summary is what a run did.
type Summary struct {
	Seed       uint64        `json:"seed"`
	Nodes      int           `json:"nodes"`
	Clients    int           `json:"clients"`
	Took       time.Duration `json:"-"`
	Seconds    float64       `json:"seconds"` // Took
	Operations Operations    `json:"operations"`
	Faults     map[Fault]int `json:"faults"`
	// LongestPause is how long one of the ranges took no write at most.
	LongestPause   time.Duration `json:"-"`
	LongestPauseMS int64         `json:"longest_pause_ms"`
	Verdict        Verdict       `json:"verdict"`
	// Errors are what clients got, by their texts, with how often.
	Errors string `json:"-"`
	// Dir has logs and data; empty: they are gone.
	Dir string `json:"dir,omitempty"`
}

// Run starts a cluster, lets clients work while faults happen, heals it, and judges. A *Violation says what clients
// were told and can't be true; another error, that the check could not be made, or that the cluster did not go on. The
// cluster's directory stays after any error. The summary is what was done until then.
func Run(ctx context.Context, o Options) (s Summary, err error) {
	if err := o.Validate(); err != nil {
		return s, err
	}
	o = o.WithDefaults()
	s = Summary{Seed: o.Seed, Nodes: o.Nodes, Clients: o.Clients}
	c, err := cluster.Make(cluster.Options{Binary: o.Binary, Args: o.Args, Links: slices.Contains(o.Faults, Partition)})
	if err != nil {
		return s, err
	}
	defer func() {
		if err = errors.Join(err, c.Close()); err == nil && !o.Keep || interrupted(ctx) {
			err = errors.Join(err, os.RemoveAll(c.Dir()))
		} else {
			s.Dir = c.Dir()
		}
	}()
	if err := c.Start(ctx, o.Nodes); err != nil {
		return s, err
	}
	err = run(ctx, c, o, &s)
	return s, err
}

// interrupted says whether the user has ended it: then nobody wants to look.
func interrupted(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }

func run(ctx context.Context, c *cluster.Cluster, o Options, s *Summary) (err error) {
	l, err := Start(ctx, c, o.Clients, o.every())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Write(err), l.Close()) }()
	if o.Started != nil {
		o.Started()
	}
	n := &Nemesis{Cluster: c, Load: l, Rand: rand.New(rand.NewPCG(o.Seed, 0)), Pace: DefaultPace(), Tell: o.Tell}
	begun := time.Now()
	err = n.Run(l.Context(), o.Faults, begun.Add(o.Time))
	if err != nil {
		l.abandon() // what waits for a cluster that does not go on waits for long
	}
	l.Stop()
	s.Took = time.Since(begun)
	s.Seconds = s.Took.Seconds()
	s.Operations, s.Faults, s.Errors = l.Operations(), n.Counts(), l.errors.String()
	s.LongestPause = l.acks.longestEver()
	s.LongestPauseMS = s.LongestPause.Milliseconds()
	if err := l.Failure(err); err != nil {
		return err
	}
	if err := l.AwaitHealthy(ctx, o.Nodes); err != nil {
		return err
	}
	s.Verdict, err = l.Judge(ctx)
	return err
}
