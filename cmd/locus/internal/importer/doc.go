// Package importer turns a file of records into keys and values.
//
// A file is CSV with a header or JSON lines, plain or gzipped; the gzip magic and the first byte that is
// not space tell which. Each record becomes one JSON object (its value) and one key, made from its fields
// by a Template such as "origin/date:10/seq".
//
//	file ── Reader ── Record ──┬── Value: JSON object, numbers as numbers
//	                           └── Keyer(Template) ── key
//
// Guarantees: records come in file order, the count of "seq" follows that order, and an error names the
// record it belongs to. The package never writes to a cluster and never holds more than one record, plus
// one counter for each distinct prefix that "seq" counts under (at most MaxPrefixes).
//
// Start reading at Template, then Reader.
package importer
