package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Options say how nodes are run. The zero value builds the binary and gives nodes no flags but those that
// they need.
type Options struct {
	// Binary to run. Default: Binary(t).
	Binary string
	// Args are further arguments of each "locus start".
	Args []string
	// Data is where nodes keep their data. Default: beside their logs.
	Data string
	// Keep leaves logs and data behind even if the test passes.
	Keep bool
}

// Cluster is some nodes and the directory with everything of theirs. Its methods are safe for concurrent
// use.
type Cluster struct {
	t   testing.TB
	o   Options
	dir string

	mu struct {
		sync.Mutex
		nodes   []*Node
		crashes []string
	}
}

// New makes a cluster without nodes. Cleanup of the test kills its nodes and removes its directory, or says
// where it is if the test failed.
func New(t testing.TB, o Options) *Cluster {
	t.Helper()
	if o.Binary == "" {
		o.Binary = Binary(t)
	}
	dir, err := os.MkdirTemp("", "locus-test-")
	if err != nil {
		t.Fatalf("making the cluster's directory: %v", err)
	}
	if o.Data == "" {
		o.Data = dir
	}
	c := &Cluster{t: t, o: o, dir: dir}
	t.Cleanup(c.close)
	return c
}

// Add makes a node that does not run yet. The first node begins the cluster, the others join those before.
func (c *Cluster) Add() (*Node, error) {
	addrs := make([]string, 3)
	for i := range addrs {
		var err error
		if addrs[i], err = freeAddress(); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	name := fmt.Sprintf("node%d", len(c.mu.nodes)+1)
	n := &Node{
		cluster: c, name: name, dir: filepath.Join(c.o.Data, name), log: filepath.Join(c.dir, name+".log"),
		listen: addrs[0], gossip: addrs[1], http: addrs[2],
	}
	for _, other := range c.mu.nodes {
		n.join = append(n.join, other.listen)
	}
	c.mu.nodes = append(c.mu.nodes, n)
	return n, nil
}

// Start adds and starts n nodes, all at once: those that join wait for the first.
func (c *Cluster) Start(ctx context.Context, n int) error {
	nodes := make([]*Node, 0, n)
	for range n {
		node, err := c.Add()
		if err != nil {
			return err
		}
		nodes = append(nodes, node)
	}
	return StartAll(ctx, nodes...)
}

// StartAll starts nodes at once and waits until all of them serve.
func StartAll(ctx context.Context, nodes ...*Node) error {
	return each(nodes, func(n *Node) error { return n.Start(ctx) })
}

// StopAll stops nodes in order, at once, and waits for their ends.
func StopAll(ctx context.Context, nodes ...*Node) error {
	return each(nodes, func(n *Node) error { return n.Stop(ctx) })
}

// KillAll kills nodes at once.
func KillAll(nodes ...*Node) error { return each(nodes, (*Node).Kill) }

func each(nodes []*Node, f func(*Node) error) error {
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { errs[i] = f(n) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Nodes are the nodes in the order of their making.
func (c *Cluster) Nodes() []*Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*Node(nil), c.mu.nodes...)
}

// Addrs are the gRPC addresses of all nodes.
func (c *Cluster) Addrs() []string {
	var out []string
	for _, n := range c.Nodes() {
		out = append(out, n.listen)
	}
	return out
}

// Dir holds the logs and data of all nodes.
func (c *Cluster) Dir() string { return c.dir }

// Crashes tells of nodes that ended without having been told to.
func (c *Cluster) Crashes() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.mu.crashes...)
}

func (c *Cluster) crashed(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.crashes = append(c.mu.crashes, what)
}

// close kills what runs, and reports.
func (c *Cluster) close() {
	if err := KillAll(c.Nodes()...); err != nil {
		c.t.Errorf("killing the nodes: %v", err)
	}
	for _, what := range c.Crashes() {
		c.t.Errorf("a node ended by itself: %s", what)
	}
	if c.t.Failed() {
		for _, n := range c.Nodes() {
			c.t.Logf("the end of %s:\n%s", n.log, n.lastLines(20))
		}
	}
	if c.t.Failed() || c.o.Keep {
		c.t.Logf("logs and data are kept in %s", c.dir)
		return
	}
	if err := os.RemoveAll(c.dir); err != nil {
		c.t.Errorf("removing the cluster's directory: %v", err)
	}
}

// Command runs a command of the binary against the cluster, and returns what it printed.
func (c *Cluster) Command(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, c.o.Binary, args...)
	cmd.Env = append(os.Environ(), "LOCUS_ADDR="+strings.Join(c.Addrs(), ","))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("cluster: locus %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}
