package operators

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/locuskv/locus/api"
)

const (
	// MaxTopK is the greatest k of topk(x, k).
	MaxTopK = 100
	// FrequentError is by how much the counts of topk may be too small, by the number of values: no count loses more.
	FrequentError = 1.0 / (frequentKept + 1)

	frequentKept = 999  // counters that are left by a reduction
	frequentRoom = 2000 // counters that there are at most; up to so many different values all counts are exact
)

// frequent finds the values that are there most often: a summary of Misra and Gries ("Finding repeated elements", 1982), in
// the form that can be merged (Agarwal, Cormode, Huang, Phillips, Wei and Yi, "Mergeable summaries", PODS 2012). It has a
// counter per value, and if those become too many, as much is taken from each as leaves frequentKept: the count that comes
// next to them in falling order. So
//
//	count <= times that the value was there <= count + lost
//
// and since each reduction takes what it adds to lost from frequentKept+1 counters at least, lost is at most FrequentError
// of all values, whatever they are, in which order they came, and how they were cut and merged.
//
// A reduction depends on the counts alone: a merge is the same either way around, and the same values in the same order make
// the same summary. Reducing at twice the counters that are kept makes it rare, and gives few values their exact counts.
type frequent struct {
	at       map[string]int // a value, as appendValue writes it: its place in counters
	counters []counter
	lost     uint64
	buf      []byte
}

type counter struct {
	value string
	n     uint64
}

// counterSize is about what a counter takes beside its value: two strings, a count, and slots of the map that are free.
const counterSize = 96

func newFrequent() *frequent { return &frequent{at: map[string]int{}} }

// add counts a scalar, and returns how much memory that took; it is negative if some was freed.
func (q *frequent) add(v value) int {
	q.buf = appendValue(q.buf[:0], v.normal())
	if i, ok := q.at[string(q.buf)]; ok {
		q.counters[i].n++
		return 0
	}
	return q.begin(string(q.buf), 1) + q.reduce()
}

func (q *frequent) begin(value string, n uint64) (grown int) {
	q.at[value] = len(q.counters)
	q.counters = append(q.counters, counter{value, n})
	return counterSize + len(value)
}

func (q *frequent) merge(o *frequent) (grown int) {
	for _, c := range o.counters {
		if i, ok := q.at[c.value]; ok {
			q.counters[i].n += c.n
		} else {
			grown += q.begin(c.value, c.n)
		}
	}
	q.lost += o.lost
	return grown + q.reduce()
}

// reduce leaves frequentKept counters if there are too many.
func (q *frequent) reduce() (grown int) {
	if len(q.counters) <= frequentRoom {
		return 0
	}
	counts := make([]uint64, len(q.counters))
	for i, c := range q.counters {
		counts[i] = c.n
	}
	slices.Sort(counts)
	less := counts[len(counts)-1-frequentKept]
	all := q.counters
	q.counters, q.at = nil, make(map[string]int, frequentRoom)
	q.lost += less
	for _, c := range all {
		grown -= counterSize + len(c.value)
		if c.n > less {
			grown += q.begin(c.value, c.n-less)
		}
	}
	return grown
}

// top are the k values that were counted most often, those of one count in the order of values.
func (q *frequent) top(k int) topValues {
	list := make([]frequency, len(q.counters))
	for i, c := range q.counters {
		d := &decoder{b: []byte(c.value)}
		list[i] = frequency{d.value(), c.n}
	}
	slices.SortFunc(list, func(a, b frequency) int { return cmp.Or(cmp.Compare(b.n, a.n), compareValues(a.value, b.value)) })
	return topValues{list[:min(k, len(list))], q.lost}
}

// topValues is what topk comes to.
type topValues struct {
	list []frequency
	lost uint64
}

type frequency struct {
	value value
	n     uint64
}

func (t topValues) appendJSON(dst []byte) []byte {
	out := api.QueryTopValues{Values: make([]api.QueryFrequency, len(t.list)), Error: t.lost}
	for i, f := range t.list {
		out.Values[i] = api.QueryFrequency{Value: f.value.appendJSON(nil), Count: f.n}
	}
	b, err := json.Marshal(out)
	if err != nil {
		panic(err) // numbers, and JSON that appendJSON has written
	}
	return append(dst, b...)
}

// append writes what was lost and the counters, in the order of their values' bytes.
func (q *frequent) append(dst []byte) []byte {
	sorted := slices.Clone(q.counters)
	slices.SortFunc(sorted, func(a, b counter) int { return strings.Compare(a.value, b.value) })
	dst = binary.AppendUvarint(dst, q.lost)
	dst = binary.AppendUvarint(dst, uint64(len(sorted)))
	for _, c := range sorted {
		dst = append(dst, c.value...)
		dst = binary.AppendUvarint(dst, c.n)
	}
	return dst
}

// read is the reverse of append. It refuses values that make no counter, are out of order, or more than there can be.
func (q *frequent) read(d *decoder) {
	q.lost = d.uint()
	n := d.uint()
	if n > frequentRoom {
		d.fail()
		return
	}
	for before := ""; n > 0 && !d.bad; n-- {
		v := d.value()
		q.buf = appendValue(q.buf[:0], v.normal())
		value, count := string(q.buf), d.uint()
		if d.bad || !v.isScalar() || value <= before {
			d.fail()
			return
		}
		q.counters = append(q.counters, counter{value, count})
		before = value
	}
}

// parseTopK reads the arguments of topk(x, k).
func parseTopK(source, arguments string) (a aggregate, argument string, err error) {
	list := split([]string{arguments})
	if len(list) != 2 || strings.TrimSpace(list[0]) == "" {
		return a, "", fmt.Errorf("aggregate %q is not topk(expression, k), for example topk(destination, 10)", source)
	}
	k, err := strconv.Atoi(strings.TrimSpace(list[1]))
	if err != nil || k < 1 {
		return a, "", fmt.Errorf("aggregate %q: k is %s, and takes a whole number from 1 to %d", source, strings.TrimSpace(list[1]), MaxTopK)
	}
	if k > MaxTopK {
		return a, "", &api.LimitError{What: fmt.Sprintf("k of aggregate %q", source), Limit: MaxTopK, Got: int64(k)}
	}
	a = aggregates[topK]
	a.result = func(c *cell) any { return c.frequent.top(k) }
	return a, strings.TrimSpace(list[0]), nil
}
