package kill

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/locuskv/locus/bench/cluster"
)

const (
	sampleEvery = 500 * time.Millisecond
	mebi        = 1 << 20
)

// memory samples what nodes hold.
type memory struct {
	cluster *cluster.Cluster
	quit    chan struct{}
	wg      sync.WaitGroup
	samples map[string][]int64 // by node; bytes, 0 while it does not run
}

func watchMemory(c *cluster.Cluster) *memory {
	m := &memory{cluster: c, quit: make(chan struct{}), samples: make(map[string][]int64)}
	m.wg.Go(func() {
		tick := time.NewTicker(sampleEvery)
		defer tick.Stop()
		for {
			for _, n := range c.Nodes() {
				bytes, _ := n.Memory()
				m.samples[n.Name()] = append(m.samples[n.Name()], bytes)
			}
			select {
			case <-m.quit:
				return
			case <-tick.C:
			}
		}
	})
	return m
}

func (m *memory) stop() {
	close(m.quit)
	m.wg.Wait()
}

// report has for each node the peak, and the highest of each twelfth of the time, in MiB.
func (m *memory) report() string {
	var out strings.Builder
	out.WriteString("anonymous memory in MiB: peak, and the highest in each twelfth of the time")
	for _, name := range slices.Sorted(maps.Keys(m.samples)) {
		s := m.samples[name]
		fmt.Fprintf(&out, "\n  %s %5d :", name, slices.Max(s)/mebi)
		for part := range slices.Chunk(s, max(1, (len(s)+11)/12)) {
			fmt.Fprintf(&out, " %5d", slices.Max(part)/mebi)
		}
	}
	return out.String()
}

// messages counts the lines of all logs, warnings and above.
func messages(c *cluster.Cluster) string {
	sum := make(map[cluster.Message]int)
	for _, n := range c.Nodes() {
		found, err := n.Messages()
		if err != nil {
			return err.Error()
		}
		for m, count := range found {
			sum[m] += count
		}
	}
	var out strings.Builder
	out.WriteString("lines in the nodes' logs:")
	byCount := slices.SortedFunc(maps.Keys(sum), func(a, b cluster.Message) int { return sum[b] - sum[a] })
	for _, m := range byCount[:min(30, len(byCount))] {
		fmt.Fprintf(&out, "\n  %6d %s %s", sum[m], m.Level, m.Text)
	}
	return out.String()
}
