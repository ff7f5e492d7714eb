package storesim

import (
	"crypto/rand"
	"io"
	mrand "math/rand/v2"
	"sync"
)

// jitter stands for crypto/rand.Reader, from which the Raft library draws its election timeouts: there is no other way
// to give it a seed. A goroutine that plays a simulation gets what its seed says, so that several may play at once, and
// everybody else what he got before.
var jitter struct {
	once  sync.Once
	mu    sync.RWMutex
	seeds map[uintptr]*mrand.Rand // by goroutine
}

type jitterReader struct{ real io.Reader }

func (j jitterReader) Read(p []byte) (int, error) {
	jitter.mu.RLock()
	rng := jitter.seeds[running()]
	jitter.mu.RUnlock()
	if rng == nil {
		return j.real.Read(p)
	}
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
	return len(p), nil
}

// seedJitter seeds the calling goroutine until the function it returns is called.
func seedJitter(rng *mrand.Rand) func() {
	jitter.once.Do(func() {
		jitter.seeds = make(map[uintptr]*mrand.Rand)
		rand.Reader = jitterReader{rand.Reader}
	})
	me := running()
	jitter.mu.Lock()
	jitter.seeds[me] = rng
	jitter.mu.Unlock()
	return func() {
		jitter.mu.Lock()
		delete(jitter.seeds, me)
		jitter.mu.Unlock()
	}
}
