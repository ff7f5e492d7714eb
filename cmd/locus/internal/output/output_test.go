package output

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTableAligns(t *testing.T) {
	tb := NewTable("origin", ">flights", ">mean", "note")
	tb.Row("ATL", "1,234", "8.1", "")
	tb.Row("Zürich", "5", "10.25", "last")
	var b bytes.Buffer
	require.NoError(t, tb.Write(&b, "  "))
	require.Equal(t, ""+
		"  origin  flights   mean  note\n"+
		"  ATL       1,234    8.1\n"+
		"  Zürich        5  10.25  last\n", b.String())
}

func TestTableWithoutRowsHasItsHead(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, NewTable("a", ">b").Write(&b, ""))
	require.Equal(t, "a  b\n", b.String())
}

func TestTableRefusesOddRows(t *testing.T) {
	require.Panics(t, func() { NewTable("a", "b").Row("1") })
}

func TestKeys(t *testing.T) {
	for name, c := range map[string]struct {
		hex  bool
		in   string
		key  []byte
		text string
		err  string
	}{
		"text":          {in: "LAS/2001", key: []byte("LAS/2001"), text: "LAS/2001"},
		"umlaut":        {in: "Zürich", key: []byte("Zürich"), text: "Zürich"},
		"control bytes": {in: "a\x00\n", key: []byte("a\x00\n"), text: `a\x00\n`},
		"not UTF-8":     {in: "\xff\"", key: []byte("\xff\""), text: `\xff\"`},
		"hex":           {hex: true, in: "00FF41", key: []byte{0, 0xff, 'A'}, text: "00ff41"},
		"hex, empty":    {hex: true, in: "", key: []byte{}, text: ""},
		"hex, odd":      {hex: true, in: "abc", err: `key "abc" is not hexadecimal`},
		"hex, letters":  {hex: true, in: "zz", err: `key "zz" is not hexadecimal`},
	} {
		t.Run(name, func(t *testing.T) {
			k := Keys{Hex: c.hex}
			key, err := k.Parse(c.in)
			if c.err != "" {
				require.EqualError(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.key, key)
			require.Equal(t, c.text, k.Text(key))
		})
	}
}

func TestValueInJSON(t *testing.T) {
	for in, want := range map[string]string{
		"":       `{"value":""}`,
		"a<b":    `{"value":"a<b"}`,
		"\xff":   `{"value_base64":"/w=="}`,
		"Zürich": `{"value":"Zürich"}`,
	} {
		var b bytes.Buffer
		require.NoError(t, JSONLine(&b, NewValue([]byte(in))))
		require.Equal(t, want+"\n", b.String())
		require.True(t, json.Valid(b.Bytes()))
	}
}

func TestNumbers(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 7: "7", 999: "999", 1000: "1,000", -1234567: "-1,234,567", 100000: "100,000"} {
		require.Equal(t, want, Count(n))
	}
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 1234: "1.2 kB", 99_960: "100 kB", 999_600: "1.0 MB", 1_500_000_000: "1.5 GB",
		5_000_000_000_000: "5.0 TB",
	} {
		require.Equal(t, want, Bytes(n))
	}
	for d, want := range map[time.Duration]string{
		0:                        "0 µs",
		250 * time.Microsecond:   "250 µs",
		1500 * time.Microsecond:  "1.5 ms",
		35 * time.Millisecond:    "35 ms",
		1240 * time.Millisecond:  "1.24 s",
		35500 * time.Millisecond: "35.5 s",
		125 * time.Second:        "2m5s",
	} {
		require.Equal(t, want, Duration(d))
	}
	require.Equal(t, "50,000/s", Rate(100_000, 2*time.Second))
	require.Equal(t, "-", Rate(5, 0))
}
