package raftstore

import (
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/raftstore/engine"
	"github.com/locuskv/locus/raftstore/raftlog"
	"github.com/locuskv/locus/raftstore/rowcache"
	"github.com/locuskv/locus/raftstore/scancache"
)

// CorruptStoreError says that a store's engine and log contradict each other.
type CorruptStoreError struct {
	Range  ids.RangeID
	Reason string
}

func (e *CorruptStoreError) Error() string {
	return fmt.Sprintf("raftstore: range %s: %s", e.Range, e.Reason)
}

// Open recovers a store, on one path for every kind of end (docs/ARCHITECTURE.md, "What survives a crash"): the
// engine goes back to the checkpoint, and the groups replay their logs from there, as far as they know them to
// be committed. Terms, votes and entries never go back. Nothing runs before Tick is called or a message comes.
func Open(o Options) (*Store, error) {
	o.setDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	s := &Store{opts: o, engine: o.Engine, log: o.Log, clock: o.Clock, exec: o.Executor, logger: o.Logger, started: o.Monotonic(), incarnation: o.Rand.Uint64() | 1}
	s.mu.replicas = make(map[ids.RangeID]*Replica)
	s.mu.wiping = make(map[ids.RangeID]keys.Span)
	s.mu.tombstones = make(map[ids.RangeID]ids.ReplicaID)
	s.mu.dormant = make(map[ids.RangeID]groupMeta)
	cut, err := readCheckpoint(o.Log)
	if err != nil {
		return nil, err
	}
	seq, undone, err := s.undo(cut)
	if err != nil {
		return nil, err
	}
	s.holds = newHolds(cut, undone)
	s.engine.SetDiscard(ids.Seq(cut.Discard))
	s.applier = newApplier(s, seq)
	s.rows = rowcache.NewSeeded(o.RowCacheBytes, seq, o.Rand.Uint64())
	s.scans = scancache.New(o.ScanCacheBytes, prefixData, o.Rand.Uint64())
	s.published.Store(uint64(seq))
	s.logWriter = newLogWriter(s)
	s.disk = s.exec.NewQueue(QueueDisk)
	s.clock.Advance(hlc.Timestamp(cut.Clock))
	if err := s.removeLeftovers(); err != nil {
		return nil, err
	}
	wipes, err := s.readTombstones()
	if err != nil {
		return nil, err
	}
	if err := s.openReplicas(cut, seq); err != nil {
		return nil, err
	}
	if err := s.findDormant(); err != nil {
		return nil, err
	}
	all := s.allReplicas()
	s.notePeers(all)
	s.clocks.mu.confirmed = !s.clock.Steady()
	s.judgeOwnClock()
	for _, r := range all {
		s.startOpened(r)
	}
	for _, w := range wipes {
		span := api.SpanFromProto(w.Span)
		s.occupy(ids.RangeID(w.RangeId), span)
		s.wipe(ids.RangeID(w.RangeId), ids.ReplicaID(w.NextReplicaId), span, true)
	}
	return s, nil
}

func readCheckpoint(l raftlog.Log) (*locuspb.Checkpoint, error) {
	cut := &locuspb.Checkpoint{}
	for _, rec := range l.StoreRecords(recordCheckpoint) {
		if err := proto.Unmarshal(rec.Value, cut); err != nil {
			return nil, fmt.Errorf("raftstore: checkpoint record: %w", err)
		}
	}
	return cut, nil
}

// undo takes the engine back to the checkpoint and returns the sequence it stands at.
func (s *Store) undo(cut *locuspb.Checkpoint) (ids.Seq, []seqInterval, error) {
	var undone []seqInterval
	for _, u := range cut.Undone {
		undone = append(undone, seqInterval{lo: ids.Seq(u.Lo), hi: ids.Seq(u.Hi)})
	}
	from, have := ids.Seq(cut.Seq), s.engine.MaxSeq()
	// NB: the engine's highest sequence may be below the checkpoint's: a newest version that deleted something may
	// have been dropped. That nothing else is missing shows when the checkpoint's indices are compared.
	if have <= from {
		return from, undone, nil
	}
	last, err := s.engine.Undo(from)
	if err != nil {
		return 0, nil, fmt.Errorf("raftstore: undo to sequence %d: %w", from, err)
	}
	s.metrics.undone(uint64(have - from))
	last = max(last, s.engine.MaxSeq())
	return last, append(undone, seqInterval{lo: from, hi: last}), nil
}

// readTombstones loads them all and returns those whose data is still being wiped.
func (s *Store) readTombstones() ([]*locuspb.Tombstone, error) {
	var wipes []*locuspb.Tombstone
	for _, rec := range s.log.StoreRecords(recordTombstone) {
		t := &locuspb.Tombstone{}
		if err := proto.Unmarshal(rec.Value, t); err != nil {
			return nil, fmt.Errorf("raftstore: tombstone record: %w", err)
		}
		s.mu.tombstones[ids.RangeID(t.RangeId)] = ids.ReplicaID(t.NextReplicaId)
		if t.Span != nil {
			wipes = append(wipes, t)
		}
	}
	return wipes, nil
}

