package transport

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/raftstore"
)

const (
	// chunkBytes is the most data in one message; the reader's chunks are cut to it.
	chunkBytes = 1 << 20
	// stalled is how long a snapshot may make no progress; the receiver's final sync counts as one step.
	stalled = 60 * time.Second
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// RefusedError is a receiver's reason for not taking a snapshot.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "transport: snapshot refused: " + e.Reason }

// SendSnapshot streams a range's state to a store; done is called exactly once.
func (t *Transport) SendSnapshot(to ids.StoreID, header *locuspb.SnapshotHeader, r raftstore.SnapshotReader, done func(error)) {
	if err := t.admitSnapshot(); err != nil {
		_ = r.Close()
		done(err)
		return
	}
	go func() {
		defer t.wg.Done()
		defer t.waiting.Add(-1)
		err := t.sendSnapshot(to, header, r)
		if cerr := r.Close(); err == nil && cerr != nil {
			t.o.Logger.Warn("closing a sent snapshot", "error", cerr)
		}
		if err != nil {
			t.count.snapshotFailures.Add(1)
		} else {
			t.count.snapshots.Add(1)
		}
		done(err)
	}()
}

// admitSnapshot counts one more waiting snapshot, unless there are too many.
func (t *Transport) admitSnapshot() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.closed {
		return ErrClosed
	}
	if t.waiting.Add(1) > maxWaitingSnapshots {
		t.waiting.Add(-1)
		return errors.New("transport: too many snapshots are waiting")
	}
	t.wg.Add(1)
	return nil
}

func (t *Transport) sendSnapshot(to ids.StoreID, header *locuspb.SnapshotHeader, r raftstore.SnapshotReader) error {
	select {
	case t.slots <- struct{}{}:
	case <-t.ctx.Done():
		return ErrClosed
	}
	defer func() { <-t.slots }()
	t.count.inTransit.Add(1)
	defer t.count.inTransit.Add(-1)

	conn, err := t.o.Dialer.Connection(to, true)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	watchdog := time.AfterFunc(stalled, cancel)
	defer watchdog.Stop()
	stream, err := locuspb.NewNodeClient(conn).Snapshot(ctx)
	if err != nil {
		return fmt.Errorf("transport: opening a snapshot stream to %s: %w", to, err)
	}
	send := func(c *locuspb.SnapshotChunk) error {
		if err := t.limiter.WaitN(ctx, len(c.Data)); err != nil {
			return err
		}
		watchdog.Reset(stalled)
		t.count.snapshotBytes.Add(uint64(len(c.Data)))
		return stream.Send(c)
	}
	header.ClusterId = t.o.ClusterID
	if err := sendChunks(header, r, send); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("transport: sending a snapshot to %s: %w", to, err)
	}
	// io.EOF from Send: the receiver has ended the stream, and says why in its answer.
	ack, err := stream.CloseAndRecv()
	if err != nil {
		return fmt.Errorf("transport: sending a snapshot to %s: %w", to, err)
	}
	if !ack.Accepted {
		return &RefusedError{Reason: ack.Reason}
	}
	return nil
}

// sendChunks sends the header, the data and the closing chunk with the length of it all.
func sendChunks(header *locuspb.SnapshotHeader, r raftstore.SnapshotReader, send func(*locuspb.SnapshotChunk) error) error {
	if err := send(&locuspb.SnapshotChunk{Header: header}); err != nil {
		return err
	}
	var total uint64
	for {
		data, err := r.Next()
		if errors.Is(err, io.EOF) {
			return send(&locuspb.SnapshotChunk{Last: true, Total: total})
		}
		if err != nil {
			return fmt.Errorf("reading it: %w", err)
		}
		total += uint64(len(data))
		for len(data) > 0 {
			n := min(len(data), chunkBytes)
			c := &locuspb.SnapshotChunk{Data: data[:n], Crc: crc32.Checksum(data[:n], castagnoli)}
			if err := send(c); err != nil {
				return err
			}
			data = data[n:]
		}
	}
}
