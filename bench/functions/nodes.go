package functions

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/locuskv/locus/bench/cluster"
	"github.com/locuskv/locus/bench/load/locusload"
	"github.com/locuskv/locus/client"
)

const (
	// startWithin bounds what nodes take until all ranges have their replicas: far above what it takes on a busy machine.
	startWithin = 3 * time.Minute
	pollEvery   = 50 * time.Millisecond
	// clientTimeout ends operations of the load; runs of functions have no end but the run's.
	clientTimeout = 30 * time.Second
	// unlimited is said of the sizes and rates at which ranges are split: where the data lies must not change while it is measured.
	unlimited = "1000000000000"
)

// nodeArgs are the arguments that all nodes get. cache is said of the scan cache; 0: the default.
func nodeArgs(cache string) []string {
	return []string{"--bench-functions", "--range-max-bytes", unlimited, "--range-max-requests", unlimited, "--scan-cache-bytes", cache}
}

// nodes are processes with a client.
type nodes struct {
	cluster *cluster.Cluster
	count   int
	db      *client.DB
}

func startNodes(ctx context.Context, o Options, count int) (*nodes, error) {
	c, err := cluster.Make(cluster.Options{Binary: o.Binary, Args: nodeArgs("0"), In: o.Parent})
	if err != nil {
		return nil, err
	}
	n := &nodes{cluster: c, count: count}
	if err := n.start(ctx, func() error { return c.Start(ctx, count) }); err != nil {
		return nil, errors.Join(err, n.remove())
	}
	return n, nil
}

// start starts the processes and a client, and waits until all ranges have their replicas.
func (n *nodes) start(ctx context.Context, f func() error) (err error) {
	if err := f(); err != nil {
		return err
	}
	if n.db, err = client.Open(ctx, client.Options{Addrs: n.cluster.Addrs(), Timeout: clientTimeout}); err != nil {
		return err
	}
	return n.await(ctx)
}

func (n *nodes) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		s, err := n.db.Status(ctx)
		if err == nil && s.LiveNodes >= uint64(n.count) && s.Ranges > 0 && s.UnderReplicated == 0 && s.Unavailable == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("the cluster is not complete: %w", ctx.Err()), err)
		case <-tick.C:
		}
	}
}

// stop stops the processes in order; their data stays.
func (n *nodes) stop(ctx context.Context) error {
	err := n.db.Close()
	n.db = nil
	return errors.Join(err, cluster.StopAll(ctx, n.cluster.Nodes()...))
}

// again starts stopped processes.
func (n *nodes) again(ctx context.Context, args ...string) error {
	n.cluster.SetArgs(args...)
	return n.start(ctx, func() error { return cluster.StartAll(ctx, n.cluster.Nodes()...) })
}

// remove kills what runs and removes the data.
func (n *nodes) remove() error {
	var err error
	if n.db != nil {
		err = n.db.Close()
	}
	for _, crash := range n.cluster.Crashes() {
		err = errors.Join(err, errors.New(crash))
	}
	return errors.Join(err, n.cluster.Remove())
}

// version is what the nodes call themselves; empty if they don't tell.
func (n *nodes) version(ctx context.Context) string {
	list, err := n.db.Nodes(ctx)
	if err != nil || len(list) == 0 {
		return ""
	}
	return list[0].Version
}

// turnCold starts the nodes again without the scan cache. Node 1's engine is copied while nobody has it open.
func (b *bench) turnCold(ctx context.Context, needs need) error {
	if err := b.nodes.stop(ctx); err != nil {
		return err
	}
	b.db = nil
	if needs.fixed {
		from := filepath.Join(b.nodes.cluster.Nodes()[0].Dir(), "engine")
		if err := copyFiles(from, b.engineCopy()); err != nil {
			return fmt.Errorf("copying a stopped node's engine: %w", err)
		}
	}
	if err := b.nodes.again(ctx, nodeArgs("-1")...); err != nil {
		return err
	}
	b.db = b.nodes.db
	if b.o.Quick { // where the ranges are led does not matter then
		return nil
	}
	return b.spread(ctx, needs)
}

// scanCache is how many blocks the nodes' scan caches have handed out since their start, and how often something was missing.
func (n *nodes) scanCache(ctx context.Context) (hits, misses float64, err error) {
	for _, node := range n.cluster.Nodes() {
		m, err := node.Metrics(ctx)
		if err != nil {
			return 0, 0, err
		}
		h, known := m["locus_scan_cache_hits_total"]
		if !known {
			return 0, 0, fmt.Errorf("%s does not tell of its scan cache", node.Name())
		}
		hits, misses = hits+h, misses+m["locus_scan_cache_misses_total"]
	}
	return hits, misses, nil
}

// wereCold is an error if a scan cache has answered since the nodes' start.
func (n *nodes) wereCold(ctx context.Context) error {
	hits, _, err := n.scanCache(ctx)
	if err == nil && hits != 0 {
		err = fmt.Errorf("the scan caches, which were to be off, had %v hits", hits)
	}
	return err
}

func (b *bench) engineCopy() string { return filepath.Join(b.group.Dir(), "engine") }

// copyFiles copies a directory.
func copyFiles(from, to string) error {
	_, err := fs.Stat(os.DirFS(from), "MANIFEST")
	if err != nil {
		return err
	}
	return os.CopyFS(to, os.DirFS(from))
}

// spread waits until the leaseholders of the ranges are spread over the nodes.
func (b *bench) spread(ctx context.Context, needs need) error {
	for _, k := range needs.keyspaces() {
		if err := locusload.Spread(ctx, b.db, k.name, k.ranges, nil); err != nil {
			return err
		}
	}
	return nil
}
