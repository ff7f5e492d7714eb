package wasm

import (
	"container/list"
	"context"
	"errors"
	"slices"
	"sync"
)

var errClosed = errors.New("the function is closed")

// pool holds the instances of one function. Each is in use by one goroutine, or idle, or gone.
type pool struct {
	f    *Function
	keep *keeper
	// slots has a token for each instance in use.
	slots chan struct{}

	// keep.mu guards these.
	idle   []*instance
	inUse  int
	closed bool
}

// keeper bounds the memory of all instances of a runtime.
type keeper struct {
	limit int64 // bytes

	mu struct {
		sync.Mutex
		// bytes is the memory of all instances, as of when each was last put back.
		bytes int64
		// idle are the idle instances of all pools, the longest unused first.
		idle list.List
	}
}

func newPool(f *Function, keep *keeper, size int) *pool {
	return &pool{f: f, keep: keep, slots: make(chan struct{}, size)}
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
		if i, err = p.f.instantiate(ctx); err != nil {
			p.leave(nil)
		} else {
			p.keep.made(i)
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
	p.keep.mu.Lock()
	defer p.keep.mu.Unlock()
	if p.closed {
		return nil, errClosed
	}
	p.inUse++
	if n := len(p.idle); n > 0 {
		i = p.idle[n-1]
		p.keep.forget(i)
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
	p.keep.mu.Lock()
	p.inUse--
	var ended []*instance
	if i != nil {
		p.keep.weigh(i)
		if i.broken || p.closed {
			ended = append(ended, p.keep.drop(i))
		} else {
			p.idle = append(p.idle, i)
			i.kept = p.keep.mu.idle.PushBack(i)
		}
		ended = append(ended, p.keep.excess()...)
	}
	release := p.closed && p.inUse == 0
	p.keep.mu.Unlock()
	p.end(ended, release)
}

// close discards the idle instances; those in use follow when they are put back.
func (p *pool) close() {
	p.keep.mu.Lock()
	if p.closed {
		p.keep.mu.Unlock()
		return
	}
	p.closed = true
	var ended []*instance
	for len(p.idle) > 0 {
		i := p.idle[0]
		p.keep.forget(i)
		ended = append(ended, p.keep.drop(i))
	}
	release := p.inUse == 0
	p.keep.mu.Unlock()
	p.end(ended, release)
}

// end closes instances, of any pool, and gives this pool's compiled code back once nothing runs it any more.
func (p *pool) end(ended []*instance, release bool) {
	for _, i := range ended {
		i.close()
	}
	if release {
		_ = p.f.compiled.Close(context.Background()) // returns nil
	}
}

// made counts a new instance, which is in use.
func (k *keeper) made(i *instance) {
	k.mu.Lock()
	k.weigh(i)
	ended := k.excess()
	k.mu.Unlock()
	for _, e := range ended {
		e.close()
	}
}

// weigh counts what an instance has now. REQUIRES: k.mu is held, as for all that follow.
func (k *keeper) weigh(i *instance) {
	size := int64(i.module.Memory().Size())
	k.mu.bytes += size - i.bytes
	i.bytes = size
}

// forget makes an idle instance one in use.
func (k *keeper) forget(i *instance) {
	p := i.f.pool
	p.idle = slices.DeleteFunc(p.idle, func(other *instance) bool { return other == i })
	k.mu.idle.Remove(i.kept)
	i.kept = nil
}

// drop no longer counts an instance, which its caller closes.
func (k *keeper) drop(i *instance) *instance {
	k.mu.bytes -= i.bytes
	return i
}

// excess takes away idle instances, the longest unused first, as long as there is too much memory in all.
func (k *keeper) excess() (ended []*instance) {
	for k.mu.bytes > k.limit && k.mu.idle.Len() > 0 {
		i := k.mu.idle.Front().Value.(*instance)
		k.forget(i)
		ended = append(ended, k.drop(i))
	}
	return ended
}
