package transport

import (
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/raftstore"
)

// fakeStore keeps what it is given.
type fakeStore struct {
	mu        sync.Mutex
	numbers   []uint64
	snapshots [][]byte
	begin     error
	gate      chan struct{} // snapshots wait here, if not nil
}

func (s *fakeStore) HandleRaft(_ ids.StoreID, envs []*locuspb.RaftEnvelope) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range envs {
		s.numbers = append(s.numbers, binary.BigEndian.Uint64(e.Message))
	}
}

func (s *fakeStore) received() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]uint64(nil), s.numbers...)
}

func (s *fakeStore) BeginSnapshot(*locuspb.SnapshotHeader) (raftstore.SnapshotSink, error) {
	if s.begin != nil {
		return nil, s.begin
	}
	return &fakeSink{s: s}, nil
}

type fakeSink struct {
	s    *fakeStore
	data []byte
}

func (k *fakeSink) Write(chunk []byte) error { k.data = append(k.data, chunk...); return nil }
func (k *fakeSink) Abort()                   {}
func (k *fakeSink) Finish() error {
	if k.s.gate != nil {
		<-k.s.gate
	}
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	k.s.snapshots = append(k.s.snapshots, k.data)
	return nil
}

// testNode serves a Receiver on loopback.
type testNode struct {
	locuspb.UnimplementedNodeServer
	receiver *Receiver
	server   *grpc.Server
	address  string
}

func (n *testNode) Raft(s grpc.ClientStreamingServer[locuspb.RaftFrame, locuspb.RaftAck]) error {
	return n.receiver.Raft(s)
}

func (n *testNode) Snapshot(s grpc.ClientStreamingServer[locuspb.SnapshotChunk, locuspb.SnapshotAck]) error {
	return n.receiver.Snapshot(s)
}

func clock() *hlc.Clock { return hlc.NewClock(time.Now, 0) }

func serve(t *testing.T, address, cluster string, self ids.StoreID, store Store) *testNode {
	t.Helper()
	var l net.Listener
	require.Eventually(t, func() (ok bool) {
		var err error
		l, err = net.Listen("tcp", address)
		return err == nil
	}, time.Minute, 5*time.Millisecond)
	n := &testNode{
		receiver: &Receiver{ClusterID: cluster, Self: self, Clock: clock(), Store: store, Logger: slog.New(slog.DiscardHandler)},
		server:   grpc.NewServer(), address: l.Addr().String(),
	}
	locuspb.RegisterNodeServer(n.server, n)
	go func() { _ = n.server.Serve(l) }()
	t.Cleanup(n.server.Stop)
	return n
}

// book is a Dialer with one address per store.
type book struct {
	mu    sync.Mutex
	conns map[ids.StoreID]*grpc.ClientConn
}

func (b *book) set(t *testing.T, id ids.StoreID, address string) {
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conns == nil {
		b.conns = map[ids.StoreID]*grpc.ClientConn{}
	}
	b.conns[id] = conn
}

func (b *book) Connection(to ids.StoreID, _ bool) (grpc.ClientConnInterface, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.conns[to]; c != nil {
		return c, nil
	}
	return nil, errors.New("unknown store")
}

func newTransport(t *testing.T, o Options) *Transport {
	if o.ClusterID == "" {
		o.ClusterID = "c"
	}
	o.Self, o.Clock = 1, clock()
	tr := New(o)
	t.Cleanup(tr.Close)
	return tr
}

func message(n uint64, size int) *locuspb.RaftEnvelope {
	m := make([]byte, max(8, size))
	binary.BigEndian.PutUint64(m, n)
	return &locuspb.RaftEnvelope{RangeId: 1, Message: m}
}

func waitFor(t *testing.T, f func() bool) {
	t.Helper()
	require.Eventually(t, f, time.Minute, time.Millisecond)
}

func TestOrder(t *testing.T) {
	store := &fakeStore{}
	b := &book{}
	b.set(t, 2, serve(t, "127.0.0.1:0", "c", 2, store).address)
	tr := newTransport(t, Options{Dialer: b, FrameBytes: 4096})
	const count = 5000
	for i := range uint64(count) {
		tr.Send(2, []*locuspb.RaftEnvelope{message(i, 100)})
	}
	waitFor(t, func() bool { return len(store.received()) == count })
	for i, n := range store.received() {
		require.Equal(t, uint64(i), n)
	}
	s := tr.Stats()
	require.Equal(t, uint64(count), s.Sent)
	require.Zero(t, s.Dropped)
	require.Less(t, s.Frames, uint64(count), "what waits shares a frame")
	require.GreaterOrEqual(t, s.Frames, uint64(count*164/4096), "a frame is bounded")
}

