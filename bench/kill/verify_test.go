package kill

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/bench/cluster"
	"github.com/locuskv/locus/bench/history"
	"github.com/locuskv/locus/client"
)

// record is what a key holds.
type record struct {
	key, value string
	timestamp  uint64
}

// scan reads the whole keyspace.
func scan(ctx context.Context, t *testing.T, db *client.DB) []record {
	t.Helper()
	out, err := tryScan(ctx, db)
	require.NoError(t, err)
	return out
}

func tryScan(ctx context.Context, db *client.DB) ([]record, error) {
	var out []record
	for item, err := range db.Keyspace(keyspace).Scan(ctx, db.Keyspace(keyspace).All()) {
		if err != nil {
			return nil, fmt.Errorf("scanning: %w", err)
		}
		out = append(out, record{string(item.Key), string(item.Value), uint64(item.Timestamp)})
	}
	return out, nil
}

// digest is equal for equal records, timestamps included.
func digest(records []record) string {
	h := sha256.New()
	var n [8]byte
	for _, r := range records {
		for _, part := range []string{r.key, r.value} {
			binary.LittleEndian.PutUint64(n[:], uint64(len(part)))
			h.Write(n[:])
			h.Write([]byte(part))
		}
		binary.LittleEndian.PutUint64(n[:], r.timestamp)
		h.Write(n[:])
	}
	return fmt.Sprintf("%d records, %x", len(records), h.Sum(nil)[:8])
}

// copies is how many replicas a range has.
const copies = 3

// digestEachReplica reads everything three times, each time at another replica of each range: a leader hands
// over only to a replica that has all of its log, and each read is the new leaseholder's own data.
func digestEachReplica(ctx context.Context, t *testing.T, db *client.DB) []string {
	t.Helper()
	var out []string
	for i := range copies {
		var d string
		// Placement may move a lease or a replica meanwhile; then it is read again.
		err := poll(ctx, time.Minute, func() (bool, error) {
			if err := lead(ctx, db, i); err != nil {
				return false, err
			}
			records, err := tryScan(ctx, db)
			if err != nil {
				return false, err
			}
			d = digest(records)
			return leads(ctx, db, i)
		})
		require.NoError(t, err, "reading everything, round %d", i)
		out = append(out, d)
	}
	return out
}

