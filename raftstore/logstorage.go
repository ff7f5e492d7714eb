package raftstore

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/raftstore/raftlog"
)

type trackerProgress = tracker.Progress

const progressSnapshot = tracker.StateSnapshot

// groupStorage is raft.Storage over one group of the store's log.
type groupStorage struct {
	r   *Replica
	log raftlog.Log
}

// InitialState returns what the log holds, and the configuration that the engine has applied.
func (g *groupStorage) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	st, _ := g.log.Group(g.r.id)
	s := g.r.snapshot()
	hs := &raftpb.HardState{Term: st.HardState.Term, Vote: st.HardState.Vote, Commit: st.HardState.Commit}
	// Rule E3: the commit index is at least what was applied, and what a child in the log proves.
	if known := uint64(max(s.applied.Index, g.r.store.replaying(g.r.id))); hs.GetCommit() < known {
		hs.Commit = new(known)
	}
	return hs, confState(s.desc), nil
}

// failedRead is an error that Raft does not know. Its library panics with it, in the middle of a step (Replica.drive).
type failedRead struct{ error }

func (e failedRead) Unwrap() error { return e.error }

func readError(err error) error {
	if err == nil || errors.Is(err, raft.ErrCompacted) || errors.Is(err, raft.ErrUnavailable) {
		return err
	}
	return failedRead{err}
}

func (g *groupStorage) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	entries, err := g.log.Entries(g.r.id, ids.Index(lo), ids.Index(hi), maxSize)
	return entries, readError(err)
}

func (g *groupStorage) Term(i uint64) (uint64, error) {
	t, err := g.log.Term(g.r.id, ids.Index(i))
	return uint64(t), readError(err)
}

func (g *groupStorage) LastIndex() (uint64, error) {
	_, last := g.log.Bounds(g.r.id)
	return uint64(last), nil
}

func (g *groupStorage) FirstIndex() (uint64, error) {
	before, _ := g.log.Bounds(g.r.id)
	return uint64(before) + 1, nil
}

// Snapshot pins the applied state for a replica that the log no longer reaches. The data follows on its own
// stream (snapshot.go); what Raft carries is only the pin's name.
func (g *groupStorage) Snapshot() (*raftpb.Snapshot, error) {
	return g.r.pinSnapshot()
}

// raftLogger passes the library's words on. Its panics are broken invariants.
type raftLogger struct{ r *Replica }

func (l raftLogger) log(level func(string, ...any), msg string) { level(msg, "range", l.r.id) }

func (l raftLogger) Debug(v ...any)            {}
func (l raftLogger) Debugf(string, ...any)     {}
func (l raftLogger) Info(v ...any)             {}
func (l raftLogger) Infof(f string, v ...any)  {}
func (l raftLogger) Error(v ...any)            { l.log(l.r.store.logger.Error, fmt.Sprint(v...)) }
func (l raftLogger) Errorf(f string, v ...any) { l.log(l.r.store.logger.Error, fmt.Sprintf(f, v...)) }
func (l raftLogger) Warning(v ...any)          { l.log(l.r.store.logger.Debug, fmt.Sprint(v...)) }
func (l raftLogger) Warningf(f string, v ...any) {
	l.log(l.r.store.logger.Debug, fmt.Sprintf(f, v...))
}
func (l raftLogger) Fatal(v ...any) {
	panic(fmt.Sprintf("raftstore: range %s: %s", l.r.id, fmt.Sprint(v...)))
}
func (l raftLogger) Fatalf(f string, v ...any) { l.Fatal(fmt.Sprintf(f, v...)) }
func (l raftLogger) Panic(v ...any)            { l.Fatal(v...) }
func (l raftLogger) Panicf(f string, v ...any) { l.Fatal(fmt.Sprintf(f, v...)) }

var _ raft.Storage = (*groupStorage)(nil)
