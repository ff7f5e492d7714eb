package shape

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseManifest(t *testing.T) {
	entries := []Entry{
		{Name: "a", Kind: KindPure, Codec: CodecRaw},
		{Name: "b.c-d_E", Kind: KindRange, Codec: CodecJSON, Capabilities: Capabilities{
			Reads: Access{true, []string{"flights/", "a b%\n\xff"}}, Limits: Limits{Fuel: 1, Result: 3},
		}},
		{Name: "9", Kind: KindReadWrite, Codec: CodecProto, Capabilities: Capabilities{
			Reads: Access{Restricted: true}, Writes: Access{true, []string{"w/"}},
			Limits: Limits{5, MinMemory, 7, 8, 9}, Commutative: true,
		}},
		{Name: "r", Kind: KindReadOnly, Codec: CodecJSON, Capabilities: Capabilities{Limits: Limits{Reads: 10}}},
	}
	text := string(AppendManifest(nil, entries))
	require.Equal(t, `locus 1
function a pure raw
function b.c-d_E range json
reads flights/
reads a%20b%25%0A%FF
limit fuel 1
limit result 3
function 9 read-write proto
reads
writes w/
limit fuel 5
limit memory 65536
limit result 7
limit reads 8
limit writes 9
commutative
function r read-only json
limit reads 10
`, text)
	got, err := ParseManifest(text)
	require.NoError(t, err)
	require.Equal(t, entries, got)

	got, err = ParseManifest("locus 1\nfunction f read-write raw\ncommutative\nlimit writes 3\nwrites a\nreads b\nwrites c\n")
	require.NoError(t, err, "the lines of a function have no order")
	require.Equal(t, []Entry{{Name: "f", Kind: KindReadWrite, Codec: CodecRaw, Capabilities: Capabilities{
		Reads: Access{true, []string{"b"}}, Writes: Access{true, []string{"a", "c"}}, Limits: Limits{Writes: 3}, Commutative: true,
	}}}, got)
}

func TestParseManifestRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "line 1: it is not \"locus 1\"",
		"locus 1":                         "line 1: it is not \"locus 1\"",
		"locus 2\nfunction a pure raw\n":  "line 1: it is not \"locus 1\"",
		"locus 1\n":                       "it declares no function",
		"locus 1\nfunction a pure raw":    "line 2: it does not end with a line feed",
		"locus 1\nfunction a pure\n":      "line 2: it is not \"function NAME KIND CODEC\"",
		"locus 1\nfunktion a pure raw\n":  "line 2: it begins with \"funktion\", not with function, reads, writes, limit or commutative",
		"locus 1\nfunction a  pure raw\n": "line 2: it is not \"function NAME KIND CODEC\"",
		"locus 1\nfunction  pure raw\n":   "line 2: a function's name is empty",
		"locus 1\nfunction a! pure raw\n": "line 2: a function's name may hold letters, digits, '-', '_' and '.' only, and begins with a letter or digit",
		"locus 1\nfunction a fast raw\n":  "line 2: the kind of a is \"fast\", not pure, read-only, read-write, range or map",
		"locus 1\nfunction a  raw\n":      "line 2: the kind of a is \"\", not pure, read-only, read-write, range or map",
		"locus 1\nfunction a pure xml\n":  "line 2: the codec of a is \"xml\", not raw, json or proto",
		"locus 1\nfunction a pure raw\nfunction a pure raw\n": "line 3: it declares the function a twice",
		"locus 1\n" + strings.Repeat("x", MaxManifestLen):     "it is longer than 16384 bytes",
		"locus 1\nreads a\n": "line 2: it begins with reads and stands before the first function",
	} {
		_, err := ParseManifest(text)
		require.EqualError(t, err, want, "%q", text)
	}
	for _, kind := range []string{"pipeline", "bulk", "async", "trigger", "stream"} {
		_, err := ParseManifest("locus 1\nfunction a " + kind + " raw\n")
		require.EqualError(t, err, "line 2: kind \""+kind+"\" is not built yet; this version has pure, read-only, read-write, range and map")
	}
	// Each of these follows a function that may be followed by it.
	for line, want := range map[string]string{
		"read a":                         `it begins with "read", not with function, reads, writes, limit or commutative`,
		"":                               `it begins with "", not with function, reads, writes, limit or commutative`,
		"reads a b":                      `a line is not "reads PREFIX": write a space in a prefix as %20`,
		"reads ":                         `a prefix of reads is empty; without a line, all keys are allowed`,
		"reads é":                        `the prefix "é" is not written as it must be: visible ASCII characters, every other byte and % as %XX with capital digits`,
		"writes a%2":                     `the prefix "a%2" is not written as it must be: visible ASCII characters, every other byte and % as %XX with capital digits`,
		"writes a%2f":                    `the prefix "a%2f" is not written as it must be: visible ASCII characters, every other byte and % as %XX with capital digits`,
		"reads a\nreads":                 `reads alone says that f reads nothing, and can't stand beside other lines with reads`,
		"reads\nreads a":                 `reads alone says that f reads nothing, and can't stand beside other lines with reads`,
		"limit fuel":                     `a line is not "limit WHAT NUMBER"`,
		"limit time 5":                   `the limit "time" is not fuel, memory, result, reads or writes`,
		"limit fuel 0":                   `the limit of fuel is "0", not a decimal number of at least 1`,
		"limit fuel -1":                  `the limit of fuel is "-1", not a decimal number of at least 1`,
		"limit fuel +1":                  `the limit of fuel is "+1", not a decimal number of at least 1`,
		"limit fuel 01":                  `the limit of fuel is "01", not a decimal number of at least 1`,
		"limit fuel ":                    `the limit of fuel is "", not a decimal number of at least 1`,
		"limit fuel 9223372036854775808": `the limit of fuel is "9223372036854775808", not a decimal number of at least 1`,
		"limit fuel 5\nlimit fuel 5":     `the limit of fuel stands twice for f`,
		"limit memory 65535":             `the limit of memory is 65535 bytes, less than one page of 65536`,
		"commutative yes":                `a line that begins with commutative has more words`,
		"commutative\ncommutative":       `commutative stands twice for f`,
		strings.TrimSuffix(strings.Repeat("reads a\n", 17), "\n"): `f has more than 16 prefixes of reads`,
	} {
		_, err := ParseManifest("locus 1\nfunction f read-write raw\n" + line + "\n")
		require.EqualError(t, err, fmt.Sprintf("line %d: %s", 3+strings.Count(line, "\n"), want), "%q", line)
	}
	// What a kind can't have.
	for _, c := range []struct{ kind, line, want string }{
		{"pure", "reads a", "f is pure, and functions of this kind have no reads of their own"},
		{"read-only", "writes", "f is read-only, and functions of this kind have no writes of their own"},
		{"range", "writes a", "f is range, and functions of this kind have no writes of their own"},
		{"range", "limit reads 5", "f is range, and functions of this kind have no reads of their own to limit"},
		{"read-only", "limit writes 5", "f is read-only, and functions of this kind have no writes of their own to limit"},
		{"map", "limit writes 5", "f is map, and functions of this kind have no writes of their own to limit"},
		{"range", "commutative", "f is range; only a read-write function can be commutative"},
	} {
		_, err := ParseManifest("locus 1\nfunction f " + c.kind + " raw\n" + c.line + "\n")
		require.EqualError(t, err, "line 3: "+c.want)
	}
}

