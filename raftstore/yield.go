package raftstore

// Yielder is an Executor whose steps can be interrupted in the middle only where they say so, as the simulator's can: it
// lets others run there, which is what happens to a worker of the Pool anywhere.
type Yielder interface {
	// Yield lets steps of other queues run. It is called from steps, without locks.
	Yield()
}

// yield marks a place in a step where other queues' steps matter: between two touches of what they share. REQUIRES: no
// lock is held.
func (s *Store) yield() {
	if y, ok := s.exec.(Yielder); ok {
		y.Yield()
	}
}
