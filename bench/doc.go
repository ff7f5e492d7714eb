// Package bench is the room of programs and tests that look at a cluster from outside: they start real
// nodes, hurt them, and judge by what clients were told.
//
//	bench/cluster   starts, kills, pauses and stops real "locus start" processes, and cuts the links between them
//	bench/check     load, faults and judgement: "locus check"
//	bench/history   records what clients did and saw, and judges it: linearizable, in order, exact
//	bench/kill      bench/check under kill -9 and loss of power, and tests of starting, stopping and growing
//	bench/flights   the answer of the flights job against an independent program
//	bench/functions functions near the data against pulling it: "locus bench functions"
//	bench/load      the load generator of "locus bench", over Locus and others
//	bench/peers     etcd as a server and under load: a module of its own, the helper of "locus bench peers"
//
// Nothing here knows a node from inside: a node is the binary that users run.
package bench
