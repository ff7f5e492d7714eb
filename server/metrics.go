package server

import (
	"github.com/prometheus/client_golang/prometheus"
)

// collector turns the counters of the store and the transport into Prometheus's, when they are asked for.
// They are named by the verbs of the write path.
type collector struct {
	node    *Node
	metrics []metric
}

type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(s *sample) float64
}

func newCollector(n *Node) *collector {
	c := &collector{node: n}
	for _, m := range metricTable {
		c.metrics = append(c.metrics, metric{
			desc: prometheus.NewDesc(m.name, m.help, nil, nil), kind: m.kind, value: m.value,
		})
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := takeSample(c.node)
	for _, m := range c.metrics {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(s))
	}
}
