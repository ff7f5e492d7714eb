package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// nodes is how many nodes the demo runs: the fewest that lose nothing when one is killed.
const nodes = 3

// cluster is three processes and the directory that holds everything of theirs.
type cluster struct {
	dir string
	// compiled is where the nodes keep compiled functions, so that each is compiled once and not by every node.
	compiled string
	spawner  *spawner
	procs    []*process
	pids     [nodes]atomic.Int64 // 0: does not run; read by the sampling of memory
}

// newCluster makes the directory; nothing runs yet.
func newCluster(bin, parent, compiled string, keep bool) (*cluster, error) {
	dir, err := os.MkdirTemp(parent, "locus-demo-")
	if err != nil {
		return nil, fmt.Errorf("making the demo's directory: %w", err)
	}
	c := &cluster{dir: dir, compiled: cmp.Or(compiled, filepath.Join(dir, "compiled")), spawner: newSpawner()}
	for i := range nodes {
		name := fmt.Sprintf("node %d", i+1)
		c.procs = append(c.procs, &process{
			name: name, bin: bin, keep: keep,
			log: filepath.Join(dir, fmt.Sprintf("node%d.log", i+1)),
		})
	}
	return c, nil
}

// start starts the first node, which begins the cluster, and then the others, which join it.
func (c *cluster) start(ctx context.Context) error {
	for i := range c.procs {
		if err := c.startNode(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// startNode starts a node: the first time on free ports, later on the ports it had.
func (c *cluster) startNode(ctx context.Context, i int) error {
	p := c.procs[i]
	listen, gossip, http := "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	if p.ready.Address != "" {
		listen, gossip, http = p.ready.Address, p.ready.Gossip, p.ready.HTTP
	}
	p.args = []string{
		"start", "--insecure", "--output", "json", "--data", filepath.Join(c.dir, fmt.Sprintf("node%d", i+1)),
		"--compiled-dir", c.compiled, "--listen", listen, "--gossip-listen", gossip, "--http-listen", http,
		"--min-free-bytes", "268435456", // what runs for a minute may use a disk that is fuller than a server's should be
	}
	var join []string
	for j, other := range c.procs {
		if j != i && other.running() {
			join = append(join, other.ready.Address)
		}
	}
	if len(join) > 0 {
		p.args = append(p.args, "--join", strings.Join(join, ","))
	}
	err := p.start(ctx, c.spawner)
	if p.running() {
		c.pids[i].Store(int64(p.pid()))
	}
	return err
}

// killNode ends a node with SIGKILL.
func (c *cluster) killNode(i int) {
	c.procs[i].kill()
	c.pids[i].Store(0)
}

// byStore finds the node of a store.
func (c *cluster) byStore(id uint64) (int, error) {
	for i, p := range c.procs {
		if p.ready.StoreID == id {
			return i, nil
		}
	}
	return 0, fmt.Errorf("no node of the demo has store %d", id)
}

// addresses are the nodes' gRPC addresses.
func (c *cluster) addresses() []string {
	out := make([]string, 0, len(c.procs))
	for _, p := range c.procs {
		out = append(out, p.ready.Address)
	}
	return out
}

// running are the process ids of the nodes that run. It may be called at any time.
func (c *cluster) running() []int {
	var out []int
	for i := range c.pids {
		if pid := c.pids[i].Load(); pid != 0 {
			out = append(out, int(pid))
		}
	}
	return out
}

// close kills every node and removes the directory.
func (c *cluster) close() error {
	for i := range c.procs {
		c.killNode(i)
	}
	c.spawner.close()
	if err := os.RemoveAll(c.dir); err != nil {
		return fmt.Errorf("removing the demo's directory: %w", err)
	}
	return nil
}

// diskUsage is what the files of the cluster take, in bytes.
func (c *cluster) diskUsage() (int64, error) {
	var sum int64
	err := filepath.WalkDir(c.dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return ignoreMissing(err)
		}
		info, err := d.Info()
		if err != nil {
			return ignoreMissing(err)
		}
		sum += allocated(info)
		return nil
	})
	return sum, err
}

// ignoreMissing forgives files that a node removed while the tree was walked.
func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
