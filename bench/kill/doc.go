// Package kill holds tests of real clusters that are hurt: processes killed, stopped and started again
// while clients work, nodes that join under load, and starts that must fail.
//
// Load, faults and judgement are bench/check's: every acknowledged key is there with its value, counters are exact,
// registers are linearizable, timestamps keep real-time order.
//
//	go test ./bench/kill                                    a small version, in well under a minute
//	go test ./bench/kill -kill.full -timeout 30m -v         50,000 writes and 20 kills at least
//
// docs/testing.md tells the other flags. Start reading at TestKill.
package kill
