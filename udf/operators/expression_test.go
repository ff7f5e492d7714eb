package operators

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/gjson"

	"github.com/locuskv/locus/internal/invariant"
	"github.com/locuskv/locus/internal/packed"
)

const someValue = `{"delay":33,"ratio":2.5,"origin":"LAS","wide":"Zürich","late":true,"none":null,"deep":{"delay":7,"list":[1,{"x":"y"}]},` +
	`"big":9223372036854775807,"huge":1e30,"esc":"a\"b\u0041","key":"in the value","a.b":5}`

// evaluate is an expression's value of one record, as JSON, and whether it met a value of the wrong type.
func evaluate(t *testing.T, source string, q Query, key, value string) (string, bool) {
	t.Helper()
	s, err := newSchema(&q)
	require.NoError(t, err)
	c, err := compile(source, s)
	require.NoError(t, err, source)
	r := record{key: []byte(key), value: []byte(value)}
	v := c.eval(&r)
	if v.kind != kindNull && !r.mistyped {
		require.NotZero(t, c.types&(1<<v.kind), "%s is %s, which its types %s don't have", source, v.kind, c.types)
	}
	return string(v.appendJSON(nil)), r.mistyped
}

func TestExpressions(t *testing.T) {
	for source, want := range map[string]string{
		// fields and parts
		"delay": "33", "ratio": "2.5", "origin": `"LAS"`, "late": "true", "none": "null", "missing": "null", "deep.delay": "7",
		"deep.list[0]": "1", "deep.list[1].x": `"y"`, "deep.list[7]": "null", "deep.none.at.all": "null", `value["a.b"]`: "5", "value.key": `"in the value"`,
		"deep.list": `[1,{"x":"y"}]`, "esc": `"a\"bA"`, "wide": `"Zürich"`, "big": "9223372036854775807", "huge": "1e+30",
		"key": `"LAS/2001-01-01/0007"`, "key[0]": `"LAS"`, "key[2]": `"0007"`, "key[3]": "null", "place": `"LAS"`, "seq": `"0007"`, "key[1] == day": "true",
		// numbers
		"delay + 1": "34", "delay - 40": "-7", "delay * 2": "66", "delay / 2": "16.5", "delay % 10": "3", "-delay": "-33", "+delay": "33",
		"delay + 0.5": "33.5", "big + 1": "9223372036854776000.0", "big * 2": "18446744073709552000.0", "-big - 2": "-9223372036854776000.0", "-big - 1": "-9223372036854775808",
		"delay / 0": "null", "delay % 0": "null", "huge * huge * huge * huge * huge * huge * huge * huge * huge * huge * huge": "null",
		"2 + 3 * 4": "14", "(2 + 3) * 4": "20", "7 % -1": "0", "1_000": "1000", "0x10": "16", "5.5 % 2": "1.5",
		// comparisons
		"delay > 15": "true", "delay <= 15": "false", "delay == 33.0": "true", "delay != 33": "false", "15 < delay": "true", "ratio >= 2.5": "true",
		"origin == 'LAS'": "true", `origin < "M"`: "true", "late == true": "true", "late != false": "true", "delay == delay": "true",
		"10 < delay < 40": "true", "10 < delay < 20": "false", "big == 9223372036854775807": "true", "big < 9223372036854775807.0": "true", "huge > big": "true",
		// null
		"missing > 1": "null", "missing == null": "true", "missing != nil": "false", "null == origin": "false", "missing + 1": "null", "missing ?? 5": "5",
		"origin ?? 'x'": `"LAS"`, "missing in [1]": "null", "not missing": "null", "missing and false": "false", "false and missing": "false", "missing and true": "null",
		"missing or true": "true", "true or missing": "true", "missing or false": "null", "lower(missing)": "null", "null": "null", "null == null": "true",
		"missing startsWith 'a'": "null", "'a' contains missing": "null", "missing ? 1 : 2": "2", "deep.list == null": "false",
		// logic and texts
		"delay > 15 and origin == 'LAS'": "true", "delay > 15 && !late": "false", "delay > 99 || late": "true", "not (delay > 15)": "false",
		"origin in ['LAS', 'JFK']": "true", "origin not in ['LAS']": "false", "delay in [1, 2.5, 33]": "true", "delay in []": "false", "ratio in [2.5]": "true",
		"origin startsWith 'LA'": "true", "origin endsWith 'X'": "false", "origin contains 'A'": "true", "origin matches '^L.S$'": "true", "wide matches 'ü'": "true",
		"lower(origin)": `"las"`, "upper(wide)": `"ZÜRICH"`, "len(wide)": "6", "len(origin)": "3",
		"lower(origin) == 'las' and upper(origin) == 'LAS'": "true", "not (origin matches 'x')": "true", "origin not contains 'x'": "true",
		"int(seq)": "7", "int(ratio)": "2", "int(' 12 ')": "12", "float(seq)": "7.0", "float('2.5')": "2.5", "abs(-3)": "3", "abs(-2.5)": "2.5", "floor(ratio)": "2",
		"ceil(ratio)": "3", "round(ratio)": "3", "round(-0.4)": "0", "delay > 15 ? 'late' : 'fine'": `"late"`, "delay | abs()": "33",
	} {
		got, wrong := evaluate(t, source, Query{Key: "place/day:10/seq"}, "LAS/2001-01-01/0007", someValue)
		require.Equal(t, want, got, source)
		require.False(t, wrong, source)
	}
}

