package check

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/locuskv/locus/bench/cluster"
	"github.com/locuskv/locus/bench/history"
	"github.com/locuskv/locus/client"
)

// opTimeout is how long an operation may take before its client gives up: longer than any recovery, so
// that no outcome stays unknown.
const opTimeout = 90 * time.Second

// Each client writes to two ranges, so that each range has two writers that never wait for another range.
const writersPerClient = 2

// Load is clients that work until they are told to stop, and what they were told.
type Load struct {
	cluster *cluster.Cluster
	every   time.Duration   // between the beginnings of a goroutine's operations, at least
	ctx     context.Context // ends with the first wrong answer, which is its cause
	fail    context.CancelCauseFunc
	quit    chan struct{}
	once    sync.Once // closes quit
	wg      sync.WaitGroup
	clock   *history.Recorder // of registers; its clock is everybody's
	acks    acks
	admin   *client.DB
	errors  errorCounts

	clients  []*worker
	writers  []*ledger
	counters [counters]*counterLog
	cuts     cuts
	reads    atomic.Int64
	register struct {
		ops         atomic.Int64 // numbers operations: so many to a generation
		generations atomic.Int64
	}
}

// worker is one client.
type worker struct {
	load    *Load
	db      *client.DB
	ks      *client.Keyspace
	session session
	actor   *actor // of the goroutine that works on registers
}

// impatience is after how long every other client asks another replica. Those find a new leaseholder as soon as there
// is one, while the others still ask the old: together they see whether both answer.
const impatience = 100 * time.Millisecond

// goroutines of a client, each with one operation under way.
const goroutines = writersPerClient + 4

// Start makes the keyspace and starts clients. Each of their goroutines begins an operation every so often at most; 0: as
// often as it can. The load ends with Stop, its connections with Close.
func Start(ctx context.Context, c *cluster.Cluster, clients int, every time.Duration) (*Load, error) {
	l := &Load{cluster: c, every: every, quit: make(chan struct{}), clock: history.NewRecorder()}
	l.ctx, l.fail = context.WithCancelCause(ctx)
	if err := l.connect(ctx, clients); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	l.wg.Go(l.watch)
	l.acks.begin()
	for i, w := range l.clients {
		for j := range writersPerClient {
			l.run(w.write, writersPerClient*i+j)
		}
		l.run(w.read, i)
		l.run(w.count, i)
		l.run(w.work, i)
		l.run(w.snapshot, i)
	}
	return l, nil
}

// connect makes the clients and the keyspace.
func (l *Load) connect(ctx context.Context, clients int) error {
	var err error
	if l.admin, err = l.open(ctx, 0); err != nil {
		return err
	}
	if err := l.admin.CreateKeyspace(ctx, keyspace, client.KeyspaceOptions{SplitAt: splitKeys()}); err != nil {
		return err
	}
	for i := range l.counters {
		l.counters[i] = &counterLog{}
	}
	for range clients * writersPerClient {
		l.writers = append(l.writers, &ledger{})
	}
	for i := range clients {
		db, err := l.open(ctx, time.Duration(i%2)*impatience)
		if err != nil {
			return err
		}
		l.clients = append(l.clients, &worker{load: l, db: db, ks: db.Keyspace(keyspace)})
	}
	return nil
}

// open makes a client whose operations may take as long as any recovery does; attempt 0 is the default.
func (l *Load) open(ctx context.Context, attempt time.Duration) (*client.DB, error) {
	return client.Open(ctx, client.Options{
		Addrs: l.cluster.Addrs(), Timeout: opTimeout, Retry: client.RetryOptions{Attempt: attempt},
	})
}

// abandon ends the operations under way.
func (l *Load) abandon() { l.fail(nil) }

// Close ends the load, waiting for no operation, and its clients.
func (l *Load) Close() error {
	l.abandon()
	l.Stop()
	var errs []error
	for _, w := range l.clients {
		errs = append(errs, w.db.Close())
	}
	if l.admin != nil {
		errs = append(errs, l.admin.Close())
	}
	return errors.Join(errs...)
}

// Context ends with the load's first wrong answer, or when a node ends by itself.
func (l *Load) Context() context.Context { return l.ctx }

