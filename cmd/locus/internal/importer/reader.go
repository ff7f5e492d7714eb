package importer

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"
)

// maxLine bounds one line of a JSON-lines file: twice the longest value a cluster takes, because a line
// may hold space that the value does not.
const maxLine = 1 << 20

// sniff is how much of a file is looked at to tell its format.
const sniff = 4 << 10

// byteOrderMark is what some programs, spreadsheets for one, put before UTF-8.
const byteOrderMark = "\ufeff"

// Format is how records are written in a file.
type Format string

// Formats. Auto tells them apart by the first byte that is not space: '{' begins JSON lines, and '[' an
// array, which is refused rather than taken for the header of a CSV file.
const (
	Auto Format = ""
	CSV  Format = "csv"
	JSON Format = "json"
)

// Record is one record of a file. It is valid until the next call of Reader.Next.
type Record struct {
	// Number counts records from 1; a CSV header is none.
	Number int64
	// Value is the record as a JSON object.
	Value []byte

	names  []string
	fields []string
	object map[string]json.RawMessage
}

// Field is the text of a field: of a JSON string what it stands for, of a number or boolean its literal.
func (r Record) Field(name string) (string, error) {
	if r.object == nil {
		i := slices.Index(r.names, name)
		if i < 0 {
			return "", fmt.Errorf("no field %q (the header has %q)", name, r.names)
		}
		return r.fields[i], nil
	}
	raw, ok := r.object[name]
	if !ok {
		return "", fmt.Errorf("no field %q", name)
	}
	switch raw[0] {
	case '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return "", fmt.Errorf("field %q: %w", name, err)
		}
		return s, nil
	case '{', '[', 'n':
		return "", fmt.Errorf("field %q is neither text, number nor boolean and can't be part of a key", name)
	}
	return string(raw), nil
}

// Text is the text of a field as Field gives it, and of an object, an array or null its JSON; false if the record has
// no such field.
func (r Record) Text(name string) (string, bool) {
	if raw, ok := r.object[name]; ok && len(raw) > 0 && (raw[0] == '{' || raw[0] == '[' || raw[0] == 'n') {
		var compact bytes.Buffer
		_ = json.Compact(&compact, raw) // it is part of a JSON object that was read
		return compact.String(), true
	}
	text, err := r.Field(name)
	return text, err == nil
}

// Reader reads the records of one file.
type Reader struct {
	next   func() (Record, error)
	number int64
}

// NewReader begins to read r, which may be gzipped. A file without a single record is not an error.
func NewReader(r io.Reader, f Format) (*Reader, error) {
	in := bufio.NewReaderSize(r, 256<<10)
	if magic, _ := in.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		in = bufio.NewReaderSize(z, 256<<10)
	}
	if mark, _ := in.Peek(len(byteOrderMark)); string(mark) == byteOrderMark {
		_, _ = in.Discard(len(byteOrderMark)) // they are buffered
	}
	if f == Auto {
		head, err := in.Peek(sniff)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("reading: %w", err)
		}
		f = CSV
		text := bytes.TrimLeft(head, " \t\r\n")
		switch {
		case bytes.HasPrefix(text, []byte("[")):
			return nil, errors.New("the file begins with '[': a JSON array can't be read, only one JSON object a line")
		case bytes.HasPrefix(text, []byte("{")):
			f = JSON
		}
	}
	out := &Reader{}
	switch f {
	case CSV:
		return out, out.readCSV(in)
	case JSON:
		out.readJSON(in)
		return out, nil
	}
	return nil, fmt.Errorf("format %q is neither %q nor %q", f, CSV, JSON)
}

// Next is the next record, or io.EOF after the last.
func (r *Reader) Next() (Record, error) {
	rec, err := r.next()
	if errors.Is(err, io.EOF) {
		return Record{}, io.EOF
	}
	r.number++
	if err != nil {
		return Record{}, fmt.Errorf("record %d: %w", r.number, err)
	}
	rec.Number = r.number
	return rec, nil
}

func (r *Reader) readCSV(in io.Reader) error {
	c := csv.NewReader(in)
	c.ReuseRecord = true
	header, err := c.Read()
	if errors.Is(err, io.EOF) {
		r.next = func() (Record, error) { return Record{}, io.EOF }
		return nil
	}
	if err != nil {
		return fmt.Errorf("header: %w", err)
	}
	names := slices.Clone(header)
	quoted := make([][]byte, len(names))
	for i, n := range names {
		if slices.Contains(names[:i], n) {
			return fmt.Errorf("header: field %q stands there twice", n)
		}
		quoted[i], _ = json.Marshal(n) // a string always has a JSON form
	}
	var value []byte
	r.next = func() (Record, error) {
		fields, err := c.Read()
		if err != nil {
			return Record{}, err
		}
		for i, f := range fields {
			if !utf8.ValidString(f) {
				return Record{}, fmt.Errorf("field %q is not UTF-8 text", names[i])
			}
		}
		value = appendObject(value[:0], quoted, fields)
		return Record{Value: value, names: names, fields: fields}, nil
	}
	return nil
}

// appendObject appends a JSON object of the fields in the order of the header.
func appendObject(dst []byte, quoted [][]byte, fields []string) []byte {
	dst = append(dst, '{')
	for i, f := range fields {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(dst, quoted[i]...), ':')
		if isNumber(f) {
			dst = append(dst, f...)
			continue
		}
		text, _ := json.Marshal(f) // a string always has a JSON form
		dst = append(dst, text...)
	}
	return append(dst, '}')
}

func (r *Reader) readJSON(in io.Reader) {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	var value bytes.Buffer
	r.next = func() (Record, error) {
		for lines.Scan() {
			line := bytes.TrimSpace(lines.Bytes())
			if len(line) == 0 {
				continue
			}
			var object map[string]json.RawMessage
			if err := json.Unmarshal(line, &object); err != nil {
				return Record{}, fmt.Errorf("not a JSON object: %w", err)
			}
			if object == nil {
				return Record{}, errors.New("not a JSON object: null")
			}
			value.Reset()
			if err := json.Compact(&value, line); err != nil {
				return Record{}, fmt.Errorf("not a JSON object: %w", err)
			}
			return Record{Value: value.Bytes(), object: object}, nil
		}
		if err := lines.Err(); err != nil {
			if errors.Is(err, bufio.ErrTooLong) {
				return Record{}, fmt.Errorf("line is longer than %d bytes", maxLine)
			}
			return Record{}, err
		}
		return Record{}, io.EOF
	}
}

// isNumber says whether s is a number by JSON's grammar (RFC 8259, section 6), so that 33 and -1.5e3
// become numbers while 007, +1 and 0x10 stay text.
func isNumber(s string) bool {
	s, _ = cutByte(s, "-")
	whole, rest := digits(s)
	if whole == "" || (len(whole) > 1 && whole[0] == '0') {
		return false
	}
	if after, ok := cutByte(rest, "."); ok {
		frac, tail := digits(after)
		if frac == "" {
			return false
		}
		rest = tail
	}
	if after, ok := cutByte(rest, "eE"); ok {
		after, _ = cutByte(after, "+-")
		exp, tail := digits(after)
		if exp == "" {
			return false
		}
		rest = tail
	}
	return rest == ""
}

// cutByte removes the first byte of s if it is one of set.
func cutByte(s, set string) (string, bool) {
	if s != "" && bytes.IndexByte([]byte(set), s[0]) >= 0 {
		return s[1:], true
	}
	return s, false
}

// digits splits s after its leading decimal digits.
func digits(s string) (head, tail string) {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return s[:i], s[i:]
}
