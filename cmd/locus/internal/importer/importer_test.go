package importer

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const flightsCSV = `date,delay,distance,origin,destination
2001-01-01T00:01,33,2176,LAS,PHL
2001-01-01T00:02,-13,2345,LAS,LAX
2001-01-02T00:03,19,215,LAS,SAV
2001-01-01T00:04,4,100,ATL,"A ""B"""
`

const flightsJSON = `{"date": "2001-01-01T00:01", "delay": 33, "distance": 2176, "origin": "LAS", "destination": "PHL"}

{"date":"2001-01-01T00:02","delay":-13,"distance":2345,"origin":"LAS","destination":"LAX"}
{"date":"2001-01-02T00:03","delay":19,"distance":215,"origin":"LAS","destination":"SAV"}
{"date":"2001-01-01T00:04","delay":4,"distance":100,"origin":"ATL","destination":"A \"B\""}
`

func gzipped(t *testing.T, s string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write([]byte(s))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return b.String()
}

// readAll makes the keys and values of a whole file.
func readAll(t *testing.T, in string, f Format, template string) (keys, values []string, err error) {
	t.Helper()
	tmpl, err := ParseTemplate(template)
	require.NoError(t, err)
	r, err := NewReader(strings.NewReader(in), f)
	if err != nil {
		return nil, nil, err
	}
	k := NewKeyer(tmpl)
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return keys, values, nil
		}
		if err != nil {
			return keys, values, err
		}
		key, err := k.Key(rec)
		if err != nil {
			return keys, values, err
		}
		keys, values = append(keys, string(key)), append(values, string(rec.Value))
	}
}

func TestKeysAndValuesOfEveryFormat(t *testing.T) {
	values := []string{
		`{"date":"2001-01-01T00:01","delay":33,"distance":2176,"origin":"LAS","destination":"PHL"}`,
		`{"date":"2001-01-01T00:02","delay":-13,"distance":2345,"origin":"LAS","destination":"LAX"}`,
		`{"date":"2001-01-02T00:03","delay":19,"distance":215,"origin":"LAS","destination":"SAV"}`,
		`{"date":"2001-01-01T00:04","delay":4,"distance":100,"origin":"ATL","destination":"A \"B\""}`,
	}
	keys := []string{"LAS/2001-01-01/0000", "LAS/2001-01-01/0001", "LAS/2001-01-02/0000", "ATL/2001-01-01/0000"}
	for name, c := range map[string]struct {
		in     string
		format Format
	}{
		"csv":             {flightsCSV, Auto},
		"csv, named":      {flightsCSV, CSV},
		"csv, gzipped":    {gzipped(t, flightsCSV), Auto},
		"json":            {flightsJSON, Auto},
		"json, named":     {flightsJSON, JSON},
		"json, gzipped":   {gzipped(t, flightsJSON), Auto},
		"json, space":     {"\n  " + flightsJSON, Auto},
		"csv, CRLF lines": {strings.ReplaceAll(flightsCSV, "\n", "\r\n"), Auto},
	} {
		t.Run(name, func(t *testing.T) {
			gotKeys, gotValues, err := readAll(t, c.in, c.format, "origin/date:10/seq")
			require.NoError(t, err)
			require.Equal(t, keys, gotKeys)
			require.Equal(t, values, gotValues)
		})
	}
}

func TestTemplates(t *testing.T) {
	for template, want := range map[string][]string{
		"origin":               {"LAS", "LAS", "LAS", "ATL"},
		"origin/date":          {"LAS/2001-01-01T00:01", "LAS/2001-01-01T00:02", "LAS/2001-01-02T00:03", "ATL/2001-01-01T00:04"},
		"seq":                  {"0000", "0001", "0002", "0003"},
		"seq:1/origin":         {"0/LAS", "1/LAS", "2/LAS", "3/ATL"},
		"origin/seq:6":         {"LAS/000000", "LAS/000001", "LAS/000002", "ATL/000000"},
		"delay/distance:2":     {"33/21", "-13/23", "19/21", "4/10"},
		"origin:99/seq/date:4": {"LAS/0000/2001", "LAS/0001/2001", "LAS/0002/2001", "ATL/0000/2001"},
	} {
		t.Run(template, func(t *testing.T) {
			for _, in := range []string{flightsCSV, flightsJSON} {
				keys, _, err := readAll(t, in, Auto, template)
				require.NoError(t, err)
				require.Equal(t, want, keys)
			}
		})
	}
}

func TestTemplateErrors(t *testing.T) {
	for in, want := range map[string]string{
		"":            "names no field",
		"a//b":        "names no field",
		"/a":          "names no field",
		":3":          "names no field",
		"a:0":         "at least 1",
		"a:-1":        "at least 1",
		"a:x":         "at least 1",
		"seq/seq":     "once only",
		"seq/a/seq:2": "once only",
		"seq:20":      "at most 19",
	} {
		t.Run(in, func(t *testing.T) {
			_, err := ParseTemplate(in)
			require.ErrorContains(t, err, want)
		})
	}
}

