package local

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/udf"
)

var ctx = context.Background()

func module(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile("../../examples/guests/" + path + ".wasm")
	require.NoError(t, err)
	return b
}

func records(pairs ...string) (list []Record) {
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, Record{[]byte(pairs[i]), []byte(pairs[i+1])})
	}
	return list
}

func TestPure(t *testing.T) {
	report, err := Run(ctx, module(t, "c/square"), Options{Argument: []byte("5")})
	require.NoError(t, err)
	require.Equal(t, "25", string(report.Result))
	require.Equal(t, udf.KindPure, report.Kind)
	require.Equal(t, udf.CodecJSON, report.Codec)
	require.NotZero(t, report.Fuel)
	require.Empty(t, report.Writes)
}

func TestReadWrite(t *testing.T) {
	data := records("accounts/b", "5", "accounts/a", "1", "accounts/a", "100", "other", "x")
	o := Options{Group: []byte("accounts/"), Argument: []byte("a b 30"), Records: data}
	report, err := Run(ctx, module(t, "rust/transfer"), o)
	require.NoError(t, err)
	require.Equal(t, "70 35", string(report.Result), "the later of two records with one key counts")
	require.Equal(t, []Write{{Key: []byte("accounts/a"), Value: []byte("70")}, {Key: []byte("accounts/b"), Value: []byte("35")}}, report.Writes)
	require.Equal(t, []string{"accounts/"}, report.Capabilities.Writes.Prefixes)

	o.Argument = []byte("a b 101")
	report, err = Run(ctx, module(t, "rust/transfer"), o)
	require.Equal(t, &api.FunctionError{Function: "function", Code: 1, Message: "there is not enough in the account"}, err)
	require.Empty(t, report.Writes)

	// A key is a group of its own, so that another key is as far away as on a node.
	o = Options{Function: "transfer", Key: []byte("accounts/"), Argument: []byte("a b 30"), Records: data}
	_, err = Run(ctx, module(t, "c/transfer"), o)
	require.Equal(t, api.ErrNotOneGroup, err)
	o.Key, o.Group = nil, []byte("savings/")
	_, err = Run(ctx, module(t, "c/transfer"), o)
	require.Equal(t, &api.PermissionError{Function: "transfer", Action: "read", Key: []byte("savings/a"), Prefixes: [][]byte{[]byte("accounts/")}}, err)
}

func TestRange(t *testing.T) {
	var data []Record
	sum := uint64(0)
	for i := range 5000 {
		value := make([]byte, 100)
		binary.LittleEndian.PutUint64(value[8:], uint64(i))
		sum += uint64(i)
		data = append(data, Record{fmt.Appendf(nil, "k%05d", 4999-i), value})
	}
	for _, parts := range []int{0, 1, 2, 7} {
		report, err := Run(ctx, module(t, "c/fixedsum"), Options{Argument: []byte("8"), Records: data, Parts: parts})
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf(`{"count":5000,"sum":%d}`, sum), string(report.Result))
		require.Equal(t, 5000, report.Records)
		require.Equal(t, 5000*(16+6+100), report.Bytes)
	}
	report, err := Run(ctx, module(t, "c/fixedsum"), Options{Argument: []byte("8")})
	require.NoError(t, err)
	require.Equal(t, `{"count":0,"sum":0}`, string(report.Result))
}

func TestMap(t *testing.T) {
	report, err := Run(ctx, module(t, "../../udf/wasm/testdata/hostile"), Options{Function: "map", Argument: []byte{}, Records: records("c", "3", "a", "1", "b", "2")})
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte("a"), []byte("b"), []byte("c"), []byte("c")}, report.Outputs, "emitted, and then returned")
	require.Equal(t, 3, report.Records)
	require.NotZero(t, report.Fuel)
}

func TestRunRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		module string
		o      Options
		want   string
	}{
		"no key":             {"c/transfer", Options{}, "the function is read-write: it is called on a key or on a group, and needs one of them"},
		"both":               {"c/transfer", Options{Key: []byte("a"), Group: []byte("b")}, "needs one of them"},
		"a key for none":     {"c/square", Options{Key: []byte("a")}, "the function is pure: it is called on no key"},
		"a key for a range":  {"c/fixedsum", Options{Group: []byte("a")}, "the function is range: it is called on no key"},
		"an empty key":       {"c/square", Options{Records: records("", "x")}, "locus: keys: the key is empty"},
		"a long key":         {"c/square", Options{Records: records(strings.Repeat("k", 5000), "x")}, "locus: key length is 5000, more than the limit of 4096"},
		"a long value":       {"c/square", Options{Records: records("k", strings.Repeat("v", 600_000))}, "locus: value length is 600000, more than the limit of 524288"},
		"less than one part": {"c/fixedsum", Options{Parts: -1}, "-1 parts are less than 1"},
		"a bad name":         {"c/square", Options{Function: "a b"}, `the function name "a b" may hold`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Run(ctx, module(t, c.module), c.o)
			require.ErrorContains(t, err, c.want)
		})
	}
	_, err := Run(ctx, []byte("no module"), Options{})
	require.ErrorContains(t, err, "it is not a WebAssembly module of version 1")
}

// TestScanAndWrites: a transaction shows its own writes, and scans its group only, in batches.
func TestScanAndWrites(t *testing.T) {
	in := func(k []byte) bool { return k[0] == 'g' }
	base, err := newTable(records("a", "1", "g1", strings.Repeat("x", 60<<10), "g2", strings.Repeat("y", 60<<10), "g3", "3", "h", "4"))
	require.NoError(t, err)
	x := &tx{records: base, writes: map[string]Write{}, in: in, span: udf.PrefixSpan([]byte("g"))}
	scan := func(s udf.Span) (lens []int) {
		require.NoError(t, x.Scan(s, func(b []byte) bool { lens = append(lens, len(b)); return true }))
		return lens
	}
	require.Equal(t, []int{2 * (16 + 2 + 60<<10), 16 + 2 + 1}, scan(udf.Span{}))
	require.Equal(t, []int{16 + 2 + 1}, scan(udf.Span{Start: []byte("g3"), End: []byte("z")}))
	require.Empty(t, scan(udf.Span{Start: []byte("h")}))
	require.Empty(t, scan(udf.Span{Start: []byte("g3"), End: []byte("g1")}))
	require.NoError(t, x.Delete([]byte("g1")))
	require.NoError(t, x.Put([]byte("g0"), nil, 0))
	require.Equal(t, []int{16 + 2 + 16 + 2 + 60<<10 + 16 + 2 + 1}, scan(udf.Span{}))
	_, found, err := x.Get([]byte("g1"))
	require.NoError(t, err)
	require.False(t, found)
	require.Equal(t, api.ErrNotOneGroup, x.Put([]byte("h"), nil, 0))
	require.Equal(t, api.ErrNotOneGroup, x.Delete([]byte("a")))
	_, _, err = x.Get([]byte("a"))
	require.Equal(t, api.ErrNotOneGroup, err)
	require.Equal(t, []Write{{Key: []byte("g0"), Value: []byte{}}, {Key: []byte("g1"), Deleted: true}}, x.list())
}