func TestAccess(t *testing.T) {
	span := func(lo, hi string) Span { return Span{Start: []byte(lo), End: []byte(hi)} }
	some := Access{true, []string{"a/", "b\xff", "\xff"}}
	for key, want := range map[string]bool{"": false, "a": false, "a/": true, "a/x": true, "a0": false, "b\xff\xff": true, "c": false, "\xff\xff": true} {
		require.Equal(t, want, some.Allows([]byte(key)), "%q", key)
		require.True(t, Access{}.Allows([]byte(key)))
		require.False(t, Access{Restricted: true}.Allows([]byte(key)))
	}
	for _, c := range []struct {
		span Span
		want bool
	}{
		{span("a/", "a0"), true}, {span("a/x", "a/y"), true}, {span("a/", "a/"), true},
		{span("a/", "a0\x00"), false}, {span("a/", ""), false}, {span("", "a0"), false}, {span("a", "a0"), false}, {span("a/", "c"), false},
		{span("b\xff", "c"), true}, {span("b\xfe", "c"), false}, {span("b\xff", "c\x00"), false},
		{span("\xff", ""), true}, {span("\xff\x01", "\xff\x02"), true}, {span("", ""), false},
	} {
		require.Equal(t, c.want, some.Covers(c.span), "%q", c.span)
		require.True(t, Access{}.Covers(c.span))
		require.False(t, Access{Restricted: true}.Covers(c.span))
	}
	require.Equal(t, span("a/", "a0"), PrefixSpan([]byte("a/")))
	require.Equal(t, Span{Start: []byte("\xff\xff"), End: []byte{}}, PrefixSpan([]byte("\xff\xff")))
}

func FuzzParseManifest(f *testing.F) {
	f.Add("locus 1\nfunction a pure raw\n")
	f.Add("locus 1\nfunction a range json\nfunction b read-only proto\n")
	f.Add("locus 1\nfunction a  \n")
	f.Add("locus 1\nfunction a read-write raw\nreads a%20b\nwrites\nlimit fuel 7\nlimit memory 65536\ncommutative\n")
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := ParseManifest(text)
		if err != nil {
			return
		}
		again, err := ParseManifest(string(AppendManifest(nil, entries)))
		require.NoError(t, err)
		require.Equal(t, entries, again)
	})
}

// TestManifestOfTheDocs: the example of docs/abi.md is one.
func TestManifestOfTheDocs(t *testing.T) {
	page, err := os.ReadFile("../../../docs/abi.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(page), "```\n"+ManifestHeader+"\n")
	require.True(t, found)
	text, _, found := strings.Cut(rest, "```")
	require.True(t, found)
	entries, err := ParseManifest(ManifestHeader + "\n" + text)
	require.NoError(t, err)
	require.Len(t, entries, 3)
	require.Equal(t, Access{true, []string{"accounts/"}}, entries[2].Writes)
}