// openReplicas opens every range that the engine holds. A group that only the log holds is either a split's
// child, which opens when its parent applies the split again, or a replica that never got its snapshot, which
// opens when its leader writes again.
func (s *Store) openReplicas(cut *locuspb.Checkpoint, seq ids.Seq) error {
	it := s.engine.NewIterator(engine.IterOptions{Span: keys.Span{Start: []byte{prefixLocal}, End: []byte{prefixLocal + 1}}, Seq: seq})
	defer it.Close()
	for it.Valid() {
		key := it.Key()
		if len(key) < 10 {
			return &CorruptStoreError{Reason: fmt.Sprintf("engine key %q is no range record", key)}
		}
		id := ids.RangeID(binary.BigEndian.Uint64(key[1:9]))
		if err := s.openReplica(id, seq); err != nil {
			return err
		}
		it.Seek(localSpan(id).End)
	}
	if err := it.Err(); err != nil {
		return err
	}
	for _, a := range cut.Applied {
		id := ids.RangeID(a.RangeId)
		r := s.mu.replicas[id]
		if _, dead := s.mu.tombstones[id]; r == nil && !dead {
			return &CorruptStoreError{Range: id, Reason: "it is in the checkpoint and not in the engine"}
		}
		if r != nil && uint64(r.apply.state.Index) != a.Index {
			return &CorruptStoreError{Range: id, Reason: fmt.Sprintf("the checkpoint names index %d, the engine %d", a.Index, r.apply.state.Index)}
		}
	}
	return nil
}

// openReplica opens one range from its records.
func (s *Store) openReplica(id ids.RangeID, seq ids.Seq) error {
	corrupt := func(reason string) error { return &CorruptStoreError{Range: id, Reason: reason} }
	rawDesc, _, found, err := s.engine.Get(localKey(id, suffixDescriptor), seq)
	if err != nil {
		return err
	}
	next, dead := s.mu.tombstones[id]
	g, logged := s.log.Group(id)
	if !logged && dead {
		return nil // being wiped
	}
	if !found || !logged {
		return corrupt("its records in the engine and in the log do not match")
	}
	meta, err := decodeGroupMeta(g.Meta)
	if err != nil {
		return err
	}
	if dead && meta.Replica < next {
		return nil
	}
	desc, err := decodeDescriptor(rawDesc)
	if err != nil {
		return err
	}
	rawApplied, version, _, err := s.engine.Get(localKey(id, suffixApplied), seq)
	if err != nil {
		return err
	}
	st, err := decodeApplied(rawApplied)
	if err != nil {
		return err
	}
	rawLineage, _, _, err := s.engine.Get(localKey(id, suffixLineage), seq)
	if err != nil {
		return err
	}
	h, err := decodeHistory(rawLineage)
	if err != nil {
		return err
	}
	r := newReplica(s, id, meta.Replica)
	r.apply.state, r.apply.desc, r.history = st, desc, h
	r.mu.state.desc, r.mu.state.applied, r.mu.state.visible = desc, st, max(version, seq)
	r.mu.state.change = changeBehind(st)
	s.clock.Advance(st.TS)
	s.placeLocked(id, r)
	return nil
}

// findDormant notes the children of splits that are going to be applied again.
func (s *Store) findDormant() error {
	for _, id := range s.log.Groups() {
		if s.mu.replicas[id] != nil {
			continue
		}
		g, _ := s.log.Group(id)
		m, err := decodeGroupMeta(g.Meta)
		if err != nil {
			return err
		}
		if next, dead := s.mu.tombstones[id]; m.ParentRange == 0 || (dead && m.Replica < next) {
			continue
		}
		s.mu.dormant[id] = m
	}
	return nil
}

// startOpened lets a recovered replica run. The only voter of a range campaigns at once.
func (s *Store) startOpened(r *Replica) {
	desc := r.apply.desc
	voters := desc.Voters()
	r.start(len(voters) == 1 && voters[0].ID == r.self)
}

// ReadIdent reads a store's identity; false in an empty log.
func ReadIdent(l raftlog.Log) (Ident, bool, error) {
	records := l.StoreRecords(recordIdent)
	if len(records) == 0 {
		return Ident{}, false, nil
	}
	var p locuspb.StoreIdent
	if err := proto.Unmarshal(records[0].Value, &p); err != nil {
		return Ident{}, false, fmt.Errorf("raftstore: store identity: %w", err)
	}
	if p.Format != StoreFormat {
		return Ident{}, false, &FormatError{Got: p.Format}
	}
	return Ident{ClusterID: p.ClusterId, NodeID: p.NodeId, StoreID: ids.StoreID(p.StoreId)}, true, nil
}

// StoreFormat is the version of a store's data as a whole.
const StoreFormat = 1

// FormatError says that a store was written by another version.
type FormatError struct{ Got uint32 }

func (e *FormatError) Error() string {
	return fmt.Sprintf("raftstore: the store has data format %d, this version reads %d", e.Got, StoreFormat)
}

// WriteIdent makes a fresh store's identity durable.
func WriteIdent(l raftlog.Log, id Ident) error {
	p := &locuspb.StoreIdent{Format: StoreFormat, ClusterId: id.ClusterID, NodeId: id.NodeID, StoreId: uint64(id.StoreID)}
	return appendSync(l, raftlog.Batch{Store: []raftlog.StoreRecord{{Kind: recordIdent, Value: mustMarshal(p)}}})
}

func appendSync(l raftlog.Log, b raftlog.Batch) error {
	if err := l.Append(&b); err != nil {
		return err
	}
	return l.Sync()
}
