package check

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/locuskv/locus/bench/history"
	"github.com/locuskv/locus/client"
)

const (
	// opsOfCut is how many operations of a goroutine there are to a snapshot of it: a snapshot reads some 150 records, and is
	// kept until all writes at or below it have ended, which is in the end.
	opsOfCut = 300
	// leastBetween is the least time between a client's snapshots.
	leastBetween = 250 * time.Millisecond
	// tail is how many of a writer's newest unique keys a snapshot reads, and those written meanwhile.
	tail = 16
	// remembered is how many of the newest snapshots are read again, for each client.
	remembered = 8
)

// cut is what a client found at one timestamp in all ranges.
type cut struct {
	client       int // from 1
	at           uint64
	call, answer history.Instant
	// generation of the registers that were judged, and the one before.
	generation int
	// from is, by prefix, the first unique key of the prefix's last writer that was read.
	from [prefixes]int
	// records in order of their keys.
	records []record
	// again: it was read at a timestamp that had been read before, and differs.
	again bool
}

func byKey(r record, key string) int { return strings.Compare(r.key, key) }

// find is what the cut has of a key.
func (c *cut) find(key string) (record, bool) {
	i, ok := slices.BinarySearchFunc(c.records, key, byKey)
	if !ok {
		return record{key: key}, false
	}
	return c.records[i], true
}

// cuts are those that were read.
type cuts struct {
	mu     sync.Mutex
	all    []*cut
	again  int           // how many were read again
	newest history.Event // of what was acknowledged
}

// acknowledged keeps the newest of what was acknowledged.
func (c *cuts) acknowledged(e history.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.Timestamp > c.newest.Timestamp {
		c.newest = e
	}
}

func (c *cuts) add(x *cut) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, x)
}

// list is all of them, and how many were read again.
func (c *cuts) list() ([]*cut, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.all), c.again
}

func (c *cuts) floor() history.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.newest
}

// snapshot takes a fresh snapshot and reads registers, counters and the newest unique keys of all ranges at its
// timestamp; or it reads an older one again, which another client may have found.
func (w *worker) snapshot(ctx context.Context, id, n int, rng *rand.Rand) {
	w.load.rest(max(leastBetween, opsOfCut*w.load.every))
	if n%2 == 1 {
		w.readAgain(ctx, id, rng)
		return
	}
	floor := w.load.cuts.floor()
	c := &cut{client: id + 1, call: w.load.clock.Now(), generation: max(0, int(w.load.register.generations.Load())-1)}
	for p := range c.from {
		if last := w.load.lastWriter(p); last >= 0 {
			c.from[p] = max(0, w.load.writers[last].len()-tail)
		}
	}
	snapshot, err := w.db.Snapshot(ctx)
	if err != nil {
		w.load.errors.add("snapshot", err)
		return
	}
	c.at = uint64(snapshot.Timestamp())
	if c.at < floor.Timestamp {
		w.load.fail(&Violation{Client: c.client, Reason: fmt.Errorf(
			"C2: client %d asked for a fresh timestamp in [%d,%d] and got %d, below what was acknowledged before: %s",
			c.client, c.call, w.load.clock.Now(), c.at, floor)})
		return
	}
	if err := w.readCut(ctx, c); err != nil {
		w.load.errors.add("snapshot scan", err)
		return
	}
	w.session.add(history.Event{Call: c.call, Return: c.answer, Timestamp: c.at, Name: "snapshot"})
	w.load.cuts.add(c)
}

// rest waits, or until the load stops.
func (l *Load) rest(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.quit:
	case <-l.ctx.Done():
	}
}

// lastWriter is the writer whose keys are the last of a prefix; -1 if it has none.
func (l *Load) lastWriter(p int) int {
	for id := len(l.writers) - 1; id >= 0; id-- {
		if id%prefixes == p {
			return id
		}
	}
	return -1
}

// readCut reads a cut's records at its timestamp. Each scan but the first goes over the border of two ranges of the
// beginning, from the newest unique keys of one to the counters and registers of the next.
func (w *worker) readCut(ctx context.Context, c *cut) error {
	ks := w.ks
	c.records = nil
	start := fmt.Appendf(nil, "%c/c", prefix(0))
	for p := range prefixes + 1 {
		end := []byte{prefix(prefixes-1) + 1}
		if p < prefixes {
			end = fmt.Appendf(nil, "%c/s", prefix(p))
		}
		for item, err := range ks.Scan(ctx, ks.Span(start, end), client.AtTimestamp(client.Timestamp(c.at))) {
			if err != nil {
				return err
			}
			c.take(item)
		}
		if p < prefixes {
			start = fmt.Appendf(nil, "%c/v", prefix(p))
			if last := w.load.lastWriter(p); last >= 0 {
				start = uniqueKey(last, c.from[p])
			}
		}
	}
	c.answer = w.load.clock.Now()
	for i := 1; i < len(c.records); i++ {
		if key := c.records[i].key; key <= c.records[i-1].key {
			w.load.fail(violates(key, "the snapshot at %d is not in order: %q comes after %q", c.at, key, c.records[i-1].key))
		}
	}
	return nil
}

