package operators

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/locuskv/locus/api"
)

// row is one line of a result: the values of its group, and what the aggregates came to.
type row struct {
	key   string
	cells []any
}

// result orders the groups, cuts them and writes them down.
func (p *plan) result(a *accumulator) ([]byte, error) {
	rows := make([]row, 0, len(a.groups))
	for _, g := range a.groups {
		rows = append(rows, p.row(g))
	}
	slices.SortFunc(rows, p.compare)
	if p.top > 0 && len(rows) > p.top {
		rows = rows[:p.top]
	}
	out := api.QueryResult{Records: a.records, Matched: a.matched, Groups: uint64(len(a.groups))}
	for _, name := range p.names {
		out.Columns = append(out.Columns, api.QueryColumn{Name: name, Group: true})
	}
	for _, c := range p.columns {
		out.Columns = append(out.Columns, api.QueryColumn{Name: c.name, RelativeError: c.relative, StandardError: c.standard, CountError: c.share})
	}
	size := 0
	for _, r := range rows {
		cells := make([]json.RawMessage, len(r.cells))
		for i, c := range r.cells {
			cells[i] = appendJSON(nil, c)
			size += len(cells[i]) + 1
		}
		out.Rows = append(out.Rows, cells)
		if size > MaxEncoded {
			return nil, &api.LimitError{What: "result of a query", Limit: MaxEncoded, Got: int64(size)}
		}
	}
	for i, source := range p.expressions() {
		if a.mistyped[i] > 0 {
			out.Skipped = append(out.Skipped, api.QuerySkipped{Expression: source, Records: a.mistyped[i]})
		}
	}
	return json.Marshal(out)
}

func (p *plan) row(g *group) row {
	r := row{key: g.key}
	d := &decoder{b: []byte(g.key)}
	for range p.groups {
		r.cells = append(r.cells, d.value())
	}
	for _, c := range p.columns {
		if c.argument < 0 {
			r.cells = append(r.cells, int64(g.rows))
			continue
		}
		r.cells = append(r.cells, c.result(&g.cells[c.argument]))
	}
	return r
}

// compare orders rows by the query's column, the greatest first and null last, and then by their groups.
func (p *plan) compare(x, y row) int {
	c := 0
	if p.by >= 0 {
		v, w := comparable(x.cells[p.by]), comparable(y.cells[p.by])
		switch c = compareValues(v, w); {
		case c == 0:
		case v.kind == kindNull:
			return 1
		case w.kind == kindNull:
			return -1
		case !p.ascending:
			c = -c
		}
	}
	for i := 0; c == 0 && i < len(p.groups); i++ {
		c = compareValues(x.cells[i].(value), y.cells[i].(value))
	}
	return cmp.Or(c, strings.Compare(x.key, y.key))
}

// comparable is a cell as a value.
func comparable(cell any) value {
	switch c := cell.(type) {
	case value:
		return c
	case int64:
		return integer(c)
	case float64:
		return number(c)
	case *big.Int:
		if c.IsInt64() {
			return integer(c.Int64())
		}
		f, _ := new(big.Float).SetInt(c).Float64()
		return number(f)
	}
	return null
}

// appendJSON writes a cell.
func appendJSON(dst []byte, cell any) []byte {
	switch c := cell.(type) {
	case value:
		return c.appendJSON(dst)
	case int64:
		return strconv.AppendInt(dst, c, 10)
	case float64:
		return appendNumber(dst, c)
	case *big.Int:
		return c.Append(dst, 10)
	case topValues:
		return c.appendJSON(dst)
	}
	return append(dst, "null"...)
}

func appendNumber(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	form := byte('f')
	if size := math.Abs(f); size != 0 && (size < 1e-6 || size >= 1e21) {
		form = 'e'
	}
	begin := len(dst)
	if dst = strconv.AppendFloat(dst, f, form, -1, 64); form == 'f' && bytes.IndexByte(dst[begin:], '.') < 0 {
		dst = append(dst, ".0"...) // who reads it knows an integer from a float
	}
	return dst
}

func (v value) appendJSON(dst []byte) []byte {
	switch v.kind {
	case kindBool:
		return strconv.AppendBool(dst, v.bits != 0)
	case kindInt:
		return strconv.AppendInt(dst, v.int(), 10)
	case kindFloat:
		return appendNumber(dst, v.float())
	case kindText:
		if utf8.Valid(v.text) {
			return gjson.AppendJSONString(dst, string(v.text))
		}
		dst = append(dst, `{"base64":"`...)
		return append(base64.StdEncoding.AppendEncode(dst, v.text), `"}`...)
	case kindJSON:
		if gjson.ValidBytes(v.text) {
			return append(dst, v.text...)
		}
	}
	return append(dst, "null"...)
}
