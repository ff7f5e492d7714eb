// Command locus is Locus in one binary: the node ("start"), the demonstration ("demo"), and the tool that
// talks to a cluster (everything else).
//
// This package is flags and wiring: a file per noun, each with the cobra commands of that noun. What is
// worth testing on its own lives in internal/: demo, importer, output, progress, readiness. A command
// answers on standard output; it fails with one line on standard error and exit status 1.
//
// Start reading at root.go.
package main
