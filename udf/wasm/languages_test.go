package wasm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/udf"
	"github.com/locuskv/locus/udf/internal/memstore"
	"github.com/locuskv/locus/udf/internal/shape"
)

// languages are those that have an SDK, each with the same three examples.
var languages = []string{"go", "c", "rust"}

// inEveryLanguage runs one test on the three guests of an example.
func inEveryLanguage(t *testing.T, name string, test func(t *testing.T, f *Function)) {
	for _, language := range languages {
		t.Run(language, func(t *testing.T) {
			if language == "go" && testing.Short() {
				t.Skip("compiling a guest in Go takes long under the race detector; without -short it is run")
			}
			test(t, example(t, name, moduleFile(t, guests+language+"/"+name+".wasm")))
		})
	}
}

// isBadArgument: the function said that it can't read its argument. Its words are each SDK's own.
func isBadArgument(t *testing.T, err error, what any) {
	t.Helper()
	var invalid *api.InvalidArgumentError
	require.True(t, errors.As(err, &invalid), "%v: %v", what, err)
}

func TestSquareInEveryLanguage(t *testing.T) {
	inEveryLanguage(t, "square", func(t *testing.T, f *Function) {
		require.Equal(t, udf.KindPure, f.Kind())
		for arg, want := range map[string]string{
			"5": "25", "-3": "9", "0": "0", "-0": "0", " 7\n": "49", "null": "0", "": "0", "4294967296": "0", // 2^64
			"3037000500": "-9223372036709301616", "-9223372036854775808": "0", "9223372036854775807": "1",
		} {
			out, err := f.CallPure(ctx, udf.CodecJSON, []byte(arg))
			require.NoError(t, err, "%q", arg)
			require.Equal(t, want, string(out.Result), "%q", arg)
		}
		for _, arg := range []string{`"five"`, "1.5", "1e3", "01", "-", "+1", " ", "5 5", "9223372036854775808", "-9223372036854775809", "99999999999999999999999", "[1]"} {
			_, err := f.CallPure(ctx, udf.CodecJSON, []byte(arg))
			isBadArgument(t, err, arg)
		}
	})
}

func TestTransferInEveryLanguage(t *testing.T) {
	accounts := map[string]string{
		"accounts/alice": "100", "accounts/bob": "5", "accounts/text": "much", "accounts/rich": fmt.Sprint(int64(math.MaxInt64 - 10)),
		"accounts/debt": "-7", "accounts/long": strings.Repeat("9", 500), "accounts/empty": "",
	}
	info := udf.Info{Key: []byte("accounts/")}
	inEveryLanguage(t, "transfer", func(t *testing.T, f *Function) {
		require.Equal(t, udf.KindReadWrite, f.Kind())
		require.Equal(t, []string{"accounts/"}, f.Capabilities().Reads.Prefixes)
		require.Equal(t, []string{"accounts/"}, f.Capabilities().Writes.Prefixes)
		require.EqualValues(t, 64, f.Capabilities().Limits.Result)

		s := memstore.New(accounts)
		for _, c := range []struct{ arg, want string }{{"alice bob 30", "70 35"}, {"bob alice 35", "0 105"}, {"alice debt 10", "95 3"}, {"alice rich 10", fmt.Sprintf("85 %d", int64(math.MaxInt64))}} {
			out, err := f.CallWrite(ctx, s, info, udf.CodecRaw, []byte(c.arg))
			require.NoError(t, err)
			require.Equal(t, c.want, string(out.Result))
		}
		require.Equal(t, "85", s.Data["accounts/alice"])
		require.Equal(t, "0", s.Data["accounts/bob"])
		require.Equal(t, "3", s.Data["accounts/debt"])

		s = memstore.New(accounts)
		for arg, want := range map[string]*api.FunctionError{
			"bob alice 6":   {Code: 1, Message: "there is not enough in the account"},
			"debt alice 1":  {Code: 1, Message: "there is not enough in the account"},
			"alice carol 1": {Code: 2, Message: "there is no such account"},
			"carol alice 1": {Code: 2, Message: "there is no such account"},
			"alice text 1":  {Code: 3, Message: "an account does not hold a decimal number"},
			"empty alice 1": {Code: 3, Message: "an account does not hold a decimal number"},
			"alice rich 11": {Code: 4, Message: "the account can't hold that much"},
		} {
			want.Function = "transfer"
			_, err := f.CallWrite(ctx, s, info, udf.CodecRaw, []byte(arg))
			require.Equal(t, want, err, arg)
		}
		_, err := f.CallWrite(ctx, s, info, udf.CodecRaw, []byte("long alice 1"))
		var refused *api.FunctionError
		require.ErrorAs(t, err, &refused, "a value that is longer than any balance")
		for _, arg := range []string{"", "alice bob", "alice bob 1 ", "alice bob 1 2", "alice alice 1", "alice bob 0", "alice bob -1", "alice bob +1", "alice bob x", " alice bob", "  1", strings.Repeat("n", 65) + " bob 1"} {
			_, err := f.CallWrite(ctx, s, info, udf.CodecRaw, []byte(arg))
			isBadArgument(t, err, arg)
		}
		require.Equal(t, accounts, s.Data, "what was refused wrote nothing")

		_, err = f.CallWrite(ctx, s, udf.Info{Key: []byte("vault/")}, udf.CodecRaw, []byte("alice bob 1"))
		require.Equal(t, &api.PermissionError{Function: "transfer", Action: "read", Key: []byte("vault/alice"), Prefixes: [][]byte{[]byte("accounts/")}}, err)
	})
}

