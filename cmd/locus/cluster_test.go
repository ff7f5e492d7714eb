package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/examples/flights"
)

// TestKeysAndValues is a session of a user, line by line.
func TestKeysAndValues(t *testing.T) {
	t.Parallel()
	env := node(t)
	do := func(line string) answer { return cli(t, env, strings.Fields(line)...) }

	do("get greeting").fails(t, "key not found")
	require.Equal(t, "key not found\n", do("get greeting").err)
	do("put greeting hello").is(t, "")
	do("get greeting").is(t, "hello\n")
	cli(t, env, "put", "greeting", "hello\nworld").is(t, "")
	do("get greeting").is(t, "hello\nworld\n")
	do("delete greeting").is(t, "")
	do("delete greeting").is(t, "")
	do("get greeting").fails(t, "key not found")

	for _, k := range []string{"a/1", "a/2", "b/1", "b/2"} {
		do("put "+k+" v"+k).is(t, "")
	}
	do("scan").is(t, "a/1\tva/1\na/2\tva/2\nb/1\tvb/1\nb/2\tvb/2\n")
	do("scan --prefix a/").is(t, "a/1\tva/1\na/2\tva/2\n")
	do("scan --start a/2 --end b/2").is(t, "a/2\tva/2\nb/1\tvb/1\n")
	do("scan --reverse --limit 1").is(t, "b/2\tvb/2\n")
	do("scan --prefix a/ --reverse").is(t, "a/2\tva/2\na/1\tva/1\n")
	do("scan --prefix zz").is(t, "")

	// Keys that are no text.
	do("put --hex 00ff bin").is(t, "")
	do("get --hex 00ff").is(t, "bin\n")
	do("scan --limit 1").is(t, "\\x00\\xff\tbin\n")
	do("scan --limit 1 --hex").is(t, "00ff\tbin\n")

	// For machines.
	var item map[string]any
	require.NoError(t, json.Unmarshal([]byte(do("get a/1 -o json").out), &item))
	require.Equal(t, "a/1", item["key"])
	require.Equal(t, "va/1", item["value"])
	require.NotEmpty(t, item["timestamp"])
	require.NotContains(t, item, "expires")
	require.Equal(t, 2, strings.Count(do("scan --prefix a/ -o json").out, "\n"))
	require.Contains(t, do("put a/1 x -o json").out, `"timestamp":`)

	do("get a -k nothere").fails(t, `keyspace "nothere" does not exist`)
	do("scan -k nothere").fails(t, `keyspace "nothere" does not exist`)
	do("put a "+strings.Repeat("x", 600<<10)).fails(t, "524288")
	do("put "+strings.Repeat("k", 5000)+" x").fails(t, "4096")
}

func TestTimeToLive(t *testing.T) {
	t.Parallel()
	env := node(t)
	cli(t, env, "put", "session", "x", "--ttl", "1h").is(t, "")
	var item struct{ Expires time.Time }
	require.NoError(t, json.Unmarshal([]byte(cli(t, env, "get", "session", "-o", "json").out), &item))
	require.WithinDuration(t, time.Now().Add(time.Hour), item.Expires, time.Minute)
	cli(t, env, "put", "gone", "x", "--ttl", "1ms").is(t, "")
	require.Eventually(t, func() bool { return cli(t, env, "get", "gone").err == "key not found\n" }, time.Minute, time.Millisecond)
}

