// Package progress tells a waiting person how far a long step is.
//
// On a terminal each step is one bar (or, when the amount is not known, a spinner) that vanishes when the
// step ends, so that only the results stay on the screen. Anywhere else a step that takes long writes a
// plain line now and then, which is what a log or a pipe can use.
//
// A Reporter runs one step at a time. Step's methods may be called from many goroutines.
package progress
