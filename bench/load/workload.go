package load

import (
	"fmt"
	"strings"
)

// Kind is a kind of operation, as it is reported.
type Kind string

// The kinds of operations.
const (
	Get    Kind = "get"    // read one loaded key, linearizable
	Put    Kind = "put"    // overwrite one loaded key
	Insert Kind = "insert" // write a key that is new
	Scan   Kind = "scan"   // read 1 to maxScan records in key order
	// ReadModifyWrite reads a key and then writes it. It is not atomic: YCSB's is not.
	ReadModifyWrite Kind = "read-modify-write"
	// Increment adds one to one key, atomically; all clients the same key.
	Increment Kind = "increment"
)

// kinds in the order of reports.
var kinds = []Kind{Get, Put, Insert, Scan, ReadModifyWrite, Increment}

// The choices of keys.
const (
	Uniform = "uniform"
	Zipfian = "zipfian"
	Latest  = "latest"
)

// maxScan is the most records that one scan reads; the number is uniform from 1, as in YCSB's workload E.
const maxScan = 100

// workload is what the operations are.
type workload struct {
	name   string
	choice string
	parts  []part
}

// part is a share of the operations.
type part struct {
	kind    Kind
	percent int // all parts together: 100
}

// workloads is the table. Those of YCSB are the core workloads of "Benchmarking Cloud Serving Systems with
// YCSB" (Cooper et al., SoCC 2010) with one field per record.
var workloads = []workload{
	{"put", Uniform, []part{{Put, 100}}},
	{"get", Uniform, []part{{Get, 100}}},
	{"mix", Uniform, []part{{Get, 95}, {Put, 5}}},
	{"counter", Uniform, []part{{Increment, 100}}},
	{"ycsb-a", Zipfian, []part{{Get, 50}, {Put, 50}}},
	{"ycsb-b", Zipfian, []part{{Get, 95}, {Put, 5}}},
	{"ycsb-c", Zipfian, []part{{Get, 100}}},
	{"ycsb-d", Latest, []part{{Get, 95}, {Insert, 5}}},
	{"ycsb-e", Zipfian, []part{{Scan, 95}, {Insert, 5}}},
	{"ycsb-f", Zipfian, []part{{Get, 50}, {ReadModifyWrite, 50}}},
}

// Workloads are the names of the workloads.
func Workloads() []string {
	var out []string
	for _, w := range workloads {
		out = append(out, w.name)
	}
	return out
}

func workloadNamed(name string) (workload, error) {
	for _, w := range workloads {
		if w.name == name {
			return w, nil
		}
	}
	if name == "" {
		return workload{}, fmt.Errorf("--workload is required: %s", strings.Join(Workloads(), ", "))
	}
	return workload{}, fmt.Errorf("--workload %q is none of %s", name, strings.Join(Workloads(), ", "))
}

// kindAt is the kind for a number from 0 to 99.
func (w workload) kindAt(n int) Kind {
	for _, p := range w.parts {
		if n -= p.percent; n < 0 {
			return p.kind
		}
	}
	return w.parts[len(w.parts)-1].kind
}