// TestWrongTypes: an operation on a value of the wrong type is null, and that is told.
func TestWrongTypes(t *testing.T) {
	for _, source := range []string{
		"origin > 1", "delay == 'x'", "delay == origin", "late and delay", "delay or true", "origin + 1", "-origin", "not delay", "lower(delay)", "deep > 1",
		"deep == deep", "delay in ['x']", "late in [1]", "delay matches 'x'", "delay startsWith 'x'", "len(deep)", "int(origin)", "float(origin)", "abs(late)", "delay ? 1 : 2",
		"1 + origin", "missing + origin",
	} {
		got, wrong := evaluate(t, source, Query{}, "k", someValue)
		require.True(t, wrong, source)
		require.Contains(t, []string{"null", "2", "true"}, got, source)
	}
	for _, value := range []string{"", " ", "[1]", `"text"`, "33", "no JSON"} {
		got, wrong := evaluate(t, "delay", Query{}, "k", value)
		require.True(t, wrong, value)
		require.Equal(t, "null", got)
	}
}

// TestRefused lists what is wrong with an expression, and where.
func TestRefused(t *testing.T) {
	for source, want := range map[string]string{
		"":                               "it is empty",
		"delay >":                        "column 7: unexpected token EOF",
		"delay > > 1":                    "column 9: unexpected token",
		"(delay":                         "unexpected token EOF",
		"delay 5":                        "column 7: unexpected token Number",
		"'open":                          "literal not terminated",
		"foo(delay)":                     "column 1: there is no function foo(): those there are are abs,",
		"lower(origin) + 0":              "column 1: + takes a number, and this is a text",
		"1 + sum(delay)":                 "column 5: there is no function sum(): those there are are abs, ceil, float, floor, int, len, lower, round and upper; count, sum, mean and the like stand outside",
		"all(delay, # > 1)":              "column 1: there is no function all()",
		"map(a, {# + 1})":                "there is no function map()",
		"lower()":                        "column 1: lower() takes one argument, not 0",
		"lower(a, b)":                    "lower() takes one argument, not 2",
		"lower(5)":                       "column 7: lower() takes a text, and this is a number",
		"delay > 'a' + 1":                "column 9: + takes a number, and this is a text",
		"'a' > 1":                        "a comparison with a number takes a number, and this is a text",
		"key > 1":                        "column 1: a comparison with a number takes a number, and this is a text",
		"key[0] and true":                "column 4: and takes true or false, and this is a text",
		"not key":                        "column 5: not takes true or false, and this is a text",
		"[1, 2]":                         "column 1: a list, but behind in, can't be used here",
		"{a: 1}":                         "a map can't be used here",
		"a[1:2]":                         "a slice can't be used here",
		"a?.b":                           "?. can't be used here",
		"let x = 1; x":                   "let can't be used here",
		"a; b":                           "a sequence with ; can't be used here",
		"1..5":                           "the operator .. can't be used here",
		"2 ** 3":                         "the operator ** can't be used here",
		"a ^ b":                          "the operator ^ can't be used here",
		"a in b":                         "column 6: in takes a list of constants",
		"a in [b]":                       "column 7: a list holds constants alone",
		"key in [1]":                     "in, with this list, takes a number, and this is a text",
		"a matches b":                    "matches takes a constant pattern",
		"a matches '.{300}'":             "column 11: the pattern has 302 instructions, more than 256",
		"a matches '(.{99}){11}'":        "invalid repeat count",
		"a matches '('":                  "error parsing regexp: missing closing )",
		"a.b()":                          "only functions can be called",
		"a[b]":                           "a field's name or position must be constant",
		"a[-1]":                          "a field's name or position must be constant",
		"value[0]":                       "a position is in an array",
		"key.x":                          "key has no fields; value.key is the JSON field of that name",
		"key[9999]":                      "the part 9999 of a key is beyond 4096",
		"a > null":                       "null can be compared by == and != alone",
		"99999999999999999999":           "invalid integer literal",
		"1e999":                          "invalid float literal",
		"b'bytes'":                       "a text of bytes can't be used here",
		strings.Repeat("(", 5000):        "it has 5000 bytes, more than 4096",
		strings.Repeat("a+", 200) + "a":  "the expression is nested more than 32 deep",
		strings.Repeat("!", 100) + "a":   "the expression is nested more than 32 deep",
		"a" + strings.Repeat(".b", 1000): "the expression is nested more than 32 deep",
		"a in [" + strings.Repeat("1,", 300) + "1]":      "the expression has more than 256 parts",
		"a matches '" + strings.Repeat("x", 300) + "'":   "the pattern has 300 bytes, more than 256",
		"lower(" + strings.Repeat("a", 100) + ", 'wide'": "...\"",
	} {
		s, err := newSchema(&Query{})
		require.NoError(t, err)
		_, err = compile(source, s)
		var wrong *ExpressionError
		require.ErrorAs(t, err, &wrong, source)
		require.Contains(t, err.Error(), want)
		require.NotContains(t, err.Error(), "\n", "one line")
	}
}