func TestKeyspacesAndRanges(t *testing.T) {
	t.Parallel()
	env := node(t)
	do := func(line string) answer { return cli(t, env, strings.Fields(line)...) }

	a := do("keyspace create flights --split-at K,D")
	require.Zero(t, a.code, a.err)
	require.Contains(t, a.out, "keyspace   flights\npartition  range\ngroup      each key\nranges     3\n")
	do("keyspace create flights").fails(t, `keyspace "flights" exists already`)
	require.Zero(t, do("keyspace create orders --group-delim / --group-depth 1").code)
	require.Zero(t, do("keyspace create users --group-len 4").code)
	require.Zero(t, do("keyspace create sessions --partition hash --split-into 4").code)
	do("keyspace list").is(t, ""+
		"name      partition  group\n"+
		"default   range      each key\n"+
		"flights   range      each key\n"+
		"orders    range      up to '/' number 1\n"+
		"sessions  hash       each key\n"+
		"users     range      first 4 bytes\n")

	var shown struct {
		Name   string
		Ranges []struct{ Start, End *string }
	}
	require.NoError(t, json.Unmarshal([]byte(do("keyspace show flights -o json").out), &shown))
	require.Equal(t, "flights", shown.Name)
	require.Len(t, shown.Ranges, 3)
	require.Nil(t, shown.Ranges[0].Start)
	require.Equal(t, "D", *shown.Ranges[0].End)
	require.Equal(t, "K", *shown.Ranges[2].Start)

	// The environment names the keyspace.
	in := map[string]string{"LOCUS_ADDR": env["LOCUS_ADDR"], "LOCUS_KEYSPACE": "flights"}
	cli(t, in, "put", "LAS", "x").is(t, "")
	cli(t, env, "get", "LAS", "-k", "flights").is(t, "x\n")
	cli(t, env, "get", "LAS").fails(t, "key not found")

	split := do("range split -k flights --at S")
	require.Zero(t, split.code, split.err)
	require.Regexp(t, `^range \d+ ends at S, where range \d+ begins\n$`, split.out)
	var ranges []struct{ ID, Leaseholder uint64 }
	require.NoError(t, json.Unmarshal([]byte(do("range list -k flights -o json").out), &ranges))
	require.Len(t, ranges, 4)
	require.Greater(t, strings.Count(do("range list").out, "\n"), 5, "all keyspaces")
	do("range transfer 999999 1").fails(t, "r999999")
	do("range split 999999").fails(t, "range r999999 is not known")
	do("range split -k flights --at S").fails(t, `begins at key "S" already`)
	for _, key := range []string{"T1", "T2", "T3", "T4"} {
		require.Zero(t, do("put -k flights "+key+" x").code)
	}
	middle := do(fmt.Sprintf("range split %d", ranges[3].ID))
	require.Zero(t, middle.code, middle.err)
	require.Regexp(t, fmt.Sprintf(`^range %d ends at T3, where range \d+ begins\n$`, ranges[3].ID), middle.out)

	do("keyspace drop flights").is(t, "")
	// The node that answers may know of the drop a heartbeat later.
	require.Eventually(t, func() bool { return do("keyspace show flights").code == 1 }, time.Minute, time.Millisecond)
	do("keyspace show flights").fails(t, `keyspace "flights" does not exist`)
	do("keyspace drop nothere").fails(t, `keyspace "nothere" does not exist`)
}

func TestStatusAndNodes(t *testing.T) {
	t.Parallel()
	env := node(t)
	a := cli(t, env, "status", "--wait")
	require.Zero(t, a.code, a.err)
	require.Contains(t, a.out, "state      healthy\nnodes      1 live, 0 suspect, 0 dead\n")
	var st struct {
		Healthy    bool
		Live_Nodes uint64
	}
	require.NoError(t, json.Unmarshal([]byte(cli(t, env, "status", "-o", "json").out), &st))
	require.True(t, st.Healthy)
	require.EqualValues(t, 1, st.Live_Nodes)
	nodes := cli(t, env, "node", "list").out
	require.Contains(t, nodes, env["LOCUS_ADDR"])
	require.Contains(t, nodes, "up")

	require.NotContains(t, a.out, "holds")
	db, err := client.Open(t.Context(), client.Options{Addrs: []string{env["LOCUS_ADDR"]}})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	held, err := db.Snapshot(t.Context(), client.Hold(time.Minute))
	require.NoError(t, err)
	require.Contains(t, cli(t, env, "status").out, "\nholds      1, the oldest at "+held.Timestamp().String())
	require.NoError(t, held.Close())
	require.NotContains(t, cli(t, env, "status").out, "holds")
}

func TestFunctions(t *testing.T) {
	t.Parallel()
	env := node(t)
	do := func(line string) answer { return cli(t, env, strings.Fields(line)...) }

	do("fn call square 5").is(t, "25\n")
	do("fn call square nine").fails(t, `argument "nine" is not JSON`)
	cli(t, env, "fn", "call", "square", `"nine"`).fails(t, "square")
	do("fn call counter --key visits 1").is(t, "1\n")
	do("fn call counter --key visits 10 --dry-run").is(t, "11\nput\tvisits\t11\n")
	do("get visits").is(t, "1\n")
	var dry struct {
		Result int
		Writes []struct{ Key, Value string }
	}
	require.NoError(t, json.Unmarshal([]byte(do("fn call counter --key visits 10 --dry-run -o json").out), &dry))
	require.Equal(t, 11, dry.Result)
	require.Equal(t, []struct{ Key, Value string }{{"visits", "11"}}, dry.Writes)
	do("fn call counter --key visits 10").is(t, "11\n")
	do("get visits").is(t, "11\n")
	cli(t, env, "fn", "run", "find", `"11"`, "--stream").is(t, "\"visits\"\n")
	cli(t, env, "fn", "run", "find", `"11"`).fails(t, "its outputs are streamed")
	do("fn call nothere 1").fails(t, `"nothere"`)

	file := filepath.Join(t.TempDir(), "flights.wasm")
	require.NoError(t, os.WriteFile(file, flights.Module, 0o600))
	a := cli(t, env, "fn", "register", flights.FunctionName, file)
	require.Zero(t, a.code, a.err)
	require.Equal(t, "registered flights-delays version 1 (range, 2.3 MB)\n", a.out)
	require.NoError(t, os.WriteFile(file, []byte("not wasm"), 0o600))
	bad := cli(t, env, "fn", "register", "broken", file)
	require.Equal(t, 1, bad.code)
	require.Equal(t, 1, strings.Count(bad.err, "\n"), "one line: %q", bad.err)

	list := do("fn list").out
	for _, want := range []string{"counter", "square", "flights-delays", "wasm", "native"} {
		require.Contains(t, list, want)
	}
}

