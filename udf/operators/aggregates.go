package operators

import (
	"bytes"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// features are what a cell keeps of the values of one expression. Aggregates of one expression share it.
type features uint8

const (
	featNumbers   features = 1 << iota // sum, mean, variance
	featSquares                        // variance
	featExtremes                       // min, max
	featQuantiles                      // pNN
	featDistinct
	featFrequent // topk

	featShort   = featNumbers | featQuantiles // what addInteger knows
	featNumeric = featNumbers | featSquares | featQuantiles
)

// cell is what one group keeps of one expression.
type cell struct {
	values uint64 // not null
	numbers
	squares   *squares
	extremes  *extremes
	quantiles *quantiles
	distinct  *distinct
	frequent  *frequent
}

// extremes are the least and the greatest value. Numbers come before texts.
type extremes struct{ least, greatest value }

// add folds a value in and returns how much memory that took.
func (c *cell) add(f features, r *record, v value) (grown int) {
	c.values++
	if f&featNumeric != 0 {
		if !v.isNumeric() {
			r.mistyped = true
		} else {
			if f&featNumbers != 0 {
				c.numbers.add(v)
			}
			if f&featQuantiles != 0 {
				grown += c.quantiles.add(v)
			}
			if f&featSquares != 0 {
				c.squares.add(v)
			}
		}
	}
	if f&(featExtremes|featDistinct|featFrequent) != 0 {
		if !v.isScalar() {
			r.mistyped = true
			return grown
		}
		if f&featExtremes != 0 {
			grown += c.extremes.add(v)
		}
		if f&featDistinct != 0 {
			grown += c.distinct.add(v)
		}
		if f&featFrequent != 0 {
			grown += c.frequent.add(v)
		}
	}
	return grown
}

// addInteger is add for an integer, where sums and quantiles alone are kept.
func (c *cell) addInteger(f features, i int64) (grown int) {
	c.values++
	if f&featNumbers != 0 {
		c.numbers.addInteger(i)
	}
	if f&featQuantiles != 0 {
		grown = c.quantiles.addInteger(i)
	}
	return grown
}

func (e *extremes) add(v value) (grown int) {
	if e.least.kind == kindNull || compareValues(v, e.least) < 0 {
		e.least, grown = kept(v)
	}
	if e.greatest.kind == kindNull || compareValues(v, e.greatest) > 0 {
		var more int
		e.greatest, more = kept(v)
		grown += more
	}
	return grown
}

// kept is a value that outlives its record. Equal numbers become equal: which of 1 and 1.0 came first depends on the order.
func kept(v value) (value, int) {
	v = v.normal()
	if v.kind == kindText {
		v.text = bytes.Clone(v.text)
	}
	return v, len(v.text)
}

func (c *cell) merge(o *cell) (grown int, err error) {
	c.values += o.values
	c.numbers.merge(&o.numbers)
	if c.squares != nil {
		c.squares.merge(o.squares)
	}
	if c.quantiles != nil {
		grown += c.quantiles.merge(o.quantiles)
	}
	if c.extremes != nil && o.extremes.least.kind != kindNull {
		grown += c.extremes.add(o.extremes.least) + c.extremes.add(o.extremes.greatest)
	}
	if c.frequent != nil {
		grown += c.frequent.merge(o.frequent)
	}
	if c.distinct != nil {
		err = c.distinct.sketch.Merge(o.distinct.sketch)
		grown += c.distinct.charge(o.distinct.charged)
	}
	return grown, err
}

// sizes of what a cell points to, for the account of memory.
const (
	cellSize      = 104
	squaresSize   = 48
	extremesSize  = 80
	quantilesSize = 96
	frequentSize  = 128
	groupSize     = 160
)

func newCell(f features) (c cell, size int) {
	size = cellSize
	if f&featSquares != 0 {
		c.squares, size = new(squares), size+squaresSize
	}
	if f&featExtremes != 0 {
		c.extremes, size = new(extremes), size+extremesSize
	}
	if f&featQuantiles != 0 {
		c.quantiles, size = new(quantiles), size+quantilesSize
	}
	if f&featDistinct != 0 {
		c.distinct, size = newDistinct(), size+distinctSize
	}
	if f&featFrequent != 0 {
		c.frequent, size = newFrequent(), size+frequentSize
	}
	return c, size
}

// aggregate is a function of many values.
type aggregate struct {
	needs    features
	takes    types
	relative float64 // error
	standard float64
	share    float64 // error of counts, by the number of values
	result   func(c *cell) any
}

// topK is the name of the one aggregate that takes more than an expression.
const topK = "topk"

var aggregates = map[string]aggregate{
	"count":    {takes: tAny, result: func(c *cell) any { return int64(c.values) }},
	"sum":      {needs: featNumbers, takes: tNumber, result: func(c *cell) any { return c.total() }},
	"mean":     {needs: featNumbers, takes: tNumber, result: func(c *cell) any { return c.mean() }},
	"variance": {needs: featNumbers | featSquares, takes: tNumber, result: func(c *cell) any { return c.squares.variance(&c.numbers) }},
	"stddev":   {needs: featNumbers | featSquares, takes: tNumber, result: deviation},
	"min":      {needs: featExtremes, takes: tScalar, result: func(c *cell) any { return c.extremes.least }},
	"max":      {needs: featExtremes, takes: tScalar, result: func(c *cell) any { return c.extremes.greatest }},
	"distinct": {needs: featDistinct, takes: tScalar, standard: DistinctError, result: func(c *cell) any { return int64(c.distinct.sketch.Estimate()) }},
	topK:       {needs: featFrequent, takes: tScalar, share: FrequentError}, // and parseTopK has the result
}

// otherNames are those by which others know the same.
var otherNames = map[string]string{"avg": "mean", "var": "variance", "median": "p50"}

func deviation(c *cell) any {
	if v, ok := c.squares.variance(&c.numbers).(float64); ok {
		return math.Sqrt(max(v, 0))
	}
	return nil
}

var percentile = regexp.MustCompile(`^p([0-9]{1,2}(\.[0-9]{1,4})?|100)$`)

// lookupAggregate finds an aggregate by its name; pNN are quantiles.
func lookupAggregate(name string) (aggregate, bool) {
	if same, ok := otherNames[name]; ok {
		name = same
	}
	if m := percentile.FindStringSubmatch(name); m != nil {
		p, err := strconv.ParseFloat(m[1], 64)
		return aggregate{
			needs: featQuantiles, takes: tNumber, relative: QuantileError,
			result: func(c *cell) any { return c.quantiles.at(p / 100) },
		}, err == nil
	}
	a, ok := aggregates[name]
	return a, ok
}

func isAggregate(name string) bool {
	_, ok := lookupAggregate(name)
	return ok
}

// alias is the name that is given to a column: mean(delay) as late.
var alias = regexp.MustCompile(`^(?s)(.*\S)\s+as\s+([A-Za-z_][A-Za-z0-9_]*)$`)

func cutAlias(s string) (source, name string) {
	s = strings.TrimSpace(s)
	if m := alias.FindStringSubmatch(s); m != nil {
		return m[1], m[2]
	}
	return s, s
}

// parseAggregate reads name(expression).
func parseAggregate(source string) (a aggregate, argument string, err error) {
	name, rest, called := strings.Cut(source, "(")
	name = strings.TrimSpace(name)
	a, known := lookupAggregate(name)
	argument, closed := strings.CutSuffix(rest, ")")
	argument = strings.TrimSpace(argument)
	switch {
	case !called || !closed:
		return a, "", fmt.Errorf("aggregate %q is not name(expression), for example mean(delay)", source)
	case !known:
		return a, "", fmt.Errorf("aggregate %q: %q is none of count, sum, mean, variance, stddev, min, max, distinct, topk, median and p0 to p100", source, name)
	case name == topK:
		return parseTopK(source, argument)
	case argument == "" && name != "count":
		return a, "", fmt.Errorf("aggregate %q: %s() takes an expression, for example %s(delay)", source, name, name)
	}
	return a, argument, nil
}

// split cuts lists at the commas that stand outside of quotes and brackets.
func split(lists []string) (out []string) {
	for _, s := range lists {
		depth, quote, begin := 0, byte(0), 0
		for i := 0; i < len(s); i++ {
			switch c := s[i]; {
			case quote != 0:
				if c == '\\' && quote != '`' {
					i++
				} else if c == quote {
					quote = 0
				}
			case c == '"' || c == '\'' || c == '`':
				quote = c
			case c == '(' || c == '[' || c == '{':
				depth++
			case c == ')' || c == ']' || c == '}':
				depth--
			case c == ',' && depth <= 0:
				out = append(out, s[begin:i])
				begin = i + 1
			}
		}
		if last := s[min(begin, len(s)):]; begin > 0 || strings.TrimSpace(last) != "" {
			out = append(out, last)
		}
	}
	return out
}