// take keeps a record that is judged. Of unique keys the values are judged here.
func (c *cut) take(item client.Item) {
	r := record{string(item.Key), string(item.Value), uint64(item.Timestamp)}
	if g, _, ok := parseRegister(r.key); ok && g != c.generation && g != c.generation-1 {
		return
	}
	if isUnique(r.key) && r.value == string(uniqueValue(item.Key)) {
		r.value = "" // as it has to be; no need to keep it
	}
	c.records = append(c.records, r)
}

// isUnique says whether a key is one of uniqueKey.
func isUnique(key string) bool { return len(key) > 3 && key[1:3] == "/u" }

// parseRegister is the inverse of registerKey.
func parseRegister(key string) (generation, i int, ok bool) {
	if len(key) < 3 || key[1:3] != "/r" {
		return 0, 0, false
	}
	_, err := fmt.Sscanf(key[3:], "/%05d/%02d", &generation, &i)
	return generation, i, err == nil
}

// readAgain reads a snapshot that somebody has read before, which has to be what it was.
func (w *worker) readAgain(ctx context.Context, id int, rng *rand.Rand) {
	list, _ := w.load.cuts.list()
	list = slices.DeleteFunc(list[max(0, len(list)-remembered*len(w.load.clients)):], func(c *cut) bool { return c.again })
	if len(list) == 0 {
		return
	}
	was := list[rng.IntN(len(list))]
	if err := w.compare(ctx, id+1, was, rng.IntN(2) == 0); err != nil {
		w.load.errors.add("snapshot again", err)
	}
}

// compare reads a cut again, by scans or by gets.
func (w *worker) compare(ctx context.Context, id int, was *cut, scans bool) error {
	now := &cut{
		client: id, at: was.at, call: w.load.clock.Now(), generation: was.generation, from: was.from, again: true,
	}
	read := w.getCut
	if scans {
		read = func(ctx context.Context, now, _ *cut) error { return w.readCut(ctx, now) }
	}
	if err := read(ctx, now, was); err != nil {
		return err
	}
	w.load.cuts.mu.Lock()
	w.load.cuts.again++
	w.load.cuts.mu.Unlock()
	if err := sameCut(was, now); err != nil {
		w.load.cuts.add(now)
		w.load.fail(err)
	}
	return nil
}

// readable is for how long snapshots can be read, but for a margin: the default of a node's retention window is 10 minutes.
const readable = 8 * time.Minute

// readAllAgain reads the newest snapshots again, those of the last faults.
func (l *Load) readAllAgain(ctx context.Context) {
	list, _ := l.cuts.list()
	for i, c := range list[max(0, len(list)-4*remembered):] {
		if time.Duration(l.clock.Now()-c.call) > readable {
			continue
		}
		client := i % len(l.clients)
		if err := l.clients[client].compare(ctx, client+1, c, i%2 == 0); err != nil {
			l.errors.add("snapshot again", err)
		}
	}
}

// getCut reads a cut's keys one by one, and some that it does not have.
func (w *worker) getCut(ctx context.Context, now, was *cut) error {
	wanted := make(map[string]bool)
	for _, r := range was.records {
		wanted[r.key] = true
	}
	for _, key := range was.fixed() {
		wanted[key] = true
	}
	for p := range prefixes {
		if last := w.load.lastWriter(p); last >= 0 {
			wanted[string(uniqueKey(last, max(0, w.load.writers[last].len()-1)))] = true // newer than the cut, mostly
		}
	}
	for key := range wanted {
		item, err := w.ks.Get(ctx, []byte(key), client.AtTimestamp(client.Timestamp(was.at)))
		if errors.Is(err, client.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		now.take(item)
	}
	slices.SortFunc(now.records, func(a, b record) int { return byKey(a, b.key) })
	now.answer = w.load.clock.Now()
	return nil
}

// sameCut compares two readings of one timestamp.
func sameCut(was, now *cut) error {
	for _, a := range was.records {
		if b, ok := now.find(a.key); !ok || a != b {
			return violates(a.key, "P3: as of %d client %d found %s, and client %d, later, %s", was.at, was.client, a.say(true), now.client, b.say(ok))
		}
	}
	for _, b := range now.records {
		if a, ok := was.find(b.key); !ok {
			return violates(b.key, "P3: as of %d client %d found %s, and client %d, later, %s", was.at, was.client, a.say(false), now.client, b.say(true))
		}
	}
	return nil
}

// say describes what was found of a key.
func (r record) say(found bool) string {
	switch {
	case !found:
		return "no " + r.key
	case r.value == "":
		return fmt.Sprintf("%s @%d", r.key, r.timestamp)
	}
	return fmt.Sprintf("%s=%q @%d", r.key, r.value, r.timestamp)
}

// fixed are the counters and registers that a cut is judged by.
func (c *cut) fixed() []string {
	var out []string
	for i := range counters {
		out = append(out, string(counterKey(i)))
	}
	for g := max(0, c.generation-1); g <= c.generation; g++ {
		for i := range registers {
			out = append(out, registerKey(g, i))
		}
	}
	return out
}