// TestExplain: the plan and what was taken stand beside the result, as text and for a machine.
func TestExplain(t *testing.T) {
	t.Parallel()
	env := node(t)
	for i := range 20 {
		require.Zero(t, cli(t, env, "put", fmt.Sprintf("k%02d", i), `{"delay":3}`).code)
	}
	a := cli(t, env, "fn", "run", "find", `"delay"`, "--stream", "--explain")
	require.Zero(t, a.code, a.err)
	require.Equal(t, 20, strings.Count(a.out, "\n"), a.out)
	require.Regexp(t, `(?s)^plan: 1 range at \d+\.\d+, about \d+ records and [\d,]+ fuel, by a sample of 20 records of 1 range\n  +range +leaseholder +records +size\n  +r\d+ +s1 +~\d+ +~\d+ k?B\n`+
		`took:\n  +range +store +records .*\n +r\d+ +s1 +20 .* 1 +0\n +all +20 .* 1 +0\n$`, a.err)
	a = cli(t, env, "fn", "run", "find", `"delay"`, "--stream", "--explain", "--prefix", "k0", "-o", "json")
	require.Zero(t, a.code, a.err)
	require.Equal(t, 10, strings.Count(a.out, "\n"), a.out)
	lines := strings.Split(strings.TrimSpace(a.err), "\n")
	require.Len(t, lines, 2, a.err)
	var plan struct{ Plan planJSON }
	require.NoError(t, json.Unmarshal([]byte(lines[0]), &plan))
	require.Len(t, plan.Plan.Ranges, 1)
	require.True(t, plan.Plan.Ranges[0].Part)
	require.EqualValues(t, 1, plan.Plan.Ranges[0].Leaseholder)
	require.EqualValues(t, 10, plan.Plan.Sample.Records)
	var took struct{ Took []tookJSON }
	require.NoError(t, json.Unmarshal([]byte(lines[1]), &took))
	require.Len(t, took.Took, 1)
	require.EqualValues(t, 10, took.Took[0].Records)
	require.EqualValues(t, 1, took.Took[0].Requests)
}

// TestResume: a run that is interrupted leaves behind where it was, and the same command goes on there; a run that ends leaves
// nothing.
func TestResume(t *testing.T) {
	t.Parallel()
	env := node(t)
	require.Zero(t, cli(t, env, "keyspace", "create", "r", "--split-at", "c,e").code)
	for _, k := range []string{"a", "b", "c", "d", "e"} {
		require.Zero(t, cli(t, env, "put", k, "some text", "-k", "r").code)
	}
	file := filepath.Join(t.TempDir(), "where")
	again := func(w io.Writer) (int, string) {
		var errs bytes.Buffer
		code := run(t.Context(), []string{"fn", "run", "find", `"text"`, "--stream", "--key-order", "-k", "r", "--resume", file},
			streams{in: strings.NewReader(""), out: w, err: &errs, getenv: func(k string) string { return env[k] }})
		return code, errs.String()
	}
	// The output breaks at the fourth line: behind the first page, and in the middle of the second.
	var first brokenPipe
	code, errs := again(&first)
	require.Equal(t, 1, code, errs)
	require.Equal(t, "\"a\"\n\"b\"\n\"c\"\n", first.String())
	require.FileExists(t, file)
	require.Zero(t, cli(t, env, "put", "f", "some text", "-k", "r").code)

	cli(t, env, "fn", "run", "find", `"other"`, "--stream", "--key-order", "-k", "r", "--resume", file).fails(t, "of another argument")
	var rest bytes.Buffer
	code, errs = again(&rest)
	require.Zero(t, code, errs)
	require.Equal(t, "\"c\"\n\"d\"\n\"e\"\n", rest.String(), "the second page again, and nothing that came later")
	require.NoFileExists(t, file)
	rest.Reset()
	code, _ = again(&rest)
	require.Zero(t, code)
	require.Equal(t, 6, strings.Count(rest.String(), "\n"))
	require.NoFileExists(t, file)

	require.NoError(t, os.WriteFile(file, []byte("junk"), 0o600))
	cli(t, env, "fn", "run", "find", `"text"`, "--stream", "-k", "r", "--resume", file).fails(t, "does not hold where a run was")
	cli(t, env, "fn", "run", "find", "--key-order").fails(t, "--key-order goes with --stream")
}

