package raftstore

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/raftstore/engine"
)

// Digest is a SHA-256 over a replica's replicated state: applied state, sessions and data as of its visible
// sequence. At equal applied index it is equal on all replicas (Invariant: I2).
func (s *Store) Digest(id ids.RangeID) ([]byte, error) {
	r := s.replica(id)
	if r == nil {
		return nil, &api.RangeNotFoundError{Range: id}
	}
	r.mu.RLock()
	st := r.mu.state
	if st.desc == nil || st.gone || st.ingesting {
		r.mu.RUnlock()
		return nil, &api.RangeNotFoundError{Range: id}
	}
	seq := s.holds.acquire(st.visible)
	r.mu.RUnlock()
	defer s.holds.release(seq)
	h := sha256.New()
	h.Write(st.applied.encode())
	h.Write(encodeDescriptor(st.desc))
	var size [8]byte
	for _, span := range []keys.Span{localSpan(id, suffixSession), dataSpan(st.desc.Span)} {
		it := s.engine.NewIterator(engine.IterOptions{Span: span, Seq: seq})
		for ; it.Valid(); it.Next() {
			for _, b := range [][]byte{it.Key(), it.Value()} {
				binary.BigEndian.PutUint64(size[:], uint64(len(b)))
				h.Write(size[:])
				h.Write(b)
			}
		}
		err := it.Err()
		it.Close()
		if err != nil {
			return nil, err
		}
	}
	return h.Sum(nil), nil
}
