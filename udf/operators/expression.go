package operators

import (
	"errors"
	"fmt"
	"strings"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
)

// Limits of one expression. They bound what it can cost a record: every operation looks at its operands once, and a
// regular expression at each byte of its text at most once per instruction.
const (
	MaxSource  = 4096 // bytes of an expression
	MaxNodes   = 256  // operators, fields, constants and calls
	MaxDepth   = 32
	MaxPattern = 256 // bytes of a regular expression
	// MaxInstructions of a regular expression: each may be tried at each byte, so that 256 of them take a value of 512 KiB
	// a second or two at worst, and .{1000} a few times over would take minutes.
	MaxInstructions = 256
)

// ExpressionError says what is wrong with an expression, and where.
type ExpressionError struct {
	Expression string
	Column     int // counted in characters from 1; 0 if it is the whole
	Reason     string
}

func (e *ExpressionError) Error() string {
	text := e.Expression
	if r := []rune(text); len(r) > 80 {
		text = string(r[:80]) + "..."
	}
	if e.Column == 0 {
		return fmt.Sprintf("expression %q: %s", text, e.Reason)
	}
	return fmt.Sprintf("expression %q, column %d: %s", text, e.Column, e.Reason)
}

// compiled is an expression that can be evaluated.
type compiled struct {
	source   string
	eval     eval
	integers integers // nil if there is no short way
	run      readRun  // the same for many records at a time; nil if there is none
	types    types
	part     int // of the key, if it is that and no more; else -1
}

// compile makes closures of an expression: once per query and node.
func compile(source string, s *schema) (c compiled, err error) {
	source = strings.TrimSpace(source)
	fail := func(column int, format string, args ...any) (compiled, error) {
		return compiled{}, &ExpressionError{Expression: source, Column: column, Reason: fmt.Sprintf(format, args...)}
	}
	if source == "" {
		return fail(0, "it is empty")
	}
	if len(source) > MaxSource {
		return fail(0, "it has %d bytes, more than %d", len(source), MaxSource)
	}
	defer func() {
		// The parser is not ours, and the expression is a stranger's.
		if p := recover(); p != nil {
			if own, ok := p.(*ExpressionError); ok {
				err = own
				return
			}
			c, err = fail(0, "it can't be parsed")
		}
	}()
	tree, err := parser.Parse(source)
	if err != nil {
		var at *file.Error
		if errors.As(err, &at) {
			return fail(at.From+1, "%s", at.Message)
		}
		return fail(0, "it can't be parsed")
	}
	k := compiler{schema: s, source: source}
	e, t := k.node(tree.Node)
	var run readRun
	if name, ok := tree.Node.(*ast.IdentifierNode); ok {
		run = s.runs[name.Value]
	}
	return compiled{source: source, eval: e, run: run, integers: k.integersOf(tree.Node), types: t, part: k.keyPart(tree.Node)}, nil
}

// compiler walks one tree. It leaves by panic with an *ExpressionError, which compile catches.
type compiler struct {
	*schema
	source string
	nodes  int
	depth  int
}

func (k *compiler) fail(n ast.Node, format string, args ...any) {
	panic(&ExpressionError{Expression: k.source, Column: n.Location().From + 1, Reason: fmt.Sprintf(format, args...)})
}

// types is a set of kinds, one bit each: those that an expression's values can have. All can be null.
type types uint8

const (
	tBool    types = 1 << kindBool
	tNumber  types = 1<<kindInt | 1<<kindFloat
	tText    types = 1 << kindText
	tJSON    types = 1 << kindJSON
	tScalar        = tBool | tNumber | tText
	tAny           = tScalar | tJSON
	tNothing types = 0 // null alone
)

func (t types) String() string {
	var names []string
	for _, x := range []struct {
		t    types
		name string
	}{{tBool, "true or false"}, {tNumber, "a number"}, {tText, "a text"}, {tJSON, "JSON"}} {
		if t&x.t != 0 {
			names = append(names, x.name)
		}
	}
	if len(names) == 0 {
		return "null"
	}
	return strings.Join(names, " or ")
}

