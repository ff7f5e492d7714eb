package locusload

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/locuskv/locus/client"
)

// The names under which nodes count what their row caches answered.
const (
	hitsMetric   = "locus_row_cache_hits_total"
	missesMetric = "locus_row_cache_misses_total"
)

// Cache is what the row caches of all nodes have answered since they started.
type Cache struct{ Hits, Misses float64 }

// Since is the share of the reads between two readings that the cache answered; false if there were none.
func (c Cache) Since(before Cache) (rate float64, ok bool) {
	hits, all := c.Hits-before.Hits, c.Hits+c.Misses-before.Hits-before.Misses
	if all <= 0 {
		return 0, false
	}
	return hits / all, true
}

// ReadCache adds up the metrics of all nodes; false if a node has none of them, or its page is not reachable
// from here (it is served on loopback only).
func ReadCache(ctx context.Context, db *client.DB) (Cache, bool) {
	nodes, err := db.Nodes(ctx)
	if err != nil {
		return Cache{}, false
	}
	var sum Cache
	for _, n := range nodes {
		if n.State != "up" {
			continue
		}
		m, err := metricsOf(ctx, n.HTTPAddress)
		if err != nil {
			return Cache{}, false
		}
		hits, ok1 := m[hitsMetric]
		misses, ok2 := m[missesMetric]
		if !ok1 || !ok2 {
			return Cache{}, false
		}
		sum.Hits += hits
		sum.Misses += misses
	}
	return sum, len(nodes) > 0
}

// maxPage bounds a page of metrics: far above what a node has.
const maxPage = 8 << 20

// metricsOf reads a node's metrics without labels.
func metricsOf(ctx context.Context, address string) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("metrics of %s: %s", address, resp.Status)
	}
	return parseMetrics(io.LimitReader(resp.Body, maxPage))
}

func parseMetrics(r io.Reader) (map[string]float64, error) {
	out := make(map[string]float64)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if !ok || strings.HasPrefix(name, "#") || strings.Contains(name, "{") {
			continue
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			out[name] = v
		}
	}
	return out, lines.Err()
}