func TestReconnect(t *testing.T) {
	store := &fakeStore{}
	b := &book{}
	n := serve(t, "127.0.0.1:0", "c", 2, store)
	b.set(t, 2, n.address)
	tr := newTransport(t, Options{Dialer: b})
	tr.Send(2, []*locuspb.RaftEnvelope{message(1, 8)})
	waitFor(t, func() bool { return len(store.received()) == 1 })
	n.server.Stop()
	// While the peer is away messages are dropped, and nobody is blocked.
	for next := uint64(2); tr.Stats().Dropped == 0; next++ {
		tr.Send(2, []*locuspb.RaftEnvelope{message(next, 8)})
		time.Sleep(time.Millisecond)
	}
	serve(t, n.address, "c", 2, store)
	next := uint64(1 << 32)
	waitFor(t, func() bool {
		next++
		tr.Send(2, []*locuspb.RaftEnvelope{message(next, 8)})
		got := store.received()
		return got[len(got)-1] > 1<<32
	})
	got := store.received()
	for i := 1; i < len(got); i++ {
		require.Less(t, got[i-1], got[i], "order, and nothing twice")
	}
	require.NotZero(t, tr.Stats().Reconnects)
}

func TestQueueIsBounded(t *testing.T) {
	tr := newTransport(t, Options{Dialer: &book{}, QueueBytes: 10_000})
	p := newPeer(tr, 2) // without its goroutine
	for i := range uint64(100) {
		p.enqueue([]*locuspb.RaftEnvelope{message(i, 936)})
	}
	require.Len(t, p.mu.queue, 10)
	require.Equal(t, uint64(90), tr.Stats().Dropped)
	require.Equal(t, uint64(0), binary.BigEndian.Uint64(p.mu.queue[0].Message), "the oldest are kept")
}

func TestWrongClusterOrStoreIsRefused(t *testing.T) {
	for name, n := range map[string]struct {
		cluster string
		self    ids.StoreID
	}{"cluster": {"other", 2}, "store": {"c", 3}} {
		t.Run(name, func(t *testing.T) {
			store := &fakeStore{}
			b := &book{}
			b.set(t, 2, serve(t, "127.0.0.1:0", n.cluster, n.self, store).address)
			tr := newTransport(t, Options{Dialer: b})
			tr.Send(2, []*locuspb.RaftEnvelope{message(1, 8)})
			waitFor(t, func() bool {
				tr.Send(2, []*locuspb.RaftEnvelope{message(2, 8)})
				return tr.Stats().Reconnects > 0
			})
			require.Empty(t, store.received())
			done := make(chan error, 1)
			tr.SendSnapshot(2, header(), &fakeReader{}, func(err error) { done <- err })
			var refused *RefusedError
			require.ErrorAs(t, <-done, &refused)
			require.Empty(t, store.snapshots)
		})
	}
}

// A clock that is far ahead moves nobody's, and its messages are taken all the same (rule C4).
func TestFastClock(t *testing.T) {
	store := &fakeStore{}
	b := &book{}
	n := serve(t, "127.0.0.1:0", "c", 2, store)
	b.set(t, 2, n.address)
	o := Options{ClusterID: "c", Self: 1, Dialer: b, Clock: hlc.NewClock(func() time.Time { return time.Now().Add(time.Hour) }, 0)}
	tr := New(o)
	defer tr.Close()
	tr.Send(2, []*locuspb.RaftEnvelope{message(1, 8)})
	waitFor(t, func() bool { return len(store.received()) == 1 })
	require.Equal(t, uint64(1), n.receiver.ClockRefusals())
	require.Less(t, n.receiver.Clock.Now().Time(), time.Now().Add(time.Minute))
}

func header() *locuspb.SnapshotHeader {
	return &locuspb.SnapshotHeader{
		Id: make([]byte, 16), Envelope: &locuspb.RaftEnvelope{RangeId: 1, ToStore: 2},
		Descriptor_: &locuspb.RangeDescriptor{RangeId: 1},
	}
}

type fakeReader struct {
	chunks [][]byte
	err    error
	closed bool
}

func (r *fakeReader) Next() ([]byte, error) {
	if len(r.chunks) == 0 {
		if r.err != nil {
			return nil, r.err
		}
		return nil, io.EOF
	}
	c := r.chunks[0]
	r.chunks = r.chunks[1:]
	return c, nil
}

func (r *fakeReader) Close() error { r.closed = true; return nil }