// brokenPipe takes three lines.
type brokenPipe struct{ bytes.Buffer }

func (b *brokenPipe) Write(p []byte) (int, error) {
	if bytes.Count(b.Bytes(), []byte("\n")) == 3 {
		return 0, io.ErrClosedPipe
	}
	return b.Buffer.Write(p)
}

// TestFunctionVersions is the life of a function, line by line.
func TestFunctionVersions(t *testing.T) {
	t.Parallel()
	env := node(t)
	do := func(line string) answer { return cli(t, env, strings.Fields(line)...) }
	module, err := os.ReadFile(filepath.Join("..", "..", "examples", "guests", "c", "fieldsum.wasm"))
	require.NoError(t, err)
	var files []string
	for i := range 3 { // custom sections make other modules that do the same
		files = append(files, filepath.Join(t.TempDir(), "sum.wasm"))
		require.NoError(t, os.WriteFile(files[i], append(module, 0, 3, 1, byte('a'+i), 0), 0o600))
	}
	first := do("fn register sum " + files[0])
	require.Zero(t, first.code, first.err)
	require.Contains(t, first.out, "registered sum version 1 (range, ")
	require.Contains(t, do("fn register sum "+files[1]).out, "registered sum version 2 (range, ")
	require.Contains(t, do("fn register sum --inactive "+files[2]).out, "registered sum version 3 (range, ")
	a := do("fn describe sum")
	require.Zero(t, a.code, a.err)
	require.Regexp(t, `version  state     kind   codec  runtime +size  registered            hash
      1  previous  range  json   wasm +[\d.]+ kB  \S+Z  [0-9a-f]{64}
      2  active    range  json   wasm +[\d.]+ kB  \S+Z  [0-9a-f]{64}
      3            range  json   wasm +[\d.]+ kB  \S+Z  [0-9a-f]{64}
node s1: version 1, 2, 3 compiled
`, a.out)

	do("fn stats sum").is(t, "name  version  calls  parts  errors  fuel  time  records read  bytes read  records written  bytes written\n")
	do("put k {\"delay\":2}").is(t, "")
	cli(t, env, "fn", "run", "sum@3", `"delay"`).is(t, `{"count":1,"sum":2}`+"\n")
	cli(t, env, "fn", "run", "sum@3", `"delay"`, "--version", "2").fails(t, `"sum@3" and --version 2 name two versions`)
	cli(t, env, "fn", "run", "sum@3", `7`).fails(t, "sum")
	require.Regexp(t, `(?m)^sum +3 +2 +2 +1 function +[\d,]+ +\S+ \S+ +1 +28 B +0 +0 B$`, do("fn stats sum").out)
	require.Regexp(t, `(?m)^sum +3 +\d+ +0 +2 +1 function +[\d,]+ +\S+ \S+ +1 +28 B +0 +0 B$`, do("fn stats sum --by-range").out)
	var stats struct {
		Functions []struct {
			Name         string
			Version      uint32
			Calls        uint64
			Records_Read uint64
			Errors       map[string]uint64
		}
		Silent_Stores []uint64
	}
	require.NoError(t, json.Unmarshal([]byte(do("fn stats -o json").out), &stats))
	require.Len(t, stats.Functions, 1)
	require.EqualValues(t, 2, stats.Functions[0].Calls)
	require.EqualValues(t, 1, stats.Functions[0].Records_Read)
	require.NotNil(t, stats.Silent_Stores)
	do("fn stats a b").fails(t, "takes at most one name, not 2")
	do("fn run sum@4 1").fails(t, `function "sum" version 4 not found`)
	do("fn run sum@x 1").fails(t, `"x" is no version of a function`)
	do("fn activate sum 3").is(t, "version 3 of sum is active instead of 2\n")
	do("fn activate sum 3").is(t, "version 3 of sum is active\n")
	do("fn activate sum 4").fails(t, `function "sum" version 4 not found`)
	do("fn activate sum 0").fails(t, `"0" is no version of a function`)
	do("fn rollback sum").is(t, "version 2 of sum is active instead of 3\n")
	do("fn rollback sum -o json").is(t, "{\n  \"name\": \"sum\",\n  \"active\": 3,\n  \"before\": 2\n}\n")
	do("fn remove sum@3").fails(t, "version 3 of function \"sum\" is active")
	do("fn remove sum@1").is(t, "")
	do("fn remove sum@1").fails(t, `function "sum" version 1 not found`)
	var described struct {
		Versions []struct {
			Version          uint32
			Active, Previous bool
			Codec, Hash      string
		}
		Nodes []struct {
			Store             uint64
			Compiled_Versions []uint32
		}
	}
	require.NoError(t, json.Unmarshal([]byte(do("fn describe sum -o json").out), &described))
	require.Len(t, described.Versions, 2)
	require.True(t, described.Versions[0].Previous && described.Versions[1].Active)
	require.Equal(t, []uint32{2, 3}, described.Nodes[0].Compiled_Versions)
	require.Contains(t, do("fn describe square").out, "node s1: native\n")
	do("fn remove sum").is(t, "")
	do("fn describe sum").fails(t, `function "sum" not found`)
	cli(t, env, "fn", "run", "sum", `"delay"`).fails(t, `function "sum" not found`)
	do("fn rollback square").fails(t, "native")
}

