package importer

import (
	"fmt"
	"strconv"
	"strings"
)

// MaxPrefixes bounds the counters that "seq" keeps: about 1 GiB of memory at 100 bytes each.
const MaxPrefixes = 10_000_000

// seqField is the name of the special part that counts records.
const seqField = "seq"

// defaultSeqWidth is the number of digits "seq" is padded to, so that up to 10,000 records per prefix
// sort in file order.
const defaultSeqWidth = 4

// maxSeqWidth is the number of digits of the largest count there can be.
const maxSeqWidth = 19

// Template says how a key is made from a record: parts joined by '/'.
type Template struct {
	parts []part
}

// part is one element of a template.
type part struct {
	field string
	// limit is, for a field, the number of bytes taken (0: all); for seq, the number of digits.
	limit int
}

// ParseTemplate reads a template: parts separated by '/', each one of
//
//	field    the field's value
//	field:N  its first N bytes, for example date:10 of 2001-01-31T17:05
//	seq      how many records before this one had the same preceding parts, in 4 digits or more
//	seq:N    the same in N digits or more
//
// At most one part is seq.
func ParseTemplate(s string) (Template, error) {
	var t Template
	counted := false
	for word := range strings.SplitSeq(s, "/") {
		p, err := parsePart(word)
		if err != nil {
			return Template{}, fmt.Errorf("key template %q: %w", s, err)
		}
		if p.field == seqField {
			if counted {
				return Template{}, fmt.Errorf("key template %q: seq may stand once only", s)
			}
			counted = true
		}
		t.parts = append(t.parts, p)
	}
	return t, nil
}

func parsePart(word string) (part, error) {
	field, limit, limited := strings.Cut(word, ":")
	p := part{field: field}
	if field == "" {
		return part{}, fmt.Errorf("part %q names no field", word)
	}
	if limited {
		n, err := strconv.Atoi(limit)
		if err != nil || n < 1 {
			return part{}, fmt.Errorf("part %q: what follows ':' must be a number of at least 1", word)
		}
		p.limit = n
	}
	if field != seqField {
		return p, nil
	}
	if !limited {
		p.limit = defaultSeqWidth
	}
	if p.limit > maxSeqWidth {
		return part{}, fmt.Errorf("part %q: seq has at most %d digits", word, maxSeqWidth)
	}
	return p, nil
}

// Keyer makes the keys of one file. It is not safe for concurrent use: the order of calls is the order
// that seq counts in.
type Keyer struct {
	template Template
	counts   map[string]int64
	prefixes int
	buf      []byte
}

// NewKeyer makes a keyer whose counts start at zero.
func NewKeyer(t Template) *Keyer {
	return &Keyer{template: t, counts: map[string]int64{}, prefixes: MaxPrefixes}
}

// Key is the key of the next record. The caller owns it.
func (k *Keyer) Key(r Record) ([]byte, error) {
	k.buf = k.buf[:0]
	for i, p := range k.template.parts {
		if i > 0 {
			k.buf = append(k.buf, '/')
		}
		if err := k.append(p, r); err != nil {
			return nil, fmt.Errorf("record %d: %w", r.Number, err)
		}
	}
	return append([]byte(nil), k.buf...), nil
}

// append adds one part to the key that is being made.
func (k *Keyer) append(p part, r Record) error {
	if p.field == seqField {
		n, ok := k.counts[string(k.buf)]
		if !ok && len(k.counts) == k.prefixes {
			return fmt.Errorf("seq counts under more than %d different prefixes; put seq after fewer parts", k.prefixes)
		}
		k.counts[string(k.buf)] = n + 1
		k.buf = fmt.Appendf(k.buf, "%0*d", p.limit, n)
		return nil
	}
	v, err := r.Field(p.field)
	if err != nil {
		return err
	}
	if v == "" {
		return fmt.Errorf("field %q is empty and can't be part of a key", p.field)
	}
	if p.limit > 0 && len(v) > p.limit {
		v = v[:p.limit]
	}
	k.buf = append(k.buf, v...)
	return nil
}