// TestBroad: an expression as broad as may be costs what its parts cost: it is compiled, and evaluated.
func TestBroad(t *testing.T) {
	tree := func(leaves int) string {
		list := make([]string, leaves)
		for i := range list {
			list[i] = "delay"
		}
		for len(list) > 1 {
			var next []string
			for i := 0; i+1 < len(list); i += 2 {
				next = append(next, "("+list[i]+"+"+list[i+1]+")")
			}
			list = next
		}
		return list[0]
	}
	got, _ := evaluate(t, tree(128), Query{}, "k", someValue) // 128 leaves and 127 sums
	require.Equal(t, "4224", got)
	s, err := newSchema(&Query{})
	require.NoError(t, err)
	_, err = compile(tree(256), s)
	require.ErrorContains(t, err, "more than 256 parts")
}

func TestLayout(t *testing.T) {
	q := Query{Layout: "a:i8@0, b:u16@1,c:i32be@3,d:f64@7,e:s3@15,f:bool@18,g:u64@19,h:u16be@1,i:f32@27"}
	value := "\xff" + "\x01\x02" + "\xff\xff\xff\xfe" + "\x00\x00\x00\x00\x00\x00\x04\x40" + "JF\x00" + "\x01" + "\xff\xff\xff\xff\xff\xff\xff\xff" + "\x00\x00\xc0\x7f"
	for source, want := range map[string]string{
		"a": "-1", "b": "513", "c": "-2", "d": "2.5", "e": `"JF"`, "f": "true", "g": "18446744073709552000.0", "h": "258", "a + b": "512", "a < 0": "true", "c > 0": "false",
	} {
		got, wrong := evaluate(t, source, q, "k", value)
		require.Equal(t, want, got, source)
		require.False(t, wrong, source)
	}
	for source, value := range map[string]string{"i": value, "g": value[:26], "h": value[:2], "c > 0": ""} { // a NaN; and values that are too short
		got, wrong := evaluate(t, source, q, "k", value)
		require.Equal(t, "null", got)
		require.True(t, wrong)
	}
	for layout, want := range map[string]string{
		"a": "is not name:type@offset", "a:i16": "is not name:type@offset", "a:i16@x": "is not name:type@offset", "a:i16@-1": "the offset -1 of a is not between 0 and",
		"a:i15@0": `the type "i15" is none of`, "a:i8be@0": "is none of", "a:s0@0": "is not s and a length", "a:i8@0,a:i8@1": "the name a is taken",
		"key:i8@0": "the name key is taken", "1:i8@0": "is not name:type@offset", "a:i8@0,": "is not name:type@offset",
	} {
		_, err := newSchema(&Query{Layout: layout})
		require.ErrorContains(t, err, want, layout)
	}
	s, err := newSchema(&q)
	require.NoError(t, err)
	for source, want := range map[string]string{"x > 1": "column 1: x is neither a field of the layout nor a part of the key", "a.b": "values with a layout have no fields"} {
		_, err = compile(source, s)
		require.ErrorContains(t, err, want)
	}
}

func TestKeyParts(t *testing.T) {
	for key, want := range map[string]string{"a/b/c": `"a" "b" "c"`, "a": `"a" null null`, "": `"" null null`, "/": `"" "" null`, "a//c/d": `"a" "" "c"`} {
		var got []string
		for _, source := range []string{"key[0]", "key[1]", "third"} {
			v, _ := evaluate(t, source, Query{Key: "first/second/third"}, key, "{}")
			got = append(got, v)
		}
		require.Equal(t, want, strings.Join(got, " "), key)
	}
	got, _ := evaluate(t, "key[1]", Query{Delimiter: ":"}, "a:b", "{}")
	require.Equal(t, `"b"`, got)
	for key, want := range map[string]string{"a//b": `"" is no name of a part`, "a/a": "the name a is taken", "key": "the name key is taken", "a b": `"a b" is no name`} {
		_, err := newSchema(&Query{Key: key})
		require.ErrorContains(t, err, want)
	}
	_, err := newSchema(&Query{Delimiter: "::"})
	require.ErrorContains(t, err, "is not one byte")
}

