package raftstore

import (
	"sync"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/locuskv/locus/raftstore/raftlog"
)

// appendTask is one group's share of a frame of the log, and who is to hear when it is durable.
type appendTask struct {
	r         *Replica // nil for the store's own records
	write     raftlog.Write
	snapshot  *raftpb.Snapshot
	responses []*raftpb.Message
	// extra groups and records that are part of the same frame.
	extra raftlog.Batch
	// durable is called after the sync, before the responses are delivered.
	durable func()
	// sync asks for durability even though nobody answers.
	sync bool
}

// logWriter is the one writer of the store's log. What all groups hand over while a sync runs is the next
// frame: one fsync serves them all. Nothing is answered before it is durable (Invariant: I9).
type logWriter struct {
	s       *Store
	queue   Queue
	writing func() // write

	mu struct {
		sync.Mutex
		pending   []*appendTask
		scheduled bool
	}
}

func newLogWriter(s *Store) *logWriter {
	w := &logWriter{s: s, queue: s.exec.NewQueue(QueueLog)}
	w.writing = w.write
	return w
}

func (w *logWriter) append(t *appendTask) {
	w.mu.Lock()
	w.mu.pending = append(w.mu.pending, t)
	if !w.mu.scheduled {
		w.mu.scheduled = true
		w.queue.Post(w.writing)
	}
	w.mu.Unlock()
}

// write appends one frame with everything that waits.
func (w *logWriter) write() {
	w.mu.Lock()
	tasks := w.mu.pending
	w.mu.pending = nil
	w.mu.Unlock()
	if w.s.stopped() {
		return
	}
	var b raftlog.Batch
	sync := false
	for _, t := range tasks {
		if t.r != nil {
			b.Groups = append(b.Groups, t.write)
		}
		b.Groups = append(b.Groups, t.extra.Groups...)
		b.Store = append(b.Store, t.extra.Store...)
		sync = sync || t.sync || t.durable != nil || len(t.responses) > 0
	}
	if err := w.s.log.Append(&b); err != nil {
		w.s.fatal(err)
		return
	}
	w.s.metrics.append(len(tasks))
	w.queue.Post(func() { w.sync(tasks, sync) })
}

// sync makes the frame durable and lets its tasks answer. Crash: a frame not synced may be lost whole;
// nobody has heard of it.
func (w *logWriter) sync(tasks []*appendTask, needed bool) {
	if w.s.stopped() {
		return
	}
	if needed {
		if err := w.s.log.Sync(); err != nil {
			w.s.fatal(err)
			return
		}
	}
	for _, t := range tasks {
		if t.durable != nil {
			t.durable()
		}
		if t.r != nil {
			t.r.deliver(t.responses)
		}
	}
	w.mu.Lock()
	w.mu.scheduled = len(w.mu.pending) > 0
	if w.mu.scheduled {
		w.queue.Post(w.writing)
	}
	w.mu.Unlock()
}

// run does something with the log between frames (compaction).
func (w *logWriter) run(f func()) { w.queue.Post(f) }
