package server

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/locuskv/locus/api/locuspb"
)

// functionCollector tells what functions have done here. Its labels are bounded by maxAccounts versions and the kinds of errors.
type functionCollector struct{ accounts *accounts }

var (
	functionLabels = []string{"function", "version"} // version 0: native
	functionErrors = prometheus.NewDesc("locus_function_errors_total", "Calls and runs that failed, by kind of error.",
		append([]string{"kind"}, functionLabels...), nil)
	functionMetrics = []functionMetric{
		newFunctionMetric("locus_function_calls_total", "Calls that ran here, and runs of range functions that this node was the gateway of.",
			func(s *locuspb.FunctionStats) float64 { return float64(s.Calls) }),
		newFunctionMetric("locus_function_parts_total", "Parts of runs of range functions, each on one range.",
			func(s *locuspb.FunctionStats) float64 { return float64(s.Parts) }),
		newFunctionMetric("locus_function_fuel_total", "Fuel used.", func(s *locuspb.FunctionStats) float64 { return float64(s.Fuel) }),
		newFunctionMetric("locus_function_seconds_total", "Time that functions ran, with their reads.",
			func(s *locuspb.FunctionStats) float64 { return time.Duration(s.Nanoseconds).Seconds() }),
		newFunctionMetric("locus_function_records_read_total", "Records that functions read.",
			func(s *locuspb.FunctionStats) float64 { return float64(s.RecordsRead) }),
		newFunctionMetric("locus_function_bytes_read_total", "Bytes of keys and values that functions read.",
			func(s *locuspb.FunctionStats) float64 { return float64(s.BytesRead) }),
		newFunctionMetric("locus_function_records_written_total", "Puts and deletes of calls that succeeded.",
			func(s *locuspb.FunctionStats) float64 { return float64(s.RecordsWritten) }),
		newFunctionMetric("locus_function_bytes_written_total", "Bytes of keys and values that calls wrote which succeeded.",
			func(s *locuspb.FunctionStats) float64 { return float64(s.BytesWritten) }),
	}
)

type functionMetric struct {
	desc  *prometheus.Desc
	value func(s *locuspb.FunctionStats) float64
}

func newFunctionMetric(name, help string, value func(s *locuspb.FunctionStats) float64) functionMetric {
	return functionMetric{prometheus.NewDesc(name, help, functionLabels, nil), value}
}

// Describe implements prometheus.Collector.
func (c functionCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- functionErrors
	for _, m := range functionMetrics {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c functionCollector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c.accounts.stats("", false) {
		version := strconv.FormatUint(uint64(s.Version), 10)
		for _, m := range functionMetrics {
			ch <- prometheus.MustNewConstMetric(m.desc, counter, m.value(s), s.Name, version)
		}
		for kind, n := range s.Errors {
			ch <- prometheus.MustNewConstMetric(functionErrors, counter, float64(n), kind, s.Name, version)
		}
	}
}
