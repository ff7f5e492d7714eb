// Package history records what clients of a cluster did and were told, and judges it.
//
//	Recorder ─▶ []Operation ─▶ CheckRegisters   linearizable, by porcupine, key by key (reduce.go, search.go)
//	                        └▶ CheckValues      what is read was written, at the time it says
//	            []Event     ─▶ CheckOrder       timestamps respect real time and causality
//	            []Addition  ─▶ CheckCounter     results of a counter are one chain, in real-time order
//
// An operation whose outcome is not known returns at infinity: it may have taken effect at any time after
// its call, or never. Its client gets a new number, because a client of the model does one thing at a time.
//
// A history that could not be judged within a number of steps is an error like one that is wrong. Each checker has a test
// with histories that it must refuse: one that never failed proves nothing.
package history