func TestSnapshot(t *testing.T) {
	store := &fakeStore{}
	b := &book{}
	b.set(t, 2, serve(t, "127.0.0.1:0", "c", 2, store).address)
	tr := newTransport(t, Options{Dialer: b})
	large := make([]byte, 3*chunkBytes+17)
	for i := range large {
		large[i] = byte(i * 7)
	}
	r := &fakeReader{chunks: [][]byte{[]byte("head"), large, {}}}
	done := make(chan error, 1)
	tr.SendSnapshot(2, header(), r, func(err error) { done <- err })
	require.NoError(t, <-done)
	require.True(t, r.closed)
	require.Equal(t, append([]byte("head"), large...), store.snapshots[0])
	require.Equal(t, uint64(len(large)+4), tr.Stats().SnapshotBytes)

	t.Run("a failing reader", func(t *testing.T) {
		failure := errors.New("disk")
		tr.SendSnapshot(2, header(), &fakeReader{err: failure}, func(err error) { done <- err })
		require.ErrorIs(t, <-done, failure)
		require.Len(t, store.snapshots, 1)
	})
	t.Run("a refusing store", func(t *testing.T) {
		store.begin = errors.New("overlaps")
		tr.SendSnapshot(2, header(), &fakeReader{chunks: [][]byte{large}}, func(err error) { done <- err })
		var refused *RefusedError
		require.ErrorAs(t, <-done, &refused)
		require.Contains(t, refused.Reason, "overlaps")
	})
	t.Run("an unknown store", func(t *testing.T) {
		tr.SendSnapshot(9, header(), &fakeReader{}, func(err error) { done <- err })
		require.Error(t, <-done)
	})
}

func TestSnapshotsAtATime(t *testing.T) {
	store := &fakeStore{gate: make(chan struct{})}
	b := &book{}
	b.set(t, 2, serve(t, "127.0.0.1:0", "c", 2, store).address)
	tr := newTransport(t, Options{Dialer: b})
	const count = 5
	done := make(chan error, count)
	for range count {
		tr.SendSnapshot(2, header(), &fakeReader{chunks: [][]byte{[]byte("x")}}, func(err error) { done <- err })
	}
	waitFor(t, func() bool { return tr.Stats().SnapshotsInTransit == DefaultSnapshots })
	for range count {
		require.LessOrEqual(t, tr.Stats().SnapshotsInTransit, int64(DefaultSnapshots))
		store.gate <- struct{}{}
	}
	for range count {
		require.NoError(t, <-done)
	}
}

func TestCloseAnswersSnapshots(t *testing.T) {
	store := &fakeStore{gate: make(chan struct{})}
	b := &book{}
	b.set(t, 2, serve(t, "127.0.0.1:0", "c", 2, store).address)
	tr := New(Options{ClusterID: "c", Self: 1, Clock: clock(), Dialer: b})
	done := make(chan error, 4)
	for range 3 {
		tr.SendSnapshot(2, header(), &fakeReader{chunks: [][]byte{[]byte("x")}}, func(err error) { done <- err })
	}
	waitFor(t, func() bool { return tr.Stats().SnapshotsInTransit == DefaultSnapshots })
	go tr.Close()
	for range 3 {
		require.Error(t, <-done)
	}
	close(store.gate)
	tr.Close()
	tr.SendSnapshot(2, header(), &fakeReader{}, func(err error) { done <- err })
	require.ErrorIs(t, <-done, ErrClosed)
	tr.Send(2, []*locuspb.RaftEnvelope{message(1, 8)}) // dropped, without a goroutine
}

// stream feeds a receiver by hand.
type stream struct{ chunks []*locuspb.SnapshotChunk }

func (s *stream) Recv() (*locuspb.SnapshotChunk, error) {
	if len(s.chunks) == 0 {
		return nil, io.EOF
	}
	c := s.chunks[0]
	s.chunks = s.chunks[1:]
	return c, nil
}

func TestDamagedSnapshots(t *testing.T) {
	head := header()
	head.ClusterId = "c"
	data := &locuspb.SnapshotChunk{Data: []byte("abc"), Crc: 0x364b3fb7}
	for _, c := range []struct {
		name, reason string
		chunks       []*locuspb.SnapshotChunk
	}{
		{"whole", "", []*locuspb.SnapshotChunk{{Header: head}, data, {Last: true, Total: 3}}},
		{"empty", "", []*locuspb.SnapshotChunk{{Header: head}, {Last: true}}},
		{"no header", "no complete header", []*locuspb.SnapshotChunk{data}},
		{"header without descriptor", "no complete header", []*locuspb.SnapshotChunk{{Header: &locuspb.SnapshotHeader{Envelope: head.Envelope}}}},
		{"nothing", "reading the header", nil},
		{"cut off", "ended before", []*locuspb.SnapshotChunk{{Header: head}, data}},
		{"flipped bit", "checksum", []*locuspb.SnapshotChunk{{Header: head}, {Data: []byte("abd"), Crc: data.Crc}}},
		{"missing chunk", "not 6", []*locuspb.SnapshotChunk{{Header: head}, data, {Last: true, Total: 6}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := &fakeStore{}
			r := &Receiver{ClusterID: "c", Self: 2, Clock: clock(), Store: store}
			err := r.takeSnapshot(&stream{chunks: c.chunks})
			if c.reason == "" {
				require.NoError(t, err)
				require.Len(t, store.snapshots, 1)
				return
			}
			require.ErrorContains(t, err, c.reason)
			require.Empty(t, store.snapshots)
		})
	}
}
