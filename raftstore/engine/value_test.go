package engine

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/internal/hlc"
)

func TestValueRoundTrip(t *testing.T) {
	for _, tc := range []struct {
		name        string
		data        []byte
		ts, expires hlc.Timestamp
		hex         string
	}{
		{"empty", nil, 0, 0, "01000000000000000000"},
		{"plain", []byte("ab"), 0x0102, 0, "010002010000000000006162"},
		{"expires", []byte("x"), 1, 2, "01010100000000000000020000000000000078"},
		{"largest", bytes.Repeat([]byte{7}, 3), math.MaxUint64, math.MaxUint64, "0101ffffffffffffffffffffffffffffffff070707"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			stored := AppendValue([]byte("head"), tc.data, tc.ts, tc.expires)
			require.Equal(t, "head", string(stored[:4]))
			require.Equal(t, tc.hex, hex.EncodeToString(stored[4:]), "the form on disk is fixed")
			require.LessOrEqual(t, len(stored)-4-len(tc.data), MaxHeaderLen)
			v, err := ParseValue(stored[4:])
			require.NoError(t, err)
			require.Equal(t, tc.ts, v.Timestamp)
			require.Equal(t, tc.expires, v.Expires)
			require.True(t, bytes.Equal(tc.data, v.Data))
		})
	}
}

func TestParseValueRefuses(t *testing.T) {
	for _, tc := range []struct{ hex, reason string }{
		{"", "shorter"},
		{"010000000000000000", "shorter"},
		{"02000000000000000000", "format 2"},
		{"00000000000000000000", "format 0"},
		{"01020000000000000000", "flags 0x2"},
		{"01030000000000000000", "flags 0x3"},
		{"0101000000000000000001000000000000", "expiry"},
		{"010100000000000000000000000000000000", "expiry of 0"},
	} {
		b, err := hex.DecodeString(tc.hex)
		require.NoError(t, err)
		_, err = ParseValue(b)
		var ve *ValueError
		require.ErrorAs(t, err, &ve, tc.hex)
		require.Contains(t, err.Error(), tc.reason)
	}
}

func TestValueExpired(t *testing.T) {
	for _, tc := range []struct {
		expires, at hlc.Timestamp
		want        bool
	}{
		{0, 0, false},
		{0, math.MaxUint64, false},
		{10, 9, false},
		{10, 10, true},
		{10, 11, true},
	} {
		require.Equal(t, tc.want, Value{Expires: tc.expires}.Expired(tc.at), "%d at %d", tc.expires, tc.at)
	}
}

func FuzzParseValue(f *testing.F) {
	f.Add(AppendValue(nil, []byte("value"), 5, 0))
	f.Add(AppendValue(nil, nil, 5, 6))
	f.Add([]byte{1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := ParseValue(b)
		if err != nil {
			var ve *ValueError
			require.True(t, errors.As(err, &ve))
			return
		}
		require.True(t, bytes.Equal(b, AppendValue(nil, v.Data, v.Timestamp, v.Expires)), "one value, one encoding")
	})
}