// fixedRecords are n records of size bytes whose field at offset is known.
func fixedRecords(n, size, offset int) (s *memstore.Store, sum uint64) {
	s = memstore.New(nil)
	for i := range n {
		value := make([]byte, size)
		for k := range value {
			value[k] = byte(i * k)
		}
		field := uint64(i)*0x9e3779b97f4a7c15 - 12345
		binary.LittleEndian.PutUint64(value[offset:], field)
		sum += field
		s.Data[fmt.Sprintf("r%06d", i)] = string(value)
	}
	return s, sum
}

func TestFixedSumInEveryLanguage(t *testing.T) {
	s, sum := fixedRecords(3000, 100, 40) // 340 KB: several batches
	want := fmt.Sprintf(`{"count":3000,"sum":%d}`, int64(sum))
	inEveryLanguage(t, "fixedsum", func(t *testing.T, f *Function) {
		require.Equal(t, udf.KindRange, f.Kind())
		var accs [][]byte
		for _, span := range []udf.Span{{End: []byte("r001")}, {Start: []byte("r001"), End: []byte("r002")}, {Start: []byte("r002")}, {Start: []byte("z")}} {
			a, err := f.NewAccumulator(ctx, udf.CodecJSON, []byte("40"))
			require.NoError(t, err)
			for _, b := range s.Batches(span) {
				require.NoError(t, a.Add(ctx, b))
			}
			b, err := a.Encode(ctx)
			require.NoError(t, err)
			require.Len(t, b, 16)
			accs = append(accs, b)
			a.Close()
		}
		half, err := f.Merge(ctx, udf.CodecJSON, []byte("40"), accs[2:])
		require.NoError(t, err)
		out, err := f.Result(ctx, udf.CodecJSON, []byte("40"), [][]byte{half.Result, accs[1], accs[0]})
		require.NoError(t, err)
		require.Equal(t, want, string(out.Result))
		out, err = f.Result(ctx, udf.CodecJSON, nil, nil)
		require.NoError(t, err)
		require.Equal(t, `{"count":0,"sum":0}`, string(out.Result), "the field of no record, at 0")

		for _, arg := range []string{`"n"`, "-1", "1.5", "524281", "99999999999999999999", "{}"} {
			_, err := f.NewAccumulator(ctx, udf.CodecJSON, []byte(arg))
			isBadArgument(t, err, arg)
		}
		a, err := f.NewAccumulator(ctx, udf.CodecJSON, []byte("93"))
		require.NoError(t, err)
		defer a.Close()
		require.Equal(t, &api.FunctionError{Function: "fixedsum", Code: 1, Message: "a value ends before the field does"}, a.Add(ctx, s.Batches(udf.Span{})[0]))
		_, err = f.Result(ctx, udf.CodecJSON, nil, [][]byte{[]byte("short")})
		require.Equal(t, &api.FunctionError{Function: "fixedsum", Message: "an accumulator is not 16 bytes long"}, err)
	})
}

// TestLargestBatch: a batch may be as long as 64 KiB and the longest record; the buffers of all guests take it.
func TestLargestBatch(t *testing.T) {
	s, _ := fixedRecords(600, 100, 0)
	s.Data["r9"] = strings.Repeat("\x01", 512<<10)
	batches := s.Batches(udf.Span{})
	require.Len(t, batches, 2)
	batches = [][]byte{append(batches[0], batches[1]...), batches[0]}
	inEveryLanguage(t, "fixedsum", func(t *testing.T, f *Function) {
		a, err := f.NewAccumulator(ctx, udf.CodecJSON, nil)
		require.NoError(t, err)
		defer a.Close()
		for _, b := range batches {
			require.NoError(t, a.Add(ctx, b))
		}
	})
}