// Admin is a client for whoever looks at the cluster while the load runs.
func (l *Load) Admin() *client.DB { return l.admin }

// run runs a step over and over, each with its number, until the load stops.
func (l *Load) run(step func(ctx context.Context, id, n int, rng *rand.Rand), id int) {
	l.wg.Go(func() {
		rng := rand.New(rand.NewPCG(uint64(id), rand.Uint64()))
		for n := 0; ; n++ {
			select {
			case <-l.quit:
				return
			case <-l.ctx.Done():
				return
			default:
			}
			begun := time.Now()
			ctx, cancel := context.WithTimeout(l.ctx, opTimeout)
			step(ctx, id, n, rng)
			cancel()
			if rest := l.every - time.Since(begun); rest > 0 {
				Pass(l.ctx, rest)
			}
		}
	})
}

// watch ends the run when a node ends by itself.
func (l *Load) watch() {
	tick := time.NewTicker(5 * pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.quit:
			return
		case <-l.ctx.Done():
			return
		case <-tick.C:
		}
		if found := l.cluster.Crashes(); len(found) > 0 {
			l.fail(fmt.Errorf("a node ended by itself: %s", found[0]))
		}
	}
}

// Stop lets the operations under way end, and makes no more.
func (l *Load) Stop() {
	l.once.Do(func() { close(l.quit) })
	l.wg.Wait()
}

// wrong ends the run: a client was told what can't be true of a key.
func (l *Load) wrong(key []byte, format string, args ...any) {
	l.fail(&Violation{Key: string(key), Reason: fmt.Errorf(format, args...)})
}

