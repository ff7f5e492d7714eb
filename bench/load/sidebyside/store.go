package sidebyside

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/locuskv/locus/bench/load/children"
	"github.com/locuskv/locus/bench/load/locusload"
	"github.com/locuskv/locus/client"
)

// nodes is how many each store has: the fewest that lose nothing when one fails.
const nodes = 3

// startWithin bounds the start of all nodes of a store: far above what it takes on a busy machine.
const startWithin = 90 * time.Second

// store is three processes.
type store struct {
	name    string
	version string
	procs   []*children.Process
	addrs   []string
}

// running is an error if a node has ended.
func (s *store) running() error {
	for _, p := range s.procs {
		if !p.Running() {
			return fmt.Errorf("%s has ended: %s", p.Name(), p.LastWords())
		}
	}
	return nil
}

// usage is what the nodes take together; false where the system does not tell.
func (s *store) usage() (children.Usage, bool) {
	var sum children.Usage
	for _, p := range s.procs {
		u, ok := p.Usage()
		if !ok {
			return children.Usage{}, false
		}
		sum = sum.Add(u)
	}
	return sum, true
}

// said is what a node says when it serves.
type said struct {
	Version string `json:"version"`
	Address string `json:"address"`
}

func (s *store) add(p *children.Process, word said) {
	s.procs, s.addrs, s.version = append(s.procs, p), append(s.addrs, word.Address), word.Version
}

const unlimited = "1000000000000"

// startLocus starts a cluster and waits until every range has its replicas.
func startLocus(ctx context.Context, g *children.Group, binary string) (*store, error) {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	s := &store{name: "locus"}
	for i := range nodes {
		name := fmt.Sprintf("locus%d", i+1)
		args := []string{
			"start", "--insecure", "--output", "json", "--data", filepath.Join(g.Dir(), name),
			"--listen", "127.0.0.1:0", "--gossip-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
			// The number of ranges is what is compared, so nothing splits them.
			"--range-max-bytes", unlimited, "--range-max-requests", unlimited,
		}
		if i > 0 {
			args = append(args, "--join", strings.Join(s.addrs, ","))
		}
		var word said
		p, err := g.Start(ctx, children.Spec{Name: name, Path: binary, Args: args}, &word)
		if err != nil {
			return nil, err
		}
		s.add(p, word)
	}
	return s, s.ask(ctx, awaitHealthy)
}

// ask does something with a client of Locus.
func (s *store) ask(ctx context.Context, f func(context.Context, *client.DB) error) error {
	db, err := client.Open(ctx, client.Options{Addrs: s.addrs, Timeout: startWithin})
	if err != nil {
		return err
	}
	return errors.Join(f(ctx, db), db.Close())
}

// healthyEvery is how often the cluster is asked whether it is complete: its nodes report once a second.
const healthyEvery = 100 * time.Millisecond

func awaitHealthy(ctx context.Context, db *client.DB) error {
	tick := time.NewTicker(healthyEvery)
	defer tick.Stop()
	for {
		st, err := db.Status(ctx)
		if err == nil && st.LiveNodes >= nodes && st.Ranges > 0 && st.UnderReplicated == 0 && st.Unavailable == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("the cluster of Locus is not complete: %w", ctx.Err()), err)
		case <-tick.C:
		}
	}
}

// leases are how many ranges of a keyspace the stores lead, in the order of their numbers.
func (s *store) leases(ctx context.Context, keyspace string) (out []int, err error) {
	err = s.ask(ctx, func(ctx context.Context, db *client.DB) error {
		led, err := locusload.Leases(ctx, db, keyspace)
		for id := range client.StoreID(nodes) {
			out = append(out, led[id+1])
		}
		return err
	})
	return out, err
}

// startEtcd starts a cluster. Its servers wait for one another, so all start at once.
func startEtcd(ctx context.Context, g *children.Group, helper string) (*store, error) {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	addrs, err := children.FreeAddresses(2 * nodes)
	if err != nil {
		return nil, err
	}
	var members []string
	for i := range nodes {
		members = append(members, fmt.Sprintf("etcd%d=%s", i+1, addrs[nodes+i]))
	}
	var (
		wg    sync.WaitGroup
		procs [nodes]*children.Process
		words [nodes]said
		errs  [nodes]error
	)
	for i := range nodes {
		name := fmt.Sprintf("etcd%d", i+1)
		spec := children.Spec{Name: name, Path: helper, Args: []string{
			"serve", "--name", name, "--data", filepath.Join(g.Dir(), name),
			"--listen", addrs[i], "--peer-listen", addrs[nodes+i], "--cluster", strings.Join(members, ","),
		}}
		wg.Go(func() { procs[i], errs[i] = g.Start(ctx, spec, &words[i]) })
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	s := &store{name: "etcd"}
	for i := range nodes {
		s.add(procs[i], words[i])
	}
	return s, nil
}

// contestant is a store with a set of keys: etcd, or Locus with some number of ranges.
type contestant struct {
	store  *store
	binary string
	ranges int // of Locus; 0: etcd
}

func (c *contestant) name() string {
	switch c.ranges {
	case 0:
		return c.store.name
	case 1:
		return c.store.name + " (1 range)"
	}
	return fmt.Sprintf("%s (%d ranges)", c.store.name, c.ranges)
}

// keyspace is where the keys are, of Locus.
func (c *contestant) keyspace() string { return "bench-" + strconv.Itoa(c.ranges) }

// command is a command line of the store's own load generator.
func (c *contestant) command(verb string, args []string) children.Spec {
	s := children.Spec{Name: c.name() + " " + verb, Path: c.binary}
	addr := "--addr=" + strings.Join(c.store.addrs, ",")
	if c.ranges == 0 {
		s.Args = slices.Concat([]string{verb, addr}, args)
		return s
	}
	s.Args = slices.Concat([]string{"bench", verb, addr, "--keyspace=" + c.keyspace(), "--output=json"}, args)
	if verb == "load" {
		s.Args = append(s.Args, "--ranges="+strconv.Itoa(c.ranges))
	}
	return s
}
