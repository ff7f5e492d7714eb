package transport

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/raftstore"
)

// maxIncoming is how many snapshots a store takes at a time: each is a file being written and synced.
const maxIncoming = 4

// Store is what a Receiver delivers to.
type Store interface {
	HandleRaft(from ids.StoreID, envs []*locuspb.RaftEnvelope)
	BeginSnapshot(h *locuspb.SnapshotHeader) (raftstore.SnapshotSink, error)
}

// Receiver is the other end of a Transport: the bodies of the Raft and Snapshot services.
type Receiver struct {
	ClusterID string
	Self      ids.StoreID
	Clock     *hlc.Clock
	Store     Store
	Logger    *slog.Logger

	incoming  atomic.Int64
	clockSkew atomic.Uint64
}

// ClockRefusals counts frames whose clock was too far ahead to be believed.
func (r *Receiver) ClockRefusals() uint64 { return r.clockSkew.Load() }

// Raft delivers frames until the sender ends the stream.
func (r *Receiver) Raft(stream grpc.ClientStreamingServer[locuspb.RaftFrame, locuspb.RaftAck]) error {
	for {
		frame, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&locuspb.RaftAck{})
		}
		if err != nil {
			return err
		}
		if err := r.check(frame.ClusterId, frame.ToStore); err != nil {
			return err
		}
		// A clock that is too far ahead is not believed, but the messages are taken all the same: refusing
		// them would isolate the replicas (rule C4, docs/invariants.md).
		if err := r.Clock.Update(hlc.Timestamp(frame.Clock)); err != nil {
			if r.clockSkew.Add(1)%1024 == 1 {
				r.Logger.Warn("a store's clock is too far ahead", "store", frame.FromStore, "error", err)
			}
		}
		r.Store.HandleRaft(ids.StoreID(frame.FromStore), frame.Envelopes)
	}
}

// check refuses what is meant for another cluster or store, for example after addresses were reused.
func (r *Receiver) check(cluster string, to uint64) error {
	if cluster != r.ClusterID {
		return status.Errorf(codes.FailedPrecondition, "this node is of cluster %s, not of %s", r.ClusterID, cluster)
	}
	if to != uint64(r.Self) {
		return status.Errorf(codes.FailedPrecondition, "this is store %d, not %d", r.Self, to)
	}
	return nil
}

// Snapshot takes one snapshot and answers once it is durable and accepted, or says why it is not.
func (r *Receiver) Snapshot(stream grpc.ClientStreamingServer[locuspb.SnapshotChunk, locuspb.SnapshotAck]) error {
	if r.incoming.Add(1) > maxIncoming {
		r.incoming.Add(-1)
		return stream.SendAndClose(&locuspb.SnapshotAck{Reason: "the store is taking other snapshots; try later"})
	}
	defer r.incoming.Add(-1)
	if err := r.takeSnapshot(stream); err != nil {
		return stream.SendAndClose(&locuspb.SnapshotAck{Reason: err.Error()})
	}
	return stream.SendAndClose(&locuspb.SnapshotAck{Accepted: true})
}

type chunkStream interface {
	Recv() (*locuspb.SnapshotChunk, error)
}

func (r *Receiver) takeSnapshot(stream chunkStream) error {
	first, err := stream.Recv()
	if err != nil {
		return fmt.Errorf("reading the header: %w", err)
	}
	h := first.Header
	if h == nil || h.Envelope == nil || h.Descriptor_ == nil {
		return errors.New("the first chunk has no complete header")
	}
	if err := r.check(h.ClusterId, h.Envelope.ToStore); err != nil {
		return err
	}
	sink, err := r.Store.BeginSnapshot(h)
	if err != nil {
		return err
	}
	if err := copyChunks(stream, sink); err != nil {
		sink.Abort()
		return err
	}
	return sink.Finish()
}

// copyChunks writes the data of all chunks after the first, checking each.
func copyChunks(stream chunkStream, sink raftstore.SnapshotSink) error {
	var total uint64
	for {
		c, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return errors.New("it ended before its last chunk")
		}
		if err != nil {
			return fmt.Errorf("reading a chunk: %w", err)
		}
		if crc := crc32.Checksum(c.Data, castagnoli); crc != c.Crc {
			return fmt.Errorf("chunk at byte %d has checksum %08x, not %08x", total, crc, c.Crc)
		}
		total += uint64(len(c.Data))
		if len(c.Data) > 0 {
			if err := sink.Write(c.Data); err != nil {
				return err
			}
		}
		if c.Last {
			if c.Total != total {
				return fmt.Errorf("it has %d bytes, not %d", total, c.Total)
			}
			return nil
		}
	}
}
