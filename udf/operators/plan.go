package operators

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/locuskv/locus/api"
)

// Query is what is asked.
type Query = api.Query

// Limits of a query.
const (
	MaxExpressions = 32       // groups, aggregates and projections together
	MaxGroups      = 100_000  // of one query
	MaxMemory      = 64 << 20 // bytes of the groups of one part of a run
	MaxEncoded     = 8 << 20  // bytes of them on the wire, and of a result
	MaxTop         = MaxGroups
)

// plan is a query that has been compiled. It never changes, and serves any number of runs at a time.
type plan struct {
	where     *compiled
	groups    []compiled
	arguments []argument
	columns   []column // of aggregates, and of projections
	names     []string // of groups
	by        int      // column of the result to order by; -1: by group
	ascending bool
	top       int  // 0: all
	delimiter byte // of keys
}

// argument is an expression whose values are kept, whatever aggregates use it.
type argument struct {
	compiled
	features features
	short    bool // integers do not need eval
}

type column struct {
	name string
	aggregate
	argument int // -1: the records themselves
}

// expressions are all whose mistyped records are counted, in the order of accumulator.mistyped.
func (p *plan) expressions() (list []string) {
	where := ""
	if p.where != nil {
		where = p.where.source
	}
	list = append(list, where)
	for _, g := range p.groups {
		list = append(list, g.source)
	}
	for _, a := range p.arguments {
		list = append(list, a.source)
	}
	return list
}

// newPlan compiles a query for aggregation.
func newPlan(q *Query) (*plan, error) {
	p, s, err := beginPlan(q)
	if err != nil {
		return nil, err
	}
	if len(q.Select) > 0 {
		return nil, errors.New("a projection is streamed, and goes with no groups and no aggregates")
	}
	groups, sources := split(q.GroupBy), split(q.Aggregates)
	if len(sources) == 0 {
		sources = []string{"count()"}
	}
	if n := len(groups) + len(sources); n > MaxExpressions {
		return nil, fmt.Errorf("%d groups and aggregates are more than %d", n, MaxExpressions)
	}
	for _, g := range groups {
		source, name := cutAlias(g)
		c, err := compile(source, s)
		if err != nil {
			return nil, fmt.Errorf("group: %w", err)
		}
		p.groups, p.names = append(p.groups, c), append(p.names, name)
	}
	for _, a := range sources {
		if err := p.addAggregate(a, s); err != nil {
			return nil, err
		}
	}
	for i := range p.arguments {
		arg := &p.arguments[i]
		arg.short = arg.integers != nil && arg.features&^featShort == 0
	}
	return p, p.order(q)
}

func beginPlan(q *Query) (*plan, *schema, error) {
	s, err := newSchema(q)
	if err != nil {
		return nil, nil, err
	}
	p := &plan{by: -1, delimiter: s.delimiter}
	if strings.TrimSpace(q.Where) != "" {
		c, err := compile(q.Where, s)
		if err == nil && c.types&tBool == 0 {
			err = &ExpressionError{Expression: c.source, Reason: fmt.Sprintf("a condition must be true or false, and this is %s", c.types)}
		}
		if err != nil {
			return nil, nil, fmt.Errorf("where: %w", err)
		}
		p.where = &c
	}
	return p, s, nil
}

func (p *plan) addAggregate(text string, s *schema) error {
	source, name := cutAlias(text)
	a, inner, err := parseAggregate(source)
	if err != nil {
		return err
	}
	col := column{name: name, aggregate: a, argument: -1}
	if inner != "" {
		c, err := compile(inner, s)
		if err == nil && c.types != tNothing && c.types&a.takes == 0 {
			err = &ExpressionError{Expression: c.source, Reason: fmt.Sprintf("the aggregate takes %s, and this is %s", a.takes, c.types)}
		}
		if err != nil {
			return fmt.Errorf("aggregate %q: %w", source, err)
		}
		col.argument = slices.IndexFunc(p.arguments, func(x argument) bool { return x.source == c.source })
		if col.argument < 0 {
			col.argument = len(p.arguments)
			p.arguments = append(p.arguments, argument{compiled: c})
		}
		p.arguments[col.argument].features |= a.needs
	}
	p.columns = append(p.columns, col)
	return nil
}