// want refuses an operand that can never have one of the types.
func (k *compiler) want(n ast.Node, operation string, got, wanted types) {
	if got != tNothing && got&wanted == 0 {
		k.fail(n, "%s takes %s, and this is %s", operation, wanted, got)
	}
}

func (k *compiler) node(n ast.Node) (eval, types) {
	if n == nil {
		panic(&ExpressionError{Expression: k.source, Reason: "a part of it is missing"})
	}
	if k.nodes++; k.nodes > MaxNodes {
		k.fail(n, "the expression has more than %d parts", MaxNodes)
	}
	if k.depth++; k.depth > MaxDepth {
		k.fail(n, "the expression is nested more than %d deep", MaxDepth)
	}
	defer func() { k.depth-- }()
	switch n := n.(type) {
	case *ast.NilNode:
		return k.constant(null)
	case *ast.BoolNode:
		return k.constant(boolean(n.Value))
	case *ast.IntegerNode:
		return k.constant(integer(int64(n.Value)))
	case *ast.FloatNode:
		return k.constant(number(n.Value))
	case *ast.StringNode:
		return k.constant(textOf([]byte(n.Value)))
	case *ast.IdentifierNode:
		return k.identifier(n)
	case *ast.MemberNode:
		return k.member(n)
	case *ast.UnaryNode:
		return k.unary(n)
	case *ast.BinaryNode:
		return k.binary(n)
	case *ast.ConditionalNode:
		return k.conditional(n)
	case *ast.BuiltinNode:
		return k.call(n, n.Name, n.Arguments)
	case *ast.CallNode:
		if name, ok := n.Callee.(*ast.IdentifierNode); ok {
			return k.call(n, name.Value, n.Arguments)
		}
		k.fail(n, "only functions can be called")
	}
	k.fail(n, "%s can't be used here", describe(n))
	return nil, 0
}

// describe names a form of the language that is not ours.
func describe(n ast.Node) string {
	switch n.(type) {
	case *ast.ArrayNode:
		return "a list, but behind in,"
	case *ast.MapNode, *ast.PairNode:
		return "a map"
	case *ast.SliceNode:
		return "a slice"
	case *ast.PredicateNode, *ast.PointerNode:
		return "a predicate"
	case *ast.VariableDeclaratorNode:
		return "let"
	case *ast.SequenceNode:
		return "a sequence with ;"
	case *ast.ChainNode:
		return "?."
	case *ast.BytesNode:
		return "a text of bytes"
	}
	return fmt.Sprintf("%T", n)
}

func (k *compiler) constant(v value) (eval, types) {
	return func(*record) value { return v }, types(1<<v.kind) &^ (1 << kindNull)
}

// literal is a constant's value.
func literal(n ast.Node) (value, bool) {
	switch n := n.(type) {
	case *ast.BoolNode:
		return boolean(n.Value), true
	case *ast.IntegerNode:
		return integer(int64(n.Value)), true
	case *ast.FloatNode:
		return number(n.Value), true
	case *ast.StringNode:
		return textOf([]byte(n.Value)), true
	case *ast.UnaryNode:
		if v, ok := literal(n.Node); ok && n.Operator == "-" && v.isNumeric() {
			return negate(v), true
		}
	}
	return null, false
}

func isNull(n ast.Node) bool {
	if name, ok := n.(*ast.IdentifierNode); ok {
		return name.Value == "null"
	}
	_, ok := n.(*ast.NilNode)
	return ok
}

// The names that no part or field of a layout can have.
const (
	keyName   = "key"
	valueName = "value"
)

