package check

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
	"time"

	"github.com/locuskv/locus/bench/history"
	"github.com/locuskv/locus/client"
)

// record is what a key holds.
type record struct {
	key, value string
	timestamp  uint64
}

// scan reads the whole keyspace.
func scan(ctx context.Context, db *client.DB) ([]record, error) {
	var out []record
	for item, err := range db.Keyspace(keyspace).Scan(ctx, db.Keyspace(keyspace).All()) {
		if err != nil {
			return nil, fmt.Errorf("scanning: %w", err)
		}
		out = append(out, record{string(item.Key), string(item.Value), uint64(item.Timestamp)})
	}
	return out, nil
}

// Digest reads everything; it is equal for equal records, timestamps included.
func (l *Load) Digest(ctx context.Context) (string, error) {
	records, err := scan(ctx, l.admin)
	return digest(records), err
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
// over only to a replica that has all of its log, and each read is the new leaseholder's own data. So are the newest
// snapshots, which are read again.
func (l *Load) digestEachReplica(ctx context.Context) ([]string, error) {
	var out []string
	for i := range copies {
		var d string
		// Placement may move a lease or a replica meanwhile; then it is read again.
		err := Poll(ctx, time.Minute, func() (bool, error) {
			if err := lead(ctx, l.admin, i); err != nil {
				return false, err
			}
			records, err := scan(ctx, l.admin)
			if err != nil {
				return false, err
			}
			d = digest(records)
			return leads(ctx, l.admin, i)
		})
		if err != nil {
			return nil, fmt.Errorf("reading everything, round %d: %w", i, err)
		}
		out = append(out, d)
		l.readAllAgain(ctx)
	}
	return out, nil
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
	return Poll(ctx, 5*time.Second, func() (bool, error) { return leads(ctx, db, round) })
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
func (l *Load) verify(records []record) error {
	there := make(map[string]record, len(records))
	last := ""
	for _, r := range records {
		if r.key <= last {
			return violates(r.key, "the scan is not in order: %q comes after %q", r.key, last)
		}
		last = r.key
		there[r.key] = r
	}
	for id, w := range l.writers {
		if err := verifyWriter(id, w, there); err != nil {
			return err
		}
	}
	for i, c := range l.counters {
		key := string(counterKey(i))
		r, found := there[key]
		delete(there, key)
		var value int64
		if found {
			var err error
			if value, err = strconv.ParseInt(r.value, 10, 64); err != nil {
				return violates(key, "the counter holds %q", r.value)
			}
		}
		if err := history.CheckCounter(c.adds, c.unknown, value); err != nil {
			return violates(key, "%s: %w", key, err)
		}
	}
	for g := range int(l.register.generations.Load()) {
		for i := range registers {
			delete(there, registerKey(g, i)) // the history of registers judges them
		}
	}
	for key := range there {
		return violates(key, "nobody wrote %q", key)
	}
	return nil
}

// verifyWriter compares the unique keys of one writer, and takes them away.
func verifyWriter(id int, w *ledger, there map[string]record) error {
	for n := range w.len() {
		key := string(uniqueKey(id, n))
		o, ts := w.get(n)
		r, found := there[key]
		delete(there, key)
		switch {
		case o == acknowledged && !found:
			return violates(key, "%s was acknowledged at %d and is lost", key, ts)
		case o == acknowledged && r.timestamp != ts:
			return violates(key, "%s has the timestamp %d; its writer was told %d", key, r.timestamp, ts)
		case o == refused && found:
			return violates(key, "%s is there, and its writer was told that nothing was done", key)
		case found && r.value != string(uniqueValue([]byte(key))):
			return violates(key, "%s has the value %q", key, r.value)
		}
	}
	return nil
}

// Verdict is what was found right.
type Verdict struct {
	Digest     string `json:"digest"` // of all data, the same on each replica
	Operations int    `json:"register_operations"`
	Registers  int    `json:"registers"`
	Timestamps int    `json:"timestamps"`
	Snapshots  int    `json:"snapshots"`
	Again      int    `json:"snapshots_again"`
}

// Judge compares everything that clients were told with what is there, on every replica. A *Violation says what is
// wrong. REQUIRES: the load has stopped, and the cluster is healthy.
func (l *Load) Judge(ctx context.Context) (Verdict, error) {
	l.finalReads(ctx)
	if err := l.Failure(nil); err != nil {
		return Verdict{}, err
	}
	records, err := scan(ctx, l.admin)
	if err == nil {
		err = l.verify(records)
	}
	if err != nil {
		return Verdict{}, err
	}
	digests, err := l.digestEachReplica(ctx)
	if err != nil {
		return Verdict{}, err
	}
	for i, d := range digests {
		if d != digests[0] {
			return Verdict{}, violates("", "replicas differ: round %d read %s, the first %s", i, d, digests[0])
		}
	}
	if err := l.Failure(nil); err != nil {
		return Verdict{}, err
	}
	v, err := l.judgeHistories()
	v.Digest = digests[0]
	return v, err
}

// judgeHistories judges what clients recorded.
func (l *Load) judgeHistories() (Verdict, error) {
	ops := l.clock.Operations()
	v := Verdict{Operations: len(ops), Registers: int(l.register.generations.Load()) * registers}
	var key string
	err := history.CheckRegisters(ops, filepath.Join(l.cluster.Dir(), "history.html"))
	if err == nil {
		err = history.CheckValues(ops)
	}
	if err == nil {
		err = history.CheckKeys(ops)
	}
	var (
		order  *history.LinearizabilityError
		value  *history.ValueError
		keyErr *history.OrderError
	)
	switch {
	case errors.As(err, &order):
		key = order.Key
	case errors.As(err, &value):
		key = value.Read.Input.Key
	case errors.As(err, &keyErr):
		key = keyErr.Key
	}
	if err != nil {
		return v, &Violation{Key: key, Reason: err}
	}
	all, again := l.cuts.list()
	v.Snapshots, v.Again = len(all), again
	if err := judgeCuts(all, ops, l.counters[:], l.writers); err != nil {
		return v, err
	}
	for i, w := range l.clients {
		v.Timestamps += len(w.session.events)
		if err := history.CheckOrder(w.session.events, history.OneSession); err != nil {
			return v, &Violation{Client: i + 1, Reason: fmt.Errorf("client %d: %w", i+1, err)}
		}
	}
	return v, nil
}

// AwaitHealthy waits until so many nodes live and every range has its replicas and a leaseholder.
func (l *Load) AwaitHealthy(ctx context.Context, live int) error {
	var s client.Status
	err := Poll(ctx, time.Minute, func() (bool, error) {
		var err error
		s, err = l.admin.Status(ctx)
		return err == nil && s.LiveNodes >= uint64(live) && s.Ranges > 0 && s.UnderReplicated == 0 && s.Unavailable == 0, err
	})
	if err != nil {
		return fmt.Errorf("the cluster does not become healthy: %d nodes live, %d of %d ranges lack a replica, %d a leaseholder: %w",
			s.LiveNodes, s.UnderReplicated, s.Ranges, s.Unavailable, err)
	}
	return nil
}