// lead makes another replica of each range the leaseholder in each round.
func lead(ctx context.Context, db *client.DB, round int) error {
	ranges, err := db.Keyspace(keyspace).Ranges(ctx)
	if err != nil {
		return err
	}
	errs := make([]error, len(ranges))
	var wg sync.WaitGroup
	for i, r := range ranges {
		store, err := replica(r, i+round)
		errs[i] = err
		if err == nil && r.Leaseholder != store {
			wg.Go(func() { errs[i] = db.TransferRange(ctx, r.ID, store) })
		}
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return poll(ctx, 5*time.Second, func() (bool, error) { return leads(ctx, db, round) })
}

// replica is the store of a range's replica, counted by store; neighbouring ranges are led by different ones, so
// that placement finds nothing to balance.
func replica(r client.RangeInfo, i int) (client.StoreID, error) {
	var stores []client.StoreID
	for _, x := range r.Replicas {
		if x.Role == "voter" {
			stores = append(stores, x.Store)
		}
	}
	if len(stores) != copies || len(stores) != len(r.Replicas) {
		return 0, fmt.Errorf("range %d has replicas %v", r.ID, r.Replicas)
	}
	slices.Sort(stores)
	return stores[i%copies], nil
}

func leads(ctx context.Context, db *client.DB, round int) (bool, error) {
	ranges, err := db.Keyspace(keyspace).Ranges(ctx)
	if err != nil {
		return false, err
	}
	for i, r := range ranges {
		store, err := replica(r, i+round)
		if err != nil {
			return false, err
		}
		if r.Leaseholder != store {
			return false, fmt.Errorf("range %d is led by store %d, not %d", r.ID, r.Leaseholder, store)
		}
	}
	return true, nil
}

// verify compares what is there with what clients were told.
func (l *load) verify(t *testing.T, records []record) {
	t.Helper()
	there := make(map[string]record, len(records))
	last := ""
	for _, r := range records {
		require.Less(t, last, r.key, "the scan is not in order")
		last = r.key
		there[r.key] = r
	}
	for id, w := range l.writers {
		for n := range w.len() {
			key := string(uniqueKey(id, n))
			o, ts := w.get(n)
			r, found := there[key]
			delete(there, key)
			switch {
			case o == acknowledged && !found:
				t.Fatalf("%s was acknowledged at %d and is lost", key, ts)
			case o == acknowledged && r.timestamp != ts:
				t.Fatalf("%s has the timestamp %d; its writer was told %d", key, r.timestamp, ts)
			case o == refused && found:
				t.Fatalf("%s is there, and its writer was told that nothing was done", key)
			case found && r.value != string(uniqueValue([]byte(key))):
				t.Fatalf("%s has the value %q", key, r.value)
			}
		}
	}
	for i, c := range l.counters {
		key := string(counterKey(i))
		r, found := there[key]
		delete(there, key)
		var value int64
		if found {
			var err error
			value, err = strconv.ParseInt(r.value, 10, 64)
			require.NoError(t, err)
		}
		require.NoError(t, history.CheckCounter(c.adds, c.unknown, value), key)
	}
	for g := range int(l.register.generations.Load()) {
		for i := range registers {
			delete(there, registerKey(g, i)) // the history of registers judges them
		}
	}
	require.Empty(t, there, "keys that nobody wrote")
}

// judgeWithin is how long one register's history may take to judge; histories of this length take
// milliseconds.
const judgeWithin = time.Minute

// judge compares everything that clients were told with what is there, on every replica, and returns the
// digest of it. REQUIRES: the load has stopped.
func (l *load) judge(ctx context.Context, t *testing.T, c *cluster.Cluster, db *client.DB) string {
	t.Helper()
	begun := time.Now()
	l.finalReads(ctx)
	l.verify(t, scan(ctx, t, db))
	t.Logf("found everything that was acknowledged, in %s", round(time.Since(begun)))
	begun = time.Now()
	digests := digestEachReplica(ctx, t, db)
	for i, d := range digests {
		require.Equal(t, digests[0], d, "round %d read other data than the first", i)
	}
	t.Logf("each replica holds %s, read in %s", digests[0], round(time.Since(begun)))
	l.judgeHistories(t, c.Dir())
	return digests[0]
}

// judgeHistories judges what clients recorded.
func (l *load) judgeHistories(t *testing.T, dir string) {
	t.Helper()
	ops := l.clock.Operations()
	begun := time.Now()
	require.NoError(t, history.CheckRegisters(ops, judgeWithin, filepath.Join(dir, "history.html")))
	require.NoError(t, history.CheckValues(ops))
	require.NoError(t, history.CheckKeys(ops))
	events := 0
	for i, w := range l.clients {
		events += len(w.session.events)
		require.NoError(t, history.CheckOrder(w.session.events, history.OneSession), "client %d", i)
	}
	t.Logf("judged %d operations on %d registers and the order of %d timestamps in %s", len(ops),
		int(l.register.generations.Load())*registers, events, round(time.Since(begun)))
}

// report sums up the load.
func (l *load) report(took time.Duration) string {
	var put, calls, unknown, nothing int
	for _, w := range l.writers {
		for n := range w.len() {
			switch o, _ := w.get(n); o {
			case acknowledged:
				put++
			case ambiguous:
				unknown++
			case refused:
				nothing++
			}
		}
	}
	for _, c := range l.counters {
		calls += len(c.adds)
		unknown += len(c.unknown)
	}
	wrote := 0
	for _, o := range l.clock.Operations() {
		switch {
		case o.Output.Unknown:
			unknown++
		case o.Input.Kind != history.Get && !o.Output.Failed:
			wrote++
		}
	}
	return fmt.Sprintf("acknowledged: %d unique keys, %d counter calls, %d writes of registers; %d reads; ambiguous: %d; refused: %d; in %s%s",
		put, calls, wrote, l.reads.Load(), unknown, nothing, round(took), l.errors.String())
}
