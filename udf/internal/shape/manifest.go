package shape

import (
	"strconv"
	"strings"
)

// Entry is one function of a WebAssembly module, as its manifest declares it.
type Entry struct {
	Name  string
	Kind  Kind
	Codec Codec
	Capabilities
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

func (e *ManifestError) Error() string {
	if e.Line == 0 {
		return e.Reason
	}
	return "line " + strconv.Itoa(e.Line) + ": " + e.Reason
}

// AppendManifest encodes entries. ParseManifest reads it.
func AppendManifest(dst []byte, entries []Entry) []byte {
	dst = append(dst, ManifestHeader...)
	dst = append(dst, '\n')
	for _, e := range entries {
		for _, part := range []string{"function ", e.Name, " ", e.Kind.String(), " ", e.Codec.String(), "\n"} {
			dst = append(dst, part...)
		}
		dst = appendCapabilities(dst, e.Capabilities)
	}
	return dst
}

// ParseManifest reads a manifest: the header line, then for each function of the module one line "function NAME
// KIND CODEC" and the lines of its capabilities, in any order. Every line ends with a line feed.
func ParseManifest(text string) ([]Entry, error) {
	if len(text) > MaxManifestLen {
		return nil, &ManifestError{Reason: "it is longer than 16384 bytes"}
	}
	head, rest, ok := strings.Cut(text, "\n")
	if !ok || head != ManifestHeader {
		return nil, &ManifestError{Line: 1, Reason: "it is not \"" + ManifestHeader + "\""}
	}
	var entries []Entry
	for line := 2; rest != ""; line++ {
		var s string
		if s, rest, ok = strings.Cut(rest, "\n"); !ok {
			return nil, &ManifestError{Line: line, Reason: "it does not end with a line feed"}
		}
		var reason string
		if entries, reason = parseLine(entries, s); reason != "" {
			return nil, &ManifestError{Line: line, Reason: reason}
		}
	}
	if len(entries) == 0 {
		return nil, &ManifestError{Reason: "it declares no function"}
	}
	return entries, nil
}

func parseLine(entries []Entry, s string) (_ []Entry, reason string) {
	words := strings.Split(s, " ")
	switch words[0] {
	case "function":
		e, reason := parseEntry(words)
		switch {
		case reason == "" && find(entries, e.Name):
			reason = "it declares the function " + e.Name + " twice"
		case reason == "" && len(entries) == MaxEntries:
			reason = "it declares more than 64 functions"
		}
		return append(entries, e), reason
	case "reads", "writes", "limit", "commutative":
		if len(entries) == 0 {
			return nil, "it begins with " + words[0] + " and stands before the first function"
		}
		return entries, entries[len(entries)-1].capability(words)
	}
	return nil, "it begins with " + strconv.Quote(words[0]) + ", not with function, reads, writes, limit or commutative"
}

func find(entries []Entry, name string) bool {
	for _, e := range entries {
		if e.Name == name {
			return true
		}
	}
	return false
}

// notBuilt are kinds that are planned. A module that declares one is refused by name, so that nobody looks for a
// mistake of their own.
var notBuilt = []string{"pipeline", "bulk", "async", "trigger", "stream"}

func parseEntry(words []string) (e Entry, reason string) {
	if len(words) != 4 {
		return e, "it is not \"function NAME KIND CODEC\""
	}
	if reason = CheckName(words[1]); reason != "" {
		return e, "a function's name " + reason
	}
	e.Name = words[1]
	var ok bool
	if e.Kind, ok = ParseKind(words[2]); !ok {
		for _, kind := range notBuilt {
			if kind == words[2] {
				return e, "kind \"" + kind + "\" is not built yet; this version has pure, read-only, read-write, range and map"
			}
		}
		return e, "the kind of " + e.Name + " is " + strconv.Quote(words[2]) + ", not pure, read-only, read-write, range or map"
	}
	if e.Codec, ok = ParseCodec(words[3]); !ok {
		return e, "the codec of " + e.Name + " is " + strconv.Quote(words[3]) + ", not raw, json or proto"
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