// FuzzCompile: whatever the expression, it is refused with an error of its own or evaluated, and neither panics nor costs more
// than the limits allow.
func FuzzCompile(f *testing.F) {
	for _, seed := range []string{
		"delay > 15 and origin in ['JFK', 'LAX']", "key[0] == lower(origin) ? 1 : deep.list[1].x", "a matches '^x+$' or not (b ?? 1 < 2)",
		"[1][0]", "a | lower()", "let x = 1; x", "all(a, {# > 1})", "$env", "a?.b", "if a { 1 } else { 2 }", "sum(a)", "::lower(a)", "- - -a", "1..2", "a[", "{a:1}.a",
	} {
		f.Add(seed, []byte(someValue))
	}
	s, err := newSchema(&Query{Key: "place/day/seq"})
	require.NoError(f, err)
	fixed, err := newSchema(&Query{Layout: "delay:i16@0,origin:s3@2,ratio:f64be@8"})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, source string, value []byte) {
		for _, s := range []*schema{s, fixed} {
			c, err := compile(source, s)
			if err != nil {
				_, own := err.(*ExpressionError)
				require.True(t, own, "%T: %v", err, err)
				continue
			}
			r := record{key: []byte("LAS/2001-01-01/0007"), value: value}
			v := c.eval(&r)
			if c.integers != nil {
				if i, ok := c.integers(&r); ok {
					require.Equal(t, integer(i), v, "the short way and the long one")
				}
			}
			require.True(t, json.Valid(v.appendJSON(nil)), "%s", v.appendJSON(nil))
		}
	})
}

// FuzzField: the short way to a field of JSON finds what gjson finds.
func FuzzField(f *testing.F) {
	for _, seed := range []string{
		someValue, `{"a":{"delay":1},"delay":2}`, `{"x":",\"delay\":5","delay":6}`, `{"x":"{","delay":7}`, `{"delay" : 5}`, `{"delay": -5 }`, `{"delay":1.5}`,
		`{"delay":"x\"y"}`, `{"delay":123456789012345678}`, `{"delay":1234567890123456789}`, `{ "delay":1}`, `{"x":[1], "delay":1}`, `{"delay":-0}`, `{"x":"delay","delay":"delay"}`,
		`{"a":{"b":0,"delay":1},"delay":2}`, `{"a":[{"b":0,"delay":1}],"delay":2}`, `{"x\"delay":5,"delay":6}`, `{"delay":12345678901234567890}`,
		`{"a":"` + strings.Repeat("x", 50) + `","delay":5}`, `{"a":"` + strings.Repeat("x", 51) + `","delay":5,"delay":6}`,
	} {
		f.Add([]byte(seed))
	}
	eval := jsonField([]string{"delay"})
	f.Fuzz(func(t *testing.T, value []byte) {
		if !gjson.ValidBytes(value) {
			return
		}
		r, plain := record{value: value}, record{value: value}
		got, want := eval(&r), lookup(&plain, "delay")
		require.Equal(t, string(want.appendJSON(nil)), string(got.appendJSON(nil)))
		require.Equal(t, plain.mistyped, r.mistyped)
		if i, ok := integerOf("delay")(&r); ok {
			require.Equal(t, want, integer(i))
		}
	})
}

// TestAllocations: a record costs none.
func TestAllocations(t *testing.T) {
	if invariant.Enabled {
		t.Skip("under -race pools forget what they hold, and regular expressions allocate anew")
	}
	var batch []byte
	for range 100 {
		batch = packed.Append(batch, []byte("LAS/2001-01-01/0007"), []byte(someValue), 1, 0)
	}
	for _, q := range []Query{
		{Key: "place/day/seq", Where: "delay > 15 and deep.delay == 7 or esc == 'x'", GroupBy: []string{"place"}, Aggregates: []string{"count(), mean(delay), p95(ratio)"}},
		{GroupBy: []string{"lower(origin), late, delay"}, Aggregates: []string{"variance(ratio), min(origin), max(delay), distinct(wide), distinct(delay)"}},
		{Where: "origin matches 'L' and upper(origin) in ['LAS'] and delay % 2 == 1"},
	} {
		p, err := newPlan(&q)
		require.NoError(t, err)
		acc := newAccumulator(p)
		require.NoError(t, acc.Add(t.Context(), batch))
		allocs := testing.AllocsPerRun(20, func() { require.NoError(t, acc.Add(t.Context(), batch)) })
		if strings.Contains(q.Where, "esc") {
			allocs -= 200 // of a text with escapes, two
		}
		require.Less(t, allocs, 1.0, "%+v", q)
	}
}
