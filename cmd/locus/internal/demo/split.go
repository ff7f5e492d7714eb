package demo

import (
	"maps"
	"slices"
)

// splitKeys cuts the key space into at most n parts of about equal weight, where a key's first part is an
// airport and weight counts an airport's records: it returns the airports that begin a part, ascending. An
// airport is never cut, so one that outweighs a part leaves fewer parts than n.
func splitKeys(weight map[string]int64, n int) [][]byte {
	var total, before int64
	for _, w := range weight {
		total += w
	}
	var out [][]byte
	for i, airport := range slices.Sorted(maps.Keys(weight)) {
		// The part that this airport falls into, by where its first record lies.
		if i > 0 && before*int64(n)/total > int64(len(out)) {
			out = append(out, []byte(airport))
		}
		before += weight[airport]
	}
	return out
}

// span is a half-open interval of user keys; nil bounds are the keyspace's own.
type span struct{ start, end []byte }

// spans are the parts that split keys make.
func spans(splits [][]byte) []span {
	out := make([]span, 0, len(splits)+1)
	var start []byte
	for _, s := range splits {
		out = append(out, span{start, s})
		start = s
	}
	return append(out, span{start, nil})
}
