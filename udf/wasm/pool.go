package wasm

import (
	"context"
	"errors"
	"sync"
)

var errClosed = errors.New("the function is closed")

// pool holds the instances of one function. Each is in use by one goroutine, or idle, or gone.
type pool struct {
	f *Function
	// slots has a token for each instance in use.
	slots chan struct{}

	mu struct {
		sync.Mutex
		idle   []*instance
		inUse  int
		closed bool
	}
}

func newPool(f *Function, size int) *pool {
	return &pool{f: f, slots: make(chan struct{}, size)}
}

// get waits for a slot and takes an idle instance or makes one.
func (p *pool) get(ctx context.Context) (*instance, error) {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	i, err := p.take()
	if i == nil && err == nil {
		i, err = p.f.instantiate(ctx)
		if err != nil {
			p.leave(nil)
		}
	}
	if err != nil {
		<-p.slots
		return nil, err
	}
	return i, nil
}

// take counts a user in and gives it an idle instance, if there is one.
func (p *pool) take() (i *instance, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed {
		return nil, errClosed
	}
	p.mu.inUse++
	if n := len(p.mu.idle); n > 0 {
		i, p.mu.idle = p.mu.idle[n-1], p.mu.idle[:n-1]
	}
	return i, nil
}

// put takes an instance back. Broken ones are discarded.
func (p *pool) put(i *instance) {
	p.leave(i)
	<-p.slots
}

// leave counts a user out, whose instance goes back to the idle ones or, if it can't, ends.
func (p *pool) leave(i *instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.inUse--
	if i != nil && !i.broken && !p.mu.closed {
		p.mu.idle = append(p.mu.idle, i)
	} else if i != nil {
		i.close()
	}
	p.release()
}

// close discards the idle instances; those in use follow when they are put back.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed {
		return
	}
	p.mu.closed = true
	for _, i := range p.mu.idle {
		i.close()
	}
	p.mu.idle = nil
	p.release()
}

// release gives the compiled code back once nothing runs it any more. REQUIRES: p.mu is held.
func (p *pool) release() {
	if p.mu.closed && p.mu.inUse == 0 {
		_ = p.f.compiled.Close(context.Background()) // returns nil
	}
}
