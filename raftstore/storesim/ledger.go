package storesim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/locuskv/locus/internal/hlc"
)

// stamp is a write's place in the order of all (P2): the timestamp of its entry, and its place in it.
type stamp struct {
	ts    hlc.Timestamp
	place uint32
}

func (s stamp) less(o stamp) bool { return s.ts < o.ts || s.ts == o.ts && s.place < o.place }

// written is one write of one key, by whomever.
type written struct {
	key, value string // a value stands for one write
	deleted    bool
	ttl        time.Duration // 0: for ever
	begin, end time.Duration // end 0: the outcome is not known
	at         stamp         // where known: acknowledged, or seen by a reader
}

func (w *written) expires() hlc.Timestamp {
	if w.ttl == 0 {
		return hlc.Max
	}
	return w.at.ts.Add(w.ttl)
}

// cut is what a key held as of a timestamp, as a reader saw it.
type cut struct {
	key   string
	at    hlc.Timestamp
	value string // "": nothing
	ts    hlc.Timestamp
	who   string
}

// ledger keeps what clients wrote and saw, and judges at the end of a run:
//
//   - a reader at T sees exactly the writes at or below T, on every range and replica (P3);
//   - no timestamp is far ahead of the time of day, whatever a store's clock says (rule C4);
//   - a fresh T is at or above every write that was acknowledged before it was asked for (rule C2);
//   - timestamps follow real time on each key, and what a client wrote or saw before (P2);
//   - one write has one timestamp (P4);
//   - what one linearizable read found expired no later one finds alive (rule C7).
//
// It knows nothing of ranges and stores.
type ledger struct {
	writes  map[string][]*written // by key, in order of their beginning
	byValue map[string]*written
	cuts    []cut
	// glimpses are values that the errors of failed conditions named.
	glimpses []cut
	sums     map[uint64]hlc.Timestamp // what increments returned
	counts   []written                // increments of the counter
	gone     map[string][]sighting
	// newest acknowledged write so far, of all keys and of each.
	newest   hlc.Timestamp
	newestOf map[string]hlc.Timestamp
	broken   error
}

// sighting is a linearizable read of a key that expires.
type sighting struct {
	begin, end time.Duration
	at         hlc.Timestamp // what expiry was judged by
	value      string
}

func newLedger() *ledger {
	return &ledger{writes: make(map[string][]*written), byValue: make(map[string]*written), gone: make(map[string][]sighting), sums: make(map[uint64]hlc.Timestamp), newestOf: make(map[string]hlc.Timestamp)}
}

func (l *ledger) breaks(format string, args ...any) {
	if l.broken == nil {
		l.broken = fmt.Errorf(format, args...)
	}
}

// begin notes a write that is about to be sent.
func (l *ledger) begin(w *written) *written {
	l.writes[w.key] = append(l.writes[w.key], w)
	if !w.deleted {
		l.byValue[w.value] = w
	}
	return w
}

// forget takes back a write that certainly did nothing.
func (l *ledger) forget(w *written) {
	l.writes[w.key] = slices.DeleteFunc(l.writes[w.key], func(o *written) bool { return o == w })
	delete(l.byValue, w.value)
}

// acknowledged notes that a write took effect, by a client that had seen a timestamp before.
func (l *ledger) acknowledged(w *written, at stamp, now time.Duration, seen hlc.Timestamp) {
	if at.ts <= seen {
		l.breaks("P2: %s was written at %s by a client that had seen %s", w.key, at.ts, seen)
	}
	if w.at.ts != 0 && w.at.ts != at.ts {
		l.breaks("P4: the write of %q to %s was acknowledged at %s and seen at %s", w.value, w.key, at.ts, w.at.ts)
	}
	l.plausible(at.ts, now)
	w.at, w.end = at, now
	l.newest, l.newestOf[w.key] = max(l.newest, at.ts), max(l.newestOf[w.key], at.ts)
}

// counted notes an acknowledged increment and the sum that it returned, which no other may have returned (P4).
func (l *ledger) counted(sum uint64, at stamp, begin, end time.Duration, seen hlc.Timestamp) {
	if other, ok := l.sums[sum]; ok {
		l.breaks("P4: increments at %s and %s both returned %d", other, at.ts, sum)
	}
	l.plausible(at.ts, end)
	l.sums[sum] = at.ts
	if at.ts <= seen {
		l.breaks("P2: the counter was raised at %s by a client that had seen %s", at.ts, seen)
	}
	l.counts = append(l.counts, written{at: at, begin: begin, end: end})
	l.newest = max(l.newest, at.ts)
}

// plausible judges a timestamp that was given by now, on the world's clock: whoever's clock had jumped ahead must not have
// given it (rule C4).
func (l *ledger) plausible(t hlc.Timestamp, now time.Duration) {
	if ahead := t.Time().Sub(epoch.Add(now)); ahead > hlc.DefaultMaxOffset {
		l.breaks("C4: at %s the timestamp %s was given, which is %s ahead", now, t, ahead)
	}
}

// fresh judges a fresh timestamp that was asked for when floor was the newest acknowledged write.
func (l *ledger) fresh(t, floor hlc.Timestamp, now time.Duration) {
	l.plausible(t, now)
	if t < floor {
		l.breaks("C2: the fresh timestamp %s is below %s, which was acknowledged before", t, floor)
	}
}

