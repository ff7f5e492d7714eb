package transport

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/raftstore"
)

// Defaults of Options.
const (
	DefaultQueueBytes   = 32 << 20
	DefaultFrameBytes   = 4 << 20
	DefaultSnapshots    = 2
	DefaultSnapshotRate = 64 << 20
	maxWaitingSnapshots = 256
)

// Dialer finds connections to stores.
type Dialer interface {
	// Connection returns a connection for Raft messages (bulk false) or for snapshots (bulk true), which do
	// not share one: a snapshot must not delay heartbeats. It does not wait for the connection to be up.
	Connection(to ids.StoreID, bulk bool) (grpc.ClientConnInterface, error)
}

// Options of a Transport. Zero limits are the defaults above.
type Options struct {
	ClusterID string
	Self      ids.StoreID
	Dialer    Dialer
	Clock     *hlc.Clock
	Logger    *slog.Logger
	// QueueBytes bounds what waits for one peer; FrameBytes bounds one frame.
	QueueBytes, FrameBytes int64
	// Snapshots is how many are sent at a time; SnapshotRate is bytes per second over all of them.
	Snapshots    int
	SnapshotRate int64
}

func (o Options) withDefaults() Options {
	set := func(p *int64, v int64) {
		if *p == 0 {
			*p = v
		}
	}
	set(&o.QueueBytes, DefaultQueueBytes)
	set(&o.FrameBytes, DefaultFrameBytes)
	set(&o.SnapshotRate, DefaultSnapshotRate)
	if o.Snapshots == 0 {
		o.Snapshots = DefaultSnapshots
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Stats counts what the transport did since it was made.
type Stats struct {
	Sent, Dropped      uint64 // envelopes
	Frames             uint64
	SentBytes          uint64
	Reconnects         uint64
	SnapshotsSent      uint64
	SnapshotsFailed    uint64
	SnapshotBytes      uint64
	SnapshotsInTransit int64
}

type counters struct {
	sent, dropped, frames, bytes, reconnects   atomic.Uint64
	snapshots, snapshotFailures, snapshotBytes atomic.Uint64
	inTransit                                  atomic.Int64
}

// Transport sends to other stores. Make it with New, end it with Close.
type Transport struct {
	o       Options
	ctx     context.Context
	cancel  context.CancelFunc
	limiter *rate.Limiter
	slots   chan struct{} // snapshots being sent
	waiting atomic.Int64  // snapshots being sent or waiting for a slot
	count   counters
	wg      sync.WaitGroup

	mu struct {
		sync.Mutex
		peers  map[ids.StoreID]*peer
		closed bool
	}
}

var _ raftstore.Transport = (*Transport)(nil)

// ErrClosed is what snapshots fail with once the transport is closed.
var ErrClosed = errors.New("transport: closed")

// New makes a transport; it connects to a store when there is something to send.
func New(o Options) *Transport {
	o = o.withDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	t := &Transport{
		o: o, ctx: ctx, cancel: cancel,
		limiter: rate.NewLimiter(rate.Limit(o.SnapshotRate), max(int(o.SnapshotRate), chunkBytes)),
		slots:   make(chan struct{}, o.Snapshots),
	}
	t.mu.peers = make(map[ids.StoreID]*peer)
	return t
}

// Send queues messages for a store. It never blocks; what does not fit is dropped.
func (t *Transport) Send(to ids.StoreID, envelopes []*locuspb.RaftEnvelope) {
	if p := t.peer(to); p != nil {
		p.enqueue(envelopes)
	}
}

// peer finds or makes the queue to a store; nil once closed.
func (t *Transport) peer(to ids.StoreID) *peer {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.closed {
		return nil
	}
	p := t.mu.peers[to]
	if p == nil {
		p = newPeer(t, to)
		t.mu.peers[to] = p
		t.wg.Go(p.run)
	}
	return p
}

// Stats reads the counters.
func (t *Transport) Stats() Stats {
	return Stats{
		Sent: t.count.sent.Load(), Dropped: t.count.dropped.Load(), Frames: t.count.frames.Load(),
		SentBytes: t.count.bytes.Load(), Reconnects: t.count.reconnects.Load(),
		SnapshotsSent: t.count.snapshots.Load(), SnapshotsFailed: t.count.snapshotFailures.Load(),
		SnapshotBytes: t.count.snapshotBytes.Load(), SnapshotsInTransit: t.count.inTransit.Load(),
	}
}

// Close drops what is queued, fails the snapshots in transit and waits for every goroutine to end.
func (t *Transport) Close() {
	t.mu.Lock()
	t.mu.closed = true
	t.mu.Unlock()
	t.cancel()
	t.wg.Wait()
}
