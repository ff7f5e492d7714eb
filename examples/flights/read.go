package flights

import (
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Record is one flight.
type Record struct {
	Date        string // of departure, as in the file: 2001-01-01T00:01
	Delay       int    // minutes; negative is early
	Distance    int    // miles
	Origin      string // airport code
	Destination string // airport code
}

// columns are the names that a file's header must have, in any order and among others.
var columns = []string{"date", "delay", "distance", "origin", "destination"}

// Read calls f with the records of a CSV file with a header, in their order; a gzipped file is recognised
// by its first bytes. It stops at the first error, which names the line if the file is at fault, and is
// f's own error otherwise.
func Read(r io.Reader, f func(Record) error) error {
	plain, err := gunzip(bufio.NewReader(r))
	if err != nil {
		return err
	}
	rows := csv.NewReader(plain)
	rows.ReuseRecord = true
	header, err := rows.Read()
	if err != nil {
		return fmt.Errorf("flights: read the header: %w", err)
	}
	at, err := locate(header)
	if err != nil {
		return err
	}
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("flights: read a row: %w", err)
		}
		record, err := parse(row, at)
		if err != nil {
			line, _ := rows.FieldPos(0)
			return fmt.Errorf("flights: line %d: %w", line, err)
		}
		if err := f(record); err != nil {
			return err
		}
	}
}

func gunzip(r *bufio.Reader) (io.Reader, error) {
	magic, err := r.Peek(2)
	if err != nil || magic[0] != 0x1f || magic[1] != 0x8b {
		return r, nil // too short to tell is for the CSV reader to say
	}
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("flights: open the gzipped file: %w", err)
	}
	return z, nil
}

// locate finds where columns stand in the header.
func locate(header []string) (at [5]int, err error) {
	for i, name := range columns {
		if at[i] = slices.Index(header, name); at[i] < 0 {
			return at, fmt.Errorf("flights: the header %q has no column %q", strings.Join(header, ","), name)
		}
	}
	return at, nil
}

func parse(row []string, at [5]int) (r Record, err error) {
	// Rows reuse one slice, and their strings share one buffer that is the row's own.
	r.Date, r.Origin, r.Destination = row[at[0]], row[at[3]], row[at[4]]
	if r.Delay, err = strconv.Atoi(row[at[1]]); err != nil {
		return r, fmt.Errorf("delay %q is not a whole number", row[at[1]])
	}
	if r.Distance, err = strconv.Atoi(row[at[2]]); err != nil {
		return r, fmt.Errorf("distance %q is not a whole number", row[at[2]])
	}
	return r, nil
}