// TestImport loads a file and lets the flights function sum it up, over all of it and over a part.
func TestImport(t *testing.T) {
	t.Parallel()
	env := node(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	const rows = "2001-01-01T00:01,10,100,LAS,PHL\n2001-01-01T00:02,30,100,LAS,PHL\n2001-01-02T00:01,-5,100,ATL,PHL\n"
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, err := z.Write([]byte("date,delay,distance,origin,destination\n" + rows))
	require.NoError(t, err)
	require.NoError(t, z.Close())

	require.Zero(t, cli(t, env, "keyspace", "create", "flights", "--split-at", "K").code)
	a := cli(t, env, "import", write("f.csv.gz", zipped.String()), "-k", "flights", "--key", "origin/date:10/seq")
	require.Zero(t, a.code, a.err)
	require.Regexp(t, `^imported 3 records \(\d+ B\) into flights in .+/s\n$`, a.out)
	cli(t, env, "scan", "-k", "flights").is(t, ""+
		`ATL/2001-01-02/0000`+"\t"+`{"date":"2001-01-02T00:01","delay":-5,"distance":100,"origin":"ATL","destination":"PHL"}`+"\n"+
		`LAS/2001-01-01/0000`+"\t"+`{"date":"2001-01-01T00:01","delay":10,"distance":100,"origin":"LAS","destination":"PHL"}`+"\n"+
		`LAS/2001-01-01/0001`+"\t"+`{"date":"2001-01-01T00:02","delay":30,"distance":100,"origin":"LAS","destination":"PHL"}`+"\n")

	require.Zero(t, cli(t, env, "fn", "register", flights.FunctionName, write("f.wasm", string(flights.Module))).code)
	cli(t, env, "fn", "run", flights.FunctionName, "-k", "flights").is(t,
		`[{"origin":"ATL","flights":1,"mean_delay":-5,"delayed_share":0,"p95":-5},`+
			`{"origin":"LAS","flights":2,"mean_delay":20,"delayed_share":0.5,"p95":30}]`+"\n")
	cli(t, env, "fn", "run", flights.FunctionName, "-k", "flights", "--prefix", "ATL/").is(t,
		`[{"origin":"ATL","flights":1,"mean_delay":-5,"delayed_share":0,"p95":-5}]`+"\n")

	in := cliWith(t, "{\"id\":\"x\",\"n\":1}\n{\"id\":\"y\",\"n\":2}\n", env, "import", "-", "--key", "id", "-o", "json")
	require.Zero(t, in.code, in.err)
	require.Contains(t, in.out, `"records": 2`)
	cli(t, env, "get", "y").is(t, `{"id":"y","n":2}`+"\n")

	cliWith(t, "{\"id\":\"z\"}\n{}\n", env, "import", "-", "--key", "id").fails(t, `after 1 records: record 2: no field "id"`)
	cliWith(t, "a\n1\n", env, "import", "-", "--key", "b").fails(t, `record 1: no field "b"`)
	cli(t, env, "import", write("g.csv", "a\n1\n"), "--key", "a", "-k", "nothere").fails(t, `keyspace "nothere" does not exist`)
}
