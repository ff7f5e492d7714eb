package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
	"github.com/locuskv/locus/raftstore/engine"
)

// A snapshot is a stream of chunks (docs/format.md, "Snapshots"): a head, records in key order, an end that
// counts them. Each chunk begins with its kind.
const (
	chunkHead    = 1 // locuspb.SnapshotHead
	chunkRecords = 2 // local or data records
	chunkEnd     = 3 // number of records, 8 bytes
)

const (
	snapshotFormat = 1
	chunkBytes     = 256 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// pinnedSnapshot is a range's applied state, held until it was sent.
type pinnedSnapshot struct {
	id      [16]byte
	desc    *topology.Descriptor
	applied appliedState
	seq     ids.Seq
	// fresh: made since the last messages were sent. If none of them carries it, it is let go.
	sent bool
}

// pinSnapshot is raft.Storage.Snapshot: it fixes the newest applied state and names it.
func (r *Replica) pinSnapshot() (*raftpb.Snapshot, error) {
	r.mu.RLock()
	s := r.mu.state
	if s.desc == nil || s.frozen || s.ingesting || s.gone {
		r.mu.RUnlock()
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	seq := r.store.holds.acquire(s.visible)
	r.mu.RUnlock()
	p := &pinnedSnapshot{id: r.store.newID(), desc: s.desc, applied: s.applied, seq: seq}
	r.raft.pinned[string(p.id[:])] = p
	return &raftpb.Snapshot{
		Data: p.id[:],
		Metadata: &raftpb.SnapshotMetadata{
			ConfState: confState(s.desc), Index: new(uint64(s.applied.Index)), Term: new(uint64(s.applied.Term)),
		},
	}, nil
}

// dropUnusedSnapshots lets go of what was pinned and not sent.
func (r *Replica) dropUnusedSnapshots() {
	for id, p := range r.raft.pinned {
		delete(r.raft.pinned, id)
		if !p.sent {
			r.store.holds.release(p.seq)
		}
	}
}

// sendSnapshot streams a pinned snapshot to the replica that Raft meant it for. Raft waits for the report.
func (r *Replica) sendSnapshot(s *replicaState, to ids.StoreID, m *raftpb.Message) {
	target := m.GetTo()
	report := func(err error) {
		status := raft.SnapshotFinish
		if err != nil {
			status = raft.SnapshotFailure
			r.store.logger.Debug("snapshot not delivered", "range", r.id, "to", to, "err", err)
		}
		r.post(raftInput{run: func() {
			if !r.raft.stopped {
				r.raft.node.ReportSnapshot(target, status)
			}
		}})
	}
	p := r.raft.pinned[string(m.GetSnapshot().GetData())]
	if p == nil {
		report(errors.New("raftstore: the snapshot is no longer pinned"))
		return
	}
	p.sent = true
	r.store.metrics.snapshotSent()
	header := &locuspb.SnapshotHeader{
		ClusterId: r.store.opts.ClusterID, Envelope: r.envelope(s, m, to), Id: p.id[:], Descriptor_: api.DescriptorToProto(p.desc),
	}
	r.store.opts.Transport.SendSnapshot(to, header, newSnapshotReader(r.store, p), report)
}

// snapshotReader yields a pinned snapshot's chunks.
type snapshotReader struct {
	s     *Store
	p     *pinnedSnapshot
	spans []keys.Span // engine spans still to read
	it    engine.Iterator
	count uint64
	stage int
}

func newSnapshotReader(s *Store, p *pinnedSnapshot) *snapshotReader {
	return &snapshotReader{s: s, p: p, spans: []keys.Span{localSpan(p.desc.ID, suffixSession), dataSpan(p.desc.Span)}}
}

// Next implements SnapshotReader.
func (sr *snapshotReader) Next() ([]byte, error) {
	switch sr.stage {
	case 0:
		sr.stage = 1
		head := &locuspb.SnapshotHead{
			Format: snapshotFormat, Id: sr.p.id[:], Descriptor_: api.DescriptorToProto(sr.p.desc),
			Index: uint64(sr.p.applied.Index), Term: uint64(sr.p.applied.Term),
			AppliedState: sr.p.applied.encode(), Oldest: uint64(sr.p.applied.TS),
		}
		return append([]byte{chunkHead}, mustMarshal(head)...), nil
	case 1:
		chunk, err := sr.records()
		if err != nil || len(chunk) > 1 {
			return chunk, err
		}
		sr.stage = 2
		return binary.BigEndian.AppendUint64([]byte{chunkEnd}, sr.count), nil
	}
	return nil, io.EOF
}

// records reads the next chunk of records; an empty one ends them.
func (sr *snapshotReader) records() ([]byte, error) {
	chunk := []byte{chunkRecords}
	for len(chunk) < chunkBytes {
		if sr.it == nil {
			if len(sr.spans) == 0 {
				break
			}
			sr.it = sr.s.engine.NewIterator(engine.IterOptions{Span: sr.spans[0], Seq: sr.p.seq})
			sr.spans = sr.spans[1:]
		}
		if !sr.it.Valid() {
			err := sr.it.Err()
			sr.it.Close()
			sr.it = nil
			if err != nil {
				sr.s.fatal(err)
				return nil, err
			}
			continue
		}
		chunk = appendBytes(chunk, sr.it.Key())
		chunk = appendBytes(chunk, sr.it.Value())
		sr.count++
		sr.it.Next()
	}
	return chunk, nil
}

// Close implements SnapshotReader.
func (sr *snapshotReader) Close() error {
	if sr.it != nil {
		sr.it.Close()
		sr.it = nil
	}
	if sr.p != nil {
		sr.s.holds.release(sr.p.seq)
		sr.p = nil
		sr.stage = 3
	}
	return nil
}

// snapshotRecords calls f with each record of a chunk.
func snapshotRecords(chunk []byte, f func(key, value []byte) error) error {
	d := decoder{b: chunk}
	for len(d.b) > 0 {
		key, value := d.bytes(), d.bytes()
		if d.err != nil {
			return d.err
		}
		if err := f(key, value); err != nil {
			return err
		}
	}
	return nil
}

// decodeSnapshotHead parses the first chunk.
func decodeSnapshotHead(chunk []byte) (*locuspb.SnapshotHead, *topology.Descriptor, appliedState, error) {
	fail := func(err error) (*locuspb.SnapshotHead, *topology.Descriptor, appliedState, error) {
		return nil, nil, appliedState{}, fmt.Errorf("raftstore: snapshot head: %w", err)
	}
	if len(chunk) == 0 || chunk[0] != chunkHead {
		return fail(errors.New("not a head"))
	}
	var head locuspb.SnapshotHead
	if err := proto.Unmarshal(chunk[1:], &head); err != nil {
		return fail(err)
	}
	if head.Format != snapshotFormat {
		return fail(fmt.Errorf("format %d, this version reads %d", head.Format, snapshotFormat))
	}
	desc, err := api.DescriptorFromProto(head.Descriptor_)
	if err != nil {
		return fail(err)
	}
	st, err := decodeApplied(head.AppliedState)
	if err != nil {
		return fail(err)
	}
	if uint64(st.Index) != head.Index || uint64(st.Term) != head.Term {
		return fail(errors.New("position and applied state differ"))
	}
	return &head, desc, st, nil
}
