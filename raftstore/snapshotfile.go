package raftstore

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"strings"
	"sync"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/vfs"
)

const snapshotSuffix = ".snap"

// CorruptSnapshotError names a snapshot file that is damaged.
type CorruptSnapshotError struct {
	File   string
	Offset int64
	Reason string
}

func (e *CorruptSnapshotError) Error() string {
	return fmt.Sprintf("raftstore: snapshot file %s is damaged at offset %d: %s", e.File, e.Offset, e.Reason)
}

// incomingSnapshot is a received snapshot whose file is durable.
type incomingSnapshot struct {
	path string
	head *locuspb.SnapshotHead
}

// snapshotSink writes an incoming snapshot's chunks to a file, each behind its length and CRC32C.
type snapshotSink struct {
	r       *Replica
	header  *locuspb.SnapshotHeader
	message *raftpb.Message // for Raft, once the file is durable
	file    vfs.File
	path    string
	offset  int64
	head    *locuspb.SnapshotHead
	count   uint64
	ended   bool
	once    sync.Once
}

// BeginSnapshot accepts or refuses a snapshot. What overlaps anything else on this store is refused: the sender
// tries again later.
func (s *Store) BeginSnapshot(h *locuspb.SnapshotHeader) (SnapshotSink, error) {
	if s.stopped() {
		return nil, &api.UnavailableError{Reason: "the store is stopping"}
	}
	desc, err := api.DescriptorFromProto(h.Descriptor_)
	if err != nil {
		return nil, err
	}
	env := h.Envelope
	if env == nil || len(h.Id) != 16 || env.RangeId != uint64(desc.ID) {
		return nil, &api.InvalidArgumentError{Reason: "snapshot header is incomplete"}
	}
	m, err := decodeMessage(env.Message)
	if err != nil {
		return nil, err
	}
	meta := m.GetSnapshot().GetMetadata()
	if m.GetType() != raftpb.MsgSnap || m.GetFrom() == 0 || m.GetFrom() != env.FromReplica || m.GetTo() != env.ToReplica ||
		!bytes.Equal(m.GetSnapshot().GetData(), h.Id) || meta.GetIndex() == 0 || !proto.Equal(meta.GetConfState(), confState(desc)) {
		return nil, &api.InvalidArgumentError{Reason: "snapshot header has no message for it"}
	}
	env.Span = api.SpanToProto(desc.Span)
	r, err := s.receiver(env, true)
	if err != nil {
		return nil, err
	}
	if s.replaying(r.id) != 0 {
		return nil, &api.RetryError{Reason: "a split is being replayed"}
	}
	if err := s.claim(r, desc.Span); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%s-%s%s", desc.ID, hex.EncodeToString(h.Id), snapshotSuffix)
	path := filepath.Join(s.opts.SnapshotDir, name)
	f, err := s.opts.Files.Create(path)
	if err != nil {
		return nil, fmt.Errorf("raftstore: snapshot file: %w", err)
	}
	return &snapshotSink{r: r, header: h, message: m, file: f, path: path}, nil
}

// Write implements SnapshotSink.
func (k *snapshotSink) Write(chunk []byte) error {
	if len(chunk) == 0 || k.ended {
		return &api.InvalidArgumentError{Reason: "snapshot chunk out of place"}
	}
	switch {
	case k.head == nil:
		head, desc, _, err := decodeSnapshotHead(chunk)
		if err != nil {
			return err
		}
		meta := k.message.GetSnapshot().GetMetadata()
		if desc.ID != k.r.id || string(head.Id) != string(k.header.Id) || head.Index != meta.GetIndex() || head.Term != meta.GetTerm() {
			return &api.InvalidArgumentError{Reason: "snapshot head does not belong to its header"}
		}
		k.head = head
	case chunk[0] == chunkRecords:
		sessions, data := localSpan(k.r.id, suffixSession), dataSpan(api.SpanFromProto(k.head.Descriptor_.GetSpan()))
		err := snapshotRecords(chunk[1:], func(key, _ []byte) error {
			if !sessions.Contains(key) && !data.Contains(key) {
				return &api.InvalidArgumentError{Reason: fmt.Sprintf("snapshot of range %s has a record of another: %q", k.r.id, key)}
			}
			k.count++
			return nil
		})
		if err != nil {
			return err
		}
	case chunk[0] == chunkEnd && len(chunk) == 9:
		if n := binary.BigEndian.Uint64(chunk[1:]); n != k.count {
			return &api.InvalidArgumentError{Reason: fmt.Sprintf("snapshot has %d records, its end counts %d", k.count, n)}
		}
		k.ended = true
	default:
		return &api.InvalidArgumentError{Reason: "unknown snapshot chunk"}
	}
	frame := make([]byte, 8, 8+len(chunk))
	binary.BigEndian.PutUint32(frame, uint32(len(chunk)))
	binary.BigEndian.PutUint32(frame[4:], crc32.Checksum(chunk, castagnoli))
	frame = append(frame, chunk...)
	if _, err := k.file.WriteAt(frame, k.offset); err != nil {
		return fmt.Errorf("raftstore: snapshot file: %w", err)
	}
	k.offset += int64(len(frame))
	return nil
}

