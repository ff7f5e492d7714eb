package raftstore

import (
	"runtime"
	"sync"
)

// Pool is the production Executor: a few workers per kind take queues that have steps. A queue is taken by one
// worker at a time, which runs a bounded number of its steps and then lets others have their turn.
type Pool struct {
	groups [queueKinds]*workers
}

// PoolOptions set the number of workers per kind; zero values are the defaults.
type PoolOptions struct {
	Raft int // default GOMAXPROCS
	Eval int // default max(1, GOMAXPROCS-1)
	Read int // default 2*GOMAXPROCS
	Disk int // default 2
	Call int // default 2: calls in optimistic mode take instances of modules that the sequencers need too
	// ReadCall is for calls that only read. Default max(1, GOMAXPROCS-1): guests run one less than there are processors at a time.
	ReadCall int
}

// NewPool starts the workers. Close it when its store has stopped.
func NewPool(o PoolOptions) *Pool {
	n := runtime.GOMAXPROCS(0)
	setDefault(&o.Raft, n)
	setDefault(&o.Eval, max(1, n-1))
	setDefault(&o.Read, 2*n)
	setDefault(&o.Disk, 2)
	setDefault(&o.Call, 2)
	setDefault(&o.ReadCall, max(1, n-1))
	p := &Pool{}
	for kind, count := range map[QueueKind]int{QueueRaft: o.Raft, QueueEval: o.Eval, QueueRead: o.Read, QueueLog: 1, QueueApply: 1, QueueDisk: o.Disk, QueueCall: o.Call, QueueReadCall: o.ReadCall} {
		p.groups[kind] = startWorkers(count)
	}
	return p
}

// NewQueue implements Executor.
func (p *Pool) NewQueue(kind QueueKind) Queue { return &poolQueue{w: p.groups[kind]} }

// Go implements Executor.
func (p *Pool) Go(kind QueueKind, step func()) { (&poolQueue{w: p.groups[kind]}).Post(step) }

// Close waits for running steps and ends the workers; what was not begun is dropped.
func (p *Pool) Close() {
	for _, w := range p.groups {
		w.close()
	}
}

// workers share a list of queues that have steps.
type workers struct {
	wg sync.WaitGroup
	mu struct {
		sync.Mutex
		ready  []*poolQueue
		closed bool
	}
	wake *sync.Cond
}

func startWorkers(n int) *workers {
	w := &workers{}
	w.wake = sync.NewCond(&w.mu.Mutex)
	w.wg.Add(n)
	for range n {
		go w.run()
	}
	return w
}

// stepsPerTurn bounds the steps of one queue before others have a turn.
const stepsPerTurn = 16

func (w *workers) run() {
	defer w.wg.Done()
	for {
		w.mu.Lock()
		for len(w.mu.ready) == 0 && !w.mu.closed {
			w.wake.Wait()
		}
		if w.mu.closed {
			w.mu.Unlock()
			return
		}
		q := w.mu.ready[0]
		w.mu.ready[0] = nil
		w.mu.ready = w.mu.ready[1:]
		w.mu.Unlock()
		for range stepsPerTurn {
			step := q.pop()
			if step == nil {
				break
			}
			step()
		}
		q.yield()
	}
}

func (w *workers) enqueue(q *poolQueue) {
	w.mu.Lock()
	w.mu.ready = append(w.mu.ready, q)
	w.mu.Unlock()
	w.wake.Signal()
}

func (w *workers) close() {
	w.mu.Lock()
	w.mu.closed = true
	w.mu.Unlock()
	w.wake.Broadcast()
	w.wg.Wait()
}

type poolQueue struct {
	w  *workers
	mu struct {
		sync.Mutex
		steps  []func()
		active bool // in the ready list, or with a worker
	}
}

// Post implements Queue.
func (q *poolQueue) Post(step func()) {
	q.mu.Lock()
	q.mu.steps = append(q.mu.steps, step)
	activate := !q.mu.active
	q.mu.active = true
	q.mu.Unlock()
	if activate {
		q.w.enqueue(q)
	}
}

func (q *poolQueue) pop() func() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.mu.steps) == 0 {
		return nil
	}
	step := q.mu.steps[0]
	q.mu.steps[0] = nil
	q.mu.steps = q.mu.steps[1:]
	return step
}

// yield puts the queue back in line if it has more.
func (q *poolQueue) yield() {
	q.mu.Lock()
	more := len(q.mu.steps) > 0
	q.mu.active = more
	q.mu.Unlock()
	if more {
		q.w.enqueue(q)
	}
}
