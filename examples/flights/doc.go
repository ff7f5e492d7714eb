// Package flights is the data and the function of Locus's demonstration: a sample of real flights, the
// keys and values they are stored under, and a WebAssembly range function that finds, per airport, the
// number of flights, the mean delay, the share of delayed flights and the 95th percentile of the delay.
//
//	Sample ──Read──► Record ──Numberer.Key, Value──► keyspace
//	                                                    │ FunctionName (Module) on every range
//	                         []Airport ◄────────────────┘
//
// Accumulator computes the same in this process, from the same records, to check the function's answer.
// Both are exact, so the answers are equal and not merely close.
//
// guest/ holds the source of Module; examples/rebuild.sh builds it. Start with Read and Accumulator.
package flights