// Finish implements SnapshotSink: the file is durable before Raft hears of it (rule E4).
func (k *snapshotSink) Finish() error {
	if !k.ended {
		k.Abort() // or the file would stay, and stay open
		return &api.InvalidArgumentError{Reason: "snapshot stream ended early"}
	}
	if err := k.file.Sync(); err != nil {
		k.r.store.fatal(err)
		return err
	}
	if err := k.file.Close(); err != nil {
		return err
	}
	if err := k.r.store.opts.Files.SyncDir(k.r.store.opts.SnapshotDir); err != nil {
		k.r.store.fatal(err)
		return err
	}
	m := k.message
	in := &incomingSnapshot{path: k.path, head: k.head}
	r := k.r
	r.post(raftInput{run: func() {
		// While this one was on its way another may have been accepted, or the span may have become another range's.
		span := api.SpanFromProto(in.head.Descriptor_.GetSpan())
		if r.raft.stopped || r.store.claim(r, span) != nil {
			r.store.removeFile(in.path)
			return
		}
		id := string(in.head.Id)
		r.raft.incoming[id] = in
		r.step(m)
		for r.raft.node.HasReady() {
			r.ready()
		}
		// What Raft did not want was not handed to an ingest.
		if r.raft.incoming[id] != nil {
			delete(r.raft.incoming, id)
			r.store.removeFile(in.path)
		}
	}})
	return nil
}

// Abort implements SnapshotSink.
func (k *snapshotSink) Abort() {
	k.once.Do(func() {
		if err := k.file.Close(); err != nil {
			k.r.store.logger.Debug("snapshot file", "err", err)
		}
		k.r.store.removeFile(k.path)
	})
}

// removeFile deletes a file that nothing depends on any more.
func (s *Store) removeFile(path string) {
	if err := s.opts.Files.Remove(path); err != nil {
		s.logger.Warn("remove snapshot file", "file", path, "err", err)
	}
}

// removeLeftovers deletes snapshot files of an earlier life: recovery went back to before their ingest.
func (s *Store) removeLeftovers() error {
	if err := s.opts.Files.MkdirAll(s.opts.SnapshotDir); err != nil {
		return fmt.Errorf("raftstore: snapshot directory: %w", err)
	}
	names, err := s.opts.Files.List(s.opts.SnapshotDir)
	if err != nil {
		return fmt.Errorf("raftstore: snapshot directory: %w", err)
	}
	for _, n := range names {
		if strings.HasSuffix(n, snapshotSuffix) {
			s.removeFile(filepath.Join(s.opts.SnapshotDir, n))
		}
	}
	return nil
}

// snapshotFile reads the chunks of a snapshot file back.
type snapshotFile struct {
	file   vfs.File
	path   string
	offset int64
}

func (s *Store) openSnapshotFile(path string) (*snapshotFile, error) {
	f, err := s.opts.Files.Open(path)
	if err != nil {
		return nil, fmt.Errorf("raftstore: snapshot file: %w", err)
	}
	return &snapshotFile{file: f, path: path}, nil
}

func (f *snapshotFile) next() ([]byte, error) {
	corrupt := func(reason string) error {
		return &CorruptSnapshotError{File: f.path, Offset: f.offset, Reason: reason}
	}
	var head [8]byte
	if _, err := f.file.ReadAt(head[:], f.offset); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, corrupt("it ends early")
		}
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > 64<<20 {
		return nil, corrupt(fmt.Sprintf("chunk of %d bytes", n))
	}
	chunk := make([]byte, n)
	if _, err := f.file.ReadAt(chunk, f.offset+8); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if crc32.Checksum(chunk, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return nil, corrupt("checksum mismatch")
	}
	f.offset += 8 + int64(n)
	return chunk, nil
}
