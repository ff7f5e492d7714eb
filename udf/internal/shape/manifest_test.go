package shape

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseManifest(t *testing.T) {
	entries := []Entry{{"a", KindPure, CodecRaw}, {"b.c-d_E", KindRange, CodecJSON}, {"9", KindReadWrite, CodecProto}, {"r", KindReadOnly, CodecJSON}}
	got, err := ParseManifest(string(AppendManifest(nil, entries)))
	require.NoError(t, err)
	require.Equal(t, entries, got)

	for text, want := range map[string]string{
		"":                                "its first line is not",
		"locus 1":                         "its first line is not",
		"locus 2\nfunction a pure raw\n":  "its first line is not",
		"locus 1\n":                       "declares no function",
		"locus 1\nfunction a pure raw":    "does not end with a line feed",
		"locus 1\nfunction a pure\n":      "is not \"function NAME KIND CODEC\"",
		"locus 1\nfunktion a pure raw\n":  "is not \"function NAME KIND CODEC\"",
		"locus 1\nfunction a  pure raw\n": "is not \"function NAME KIND CODEC\"",
		"locus 1\nfunction  pure raw\n":   "name is empty",
		"locus 1\nfunction a! pure raw\n": "letters, digits",
		"locus 1\nfunction a fast raw\n":  "kind of a is not",
		"locus 1\nfunction a  raw\n":      "kind of a is not",
		"locus 1\nfunction a pure xml\n":  "codec of a is not",
		"locus 1\nfunction a pure raw\nfunction a pure raw\n": "declares the function a twice",
		"locus 1\n" + strings.Repeat("x", MaxManifestLen):     "longer than 16384",
	} {
		_, err := ParseManifest(text)
		require.ErrorContains(t, err, want, "%q", text)
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add("locus 1\nfunction a pure raw\n")
	f.Add("locus 1\nfunction a range json\nfunction b read-only proto\n")
	f.Add("locus 1\nfunction a  \n")
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := ParseManifest(text)
		if err == nil {
			require.Equal(t, text, string(AppendManifest(nil, entries)), "every manifest has one text")
		}
	})
}
