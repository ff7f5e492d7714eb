package operators

import (
	"context"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/internal/packed"
	"github.com/locuskv/locus/udf"
)

// Functions are the operators as functions that every node has. Each list has plans of its own: a node makes one.
func Functions() []udf.Function {
	queries := &plans{function: api.FunctionQuery, compile: newPlan}
	projections := &plans{function: api.FunctionSelect, compile: newProjection}
	query := func(arg []byte) (udf.Fold, error) {
		p, err := queries.get(arg)
		if err != nil {
			return nil, err
		}
		return newAccumulator(p), nil
	}
	project := func(arg []byte) (udf.MapBatch, error) {
		p, err := projections.get(arg)
		if err != nil {
			return nil, err
		}
		return new(projection{plan: p}).add, nil
	}
	return []udf.Function{udf.RangeOf(api.FunctionQuery, query), udf.MapOf(api.FunctionSelect, project)}
}

// projection makes a row of each record that fits: a JSON array.
type projection struct {
	plan   *plan
	record record
	row    []byte
}

func (p *projection) add(_ context.Context, batch []byte, emit func([]byte) error) error {
	r := packed.NewReader(batch)
	for r.Next() {
		rec := &p.record
		rec.key, rec.value, rec.scratch = r.Key(), r.Value(), rec.scratch[:0]
		if p.plan.where != nil && !p.plan.where.eval(rec).isTrue() {
			continue
		}
		p.row = append(p.row[:0], '[')
		for i := range p.plan.arguments {
			if i > 0 {
				p.row = append(p.row, ',')
			}
			p.row = p.plan.arguments[i].eval(rec).appendJSON(p.row)
		}
		p.row = append(p.row, ']')
		if err := emit(p.row); err != nil {
			return err
		}
	}
	if err := r.Err(); err != nil {
		return udf.DamagedBatch(api.FunctionSelect, err)
	}
	return nil
}