// order finds the column that rows are ordered by.
func (p *plan) order(q *Query) error {
	if q.Top < 0 || q.Top > MaxTop {
		return fmt.Errorf("top %d is not between 0 and %d", q.Top, MaxTop)
	}
	p.top = q.Top
	if q.By == "" {
		if q.Top > 0 {
			p.by = len(p.groups) // the first aggregate
		}
		return p.checkOrder()
	}
	by := strings.TrimSpace(q.By)
	if cut, ok := strings.CutSuffix(by, " asc"); ok {
		by, p.ascending = cut, true
	}
	by = strings.TrimSuffix(by, " desc")
	names := p.names
	for _, c := range p.columns {
		names = append(names, c.name)
	}
	plain := func(s string) string { return strings.Join(strings.Fields(s), "") }
	p.by = slices.IndexFunc(names, func(n string) bool { return plain(n) == plain(by) })
	if p.by < 0 {
		return fmt.Errorf("order by %q: there is no such column; those there are are %s", q.By, strings.Join(names, ", "))
	}
	return p.checkOrder()
}

// checkOrder refuses to order rows by lists.
func (p *plan) checkOrder() error {
	if i := p.by - len(p.groups); i >= 0 && p.columns[i].needs == featFrequent {
		return fmt.Errorf("order by %q: that is a list; name another column to order by, for example count()", p.columns[i].name)
	}
	return nil
}

// newProjection compiles a query for projection.
func newProjection(q *Query) (*plan, error) {
	p, s, err := beginPlan(q)
	if err != nil {
		return nil, err
	}
	if len(q.GroupBy) > 0 || len(q.Aggregates) > 0 || q.By != "" || q.Top != 0 {
		return nil, errors.New("a projection goes with no groups, no aggregates and no order")
	}
	list := split(q.Select)
	if len(list) == 0 {
		list = []string{keyName, valueName}
	}
	if len(list) > MaxExpressions {
		return nil, fmt.Errorf("%d projections are more than %d", len(list), MaxExpressions)
	}
	for _, source := range list {
		source, name := cutAlias(source)
		c, err := compile(source, s)
		if err != nil {
			return nil, fmt.Errorf("select: %w", err)
		}
		p.columns = append(p.columns, column{name: name, argument: len(p.arguments)})
		p.arguments = append(p.arguments, argument{compiled: c})
	}
	return p, nil
}

// plans are the queries that were compiled last: a run comes for each part of a range and for each merge, with the same
// argument.
type plans struct {
	function string
	compile  func(*Query) (*plan, error)

	mu struct {
		sync.Mutex
		list map[string]*plan
	}
}

const maxPlans = 64

func (c *plans) get(arg []byte) (*plan, error) {
	c.mu.Lock()
	p := c.mu.list[string(arg)]
	c.mu.Unlock()
	if p != nil {
		return p, nil
	}
	q := new(Query)
	if err := json.Unmarshal(arg, q); err != nil {
		return nil, &api.InvalidArgumentError{Reason: fmt.Sprintf("function %q takes a query as JSON: %v", c.function, err)}
	}
	p, err := c.compile(q)
	var limit *api.LimitError
	if errors.As(err, &limit) {
		return nil, limit
	}
	if err != nil {
		return nil, &api.InvalidArgumentError{Reason: err.Error()}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.mu.list) >= maxPlans {
		maps.DeleteFunc(c.mu.list, func(string, *plan) bool { return true })
	}
	if c.mu.list == nil {
		c.mu.list = make(map[string]*plan)
	}
	c.mu.list[string(arg)] = p
	return p, nil
}
