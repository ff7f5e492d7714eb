// Package functions measures what it is worth to run functions where the data lies. It is the library behind "locus bench functions".
//
//	alone   guests over cached batches, memory of instances, first calls    in this process, or on one small node
//	warm    three nodes ─▶ load ─▶ rows whose data the nodes have in memory    functions against pulling, Redis, plain puts
//	cold    stop ─▶ start without the scan cache ─▶ rows that scan the engine
//
// Everything that is compared is measured in the same run, turn by turn (interleave): each round gives every contender one turn, and
// each round begins with another one. A row has the medians, the lowest and highest of all rounds, and stands beside what was aimed at.
// Every answer is compared with the one that is computed from the pulled records; a wrong one is an error and no number.
//
// Cold means without the scan cache: what is scanned comes from the engine, whose files are in the page cache of the system.
//
// What the nodes run natively are the functions of package native.
//
// Start with Run, then table.go.
package functions
