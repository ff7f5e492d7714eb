package raftstore

import (
	"slices"
	"sync"
	"time"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
)

// seqInterval is (lo, hi]: sequences that recovery undid. At hi the engine shows what it showed at lo.
type seqInterval struct{ lo, hi ids.Seq }

// holds keeps the engine from dropping versions that somebody may still read, and decides how far it may go
// (rule C8).
type holds struct {
	mu sync.Mutex
	// discard is what the engine was told: versions that only sequences below it can see may be gone.
	discard ids.Seq
	held    map[ids.Seq]int
	// window samples what the store had when: the retention window keeps what was current at its start.
	window []sample
	undone []seqInterval
	// checkpoint is never passed: recovery goes back to it.
	checkpoint ids.Seq
	// permitted is the discard sequence that the newest checkpoint names. It is not passed either: after a restart
	// it is all that is known of what the engine may have dropped.
	permitted ids.Seq
	// promised are timestamps that the cluster holds beyond the window (rule C9), as retain was told last.
	promised []Hold
	// start is the time whose versions the window keeps, and all later ones; what is older may have been let go. It
	// never falls. 0: nothing was ever let go.
	start hlc.Timestamp
}

// newHolds begins where a checkpoint left off.
func newHolds(cut *locuspb.Checkpoint, undone []seqInterval) *holds {
	discard, start := ids.Seq(cut.Discard), hlc.Timestamp(cut.KeptFrom)
	if discard > 0 && start == 0 {
		start = hlc.Timestamp(cut.Clock) // a checkpoint of before there were holds doesn't say
	}
	return &holds{held: make(map[ids.Seq]int), checkpoint: ids.Seq(cut.Seq), discard: discard, permitted: discard, start: start, undone: undone}
}

// acquire holds the sequence that shows what seq showed to a reader of newest data: seq itself, or the discard
// sequence if that has passed it, which only happens where nothing of the range lies in between.
// REQUIRES: seq is the range's visible sequence, taken under the same lock of the range.
func (h *holds) acquire(seq ids.Seq) ids.Seq {
	h.mu.Lock()
	defer h.mu.Unlock()
	seq = max(seq, h.discard)
	h.held[seq]++
	return seq
}

// acquireOldest holds the oldest sequence that can be read.
func (h *holds) acquireOldest() ids.Seq {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held[h.discard]++
	return h.discard
}

// acquireOld holds seq if it can still be read.
func (h *holds) acquireOld(seq ids.Seq) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if seq < h.discard {
		return false
	}
	h.held[seq]++
	return true
}

func (h *holds) release(seq ids.Seq) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held[seq]--; h.held[seq] <= 0 {
		delete(h.held, seq)
	}
}

// sample notes that the store was at seq at a time.
func (h *holds) sample(now hlc.Timestamp, seq ids.Seq) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.window); n > 0 && h.window[n-1].seq == seq {
		return // an idle store takes no checkpoints, which trim the window
	}
	h.window = append(h.window, sample{ts: now, seq: seq})
}

// discarded is the discard sequence.
func (h *holds) discarded() ids.Seq {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.discard
}

// checkpointed says that a checkpoint at seq, which names a discard sequence, is durable.
func (h *holds) checkpointed(seq, discard ids.Seq) {
	h.mu.Lock()
	h.checkpoint = max(h.checkpoint, seq)
	h.permitted = max(h.permitted, discard)
	h.mu.Unlock()
}

// advance moves the discard sequence as far as it may go and returns it.
func (h *holds) advance() ids.Seq {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := min(h.permitted, h.checkpoint)
	for seq := range h.held {
		d = min(d, seq)
	}
	h.discard = max(h.discard, clampUndone(d, h.undone))
	h.undone = slices.DeleteFunc(h.undone, func(u seqInterval) bool { return u.hi <= h.discard })
	return h.discard
}

// windowStart is what the store had when its clock passed the start of the window: now - retention, or the oldest promise
// that is older, less what clocks may be apart. Nothing below it is worth keeping for timestamps that can still be read.
// Neither result ever falls: kept is the timestamp above which all is kept then.
func (h *holds) windowStart(now hlc.Timestamp, retention, apart time.Duration) (seq ids.Seq, kept hlc.Timestamp) {
	h.mu.Lock()
	defer h.mu.Unlock()
	start := now.Add(-retention)
	if t := h.oldestPromiseLocked(now); t != 0 {
		// An entry's timestamp may be above this store's clock by as much, so a sample of T itself may show too much.
		start = min(start, t.Add(-apart))
	}
	i := 0
	for i+1 < len(h.window) && h.window[i+1].ts <= start {
		i++
	}
	h.window = slices.Delete(h.window, 0, i)
	if len(h.window) > 0 && h.window[0].ts <= start {
		if seq := clampUndone(h.window[0].seq, h.undone); seq > h.permitted {
			h.start = max(h.start, start)
			return seq, h.start
		}
	}
	return h.permitted, h.start
}

// retain takes the cluster's holds, all of them, in place of those before, and returns the start of what is kept: a promise
// below it came too late. What this call doesn't find let go stays until the promise's deadline.
func (h *holds) retain(promised []Hold) (start hlc.Timestamp) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.promised = promised
	return h.start
}

// oldestPromise is the oldest timestamp that is held at a time, or where that is not kept any more, what is; 0: none is
// held. NB: the driver tells only the oldest of those that last as long, so a hold that came too late here stands for younger
// ones that did not.
func (h *holds) oldestPromise(now hlc.Timestamp) hlc.Timestamp {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.oldestPromiseLocked(now)
}

// oldestHeld is the oldest timestamp that is held at a time; 0: none is.
func (h *holds) oldestHeld(now hlc.Timestamp) (oldest hlc.Timestamp) {
	_, oldest = h.promises(now)
	return oldest
}

// promises are how many timestamps are held at a time, as far as the store was told, and the oldest of them; 0: none is.
func (h *holds) promises(now hlc.Timestamp) (n int, oldest hlc.Timestamp) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.promised {
		if now >= p.Deadline {
			continue
		}
		if n++; oldest == 0 || p.Timestamp < oldest {
			oldest = p.Timestamp
		}
	}
	return n, oldest
}

func (h *holds) oldestPromiseLocked(now hlc.Timestamp) (oldest hlc.Timestamp) {
	for _, p := range h.promised {
		if t := max(p.Timestamp, h.start); now < p.Deadline && (oldest == 0 || t < oldest) {
			oldest = t
		}
	}
	return oldest
}

func (h *holds) undoneIntervals() []seqInterval {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.undone)
}
