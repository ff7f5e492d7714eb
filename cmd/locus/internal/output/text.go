package output

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Keys says how keys are written and read.
type Keys struct {
	// Hex writes and reads every key in hexadecimal.
	Hex bool
}

// Parse reads a key that a user wrote.
func (k Keys) Parse(s string) ([]byte, error) {
	if !k.Hex {
		return []byte(s), nil
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("key %q is not hexadecimal", s)
	}
	return b, nil
}

// Text writes a key. Without Hex, a key that is not printable text is written with Go's escapes.
func (k Keys) Text(key []byte) string {
	if k.Hex {
		return hex.EncodeToString(key)
	}
	return Printable(key)
}

// Printable is b as it is when that is printable text, and with Go's escapes when not.
func Printable(b []byte) string {
	s := string(b)
	if !utf8.ValidString(s) || strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
		q := strconv.Quote(s)
		return q[1 : len(q)-1]
	}
	return s
}

// JSON writes v as one indented JSON document.
func JSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// JSONLine writes v as one line of JSON.
func JSONLine(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// Value is a value in JSON: the bytes as text, or in base64 when they are not UTF-8.
type Value struct {
	Text   *string `json:"value,omitempty"`
	Base64 []byte  `json:"value_base64,omitempty"`
}

// NewValue wraps b.
func NewValue(b []byte) Value {
	if !utf8.Valid(b) {
		return Value{Base64: b}
	}
	s := string(b)
	return Value{Text: &s}
}

// Count writes n with commas between groups of three digits: 1,234,567.
func Count[N ~int | ~int64 | ~uint64](n N) string {
	s := strconv.FormatInt(int64(n), 10)
	sign := ""
	if s[0] == '-' {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// Bytes writes a size in units of 1000: 1.2 MB.
func Bytes[N ~int | ~int64 | ~uint64](n N) string {
	f := float64(n)
	for _, unit := range []string{"B", "kB", "MB", "GB"} {
		if f < 999.5 {
			return significant(f, unit)
		}
		f /= 1000
	}
	return significant(f, "TB")
}

func significant(f float64, unit string) string {
	if unit == "B" || f >= 99.5 {
		return fmt.Sprintf("%.0f %s", f, unit)
	}
	return fmt.Sprintf("%.1f %s", f, unit)
}

// Duration writes d with three digits at most: 1.24 s, 35 ms, 2m05s.
func Duration(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%.0f µs", float64(d)/float64(time.Microsecond))
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond))
	case d < 10*time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// Rate writes how many per second n in d is.
func Rate(n int64, d time.Duration) string {
	if d <= 0 {
		return "-"
	}
	return Count(int64(float64(n)/d.Seconds())) + "/s"
}