// saw notes what a reader found as of a timestamp.
func (l *ledger) saw(c cut) { l.cuts = append(l.cuts, c) }

// glimpsed notes what a failed condition says was there. It must have been (rule A3): a write that was lost with its
// leader would turn up without ever having been, or at another timestamp.
func (l *ledger) glimpsed(c cut) { l.glimpses = append(l.glimpses, c) }

// judge looks at everything. unknown is the number of increments of unknown outcome.
func (l *ledger) judge(counter string, unknown int) error {
	l.resolve(counter)
	for _, key := range slices.Sorted(maps.Keys(l.writes)) {
		l.realTime(key, l.writes[key])
	}
	l.realTime(counter, pointers(l.counts))
	for i := range l.cuts {
		if c := &l.cuts[i]; c.key == counter {
			l.judgeCount(c, unknown)
		} else {
			l.judgeCut(c)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(l.gone)) {
		l.judgeExpiry(key, l.gone[key])
	}
	return l.broken
}

func pointers(ws []written) []*written {
	var out []*written
	for i := range ws {
		out = append(out, &ws[i])
	}
	return out
}

// resolve learns the timestamps of writes of unknown outcome from those who saw them.
func (l *ledger) resolve(counter string) {
	for _, c := range append(slices.Clone(l.cuts), l.glimpses...) {
		if c.value == "" || c.key == counter {
			continue
		}
		w := l.byValue[c.value]
		switch {
		case w == nil || w.key != c.key:
			l.breaks("%s found %q in %s, which nobody wrote there", c.who, c.value, c.key)
		case w.at.ts == 0:
			w.at.ts = c.ts
		case w.at.ts != c.ts:
			l.breaks("P4: the write of %q to %s has timestamps %s and %s", c.value, c.key, w.at.ts, c.ts)
		}
	}
}

// realTime checks that a write which ended before another began has the lower stamp.
func (l *ledger) realTime(key string, ws []*written) {
	byEnd := slices.Clone(ws)
	byEnd = slices.DeleteFunc(byEnd, func(w *written) bool { return w.end == 0 })
	slices.SortFunc(byEnd, func(a, b *written) int { return int(a.end - b.end) })
	byBegin := slices.Clone(byEnd)
	slices.SortFunc(byBegin, func(a, b *written) int { return int(a.begin - b.begin) })
	var highest *written
	i := 0
	for _, w := range byBegin {
		for ; i < len(byEnd) && byEnd[i].end < w.begin; i++ {
			if highest == nil || highest.at.less(byEnd[i].at) {
				highest = byEnd[i]
			}
		}
		if highest != nil && !highest.at.less(w.at) {
			l.breaks("P2: a write to %s at %s/%d began after one at %s/%d had ended", key, w.at.ts, w.at.place, highest.at.ts, highest.at.place)
		}
	}
}

// judgeCut compares what a reader saw as of T with the writes up to T.
func (l *ledger) judgeCut(c *cut) {
	var last *written // newest acknowledged at or below T
	excuse := false   // a write of unknown outcome could explain that nothing is there
	for _, w := range l.writes[c.key] {
		switch {
		case w.end == 0:
			excuse = excuse || w.deleted || w.ttl != 0
		case w.at.ts <= c.at && (last == nil || last.at.less(w.at)):
			last = w
		}
	}
	if c.value != "" {
		w := l.byValue[c.value]
		switch {
		case c.ts > c.at:
			l.breaks("P3: %s as of %s saw %s=%q of %s", c.who, c.at, c.key, c.value, c.ts)
		case last != nil && w != nil && w != last && (w.end != 0 || w.at.ts < last.at.ts):
			l.breaks("P3: %s as of %s saw %s=%q of %s, but %q (deleted %v) was written at %s/%d", c.who, c.at, c.key, c.value, c.ts, last.value, last.deleted, last.at.ts, last.at.place)
		case w != nil && w.expires() <= c.at:
			l.breaks("C7: %s as of %s saw %s=%q, which expired at %s", c.who, c.at, c.key, c.value, w.expires())
		}
		return
	}
	if last != nil && !last.deleted && last.expires() > c.at && !excuse {
		l.breaks("P3: %s as of %s saw nothing in %s, but %q was written at %s", c.who, c.at, c.key, last.value, last.at.ts)
	}
}

func (l *ledger) judgeCount(c *cut, unknown int) {
	n := 0
	for i := range l.counts {
		if l.counts[i].at.ts <= c.at {
			n++
		}
	}
	if got := int(Counter([]byte(c.value))); got < n || got > n+unknown {
		l.breaks("P3: %s as of %s saw a counter of %d, %d increments were acknowledged up to there and %d are of unknown outcome", c.who, c.at, got, n, unknown)
	}
}

// judgeExpiry: once a linearizable read found nothing as of a timestamp, no later one finds what was written before it.
func (l *ledger) judgeExpiry(key string, ss []sighting) {
	for _, none := range ss {
		if none.value != "" {
			continue
		}
		for _, later := range ss {
			w := l.byValue[later.value]
			if later.begin > none.end && w != nil && w.at.ts != 0 && w.at.ts <= none.at {
				l.breaks("C7: %s=%q of %s was found after it had been found expired as of %s", key, later.value, w.at.ts, none.at)
			}
		}
	}
}
