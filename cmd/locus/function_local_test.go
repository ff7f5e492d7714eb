package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const guestModules = "../../examples/guests/"

// dataFile is a file of records.
func dataFile(t *testing.T, lines ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.WriteFile(name, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	return name
}

// withoutFuel drops the last line, whose number is the machine's.
func withoutFuel(t *testing.T, out string) string {
	t.Helper()
	head, fuel, found := strings.Cut(out, "fuel     ")
	require.True(t, found, out)
	require.Regexp(t, `^[1-9][0-9,]*\n$`, fuel)
	return head
}

func TestFnTest(t *testing.T) {
	t.Parallel()
	transfer := guestModules + "c/transfer.wasm"
	accounts := dataFile(t, `{"key":"accounts/a","value":"100"}`, `{"key_hex":"6163636f756e74732f62","value":5}`, `{"key":"other","value":{"x": [1, 2]}}`)
	csv := dataFile(t, "city,delay", "LAS,7", "SFO,1")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{guestModules + "go/square.wasm", "5"}, "result   25\n"},
		{[]string{guestModules + "rust/square.wasm"}, "result   0\n"},
		{[]string{transfer, "a b 30", "--group", "accounts/", "--data", accounts}, "result   70 35\nwrote    accounts/a = 70\nwrote    accounts/b = 35\n"},
		{[]string{guestModules + "go/counter.wasm", "2", "--key", "n", "--data", dataFile(t, "key,value", "n,40")}, "result   42\nwrote    n = 42\n"},
		{[]string{guestModules + "go/find.wasm", `"[1,2]"`, "--data", accounts}, "output   \"other\"\nrecords  3 (88 B)\n"},
		{[]string{guestModules + "c/fieldsum.wasm", `"delay"`, "--data", csv, "--data-key", "city"}, "result   {\"count\":2,\"sum\":8}\nrecords  2 (86 B)\n"},
		{[]string{guestModules + "c/fixedsum.wasm", "1", "--data", dataFile(t, `{"key":"a","value_hex":"ff0500000000000000"}`)}, "result   {\"count\":1,\"sum\":5}\nrecords  1 (26 B)\n"},
	} {
		a := cli(t, nil, append([]string{"fn", "test"}, c.args...)...)
		require.Zero(t, a.code, "%v: %s", c.args, a.err)
		require.Equal(t, c.want, withoutFuel(t, a.out), c.args)
		require.Empty(t, a.err)
	}

	a := cli(t, nil, "fn", "test", transfer, "a b 30", "--group", "accounts/", "--data", accounts, "--output", "json")
	require.Zero(t, a.code, a.err)
	var got map[string]any
	require.NoError(t, json.Unmarshal([]byte(a.out), &got))
	require.NotZero(t, got["fuel"])
	delete(got, "fuel")
	require.Equal(t, map[string]any{
		"function": "transfer", "kind": "read-write", "codec": "raw", "result": "70 35", "logs": []any{}, "records": 0.0,
		"writes": []any{map[string]any{"key": "accounts/a", "value": "70"}, map[string]any{"key": "accounts/b", "value": "35"}},
	}, got)
}

// TestFnTestFails: whatever is wrong is one line that says what, and nothing is printed besides.
func TestFnTestFails(t *testing.T) {
	transfer, square := guestModules+"c/transfer.wasm", guestModules+"c/square.wasm"
	accounts := dataFile(t, `{"key":"accounts/a","value":"100"}`, `{"key":"accounts/b","value":"5"}`)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{transfer, "a b 500", "--group", "accounts/", "--data", accounts}, `locus: function "transfer" failed (1): there is not enough in the account`},
		{[]string{transfer, "a b 5", "--group", "savings/"}, `locus: permission denied: function "transfer" may not read the key "savings/a"; it may read keys that begin with "accounts/" only`},
		{[]string{transfer, "a b 5", "--key", "accounts/", "--data", accounts}, "locus: the keys are not of one group"},
		{[]string{transfer, "a b 5"}, "locus: the function is read-write: it is called on a key or on a group, and needs one of them"},
		{[]string{square, "--key", "k"}, "locus: the function is pure: it is called on no key"},
		{[]string{square, "five"}, `locus: argument "five" is not JSON; a text wants quotes, as in '"text"'`},
		{[]string{accounts}, "is not a WebAssembly module of version 1"},
		{[]string{square, "--data", "/nonexistent"}, "open /nonexistent: no such file or directory"},
		{[]string{square, "--data-key", "a"}, "--data-key and --format are about the records of --data"},
		{[]string{square, "--data", accounts, "--data-key", "a//b"}, `key template "a//b": part "" names no field`},
		{[]string{square, "--data", accounts, "--data-key", "nothing"}, accounts + `: record 1: no field "nothing"`},
		{[]string{square, "--data", accounts, "--format", "xml"}, accounts + `: format "xml" is neither "csv" nor "json"`},
		{[]string{square, "--data", dataFile(t, `{"key":"a"}`)}, `: record 1: no field "value" (without --data-key a record has a key and a value)`},
		{[]string{square, "--data", dataFile(t, `{"key_hex":"xy","value":1}`)}, `: record 1: field "key_hex" is not hexadecimal`},
		{[]string{square, "--data", dataFile(t, `{"key":"a","value":1}`, `{"key":`)}, `: record 2: not a JSON object`},
		{[]string{square, "--data", dataFile(t, `{"key":"","value":1}`)}, "locus: keys: the key is empty"},
	} {
		a := cli(t, nil, append([]string{"fn", "test"}, c.args...)...)
		require.Equal(t, 1, a.code, c.args)
		require.Contains(t, a.err, c.want, c.args)
		require.Equal(t, 1, strings.Count(a.err, "\n"), a.err)
		require.Empty(t, a.out)
	}
}

func TestFnNew(t *testing.T) {
	t.Chdir(t.TempDir())
	a := cli(t, nil, "fn", "new", "--lang", "rust", "adder")
	require.Zero(t, a.code, a.err)
	require.Contains(t, a.out, "made adder: 7 files; see adder/README.md\n")
	require.FileExists(t, "adder/locus/src/lib.rs")
	a = cli(t, nil, "fn", "new", "--lang", "c", "adder")
	require.Equal(t, 1, a.code)
	require.Equal(t, "adder exists and is not empty\n", a.err)
	a = cli(t, nil, "fn", "new", "--lang", "c", "other", "-o", "json")
	require.Zero(t, a.code, a.err)
	require.JSONEq(t, `{"folder":"other","files":["README.md","build.sh","data.jsonl","locus.h","other.c"]}`, a.out)
}