func TestFileErrors(t *testing.T) {
	for name, c := range map[string]struct{ in, template, want string }{
		"missing field":        {flightsCSV, "airline", `record 1: no field "airline" (the header has`},
		"missing JSON field":   {flightsJSON, "airline", `record 1: no field "airline"`},
		"empty field":          {"a,b\n1,2\n,3\n", "a", `record 2: field "a" is empty`},
		"short row":            {"a,b\n1,2\n3\n", "a", "record 2: record on line 3: wrong number of fields"},
		"field twice":          {"a,b,a\n", "a", `field "a" stands there twice`},
		"null part":            {`{"a":null}`, "a", `field "a" is neither text`},
		"object part":          {`{"a":{"b":1}}`, "a", `field "a" is neither text`},
		"not an object":        {"{\"a\":1}\n[1]\n", "a", "record 2: not a JSON object"},
		"null record":          {"{\"a\":1}\nnull\n", "a", "record 2: not a JSON object"},
		"broken JSON":          {"{\"a\":1}\n{\"a\":\n", "a", "record 2: not a JSON object"},
		"line too long":        {`{"a":"` + strings.Repeat("x", maxLine) + `"}`, "a", "line is longer than 1048576 bytes"},
		"broken gzip":          {"\x1f\x8bxx", "a", "gzip"},
		"gzip cut off":         {gzipped(t, flightsCSV)[:40], "origin", "unexpected EOF"},
		"not UTF-8":            {"a,b\n1,2\n3,\xff\n", "a", `record 2: field "b" is not UTF-8 text`},
		"quote that never end": {"a\n\"x\n", "a", "record 1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := readAll(t, c.in, Auto, c.template)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestEmptyFile(t *testing.T) {
	for name, in := range map[string]string{"nothing": "", "header alone": "a,b\n", "nothing, gzipped": gzipped(t, "")} {
		t.Run(name, func(t *testing.T) {
			keys, _, err := readAll(t, in, Auto, "a")
			require.NoError(t, err)
			require.Empty(t, keys)
		})
	}
}

func TestSeqCountersAreBounded(t *testing.T) {
	tmpl, err := ParseTemplate("a/seq")
	require.NoError(t, err)
	r, err := NewReader(strings.NewReader("a\nx\ny\nx\nz\n"), CSV)
	require.NoError(t, err)
	k := NewKeyer(tmpl)
	k.prefixes = 2
	for range 3 {
		rec, err := r.Next()
		require.NoError(t, err)
		_, err = k.Key(rec)
		require.NoError(t, err)
	}
	rec, err := r.Next()
	require.NoError(t, err)
	_, err = k.Key(rec)
	require.ErrorContains(t, err, "record 4: seq counts under more than 2 different prefixes")
}

func TestIsNumberIsJSONGrammar(t *testing.T) {
	for _, s := range []string{
		"0", "-0", "7", "33", "-13", "1.5", "-1.50", "1e3", "1E+3", "1.5e-10", "12345678901234567890123",
		"", "-", "+1", "007", "1.", ".5", "1e", "1e+", "0x10", "NaN", "1 ", " 1", "1,5", "1-2", "--1", "true", "null",
	} {
		var n json.Number
		want := json.Unmarshal([]byte(s), &n) == nil && strings.TrimSpace(s) == s && s != "null" && s != ""
		require.Equal(t, want, isNumber(s), "%q", s)
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte(flightsCSV))
	f.Add([]byte(flightsJSON))
	f.Add([]byte("\x1f\x8b"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := NewReader(bytes.NewReader(in), Auto)
		if err != nil {
			return
		}
		for {
			rec, err := r.Next()
			if err != nil {
				return
			}
			if !json.Valid(rec.Value) {
				t.Fatalf("value of record %d is not JSON: %q", rec.Number, rec.Value)
			}
		}
	})
}

// TestOtherPrograms: what spreadsheets put before a file is skipped, and an array of JSON is not taken for CSV.
func TestOtherPrograms(t *testing.T) {
	for in, f := range map[string]Format{"\ufeffid,v\na,1\n": Auto, "\ufeff{\"id\":\"a\",\"v\":1}\n": Auto, "\ufeff" + "{\"id\":\"a\",\"v\":1}": JSON} {
		for _, text := range []string{in, gzipped(t, in)} {
			keys, values, err := readAll(t, text, f, "id")
			require.NoError(t, err)
			require.Equal(t, []string{"a"}, keys)
			require.Equal(t, []string{`{"id":"a","v":1}`}, values)
		}
	}
	for _, in := range []string{"[1,2]\n", " [\n{\"id\":\"a\"}\n]\n", "\ufeff[]"} {
		_, _, err := readAll(t, in, Auto, "id")
		require.ErrorContains(t, err, "a JSON array can't be read")
	}
	keys, _, err := readAll(t, "[id]\na\n", CSV, "[id]")
	require.NoError(t, err, "CSV that is called so may begin with anything")
	require.Equal(t, []string{"a"}, keys)
}
