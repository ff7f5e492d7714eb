// Package children runs child processes for a benchmark: servers that stay, and programs that end.
//
// What it guarantees:
//
//   - No process outlives its Group: Close kills them all, waits, and removes the group's directory. On Linux
//     the kernel kills them even if the parent dies by SIGKILL; the directory then stays.
//   - Children have a session of their own, so that a terminal's Ctrl-C reaches the parent alone, which then
//     ends them in its own order.
//   - A program that Run waits for is interrupted first when the context ends, so that it can clean up too, and
//     killed when that takes long.
//
// A server tells that it serves by one JSON value on its standard output; its standard error goes to a file
// in the group's directory.
//
// Start reading at Group.
package children
