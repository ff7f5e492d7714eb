package functions

import "context"

// spec is a row of the table: what is done for it at each stage. Nil: nothing.
type spec struct {
	name, title       string
	alone, warm, cold func(*bench, context.Context, *Row) error
	needs             need
}

// need is the data that a row works on.
type need struct{ json, fixed, sums, calls bool }

func (n need) and(m need) need {
	return need{n.json || m.json, n.fixed || m.fixed, n.sums || m.sums, n.calls || m.calls}
}

// table is what there is to measure, in the order of the report.
var table = []spec{
	{
		name: "json", title: "count, mean and 95th percentile of the delay by origin, flights as JSON",
		warm: (*bench).jsonWarm, cold: (*bench).jsonCold, needs: need{json: true},
	},
	{
		name: "fixed", title: "the same, flights in 16 bytes of a fixed layout",
		warm: (*bench).fixedWarm, cold: (*bench).fixedCold, needs: need{fixed: true},
	},
	{
		name: "sum", title: "sum of one field of records of 100 bytes, in one range",
		warm: (*bench).sumWarm, cold: (*bench).sumCold, needs: need{sums: true},
	},
	{
		name: "cold", title: "one range without the scan cache, against Badger's own iterator over the same store",
		cold: (*bench).coldRange, needs: need{fixed: true, sums: true},
	},
	{name: "cached", title: "sum of one field over batches in memory, one core", alone: (*bench).cached},
	{
		name: "read-call", title: "calls that read one key, 64 at a time",
		warm: (*bench).readCalls, needs: need{calls: true},
	},
	{
		name: "write-call", title: "calls that write one key, 256 at a time",
		warm: (*bench).writeCalls, needs: need{calls: true},
	},
	{name: "memory", title: "memory of an instance", alone: (*bench).memory},
	{name: "first-call", title: "first call of a function on a node that has compiled it before its restart", alone: (*bench).firstCalls},
	{
		name: "harm", title: "gets and puts of others, 64 clients each, beside one hostile call a second on each node",
		warm: (*bench).harm, needs: need{calls: true},
	},
	{
		name: "cancel", title: "how soon after its caller's cancel a run over all ranges ends, of a guest in C that spins",
		warm: (*bench).cancel, needs: need{calls: true},
	},
	{
		name: "delay", title: "functions against pulling, with 1 ms between client and nodes in each direction and without",
		warm: (*bench).delay, needs: need{json: true, sums: true},
	},
}

// Names are the names of all rows.
func Names() []string {
	var out []string
	for _, s := range table {
		out = append(out, s.name)
	}
	return out
}
