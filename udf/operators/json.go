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
	if len(path) > 1 || strings.ContainsFunc(path[0], func(c rune) bool { return c < ' ' || c > '~' || c == '"' || c == '\\' }) {
		return func(r *record) value { return lookup(r, dotted) }
	}
	quoted := []byte(`"` + path[0] + `":`)
	return func(r *record) value {
		if v, ok := direct(r.value, quoted); ok {
			return v
		}
		return lookup(r, dotted)
	}
}

// direct finds a field of the outermost object by its quoted name, where that takes no look at the rest. In JSON a
// quote that follows a comma or brace can only begin a string (within one it would end it, and no name can follow that),
// and a string before a colon can only be a name; and what has no brace or bracket before it but the first is the
// outermost object's. So what it finds is what gjson finds, unless the value is no JSON. It is false where it can't tell,
// and where the text has an escape or the number more than 18 digits, a fraction or an exponent.
func direct(json, quoted []byte) (value, bool) {
	at := bytes.Index(json, quoted)
	if at < 1 || json[0] != '{' {
		return null, false
	}
	before := at - 1
	for json[before] == ' ' {
		before--
	}
	if before > 0 && json[before] != ',' {
		return null, false
	}
	if head := json[1:at]; bytes.IndexByte(head, '{') >= 0 || bytes.IndexByte(head, '[') >= 0 {
		return null, false
	}
	return scalar(json[at+len(quoted):])
}

// scalar reads an integer or a text that begins b, or follows one space.
func scalar(b []byte) (value, bool) {
	if len(b) > 0 && b[0] == ' ' {
		b = b[1:]
	}
	if len(b) == 0 {
		return null, false
	}
	if b[0] == '"' {
		b = b[1:]
		end := bytes.IndexByte(b, '"')
		if end < 0 || bytes.IndexByte(b[:end], '\\') >= 0 {
			return null, false
		}
		return textOf(b[:end]), true
	}
	i, negative := 0, b[0] == '-'
	if negative {
		i = 1
	}
	n := int64(0)
	begin := i
	for ; i < len(b); i++ {
		d := b[i] - '0'
		if d > 9 {
			break
		}
		if i-begin >= 18 {
			return null, false
		}
		n = n*10 + int64(d)
	}
	if i == begin || i == len(b) || b[begin] == '0' && (i > begin+1 || negative) || b[i] != ',' && b[i] != '}' {
		return null, false
	}
	if negative {
		n = -n
	}
	return integer(n), true
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
		if i, err := strconv.ParseInt(f.Raw, 10, 64); err == nil {
			return integer(i)
		}
		x, err := strconv.ParseFloat(f.Raw, 64)
		if err != nil {
			return r.wrong() // damaged, or beyond all floats
		}
		return number(x)
	}
	return null
}
