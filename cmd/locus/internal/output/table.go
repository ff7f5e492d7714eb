package output

import (
	"io"
	"strings"
	"unicode/utf8"
)

// gap stands between two columns.
const gap = "  "

// Table is text in aligned columns.
type Table struct {
	head  []string
	right []bool
	rows  [][]string
}

// NewTable makes a table with one column per heading. A heading that begins with '>' aligns its column
// to the right, as numbers want it.
func NewTable(headings ...string) *Table {
	t := &Table{head: make([]string, len(headings)), right: make([]bool, len(headings))}
	for i, h := range headings {
		t.head[i], t.right[i] = strings.CutPrefix(h, ">")
	}
	return t
}

// Row adds a row. REQUIRES: one cell per heading.
func (t *Table) Row(cells ...string) {
	if len(cells) != len(t.head) {
		panic("output: a row must have one cell per heading")
	}
	t.rows = append(t.rows, cells)
}

// Write writes the headings and the rows, each line indented by indent.
func (t *Table) Write(w io.Writer, indent string) error {
	width := make([]int, len(t.head))
	for _, row := range t.lines() {
		for i, c := range row {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	for _, row := range t.lines() {
		b.WriteString(indent)
		b.WriteString(strings.TrimRight(t.line(row, width), " "))
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *Table) lines() [][]string { return append([][]string{t.head}, t.rows...) }

func (t *Table) line(row []string, width []int) string {
	var b strings.Builder
	for i, c := range row {
		if i > 0 {
			b.WriteString(gap)
		}
		pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
		if t.right[i] {
			b.WriteString(pad + c)
		} else {
			b.WriteString(c + pad)
		}
	}
	return b.String()
}
