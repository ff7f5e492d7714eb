package client

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
)

// Frames are bounded, so that one never keeps others waiting for long.
const (
	maxFrameRequests = 512
	maxFrameBytes    = 1 << 20
)

// pointStreams carry small requests; one more carries scans, whose answers are long.
const (
	pointStreams = 2
	scanStream   = pointStreams
)

// link is one batching stream to a node, from its opening to its end; it is never used again after.
//
// Requests that come while a frame is being sent go out together as the next one. Nothing ever waits for a
// frame to fill.
type link struct {
	id   uint64
	node *peer

	mu struct {
		sync.Mutex
		queue []*locuspb.Request
		dead  bool
	}
	wake    chan struct{} // of capacity 1: the queue is not empty
	waiting atomic.Int32  // requests queued, and 1 while a frame is being sent
}

// peer is a node with its streams.
type peer struct {
	store ids.StoreID
	addr  string
	db    *DB
	links [pointStreams + 1]*link // guarded by the driver's lock
}

// carry queues a request on one of the node's streams.
func (p *peer) carry(req *locuspb.Request) (uint64, error) {
	i := scanStream
	if _, scan := req.Op.(*locuspb.Request_Scan); !scan {
		i = p.idlest()
	}
	for range 2 {
		l := p.links[i]
		if l == nil {
			l = p.open(i)
		}
		if l == nil {
			return 0, ErrClosed
		}
		if l.enqueue(req) {
			return l.id, nil
		}
		p.links[i] = nil // it died
	}
	return 0, &UnavailableError{Reason: "the connection to " + p.addr + " failed"}
}

// idlest is the first stream that has nothing to do, or else the one with the least: an idle client uses
// one stream, a busy one all.
func (p *peer) idlest() int {
	best, least := 0, int32(-1)
	for i := range pointStreams {
		n := int32(0)
		if l := p.links[i]; l != nil {
			n = l.waiting.Load()
		}
		if n == 0 {
			return i
		}
		if least < 0 || n < least {
			best, least = i, n
		}
	}
	return best
}

// open starts a stream; nil after Close.
func (p *peer) open(i int) *link {
	l := &link{id: p.db.lastLink.Add(1), node: p, wake: make(chan struct{}, 1)}
	if !p.db.spawn(l.run) {
		return nil
	}
	p.links[i] = l
	return l
}

// enqueue is false when the stream has ended. The queue is bounded by the operations in flight.
func (l *link) enqueue(req *locuspb.Request) bool {
	l.mu.Lock()
	if l.mu.dead {
		l.mu.Unlock()
		return false
	}
	l.mu.queue = append(l.mu.queue, req)
	first := len(l.mu.queue) == 1
	l.mu.Unlock()
	l.waiting.Add(1)
	if first {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// run opens the stream, sends until it ends, and reports its end.
func (l *link) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err := l.serve(ctx, cancel)
	if ctx.Err() != nil && err == nil {
		err = ErrClosed
	}
	l.mu.Lock()
	l.mu.dead = true
	unsent := l.mu.queue
	l.mu.queue = nil
	l.mu.Unlock()
	l.node.db.driver.linkDown(l.id, unsent, err)
}

func (l *link) serve(ctx context.Context, cancel context.CancelFunc) error {
	cc, err := l.node.db.conns.get(l.node.addr)
	if err != nil {
		return err
	}
	// NewStream waits for the connection as long as its context lives, and that has to outlive it.
	giveUp := time.AfterFunc(dialTimeout, cancel)
	s, err := service(cc).Batch(ctx)
	if err != nil {
		return err
	}
	giveUp.Stop()
	received := make(chan error, 1)
	if !l.node.db.spawn(func(context.Context) {
		received <- l.receive(s)
		cancel()
	}) {
		return ErrClosed
	}
	sendErr := l.send(ctx, s)
	cancel()
	if err := <-received; err != nil {
		return err // it says why; Send says only that it ended
	}
	return sendErr
}

func (l *link) receive(s grpc.BidiStreamingClient[locuspb.BatchRequest, locuspb.BatchResponse]) error {
	for {
		m, err := s.Recv()
		if err != nil {
			return fmt.Errorf("stream to %s: %w", l.node.addr, err)
		}
		l.node.db.driver.delivered(m)
	}
}

func (l *link) send(ctx context.Context, s grpc.BidiStreamingClient[locuspb.BatchRequest, locuspb.BatchResponse]) error {
	var frame []*locuspb.Request
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.wake:
		}
		for {
			// Those who are about to ask get their turn, so that their requests share the frame.
			runtime.Gosched()
			frame = l.take(frame[:0])
			if len(frame) == 0 {
				break
			}
			l.waiting.Add(1 - int32(len(frame)))
			err := s.Send(&locuspb.BatchRequest{Requests: frame})
			l.waiting.Add(-1)
			if err != nil {
				return err
			}
		}
	}
}

// take moves the next frame's requests out of the queue.
func (l *link) take(frame []*locuspb.Request) []*locuspb.Request {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, size := 0, 0
	for n < len(l.mu.queue) && n < maxFrameRequests && size < maxFrameBytes {
		size += approxSize(l.mu.queue[n])
		n++
	}
	frame = append(frame, l.mu.queue[:n]...)
	rest := copy(l.mu.queue, l.mu.queue[n:])
	clear(l.mu.queue[rest:])
	l.mu.queue = l.mu.queue[:rest]
	return frame
}

// approxSize is about what a request adds to a frame.
func approxSize(r *locuspb.Request) int {
	n := 64
	switch x := r.Op.(type) {
	case *locuspb.Request_Write:
		for _, m := range x.Write.Mutations {
			n += len(m.Key) + len(m.Value) + 8
		}
	case *locuspb.Request_Call:
		n += len(x.Call.Argument)
	}
	return n
}
