package shape

import "strings"

// Entry is one function of a WebAssembly module, as its manifest declares it.
type Entry struct {
	Name  string
	Kind  Kind
	Codec Codec
}

// Limits on what a manifest may say.
const (
	MaxNameLen     = 100
	MaxManifestLen = 16 << 10
	MaxEntries     = 64
)

// ManifestHeader is the first line of every manifest.
const ManifestHeader = "locus 1"

// ManifestError says what is wrong with a manifest.
type ManifestError struct {
	Line   int // from 1; 0: the whole
	Reason string
}

func (e *ManifestError) Error() string { return e.Reason }

// AppendManifest encodes entries. It is what ParseManifest reads.
func AppendManifest(dst []byte, entries []Entry) []byte {
	dst = append(dst, ManifestHeader...)
	dst = append(dst, '\n')
	for _, e := range entries {
		for _, part := range []string{"function ", e.Name, " ", e.Kind.String(), " ", e.Codec.String(), "\n"} {
			dst = append(dst, part...)
		}
	}
	return dst
}

// ParseManifest reads a manifest: the header line, then one line "function NAME KIND CODEC" for each
// function of the module. Every line ends with a line feed.
func ParseManifest(text string) ([]Entry, error) {
	if len(text) > MaxManifestLen {
		return nil, &ManifestError{Reason: "it is longer than 16384 bytes"}
	}
	head, rest, ok := strings.Cut(text, "\n")
	if !ok || head != ManifestHeader {
		return nil, &ManifestError{Line: 1, Reason: "its first line is not \"" + ManifestHeader + "\""}
	}
	var entries []Entry
	for line := 2; rest != ""; line++ {
		var s string
		if s, rest, ok = strings.Cut(rest, "\n"); !ok {
			return nil, &ManifestError{Line: line, Reason: "a line does not end with a line feed"}
		}
		e, reason := parseEntry(s)
		if reason == "" && find(entries, e.Name) {
			reason = "it declares the function " + e.Name + " twice"
		}
		if reason == "" && len(entries) == MaxEntries {
			reason = "it declares more than 64 functions"
		}
		if reason != "" {
			return nil, &ManifestError{Line: line, Reason: reason}
		}
		entries = append(entries, e)
	}
	if len(entries) == 0 {
		return nil, &ManifestError{Reason: "it declares no function"}
	}
	return entries, nil
}

func find(entries []Entry, name string) bool {
	for _, e := range entries {
		if e.Name == name {
			return true
		}
	}
	return false
}

func parseEntry(s string) (e Entry, reason string) {
	parts := strings.Split(s, " ")
	if len(parts) != 4 || parts[0] != "function" {
		return e, "a line is not \"function NAME KIND CODEC\""
	}
	var ok bool
	if reason = CheckName(parts[1]); reason != "" {
		return e, "a function's name " + reason
	}
	e.Name = parts[1]
	if e.Kind, ok = ParseKind(parts[2]); !ok {
		return e, "the kind of " + e.Name + " is not pure, read-only, read-write, range or map"
	}
	if e.Codec, ok = ParseCodec(parts[3]); !ok {
		return e, "the codec of " + e.Name + " is not raw, json or proto"
	}
	return e, ""
}

// CheckName says what is wrong with a function's name; "" if nothing is.
func CheckName(name string) string {
	if name == "" {
		return "is empty"
	}
	if len(name) > MaxNameLen {
		return "is longer than 100 bytes"
	}
	for i := range len(name) {
		c := name[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '-' && c != '_' && c != '.') {
			return "may hold letters, digits, '-', '_' and '.' only, and begins with a letter or digit"
		}
	}
	return ""
}
