package clientcore

import (
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
)

// SessionID names a session; 16 random bytes.
type SessionID [16]byte

// Identity is a command's name for ever, chosen before its first attempt: a session of its own with the one
// number 1. Whoever keeps it can repeat the command after a restart, within the session window.
type Identity struct {
	Session SessionID
	// FirstAttempt is a clock of Locus, read when the identity was made (Core.NewIdentity).
	FirstAttempt hlc.Timestamp
}

// lane is one session of a Core. A Core has several, because the numbers of a session that are in use
// must stay close together: a range keeps a result for each number above the floor, so one command that
// waits for an unreachable range holds the floor, and with it the results of all that came after.
// When the window of one lane is full, commands take their numbers from the next.
type lane struct {
	id    SessionID
	floor uint64 // lowest number that is not answered
	next  uint64 // number of the next command
	// answered is a ring: whether the number n of [floor, next) is answered stands at n % len.
	answered []bool
}

func newLane(id SessionID, window int) *lane {
	return &lane{id: id, floor: 1, next: 1, answered: make([]bool, window)}
}

// take returns the next number; false if the window is full.
func (l *lane) take() (uint64, bool) {
	if l.next-l.floor >= uint64(len(l.answered)) {
		return 0, false
	}
	n := l.next
	l.answered[n%uint64(len(l.answered))] = false
	l.next++
	return n, true
}

// answer says that nobody waits for number n any more; true if the floor rose.
func (l *lane) answer(n uint64) bool {
	size := uint64(len(l.answered))
	l.answered[n%size] = true
	if n != l.floor {
		return false
	}
	for l.floor < l.next && l.answered[l.floor%size] {
		l.floor++
	}
	return true
}

// sessions are the lanes of a Core and the commands that wait for a number.
type sessions struct {
	lanes   []*lane
	current int
}

func newSessions(base SessionID, lanes, window int) sessions {
	s := sessions{}
	for i := range lanes {
		id := base
		id[len(id)-1] ^= byte(i)
		s.lanes = append(s.lanes, newLane(id, window))
	}
	return s
}

// assign gives a command its number; false if all windows are full.
func (s *sessions) assign(o *op) bool {
	for range s.lanes {
		l := s.lanes[s.current]
		if n, ok := l.take(); ok {
			o.lane, o.number = l, n
			return true
		}
		s.current = (s.current + 1) % len(s.lanes)
	}
	return false
}

// free is how many numbers can be taken before a floor has to rise.
func (s *sessions) free() int {
	n := 0
	for _, l := range s.lanes {
		n += len(l.answered) - int(l.next-l.floor)
	}
	return n
}

// session is what an attempt of a command carries (rule B1): the floor of now, all else as at first.
func (o *op) session() *locuspb.Session {
	if o.identity != nil {
		return &locuspb.Session{
			Id: o.identity.Session[:], Number: 1, Floor: 1, FirstAttempt: uint64(o.identity.FirstAttempt),
			Retry: true, // of what another process may have sent
		}
	}
	return &locuspb.Session{
		Id: o.lane.id[:], Number: o.number, Floor: o.lane.floor, FirstAttempt: uint64(o.firstAttempt),
		Retry: o.attempt > 1,
	}
}
