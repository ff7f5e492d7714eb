package operators

import (
	"bytes"
	"strconv"
	"strings"
	"unsafe"

	"github.com/tidwall/gjson"
)

// jsonField finds a field of a JSON object, which may lie deeper: path are its names, and positions in arrays.
func jsonField(path []string) eval {
	parts := make([]string, len(path))
	for i, p := range path {
		parts[i] = gjson.Escape(p)
	}
	dotted := strings.Join(parts, ".")
	quoted := quote(path[0])
	if len(path) > 1 || quoted == nil {
		return func(r *record) value { return lookup(r, dotted) }
	}
	return func(r *record) value {
		if at := direct(r.value, quoted); at >= 0 && at < len(r.value) {
			b := r.value[at:]
			if b[0] == '"' {
				b = b[1:]
				if end := bytes.IndexByte(b, '"'); end >= 0 && bytes.IndexByte(b[:end], '\\') < 0 {
					return textOf(b[:end])
				}
			} else if n, ok := decimal(b); ok {
				return integer(n)
			}
		}
		return lookup(r, dotted)
	}
}

// direct finds a field of the outermost object by its quoted name, where that takes no look at the rest, and is where its
// value begins. In JSON a quote that follows a comma or brace can only begin a string (within one it would end it, and no
// name can follow that), and a string before a colon can only be a name; and what has no brace before it but the first is
// the outermost object's. So what it finds is what gjson finds, unless the value is no JSON. It is negative
// where it can't tell.
func direct(json, quoted []byte) int {
	at := index(json, quoted)
	if at < 1 || json[0] != '{' {
		return -1
	}
	before := at - 1
	for json[before] == ' ' {
		before--
	}
	if before > 0 && json[before] != ',' {
		return -1
	}
	if bytes.IndexByte(json[1:at], '{') >= 0 {
		return -1
	}
	at += len(quoted)
	if at < len(json) && json[at] == ' ' {
		at++
	}
	return at
}

// near is as far as bytes.Index searches by comparing at each place, which is faster than looking for quotes first.
const near = 64

// index is bytes.Index, faster for what stands near the beginning.
func index(b, quoted []byte) int {
	if len(b) <= near || len(quoted) > near/2 {
		return bytes.Index(b, quoted)
	}
	if at := bytes.Index(b[:near], quoted); at >= 0 {
		return at
	}
	rest := near - len(quoted) + 1
	if at := bytes.Index(b[rest:], quoted); at >= 0 {
		return rest + at
	}
	return -1
}

// decimal reads an integer of at most 18 digits that begins b; false if it is something else.
func decimal(b []byte) (int64, bool) {
	i, negative := 0, len(b) > 0 && b[0] == '-'
	if negative {
		i = 1
	}
	n, begin := int64(0), i
	for ; i < len(b); i++ {
		d := b[i] - '0'
		if d > 9 {
			break
		}
		n = n*10 + int64(d)
	}
	if i == begin || i-begin > 18 || i == len(b) || b[begin] == '0' && (i > begin+1 || negative) || b[i] != ',' && b[i] != '}' && b[i] != ' ' {
		return 0, false
	}
	if negative {
		n = -n
	}
	return n, true
}

// quote is a name as it stands in JSON; nil if it may stand there in several ways.
func quote(name string) []byte {
	if strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c > '~' || c == '"' || c == '\\' }) {
		return nil
	}
	return []byte(`"` + name + `":`)
}

// integerOf reads a field that is an integer; it is false for all else.
func integerOf(name string) integers {
	quoted := quote(name)
	if quoted == nil {
		return nil
	}
	return func(r *record) (int64, bool) {
		at := direct(r.value, quoted)
		if at < 0 {
			return 0, false
		}
		return decimal(r.value[at:])
	}
}

// lookup is the general way to a field.
func lookup(r *record, path string) value {
	// The string is gone before the record is: results that point into it are parts of the record.
	json := unsafe.String(unsafe.SliceData(r.value), len(r.value))
	i := 0
	for i < len(json) && (json[i] == ' ' || json[i] == '\t' || json[i] == '\r' || json[i] == '\n') {
		i++
	}
	if i == len(json) || json[i] != '{' {
		return r.wrong()
	}
	f := gjson.Get(json, path)
	if !f.Exists() {
		return null
	}
	return r.ofJSON(f)
}

func (r *record) ofJSON(f gjson.Result) value {
	switch f.Type {
	case gjson.True:
		return yes
	case gjson.False:
		return no
	case gjson.String:
		return textOf(unsafe.Slice(unsafe.StringData(f.Str), len(f.Str)))
	case gjson.JSON:
		return value{kind: kindJSON, text: unsafe.Slice(unsafe.StringData(f.Raw), len(f.Raw))}
	case gjson.Number:
		if !strings.ContainsAny(f.Raw, ".eE") { // an error of ParseInt is an allocation
			if i, err := strconv.ParseInt(f.Raw, 10, 64); err == nil {
				return integer(i)
			}
		}
		x, err := strconv.ParseFloat(f.Raw, 64)
		if err != nil {
			return r.wrong() // damaged, or beyond all floats
		}
		return number(x)
	}
	return null
}