// TestSmallGuests: an instance of a guest in C or Rust takes less than 0.3 MB, also after batches of the usual length.
func TestSmallGuests(t *testing.T) {
	s, _ := fixedRecords(3000, 100, 0)
	for _, path := range []string{"c/fixedsum", "rust/fixedsum", "c/square", "rust/square", "c/transfer", "rust/transfer", "c/fieldsum"} {
		name := path[strings.Index(path, "/")+1:]
		f := compile(t, newRuntime(t, Options{MaxInstances: 1}), name, moduleFile(t, guests+path+".wasm"))
		require.LessOrEqual(t, len(memories(f)[0]), 128<<10, "%s begins small", path)
		if f.Kind() != udf.KindRange {
			continue
		}
		arg := []byte("0")
		if name == "fieldsum" {
			arg = []byte(`"n"`)
		}
		a, err := f.NewAccumulator(ctx, udf.CodecJSON, arg)
		require.NoError(t, err)
		for _, b := range s.Batches(udf.Span{}) {
			require.NoError(t, a.Add(ctx, b))
		}
		a.Close()
		require.Less(t, len(memories(f)[0]), 300_000, path)
	}
}

// TestRustSDK is what the crate has that the examples do not use.
func TestRustSDK(t *testing.T) {
	var lines []string
	r := newRuntime(t, Options{MaxInstances: 1, Log: func(function, line string) { lines = append(lines, function+": "+line) }})
	function := func(name string) *Function { return compile(t, r, name, moduleFile(t, "testdata/everything.wasm")) }
	s := memstore.New(map[string]string{"gone": "1"})
	for i := range 3000 { // several batches; every third record expires
		s.Data[fmt.Sprintf("k%04d", i)] = strings.Repeat("v", 95)
	}
	out, err := function("scan").CallRead(ctx, s, udf.Info{}, udf.CodecRaw, []byte("k"))
	require.NoError(t, err)
	require.Equal(t, "3000 300000 1000", string(out.Result))
	s.Data["z"] = strings.Repeat("z", 200<<10)
	_, err = function("scan").CallRead(ctx, s, udf.Info{}, udf.CodecRaw, []byte("k"))
	require.Equal(t, &api.FunctionError{Function: "scan", Message: "what the host gave is longer than the buffer for it"}, err)

	info := udf.Info{ID: udf.CallID{1, 2, 3}, Timestamp: 0x1122334455667788, Key: []byte("the key")}
	out, err = function("misc").CallWrite(ctx, s, info, udf.CodecRaw, []byte("value"))
	require.NoError(t, err)
	var random [8]byte
	_, _ = shape.RandSource(info.ID).Read(random[:])
	require.Equal(t, string(info.ID[:])+"\x88\x77\x66\x55\x44\x33\x22\x11"+string(random[:])+"the key", string(out.Result))
	require.Equal(t, "value", s.Data["written"])
	require.Equal(t, 1500*time.Millisecond, s.TTL["written"])
	require.NotContains(t, s.Data, "gone")
	require.Equal(t, []string{"misc: a line"}, lines)

	_, err = function("panic").CallPure(ctx, udf.CodecRaw, []byte("x"))
	require.Equal(t, crashed("panic", "wasm error: unreachable"), err)
	require.Regexp(t, `^panic: panic at .*everything\.rs:\d+$`, lines[1])

	keys := function("keys")
	_, err = keys.NewMapping(ctx, udf.CodecRaw, nil)
	isBadArgument(t, err, "no argument")
	m, err := keys.NewMapping(ctx, udf.CodecRaw, []byte("b"))
	require.NoError(t, err)
	defer m.Close()
	for range 2 {
		outputs, err := m.Map(ctx, memstore.New(map[string]string{"a": "", "b1": "", "b2": "x", "c": ""}).Batches(udf.Span{})[0])
		require.NoError(t, err)
		require.Equal(t, [][]byte{[]byte("b1"), []byte("b2")}, outputs)
	}
}

// TestEveryGuestIsBuilt: what examples/rebuild.sh builds is committed, and the toolchains are recorded.
func TestEveryGuestIsBuilt(t *testing.T) {
	versions := string(moduleFile(t, "../../examples/toolchain.txt"))
	require.Regexp(t, regexp.MustCompile(`^go go\S+\nclang \S+\nrustc \S+\n$`), versions)
	for _, language := range languages {
		for _, name := range []string{"square", "transfer", "fixedsum"} {
			_, err := os.Stat(guests + language + "/" + name + ".wasm")
			require.NoError(t, err)
		}
	}
}

// BenchmarkFixedSum is the three languages over batches as the scan cache hands them out.
func BenchmarkFixedSum(b *testing.B) {
	s, _ := fixedRecords(100_000, 100, 40)
	batches := s.Batches(udf.Span{})
	for _, language := range languages {
		b.Run(language, func(b *testing.B) {
			a, err := example(b, "fixedsum", moduleFile(b, guests+language+"/fixedsum.wasm")).NewAccumulator(ctx, udf.CodecJSON, []byte("40"))
			require.NoError(b, err)
			defer a.Close()
			b.ReportAllocs()
			for b.Loop() {
				for _, batch := range batches {
					if err := a.Add(ctx, batch); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.N*len(s.Data))/b.Elapsed().Seconds(), "records/s")
		})
	}
}
