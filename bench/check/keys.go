package check

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"sync"

	"github.com/locuskv/locus/bench/history"
)

// keyspace of the load. It begins with one range per prefix; later more.
const keyspace = "check"

// prefixes are how many ranges the keyspace begins with.
const prefixes = 8

// prefix is the first byte of the keys of a range.
func prefix(i int) byte { return byte('a' + i%prefixes) }

func splitKeys() [][]byte {
	var out [][]byte
	for i := 1; i < prefixes; i++ {
		out = append(out, []byte{prefix(i)})
	}
	return out
}

// uniqueKey is the key of a writer's n-th write.
func uniqueKey(writer, n int) []byte {
	return fmt.Appendf(nil, "%c/u/%03d/%08d", prefix(writer), writer, n)
}

// uniqueValue is what belongs under a unique key: 16 to about 450 bytes that no other key has.
func uniqueValue(key []byte) []byte {
	sum := crc32.ChecksumIEEE(key)
	line := fmt.Appendf(nil, "%s=%08x;", key, sum)
	return bytes.Repeat(line, 1+int(sum%15))
}

// counters are how many there are.
const counters = 4

func counterKey(i int) []byte { return fmt.Appendf(nil, "%c/c/%d", prefix(2*i), i) }

func registerKey(generation, i int) string {
	return fmt.Sprintf("%c/r/%05d/%02d", prefix(i), generation, i)
}

// outcome is what a client knows of a write.
type outcome uint8

const (
	acknowledged outcome = iota
	ambiguous            // may or may not have taken effect
	refused              // did nothing, the client says
)

// ledger is what one writer knows of its writes: those up to its length have ended. It is safe for
// concurrent use.
type ledger struct {
	mu struct {
		sync.Mutex
		outcomes   []outcome
		timestamps []uint64 // 0 unless acknowledged
	}
}

func (l *ledger) add(o outcome, timestamp uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.outcomes = append(l.mu.outcomes, o)
	l.mu.timestamps = append(l.mu.timestamps, timestamp)
}

func (l *ledger) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.mu.outcomes)
}

func (l *ledger) get(n int) (outcome, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.outcomes[n], l.mu.timestamps[n]
}

// session is what one client saw, for the order of its timestamps. It is safe for concurrent use.
type session struct {
	mu     sync.Mutex
	events []history.Event
}

func (s *session) add(e history.Event) {
	if e.Timestamp == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
}
