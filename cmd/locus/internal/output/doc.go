// Package output writes what commands answer: aligned tables for people, JSON for machines, and keys in
// the form the user asked for.
//
// A Table holds its rows until it is written, so it is for answers of a bounded size; scans write line by
// line. Nothing here adds color or asks the terminal anything, so the output is the same in a pipe.
package output
