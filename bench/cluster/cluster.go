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
)

// Options say how nodes are run. Without Args, nodes get no flags but those that they need.
type Options struct {
	// Binary to run.
	Binary string
	// Args are further arguments of each "locus start".
	Args []string
	// In is where the cluster's directory is made. Default: the system's place for temporary files.
	In string
	// Data is where nodes keep their data. Default: beside their logs.
	Data string
	// Links puts proxies between the nodes, see Cluster.Links. It needs all of 127.0.0.0/8 to be local, as on Linux.
	Links bool
}

// Cluster is some nodes and the directory with everything of theirs. Its methods are safe for concurrent
// use.
type Cluster struct {
	o     Options
	dir   string
	links *Links // nil: none

	mu struct {
		sync.Mutex
		args    []string // further ones, of each start
		nodes   []*Node
		crashes []string
	}
}

// Make makes a cluster without nodes, in a new directory. Whoever makes it closes it.
func Make(o Options) (*Cluster, error) {
	dir, err := os.MkdirTemp(o.In, "locus-cluster-")
	if err != nil {
		return nil, fmt.Errorf("cluster: making a directory: %w", err)
	}
	if o.Data == "" {
		o.Data = dir
	}
	c := &Cluster{o: o, dir: dir}
	c.mu.args = o.Args
	if o.Links {
		c.links = newLinks()
	}
	return c, nil
}

// Close kills what runs. The directory stays.
func (c *Cluster) Close() error {
	err := KillAll(c.Nodes()...)
	if c.links != nil {
		c.links.close()
	}
	return err
}

// Remove closes the cluster and removes its directory.
func (c *Cluster) Remove() error {
	if err := c.Close(); err != nil {
		return err
	}
	return os.RemoveAll(c.dir)
}

// Add makes a node that does not run yet. The first node begins the cluster, the others join those before.
func (c *Cluster) Add() (*Node, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := fmt.Sprintf("node%d", len(c.mu.nodes)+1)
	n := &Node{cluster: c, name: name, dir: filepath.Join(c.o.Data, name), log: filepath.Join(c.dir, name+".log")}
	if err := c.place(n, len(c.mu.nodes)); err != nil {
		return nil, err
	}
	for _, other := range c.mu.nodes {
		n.join = append(n.join, other.Addr())
	}
	c.mu.nodes = append(c.mu.nodes, n)
	return n, nil
}

// place gives a node its addresses, behind its links if there are any.
func (c *Cluster) place(n *Node, index int) error {
	home := loopback
	if c.links != nil {
		home = homeOf(index)
	}
	var err error
	for _, a := range []struct {
		addr *string
		host string
	}{{&n.listen, home}, {&n.gossip, home}, {&n.http, loopback}} {
		if *a.addr, err = freeAddress(a.host); err != nil {
			return err
		}
	}
	if c.links != nil {
		n.from = home
		n.advertise, err = c.links.add(index, n.listen, n.gossip)
	}
	return err
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

// SetArgs replaces Options.Args, from each node's next start on.
func (c *Cluster) SetArgs(args ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.args = args
}

func (c *Cluster) args() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.args
}

// Addrs are the gRPC addresses of all nodes.
func (c *Cluster) Addrs() []string {
	var out []string
	for _, n := range c.Nodes() {
		out = append(out, n.Addr())
	}
	return out
}

// Links are what nodes say to each other through; nil without Options.Links.
func (c *Cluster) Links() *Links { return c.links }

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