func (k *compiler) identifier(n *ast.IdentifierNode) (eval, types) {
	if isNull(n) {
		return k.constant(null)
	}
	switch n.Value {
	case keyName:
		return func(r *record) value { return textOf(r.key) }, tText
	case valueName:
		return func(r *record) value { return textOf(r.value) }, tText
	}
	if i, ok := k.parts[n.Value]; ok {
		return partOf(i, k.delimiter), tText
	}
	if f, ok := k.layout[n.Value]; ok {
		if t := types(1 << k.kinds[n.Value]); t&tNumber == 0 {
			return f, t
		}
		return f, tNumber // an u64 may be either
	}
	if k.fixed {
		k.fail(n, "%s is neither a field of the layout nor a part of the key", n.Value)
	}
	return jsonField([]string{n.Value}), tAny
}

// integersOf is the short way to a field; nil if there is none.
func (k *compiler) integersOf(n ast.Node) integers {
	name, ok := n.(*ast.IdentifierNode)
	if !ok || isNull(n) || name.Value == keyName || name.Value == valueName {
		return nil
	}
	if _, part := k.parts[name.Value]; part {
		return nil
	}
	if k.fixed {
		return k.integers[name.Value]
	}
	return integerOf(name.Value)
}

// maxPart bounds key[n]: keys are at most 4 KiB.
const maxPart = 4096

// keyPart is the number of the part that a node is; -1 if it is none.
func (k *compiler) keyPart(n ast.Node) int {
	switch n := n.(type) {
	case *ast.IdentifierNode:
		if i, ok := k.parts[n.Value]; ok {
			return i
		}
	case *ast.MemberNode:
		if name, ok := n.Node.(*ast.IdentifierNode); ok && name.Value == keyName {
			if i, ok := n.Property.(*ast.IntegerNode); ok {
				return i.Value
			}
		}
	}
	return -1
}

// member is key[2], or a JSON field within another: a.b, a["b"], a[0], value.b.
func (k *compiler) member(n *ast.MemberNode) (eval, types) {
	if i := k.keyPart(n); i >= 0 {
		if i > maxPart {
			k.fail(n.Property, "the part %d of a key is beyond %d", i, maxPart)
		}
		return partOf(i, k.delimiter), tText
	}
	path := k.path(n, 0)
	if k.fixed {
		k.fail(n, "values with a layout have no fields within others")
	}
	return jsonField(path), tAny
}

// path is a field's names from the outside in.
func (k *compiler) path(n ast.Node, depth int) []string {
	if depth > MaxDepth {
		k.fail(n, "the expression is nested more than %d deep", MaxDepth)
	}
	switch n := n.(type) {
	case *ast.IdentifierNode:
		_, part := k.parts[n.Value]
		switch {
		case n.Value == valueName:
			return nil
		case part || n.Value == keyName:
			k.fail(n, "%s has no fields; value.%s is the JSON field of that name", n.Value, n.Value)
		}
		return []string{n.Value}
	case *ast.MemberNode:
		if n.Optional || n.Method {
			k.fail(n, "methods and ?. can't be used here")
		}
		path := k.path(n.Node, depth+1)
		switch p := n.Property.(type) {
		case *ast.StringNode:
			if p.Value == "" {
				k.fail(p, "a field's name is empty")
			}
			return append(path, p.Value)
		case *ast.IntegerNode:
			if p.Value < 0 || len(path) == 0 {
				k.fail(p, "a position is in an array, counted from 0")
			}
			return append(path, fmt.Sprint(p.Value))
		}
		k.fail(n.Property, "a field's name or position must be constant")
	}
	k.fail(n, "%s has no fields", describe(n))
	return nil
}

func (k *compiler) conditional(n *ast.ConditionalNode) (eval, types) {
	cond, tc := k.node(n.Cond)
	k.want(n.Cond, "?:", tc, tBool)
	yes, t1 := k.node(n.Exp1)
	no, t2 := k.node(n.Exp2)
	return func(r *record) value {
		if c := cond(r); c.isTrue() {
			return yes(r)
		} else if c.kind != kindBool && c.kind != kindNull {
			return r.wrong()
		}
		return no(r)
	}, t1 | t2
}
