package transport

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
)

// Backoff between attempts to reach a peer, doubled with each failure and jittered by half. The upper
// bound stays below an election timeout, so that a node that returns hears from its leader at once.
const (
	minBackoff = 20 * time.Millisecond
	maxBackoff = 500 * time.Millisecond
)

// peer is the ordered way to one store.
type peer struct {
	t    *Transport
	to   ids.StoreID
	wake chan struct{} // holds a token while the queue may be non-empty

	mu struct {
		sync.Mutex
		queue []*locuspb.RaftEnvelope
		bytes int64
	}
}

func newPeer(t *Transport, to ids.StoreID) *peer {
	return &peer{t: t, to: to, wake: make(chan struct{}, 1)}
}

// envelopeBytes is about what an envelope takes in memory and on the wire.
func envelopeBytes(e *locuspb.RaftEnvelope) int64 { return int64(len(e.Message)) + 64 }

// enqueue appends what fits. The newest are dropped, not the oldest: what Raft sent first is what the
// receiver needs first, and it asks again for the rest.
func (p *peer) enqueue(envelopes []*locuspb.RaftEnvelope) {
	p.mu.Lock()
	for _, e := range envelopes {
		if n := envelopeBytes(e); p.mu.bytes+n <= p.t.o.QueueBytes {
			p.mu.queue = append(p.mu.queue, e)
			p.mu.bytes += n
		} else {
			p.t.count.dropped.Add(1)
		}
	}
	p.mu.Unlock()
	p.signal()
}

func (p *peer) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// take removes a frame's worth from the front of the queue.
func (p *peer) take() []*locuspb.RaftEnvelope {
	p.mu.Lock()
	defer p.mu.Unlock()
	var bytes int64
	n := 0
	for n < len(p.mu.queue) {
		b := envelopeBytes(p.mu.queue[n])
		if n > 0 && bytes+b > p.t.o.FrameBytes {
			break
		}
		bytes += b
		n++
	}
	out := p.mu.queue[:n:n]
	p.mu.queue = p.mu.queue[n:]
	p.mu.bytes -= bytes
	if len(p.mu.queue) > 0 {
		p.signal()
	} else {
		p.mu.queue = nil
	}
	return out
}

// drop forgets the queue: a peer that can't be reached gets what Raft sends once it can.
func (p *peer) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.t.count.dropped.Add(uint64(len(p.mu.queue)))
	p.mu.queue, p.mu.bytes = nil, 0
}

// run sends until the transport is closed, over one stream after another.
func (p *peer) run() {
	backoff := minBackoff
	for first := true; p.waitForWork(); first = false {
		if !first {
			p.t.count.reconnects.Add(1)
		}
		sent, err := p.stream()
		if p.t.ctx.Err() != nil {
			return
		}
		p.t.o.Logger.Debug("raft stream ended", "to", p.to, "frames", sent, "error", err)
		if sent > 0 {
			backoff = minBackoff
		}
		p.drop()
		if !p.pause(backoff) {
			return
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// waitForWork waits for something to send; false once closed. The token is left for stream.
func (p *peer) waitForWork() bool {
	select {
	case <-p.t.ctx.Done():
		return false
	case <-p.wake:
		p.signal()
		return true
	}
}

func (p *peer) pause(d time.Duration) bool {
	timer := time.NewTimer(d/2 + rand.N(d/2+1))
	defer timer.Stop()
	select {
	case <-p.t.ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// stream sends frames over one stream until it breaks.
func (p *peer) stream() (sent int, err error) {
	conn, err := p.t.o.Dialer.Connection(p.to, false)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(p.t.ctx)
	defer cancel()
	stream, err := locuspb.NewNodeClient(conn).Raft(ctx)
	if err != nil {
		return 0, err
	}
	// The receiver answers only to end the stream: waiting for that tells of a broken one while nothing
	// is being sent.
	broken := make(chan error, 1)
	p.t.wg.Go(func() { broken <- stream.RecvMsg(new(locuspb.RaftAck)) })
	for {
		select {
		case err := <-broken:
			return sent, err
		case <-p.t.ctx.Done():
			return sent, ErrClosed
		case <-p.wake:
		}
		envelopes := p.take()
		if len(envelopes) == 0 {
			continue
		}
		if err := p.sendFrame(stream, envelopes); err != nil {
			p.t.count.dropped.Add(uint64(len(envelopes)))
			select {
			case err = <-broken: // has the reason; Send only knows io.EOF
			case <-time.After(maxBackoff):
			}
			return sent, err
		}
		sent++
	}
}

type frameSender interface {
	Send(*locuspb.RaftFrame) error
}

func (p *peer) sendFrame(stream frameSender, envelopes []*locuspb.RaftEnvelope) error {
	frame := &locuspb.RaftFrame{
		ClusterId: p.t.o.ClusterID, FromStore: uint64(p.t.o.Self), ToStore: uint64(p.to),
		Clock: uint64(p.t.o.Clock.Hint()), Envelopes: envelopes,
	}
	if err := stream.Send(frame); err != nil {
		return err
	}
	p.t.count.frames.Add(1)
	p.t.count.sent.Add(uint64(len(envelopes)))
	p.t.count.bytes.Add(uint64(proto.Size(frame)))
	return nil
}
