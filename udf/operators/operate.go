package operators

import (
	"bytes"
	"cmp"
	"math"
	"math/bits"
	"regexp"
	"regexp/syntax"
	"slices"

	"github.com/expr-lang/expr/ast"
)

func (k *compiler) unary(n *ast.UnaryNode) (eval, types) {
	x, t := k.node(n.Node)
	switch n.Operator {
	case "!", "not":
		k.want(n.Node, n.Operator, t, tBool)
		return func(r *record) value {
			switch v := x(r); v.kind {
			case kindBool:
				return boolean(v.bits == 0)
			case kindNull:
				return null
			}
			return r.wrong()
		}, tBool
	case "-", "+":
		k.want(n.Node, n.Operator, t, tNumber)
		plus := n.Operator == "+"
		return func(r *record) value {
			v := x(r)
			switch {
			case v.kind == kindNull:
				return null
			case !v.isNumeric():
				return r.wrong()
			case plus:
				return v
			}
			return negate(v)
		}, tNumber
	}
	k.fail(n, "the operator %s can't be used here", n.Operator)
	return nil, 0
}

func negate(v value) value {
	if v.kind == kindInt && v.int() != math.MinInt64 {
		return integer(-v.int())
	}
	return number(-v.float())
}

func (k *compiler) binary(n *ast.BinaryNode) (eval, types) {
	switch n.Operator {
	case "==", "!=", "<", "<=", ">", ">=":
		return k.comparison(n)
	case "in":
		return k.in(n)
	case "matches":
		return k.matches(n)
	}
	a, ta := k.node(n.Left)
	b, tb := k.node(n.Right)
	switch n.Operator {
	case "&&", "and", "||", "or":
		k.want(n.Left, n.Operator, ta, tBool)
		k.want(n.Right, n.Operator, tb, tBool)
		return logic(a, b, n.Operator == "||" || n.Operator == "or"), tBool
	case "+", "-", "*", "/", "%":
		k.want(n.Left, n.Operator, ta, tNumber)
		k.want(n.Right, n.Operator, tb, tNumber)
		return arithmetic(a, b, n.Operator[0]), tNumber
	case "??":
		return func(r *record) value {
			if v := a(r); v.kind != kindNull {
				return v
			}
			return b(r)
		}, ta | tb
	case "contains", "startsWith", "endsWith":
		k.want(n.Left, n.Operator, ta, tText)
		k.want(n.Right, n.Operator, tb, tText)
		test := map[string]func(a, b []byte) bool{"contains": bytes.Contains, "startsWith": bytes.HasPrefix, "endsWith": bytes.HasSuffix}[n.Operator]
		return func(r *record) value {
			v := a(r)
			w := b(r)
			switch {
			case v.kind == kindText && w.kind == kindText:
				return boolean(test(v.text, w.text))
			case v.kind == kindNull || w.kind == kindNull:
				return null
			}
			return r.wrong()
		}, tBool
	}
	k.fail(n, "the operator %s can't be used here", n.Operator)
	return nil, 0
}

// logic is SQL's: null is not known, and false and null is false.
func logic(a, b eval, or bool) eval {
	decides := boolean(or)
	return func(r *record) value {
		v := a(r)
		if v.kind == kindBool && v.bits == decides.bits {
			return v
		}
		if v.kind != kindBool && v.kind != kindNull {
			v = r.wrong()
		}
		w := b(r)
		switch {
		case w.kind == kindBool && (w.bits == decides.bits || v.kind == kindBool):
			return w
		case w.kind != kindBool && w.kind != kindNull:
			return r.wrong()
		}
		return null
	}
}

// comparison compares numbers with numbers, texts with texts byte by byte, and booleans; with null it is null, but
// x == null and x != null say whether there is a value.
func (k *compiler) comparison(n *ast.BinaryNode) (eval, types) {
	left, right, op := n.Left, n.Right, n.Operator
	if isNull(left) {
		left, right = right, left
	}
	if isNull(right) {
		if op != "==" && op != "!=" {
			k.fail(n, "null can be compared by == and != alone")
		}
		x, _ := k.node(left)
		if isNull(left) {
			x = func(*record) value { return null }
		}
		absent := op == "=="
		return func(r *record) value { return boolean((x(r).kind == kindNull) == absent) }, tBool
	}
	a, ta := k.node(left)
	b, tb := k.node(right)
	for _, t := range []types{tNumber, tText, tBool} {
		if ta != tNothing && ta&^t == 0 {
			k.want(right, "a comparison with "+ta.String(), tb, t)
		}
		if tb != tNothing && tb&^t == 0 {
			k.want(left, "a comparison with "+tb.String(), ta, t)
		}
	}
	if c, ok := literal(right); ok && c.kind == kindInt {
		return compareInteger(a, k.integersOf(left), c.int(), outcomes(op)), tBool
	}
	if c, ok := literal(right); ok && c.kind == kindText && (op == "==" || op == "!=") {
		return equalText(a, c.text, op == "=="), tBool
	}
	want := outcomes(op)
	return func(r *record) value {
		v := a(r)
		w := b(r)
		if v.kind == kindNull || w.kind == kindNull {
			return null
		}
		if v.kind.class() != w.kind.class() || v.kind == kindJSON {
			return r.wrong()
		}
		return want[compareValues(v, w)+1]
	}, tBool
}

