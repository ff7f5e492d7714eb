package server

import (
	"crypto/rand"
	"sync"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
)

// session makes this node's own commands take effect exactly once. One lasts as long as the process.
type session struct {
	clock *hlc.Clock
	id    [16]byte

	mu struct {
		sync.Mutex
		next uint64
		open map[uint64]struct{} // numbers that are waited for
	}
}

func newSession(clock *hlc.Clock) *session {
	s := &session{clock: clock}
	_, _ = rand.Read(s.id[:]) // never fails (crypto/rand)
	s.mu.next = 1
	s.mu.open = make(map[uint64]struct{})
	return s
}

// begin takes the next number; end it when its outcome is known or given up.
func (s *session) begin() *locuspb.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.mu.next
	s.mu.next++
	s.mu.open[n] = struct{}{}
	floor := n
	for o := range s.mu.open {
		floor = min(floor, o)
	}
	return &locuspb.Session{Id: s.id[:], Number: n, Floor: floor, FirstAttempt: uint64(s.clock.Now())}
}

func (s *session) end(p *locuspb.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.open, p.Number)
}
