package operators

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/internal/packed"
	"github.com/locuskv/locus/udf"
)

// accumulator is a query at work on a part of the data.
type accumulator struct {
	plan   *plan
	record record
	index  map[string]*group
	groups []*group // in the order in which they came
	// last is the group of the record before, where that is told by one text, lastText: keys come in order, so that
	// most records have the same one again.
	last     *group
	lastText []byte
	buf      []byte // a group's key

	records, matched uint64
	mistyped         []uint64 // records, by the plan's expressions
	memory           int

	runs *runs // nil: record by record
}

type group struct {
	key   string // its values, as appendValue writes them
	rows  uint64
	cells []cell // one per argument
}

func newAccumulator(p *plan) *accumulator {
	a := &accumulator{plan: p, index: map[string]*group{}, mistyped: make([]uint64, 1+len(p.groups)+len(p.arguments))}
	if len(p.groups) == 0 {
		a.last = a.group(nil)
	}
	if p.canRun() {
		a.runs = new(runs)
	}
	return a
}

var _ udf.Fold = (*accumulator)(nil)

// Add folds a packed batch in.
func (a *accumulator) Add(_ context.Context, batch []byte) error {
	if a.runs != nil {
		if err := a.addRuns(batch); err != nil {
			var damage *packed.FormatError
			if errors.As(err, &damage) {
				return udf.DamagedBatch(api.FunctionQuery, err)
			}
			return err
		}
		return nil
	}
	r := packed.NewReader(batch)
	if a.plan.where == nil && len(a.plan.groups) == 0 && len(a.plan.arguments) == 0 {
		n := uint64(0)
		for r.Next() {
			n++
		}
		a.records, a.matched, a.last.rows = a.records+n, a.matched+n, a.last.rows+n
	} else {
		for r.Next() {
			a.record.key, a.record.value = r.Key(), r.Value()
			a.add()
			if a.memory > MaxMemory || len(a.groups) > MaxGroups {
				return a.checkSize()
			}
		}
	}
	if err := r.Err(); err != nil {
		return udf.DamagedBatch(api.FunctionQuery, err)
	}
	return nil
}

// add folds the current record in.
func (a *accumulator) add() {
	r, p := &a.record, a.plan
	r.scratch = r.scratch[:0]
	a.records++
	if p.where != nil {
		ok := p.where.eval(r)
		if r.mistyped || ok.kind != kindBool && ok.kind != kindNull {
			a.wrong(0)
		}
		if !ok.isTrue() {
			return
		}
	}
	a.matched++
	g := a.find()
	g.rows++
	for i := range p.arguments {
		a.addArgument(g, i)
	}
}

// addArgument folds what an expression is of the current record into a group.
func (a *accumulator) addArgument(g *group, i int) {
	arg, r := &a.plan.arguments[i], &a.record
	if arg.short {
		if x, ok := arg.integers(r); ok {
			a.memory += g.cells[i].addInteger(arg.features, x)
			return
		}
	}
	if v := arg.eval(r); v.kind != kindNull {
		a.memory += g.cells[i].add(arg.features, r, v)
	}
	if r.mistyped {
		a.wrong(1 + len(a.plan.groups) + i)
	}
}

// wrong counts a record in which an expression met a value of the wrong type.
func (a *accumulator) wrong(expression int) {
	a.record.mistyped = false
	a.mistyped[expression]++
}

// find is the current record's group.
func (a *accumulator) find() *group {
	p, r := a.plan, &a.record
	switch len(p.groups) {
	case 0:
		return a.last
	case 1:
		if n := len(a.lastText); p.groups[0].part == 0 && a.last != nil && len(r.key) > n && r.key[n] == p.delimiter && string(r.key[:n]) == string(a.lastText) {
			return a.last
		}
		v := p.groups[0].eval(r)
		if r.mistyped || v.kind == kindJSON {
			v = null
			a.wrong(1)
		}
		if v.kind != kindText {
			a.buf = appendValue(a.buf[:0], v.normal())
			return a.group(a.buf)
		}
		if a.last != nil && string(v.text) == string(a.lastText) {
			return a.last
		}
		a.buf = appendValue(a.buf[:0], v)
		a.last = a.group(a.buf)
		a.lastText = append(a.lastText[:0], v.text...)
		return a.last
	}
	a.buf = a.buf[:0]
	for i := range p.groups {
		v := p.groups[i].eval(r)
		if r.mistyped || v.kind == kindJSON {
			v = null
			a.wrong(1 + i)
		}
		a.buf = appendValue(a.buf, v.normal())
	}
	return a.group(a.buf)
}

// group is the one of a key, made if need be.
func (a *accumulator) group(key []byte) *group {
	if g := a.index[string(key)]; g != nil {
		return g
	}
	g := &group{key: string(key), cells: make([]cell, len(a.plan.arguments))}
	a.memory += groupSize + len(key)
	for i := range g.cells {
		var size int
		g.cells[i], size = newCell(a.plan.arguments[i].features)
		a.memory += size
	}
	a.index[g.key] = g
	a.groups = append(a.groups, g)
	return g
}

// checkSize refuses more groups, or more of them in memory, than may be.
func (a *accumulator) checkSize() error {
	if n := len(a.groups); n > MaxGroups {
		return &api.LimitError{What: "groups of a query", Limit: MaxGroups, Got: int64(n)}
	}
	if a.memory > MaxMemory {
		return &api.LimitError{What: fmt.Sprintf("memory of the %d groups of a query", len(a.groups)), Limit: MaxMemory, Got: int64(a.memory)}
	}
	return nil
}

// appendValue writes a value so that equal values are equal bytes, and readValue can read it. REQUIRES: it is normal.
func appendValue(dst []byte, v value) []byte {
	dst = append(dst, byte(v.kind))
	switch v.kind {
	case kindBool:
		return append(dst, byte(v.bits))
	case kindInt:
		return binary.AppendVarint(dst, v.int())
	case kindFloat:
		return binary.LittleEndian.AppendUint64(dst, v.bits)
	case kindText:
		dst = binary.AppendUvarint(dst, uint64(len(v.text)))
		return append(dst, v.text...)
	}
	return dst
}

// Merge folds in an accumulator of the same query.
func (a *accumulator) Merge(encoded []byte) error {
	if err := a.merge(encoded); err != nil {
		return err
	}
	return a.checkSize()
}

// Encode writes the accumulator.
func (a *accumulator) Encode() ([]byte, error) { return a.encode() }

// Result is the query's answer as JSON.
func (a *accumulator) Result() ([]byte, error) { return a.plan.result(a) }
