package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// writeEvery paces each background writer: often enough to measure a pause to a few milliseconds, seldom
// enough to leave the machine to the job beside it.
const writeEvery = 5 * time.Millisecond

// record is a key and the value it has.
type record struct{ key, value []byte }

// watch writes one record of every range over and over, as it is, and measures how long each range went
// without an acknowledged write. A range is never asked for a second write before the first is answered.
type watch struct {
	put    func(ctx context.Context, r record) error
	cancel context.CancelFunc
	done   sync.WaitGroup
	wake   chan struct{} // something was acknowledged, or failed

	mu struct {
		sync.Mutex
		writers []writer
		err     error
	}
}

// writer is what is known of one range's writes.
type writer struct {
	acks    int64
	last    time.Time     // of the last acknowledgement
	longest time.Duration // between two acknowledgements
}

// startWatch begins to write. The caller must call stop.
func startWatch(ctx context.Context, records []record, put func(context.Context, record) error) *watch {
	ctx, cancel := context.WithCancel(ctx)
	w := &watch{put: put, cancel: cancel, wake: make(chan struct{}, 1)}
	w.mu.writers = make([]writer, len(records))
	for i, r := range records {
		w.done.Go(func() { w.write(ctx, i, r) })
	}
	return w
}

func (w *watch) write(ctx context.Context, i int, r record) {
	pace := time.NewTicker(writeEvery)
	defer pace.Stop()
	for {
		err := guard(func() error { return w.put(ctx, r) })()
		if ctx.Err() != nil {
			return
		}
		if w.note(i, err) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
	}
}

// note records the end of a write and says whether the writer should end.
func (w *watch) note(i int, err error) bool {
	now := time.Now()
	w.mu.Lock()
	if err != nil {
		w.mu.err = errors.Join(w.mu.err, fmt.Errorf("a write failed: %w", err))
	} else {
		s := &w.mu.writers[i]
		if s.acks++; s.acks > 1 {
			s.longest = max(s.longest, now.Sub(s.last))
		}
		s.last = now
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return err != nil
}

// awaitAcks waits until every range has acknowledged a write that began after the call: two
// acknowledgements, because the first may belong to a write that began before.
func (w *watch) awaitAcks(ctx context.Context) error {
	begun := w.counts()
	for {
		all := true
		now := w.counts()
		for i := range now {
			all = all && now[i] >= begun[i]+2
		}
		if err := w.err(); err != nil || all {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.wake:
		}
	}
}

func (w *watch) counts() []int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]int64, len(w.mu.writers))
	for i, s := range w.mu.writers {
		out[i] = s.acks
	}
	return out
}

func (w *watch) err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.err
}

// stop ends the writers and waits for them. It may be called more than once.
func (w *watch) stop() {
	w.cancel()
	w.done.Wait()
}

// longest is the longest pause among the ranges that pick chooses, and the acknowledged writes of all.
func (w *watch) longest(pick func(i int) bool) (pause time.Duration, acks int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, s := range w.mu.writers {
		acks += s.acks
		if pick(i) {
			pause = max(pause, s.longest)
		}
	}
	return pause, acks
}
