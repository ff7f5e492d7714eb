// Package meter rewrites WebAssembly modules so that they count their instructions, and stop when they have used up what they
// were given. It is a pure function of the module's bytes and knows no engine.
//
//	fuel of an entry = Left, the rest of the running slice, and Rest, what follows
//
//	Left -= cost of the instructions since the last time         behind them, where paths meet and before calls
//	if Left < 0: refill                                          at the head of each function, and in each round of a loop
//
//	refill: the turn of Go's scheduler; trap if Stop is set or Rest is 0; else a slice from Rest to Left
//
// How it counts. Each instruction that runs costs 1; block, loop, else, end and nop cost nothing. Besides:
//   - memory.copy, fill and init cost 1 for each 8 bytes; table.copy, fill and init 1 for each element, before they run;
//   - memory.grow costs 8192 for each page that it adds, table.grow 1 for each element; if they answer -1 they cost 64.
//
// So a run that returns has used exactly the number of its instructions, whatever engine ran it: with as much fuel it runs, with one
// less it does not. What has run since fuel was last taken is owed, and how much that is is known at each place of the code, because
// paths that meet owe the same: a path that owes more pays the difference on its way there. Loops begin with nothing owed, and so each
// round takes fuel once if it has one way through. A host has to take a sum of Left and Rest below zero for exhaustion after an entry
// that returned, too: it came to its end between two looks. An instruction that traps leaves what is owed unpaid.
//
// What it guarantees:
//   - A module that does not run out does exactly what it did: results, memory, tables, globals, traps, and what it exports, but for
//     three globals. Only the depth at which recursion overflows the stack is the engine's and differs.
//   - No index of the module changes. What is added stands behind everything else (a function, three globals, types, locals), and
//     a module that uses an index of these is refused, as it would have been by the compiler.
//   - Between two looks at its fuel a module runs no round of a loop to its end and enters no function, and a function that returns has
//     looked at it at most 64 instructions before, or at its callee's. So it runs over its fuel by less than twice a function's length
//     and 64 instructions for each function that returns meanwhile, and no further over a slice before Go's scheduler and garbage
//     collector have their turn.
//   - What it returns is valid if the module was, custom sections aside, and only then. What it does not know it refuses by name:
//     it knows WebAssembly 2.0.
//   - The result is at most four times as large, and 64 KiB. Counts are bounded before a compiler allocates by them. The time of rewriting
//     is linear, and its memory that of the module, of the result, and of a bounded number of blocks, branches and calls in a function.
//
// Custom sections (names, DWARF) are dropped: only debuggers use them.
//
// Where the fuel is. In a function with a loop it is in a local, which compilers keep in a register: it is loaded from Left at the
// beginning, and stored at the end and around calls. In other functions it is in the global alone. After a trap Left is therefore
// what it was at the last call or refill: a lower bound of what was used.
//
// What compilers make of it. A br_if is written as an if with a br inside, which has a place to pay on the way; wazero also makes less
// of it, a comparison and a jump, where it spends four instructions on a br_if to a place where paths meet. And refill is called from
// outside of loops that call nothing else: see label.double.
//
// The turn of Go's scheduler is "memory.grow 0": wazero's compiled code leaves for Go for it, where a goroutine can be preempted, and no
// import is needed, which would have moved every function's index.
//
// Start reading at meter.go, then function.go (what is counted) and write.go (how).
package meter
