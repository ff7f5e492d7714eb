package operators

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/expr-lang/expr/ast"
)

// function is one that expressions may call: on one value that is not null.
type function struct {
	takes, gives types
	of           func(r *record, v value) value
}

var functions = map[string]function{
	"lower": {tText, tText, func(r *record, v value) value { return r.cased(v, bytes.ToLower, 'A', 'Z', 'a'-'A') }},
	"upper": {tText, tText, func(r *record, v value) value { return r.cased(v, bytes.ToUpper, 'a', 'z', -('a' - 'A')) }},
	"len":   {tText, tNumber, func(_ *record, v value) value { return integer(int64(utf8.RuneCount(v.text))) }},
	"abs":   {tNumber, tNumber, absolute},
	"floor": {tNumber, tNumber, func(_ *record, v value) value { return rounded(v, math.Floor) }},
	"ceil":  {tNumber, tNumber, func(_ *record, v value) value { return rounded(v, math.Ceil) }},
	"round": {tNumber, tNumber, func(_ *record, v value) value { return rounded(v, math.Round) }},
	"int":   {tNumber | tText, tNumber, toInteger},
	"float": {tNumber | tText, tNumber, toFloat},
}

// aggregateHint is for who writes a function of many records into an expression.
const aggregateHint = "; count, sum, mean and the like stand outside of expressions"

func (k *compiler) call(n ast.Node, name string, args []ast.Node) (eval, types) {
	f, ok := functions[name]
	if !ok {
		hint := ""
		if isAggregate(name) {
			hint = aggregateHint
		}
		k.fail(n, "there is no function %s(): those there are are abs, ceil, float, floor, int, len, lower, round and upper%s", name, hint)
	}
	if len(args) != 1 {
		k.fail(n, "%s() takes one argument, not %d", name, len(args))
	}
	x, t := k.node(args[0])
	k.want(args[0], name+"()", t, f.takes)
	return func(r *record) value {
		v := x(r)
		if v.kind == kindNull {
			return null
		}
		if f.takes&(1<<v.kind) == 0 {
			return r.wrong()
		}
		return f.of(r, v)
	}, f.gives
}

// cased changes the letters of a text, of ASCII in the scratch buffer.
func (r *record) cased(v value, general func([]byte) []byte, first, last byte, shift int) value {
	from := len(r.scratch)
	for _, c := range v.text {
		if c >= utf8.RuneSelf {
			r.scratch = r.scratch[:from]
			return textOf(general(v.text))
		}
		if c >= first && c <= last {
			c = byte(int(c) + shift)
		}
		r.scratch = append(r.scratch, c)
	}
	return textOf(r.scratch[from:len(r.scratch):len(r.scratch)])
}

func absolute(_ *record, v value) value {
	if v.kind == kindInt && v.int() >= 0 || v.kind == kindFloat && v.float() >= 0 {
		return v
	}
	return negate(v)
}

func rounded(v value, f func(float64) float64) value {
	if v.kind == kindInt {
		return v
	}
	return number(f(v.float())).normal()
}

// toInteger reads a text's decimal number, and cuts the fraction of a float off.
func toInteger(r *record, v value) value {
	if v.kind == kindText {
		i, err := strconv.ParseInt(strings.TrimSpace(r.string(v)), 10, 64)
		if err != nil {
			return r.wrong()
		}
		return integer(i)
	}
	return rounded(v, math.Trunc)
}

func toFloat(r *record, v value) value {
	if v.kind != kindText {
		return number(v.float())
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(r.string(v)), 64)
	if x := number(f); err == nil && x.kind != kindNull {
		return x
	}
	return r.wrong()
}

// string is a text without a copy, for as long as the record is there.
func (r *record) string(v value) string {
	return unsafe.String(unsafe.SliceData(v.text), len(v.text))
}
