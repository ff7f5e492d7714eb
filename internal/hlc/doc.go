// Package hlc is the hybrid logical clock that orders everything in Locus.
//
// A Timestamp has 64 bits, of which the first 48 are milliseconds and the last 16 a counter, so that it
// compares as an integer, fits a machine word, and still reads as a time (Kulkarni et al., "Logical
// Physical Clocks", 2014). A Clock gives timestamps that rise, whatever its wall clock does:
//
//   - Now is above everything that the clock has given or heard of. A counter that runs full carries into
//     the milliseconds, so that a burst of more than 65,536 timestamps in one of them runs ahead of the wall
//     clock, and never wraps.
//   - Update hears a timestamp of another node: this is what makes an effect later than its cause. One that
//     leads the wall clock by more than the maximum offset is refused and changes nothing, so that one node
//     with a wrong clock can't drag all others into the future.
//   - Advance takes over a timestamp that is already in a log. Refusing it would not undo it.
//
// What it never does: read the time by itself (the wall clock is a function that its owner passes, so that
// a simulation can own it), wait, or write to disk. It is lost in a crash: the owner advances a new clock
// above every timestamp in its log and engine before it asks for the first one.
//
// Arithmetic on timestamps stops at 0 and Max instead of wrapping, because timestamps arrive from clients.
package hlc