// Failure is what a client found wrong, or else err.
func (l *Load) Failure(err error) error {
	if cause := context.Cause(l.ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// AwaitWrites waits until every range of the beginning has taken a write after a moment.
func (l *Load) AwaitWrites(ctx context.Context, since time.Time, within time.Duration) error {
	err := Poll(ctx, within, func() (bool, error) { return l.acks.silent(since) < 0, nil })
	if err != nil {
		return fmt.Errorf("prefix %c takes no write: %w", prefix(max(0, l.acks.silent(since))), err)
	}
	return nil
}

// ResetPauses begins to measure pauses of writes anew.
func (l *Load) ResetPauses() { l.acks.reset() }

// Pauses are, since the last reset, the longest time that a range of the beginning took no write, and the shortest of
// the ranges' longest.
func (l *Load) Pauses() (most, least time.Duration) { return l.acks.pauses() }

// Written is how many unique keys were acknowledged.
func (l *Load) Written() int { return l.acks.total() }

// outcomeOf tells what an error says of a write, and counts it.
func (l *Load) outcomeOf(what string, err error) outcome {
	if err == nil {
		return acknowledged
	}
	l.errors.add(what, err)
	var unknown *client.AmbiguousError
	if errors.As(err, &unknown) || errors.Is(err, client.ErrSessionExpired) {
		return ambiguous
	}
	return refused
}

// write puts the next unique key of a writer.
func (w *worker) write(ctx context.Context, id, n int, _ *rand.Rand) {
	key := uniqueKey(id, n)
	call := w.load.clock.Now()
	ts, err := w.ks.Put(ctx, key, uniqueValue(key))
	w.wrote(history.Event{Call: call, Return: w.load.clock.Now(), Timestamp: uint64(ts), Write: true, Name: string(key)})
	o := w.load.outcomeOf("put", err)
	w.load.writers[id].add(o, uint64(ts))
	if o == acknowledged {
		w.load.acks.add(id % prefixes)
	}
}

// wrote keeps a write that was acknowledged; one without a timestamp was not.
func (w *worker) wrote(e history.Event) {
	w.session.add(e)
	w.load.cuts.acknowledged(e)
}

// read reads a key that somebody was told is written.
func (w *worker) read(ctx context.Context, _, _ int, rng *rand.Rand) {
	id := rng.IntN(len(w.load.writers))
	written := w.load.writers[id].len()
	if written == 0 {
		_ = Pass(ctx, pollEvery)
		return
	}
	n := rng.IntN(written)
	if rng.IntN(2) == 0 {
		n = written - 1 // the newest is the one that a stale reader lacks
	}
	w.readUnique(ctx, id, n)
}

// readUnique reads a unique key, which has to be there if its writer was told so.
func (w *worker) readUnique(ctx context.Context, id, n int) {
	o, ts := w.load.writers[id].get(n)
	if o != acknowledged {
		return
	}
	key := uniqueKey(id, n)
	call := w.load.clock.Now()
	item, err := w.ks.Get(ctx, key)
	answered := w.load.clock.Now()
	switch {
	case errors.Is(err, client.ErrNotFound):
		w.load.wrong(key, "%s was acknowledged at %d before it was read, in [%d,%d], and is not found", key, ts, call, answered)
	case err != nil:
		w.load.errors.add("get", err)
		return
	case string(item.Value) != string(uniqueValue(key)):
		w.load.wrong(key, "%s has the value %q", key, item.Value)
	case uint64(item.Timestamp) != ts:
		w.load.wrong(key, "%s has the timestamp %d; its writer was told %d", key, item.Timestamp, ts)
	}
	w.session.add(history.Event{Call: call, Return: answered, Timestamp: uint64(item.Timestamp), Name: string(key)})
	w.load.reads.Add(1)
}

// sleeper is a client that knows where ranges were led at its making, and learns nothing until it asks.
type sleeper struct{ *worker }

func (l *Load) newSleeper(ctx context.Context) (*sleeper, error) {
	db, err := l.open(ctx, 0)
	if err != nil {
		return nil, err
	}
	s := &sleeper{&worker{load: l, db: db, ks: db.Keyspace(keyspace)}}
	s.readNewest(ctx)()
	return s, nil
}

func (s *sleeper) close() { _ = s.db.Close() } // only reads can be under way

// readNewest begins to read the newest key of each writer; wait returns after the answers.
func (s *sleeper) readNewest(ctx context.Context) (wait func()) {
	var wg sync.WaitGroup
	for id, w := range s.load.writers {
		if n := w.len(); n > 0 {
			wg.Go(func() { s.readUnique(ctx, id, n-1) })
		}
	}
	return wg.Wait
}

// counterLog is what callers of one counter were told.
type counterLog struct {
	mu      sync.Mutex
	adds    []history.Addition
	unknown []int64
}

var addTo = client.NewFunc[int64, int64]("counter")

// optimistic says which share of the calls is made in optimistic mode, beside the range's sequencer: one in so many. The
// others are on the same keys, so that it often has to run again.
const optimistic = 4

// count calls the counter function.
func (w *worker) count(ctx context.Context, _, _ int, rng *rand.Rand) {
	i := rng.IntN(len(w.load.counters))
	amount := 1 + rng.Int64N(5)
	a := history.Addition{Amount: amount, Optimistic: rng.IntN(optimistic) == 0, Call: w.load.clock.Now()}
	var opts []client.CallOption
	what := "call"
	if a.Optimistic {
		opts, what = append(opts, client.Optimistic()), "optimistic call"
	}
	r, err := addTo.Do(ctx, w.ks.Key(counterKey(i)), amount, opts...)
	a.Return, a.Sum, a.Timestamp = w.load.clock.Now(), r.Value, uint64(r.Timestamp)
	w.wrote(history.Event{Call: a.Call, Return: a.Return, Timestamp: a.Timestamp, Write: true, Name: string(counterKey(i))})
	log := w.load.counters[i]
	log.mu.Lock()
	defer log.mu.Unlock()
	switch w.load.outcomeOf(what, err) {
	case acknowledged:
		log.adds = append(log.adds, a)
	case ambiguous:
		log.unknown = append(log.unknown, amount)
	}
}

// errorCounts counts errors by what they ended.
type errorCounts struct {
	mu     sync.Mutex
	counts map[string]int
}

func (e *errorCounts) add(what string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.counts == nil {
		e.counts = make(map[string]int)
	}
	if len(e.counts) < 100 { // texts differ in details; so many are enough to see what happens
		e.counts[fmt.Sprintf("%s: %T: %v", what, err, err)]++
	}
}

func (e *errorCounts) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out strings.Builder
	for _, text := range slices.Sorted(maps.Keys(e.counts)) {
		fmt.Fprintf(&out, "\n  %6d  %s", e.counts[text], text)
	}
	return out.String()
}
