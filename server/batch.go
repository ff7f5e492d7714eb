package server

import (
	"context"
	"errors"
	"io"
	"sync"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
)

// Bounds of one Batch stream. When they are reached the node stops reading from it, and HTTP/2's flow
// control stops the client.
const (
	streamRequests = 1024
	// streamBytes counts requests, and for scans what their answers may hold.
	streamBytes = 64 << 20
	// frameBytes is what an answering frame holds at most, beyond its first answer.
	frameBytes = 4 << 20

	requestOverhead  = 512
	responseOverhead = 64 // at most, of an answer without an error, beside its value
	defaultScan      = 1 << 20
)

// batchStream is one client's stream: frames of requests in, frames of answers out, in whatever order they
// are done. An answering frame holds what was done while the previous one was being sent.
type batchStream struct {
	d      *dispatcher
	clock  *hlc.Clock
	stream grpc.BidiStreamingServer[locuspb.BatchRequest, locuspb.BatchResponse]
	from   origin

	requests *semaphore.Weighted // in flight
	bytes    *semaphore.Weighted
	wake     chan struct{}

	mu struct {
		sync.Mutex
		done []answered
		// corked: the requests of a frame are being dispatched. Those that are answered at once share a frame too.
		corked bool
	}
}

// answered is an answer that waits to be sent, and what its request weighs until it is.
type answered struct {
	response *locuspb.Response
	weight   int64
}

func newBatchStream(d *dispatcher, stream grpc.BidiStreamingServer[locuspb.BatchRequest, locuspb.BatchResponse], from origin) *batchStream {
	return &batchStream{
		d: d, clock: d.clock, stream: stream, from: from,
		requests: semaphore.NewWeighted(streamRequests), bytes: semaphore.NewWeighted(streamBytes),
		wake: make(chan struct{}, 1),
	}
}

// serve runs until the client ends the stream and everything is answered, or the stream breaks.
func (b *batchStream) serve() error {
	ctx, cancel := context.WithCancel(b.stream.Context())
	defer cancel()
	sent := make(chan error, 1)
	go func() {
		err := b.send(ctx)
		cancel() // a stream that can't be answered on is not read either
		sent <- err
	}()
	err := b.receive(ctx)
	if err == nil {
		// All slots are free once everything is answered.
		err = b.requests.Acquire(ctx, streamRequests)
	}
	cancel()
	if serr := <-sent; serr != nil {
		return serr
	}
	return err
}

// receive dispatches requests; nil when the client has ended its half.
func (b *batchStream) receive(ctx context.Context) error {
	for {
		frame, err := b.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		clockErr := b.clock.Update(hlc.Timestamp(frame.Clock))
		b.cork(true)
		for _, req := range frame.Requests {
			weight := weightOf(req)
			if err := b.admit(ctx, b.requests, 1); err != nil {
				return err
			}
			if err := b.admit(ctx, b.bytes, weight); err != nil {
				return err
			}
			done := func(resp *locuspb.Response) { b.answer(resp, weight) }
			if clockErr != nil {
				resp := failed(clockErr)
				resp.Id = req.Id
				done(resp)
				continue
			}
			b.d.dispatch(ctx, req, b.from, done)
		}
		b.cork(false)
	}
}

// admit takes n of a bound. What is answered already has to be sent before it waits.
func (b *batchStream) admit(ctx context.Context, bound *semaphore.Weighted, n int64) error {
	if bound.TryAcquire(n) {
		return nil
	}
	b.cork(false)
	return bound.Acquire(ctx, n)
}

// cork holds answers back, or lets them go.
func (b *batchStream) cork(corked bool) {
	b.mu.Lock()
	b.mu.corked = corked
	waiting := !corked && len(b.mu.done) > 0
	b.mu.Unlock()
	if waiting {
		b.wakeSender()
	}
}

func (b *batchStream) wakeSender() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// weightOf is about what a request holds in memory until it is answered.
func weightOf(req *locuspb.Request) int64 {
	n := int64(requestSize(req)) + requestOverhead
	if s := req.GetScan(); s != nil {
		if n += int64(min(s.MaxBytes, streamBytes)); s.MaxBytes == 0 {
			n += defaultScan
		}
	}
	return min(n, streamBytes)
}

// requestSize is about the bytes of a request. The kinds that come by the hundred thousand a second are summed up by hand,
// which costs a tenth of what it costs to look at every field.
func requestSize(req *locuspb.Request) int {
	switch op := req.Op.(type) {
	case *locuspb.Request_Get:
		return len(op.Get.GetKey())
	case *locuspb.Request_Call:
		return len(op.Call.GetKey()) + len(op.Call.GetArgument())
	case *locuspb.Request_Write:
		n := 0
		for _, m := range op.Write.GetMutations() {
			n += len(m.GetKey()) + len(m.GetValue())
		}
		if len(op.Write.GetConditions()) == 0 {
			return n
		}
	}
	return proto.Size(req)
}

// responseSize is about the bytes of an answer.
func responseSize(resp *locuspb.Response) int {
	switch r := resp.Result.(type) {
	case *locuspb.Response_Get:
		return len(r.Get.GetValue()) + responseOverhead
	case *locuspb.Response_Write, nil:
		if resp.Error == nil {
			return responseOverhead
		}
	}
	return proto.Size(resp)
}

// answer queues one answer, which keeps its slot and its weight until it is sent.
func (b *batchStream) answer(resp *locuspb.Response, weight int64) {
	b.mu.Lock()
	b.mu.done = append(b.mu.done, answered{resp, weight})
	corked := b.mu.corked
	b.mu.Unlock()
	if !corked {
		b.wakeSender()
	}
}

// send sends frames until ctx ends.
func (b *batchStream) send(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.wake:
		}
		for {
			responses, weight := b.take()
			if len(responses) == 0 {
				break
			}
			err := b.stream.Send(&locuspb.BatchResponse{Clock: uint64(b.clock.Hint()), Responses: responses})
			b.requests.Release(int64(len(responses)))
			b.bytes.Release(weight)
			if err != nil {
				return err
			}
		}
	}
}

// take removes a frame's worth of answers and says what they weigh.
func (b *batchStream) take() (responses []*locuspb.Response, weight int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	bytes := 0
	for _, a := range b.mu.done {
		size := responseSize(a.response)
		if len(responses) > 0 && bytes+size > frameBytes {
			break
		}
		bytes += size
		responses = append(responses, a.response)
		weight += a.weight
	}
	if b.mu.done = b.mu.done[len(responses):]; len(b.mu.done) == 0 {
		b.mu.done = nil
	}
	return responses, weight
}