// outcomes are what an operator says of less, equal and greater.
func outcomes(op string) [3]value {
	switch op {
	case "==":
		return [3]value{no, yes, no}
	case "!=":
		return [3]value{yes, no, yes}
	case "<":
		return [3]value{yes, no, no}
	case "<=":
		return [3]value{yes, yes, no}
	case ">":
		return [3]value{no, no, yes}
	}
	return [3]value{no, yes, yes}
}

func compareInteger(a eval, short integers, c int64, want [3]value) eval {
	if short == nil {
		short = func(*record) (int64, bool) { return 0, false }
	}
	return func(r *record) value {
		if x, ok := short(r); ok {
			return want[cmp.Compare(x, c)+1]
		}
		v := a(r)
		switch v.kind {
		case kindInt:
			return want[cmp.Compare(v.int(), c)+1]
		case kindFloat:
			return want[1-compareIntFloat(c, v.float())]
		case kindNull:
			return null
		}
		return r.wrong()
	}
}

func equalText(a eval, c []byte, equal bool) eval {
	return func(r *record) value {
		switch v := a(r); v.kind {
		case kindText:
			return boolean(string(v.text) == string(c) == equal)
		case kindNull:
			return null
		}
		return r.wrong()
	}
}

// in is a list of constants; it is searched, sorted, by halves.
func (k *compiler) in(n *ast.BinaryNode) (eval, types) {
	x, t := k.node(n.Left)
	list, ok := n.Right.(*ast.ArrayNode)
	if !ok {
		k.fail(n.Right, "in takes a list of constants: origin in ['JFK', 'LAX']")
	}
	var set []value
	classes := types(0)
	for _, item := range list.Nodes {
		if k.nodes++; k.nodes > MaxNodes {
			k.fail(item, "the expression has more than %d parts", MaxNodes)
		}
		v, ok := literal(item)
		if !ok {
			k.fail(item, "a list holds constants alone")
		}
		classes |= 1 << v.kind.class()
		set = append(set, v)
	}
	kinds := classes
	if kinds&tNumber != 0 {
		kinds |= tNumber
	}
	if len(set) > 0 {
		k.want(n.Left, "in, with this list,", t, kinds)
	}
	slices.SortFunc(set, compareValues)
	return func(r *record) value {
		v := x(r)
		if v.kind == kindNull {
			return null
		}
		if len(set) > 0 && classes&(1<<v.kind.class()) == 0 {
			return r.wrong()
		}
		_, found := slices.BinarySearchFunc(set, v, compareValues)
		return boolean(found)
	}, tBool
}

// matches runs in time linear in the text (RE2), whatever the pattern.
func (k *compiler) matches(n *ast.BinaryNode) (eval, types) {
	x, t := k.node(n.Left)
	k.want(n.Left, "matches", t, tText)
	pattern, ok := n.Right.(*ast.StringNode)
	if !ok {
		k.fail(n.Right, "matches takes a constant pattern")
	}
	if len(pattern.Value) > MaxPattern {
		k.fail(n.Right, "the pattern has %d bytes, more than %d", len(pattern.Value), MaxPattern)
	}
	parsed, err := syntax.Parse(pattern.Value, syntax.Perl)
	if err != nil {
		k.fail(n.Right, "%v", err)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		k.fail(n.Right, "%v", err)
	}
	if len(program.Inst) > MaxInstructions {
		k.fail(n.Right, "the pattern has %d instructions, more than %d", len(program.Inst), MaxInstructions)
	}
	re, err := regexp.Compile(pattern.Value)
	if err != nil {
		k.fail(n.Right, "%v", err)
	}
	return func(r *record) value {
		switch v := x(r); v.kind {
		case kindText:
			return boolean(re.Match(v.text))
		case kindNull:
			return null
		}
		return r.wrong()
	}, tBool
}

// arithmetic on integers is exact, or goes over to floats where the result fits no integer; / is always a float. What
// is no number (a division by zero) is null.
func arithmetic(a, b eval, op byte) eval {
	return func(r *record) value {
		v := a(r)
		w := b(r)
		if !v.isNumeric() || !w.isNumeric() {
			if (v.kind == kindNull || v.isNumeric()) && (w.kind == kindNull || w.isNumeric()) {
				return null
			}
			return r.wrong()
		}
		if v.kind == kindInt && w.kind == kindInt && op != '/' {
			if x, ok := onIntegers(v.int(), w.int(), op); ok {
				return x
			}
		}
		x, y := v.float(), w.float()
		switch op {
		case '+':
			return number(x + y)
		case '-':
			return number(x - y)
		case '*':
			return number(x * y)
		case '/':
			return number(x / y)
		}
		return number(math.Mod(x, y))
	}
}

// onIntegers is false where the result fits no integer.
func onIntegers(x, y int64, op byte) (value, bool) {
	switch op {
	case '+':
		s := x + y
		return integer(s), (s > x) == (y > 0)
	case '-':
		d := x - y
		return integer(d), (d < x) == (y > 0)
	case '*':
		hi, lo := bits.Mul64(magnitude(x), magnitude(y))
		if hi != 0 || lo > math.MaxInt64 {
			return null, false
		}
		if (x < 0) != (y < 0) {
			return integer(-int64(lo)), true
		}
		return integer(int64(lo)), true
	}
	if y == 0 {
		return null, true
	}
	if y == -1 {
		return integer(0), true
	}
	return integer(x % y), true
}

func magnitude(x int64) uint64 {
	if x < 0 {
		return -uint64(x)
	}
	return uint64(x)
}
