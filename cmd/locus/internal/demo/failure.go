package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/cmd/locus/internal/output"
	"github.com/locuskv/locus/cmd/locus/internal/progress"
)

// failure kills the node that leads most ranges while every range is written to, runs the job again, tells
// how long writes paused, and brings the node back.
func (d *demo) failure(ctx context.Context) error {
	places, err := d.places(ctx)
	if err != nil {
		return err
	}
	victim, leads := busiest(places)
	node, err := d.cluster.byStore(uint64(victim))
	if err != nil {
		return err
	}
	records, err := d.firstRecords(ctx, places)
	if err != nil {
		return err
	}
	w := startWatch(ctx, records, func(ctx context.Context, r record) error {
		// What is written is what is there, so the job's answer must stay the same.
		_, err := d.db.Keyspace(keyspace).Put(ctx, r.key, r.value)
		return err
	})
	defer w.stop()
	if err := w.awaitAcks(ctx); err != nil {
		return err
	}
	d.cluster.killNode(node)
	killed := time.Now()
	d.say("killed %s (SIGKILL), which led %d of %d ranges", d.cluster.procs[node].name, leads, len(places))

	again, err := d.run(ctx, "running it without that node")
	if err != nil {
		return fmt.Errorf("running the job after the kill: %w", err)
	}
	if err := d.check(again); err != nil {
		return fmt.Errorf("after the kill: %w", err)
	}
	d.say("the job gives the same answer: it began at the kill and took %s", output.Duration(again.took))
	if err := d.awaitWrites(ctx, w); err != nil {
		return err
	}
	d.reportPause(w, places, victim, time.Since(killed))
	return d.restart(ctx, node, places)
}

// place is a range and the store that leads it.
type place struct {
	id     client.RangeID
	leader client.StoreID // 0: not known just now
	start  []byte
	end    []byte
}

// places are the ranges of the flights, in key order: those that the keyspace was made with, and what large or busy ones
// have been split into since.
func (d *demo) places(ctx context.Context) ([]place, error) {
	ranges, err := d.db.Keyspace(keyspace).Ranges(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing ranges: %w", err)
	}
	out := make([]place, 0, len(ranges))
	for _, r := range ranges {
		out = append(out, place{id: r.ID, leader: r.Leaseholder, start: r.Start, end: r.End})
	}
	return out, nil
}

// busiest is the store that leads most ranges; of several the one with the lowest number.
func busiest(places []place) (store client.StoreID, leads int) {
	count := map[client.StoreID]int{}
	for _, p := range places {
		s := p.leader
		if s == 0 {
			continue
		}
		count[s]++
		if n := count[s]; n > leads || n == leads && s < store {
			store, leads = s, n
		}
	}
	return store, leads
}

// firstRecords are the first records of the ranges, in key order.
func (d *demo) firstRecords(ctx context.Context, places []place) ([]record, error) {
	ks := d.db.Keyspace(keyspace)
	var out []record
	for _, s := range places {
		found := false
		for item, err := range ks.Scan(ctx, ks.Span(s.start, s.end), client.Limit(1)) {
			if err != nil {
				return nil, fmt.Errorf("reading the first record of a range: %w", err)
			}
			out = append(out, record{item.Key, item.Value})
			found = true
		}
		if !found {
			return nil, fmt.Errorf("the range from %q on is empty", s.start)
		}
	}
	return out, nil
}

// awaitWrites waits until every range takes writes again.
func (d *demo) awaitWrites(ctx context.Context, w *watch) error {
	step := d.progress.Step("waiting for writes on every range", 0, progress.Things)
	defer step.Done()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := w.awaitAcks(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("a range took no write for %s after the kill", patience)
	}
	return err
}

func (d *demo) reportPause(w *watch, places []place, victim client.StoreID, since time.Duration) {
	w.stop()
	lost, acks := w.longest(func(i int) bool { return places[i].leader == victim })
	other, _ := w.longest(func(i int) bool { return places[i].leader != victim })
	d.say("writes to its ranges paused for %s at most, those to other ranges for %s (%s writes acknowledged, none failed, %s after the kill)",
		output.Duration(lost), output.Duration(other), output.Count(acks), output.Duration(since))
}

// restart starts the node again and gives it back the ranges that it led. A leader hands over only to a
// replica that has all of its log, so that is the proof that the node has caught up; then the job runs once
// more, on its data.
func (d *demo) restart(ctx context.Context, node int, before []place) error {
	p := d.cluster.procs[node]
	step := d.progress.Step("starting it again", 0, progress.Things)
	defer step.Done()
	begun := time.Now()
	if err := d.cluster.startNode(ctx, node); err != nil {
		return err
	}
	ready := time.Since(begun)
	step.Done()
	if _, err := d.awaitHealthy(ctx, "waiting for all replicas"); err != nil {
		return err
	}
	led, err := d.giveBack(ctx, client.StoreID(p.ready.StoreID), before)
	if err != nil {
		return err
	}
	d.say("started %s again: recovered its data in %s; caught up, and leads its %d ranges again, after %s", p.name,
		output.Duration(ready), led, output.Duration(time.Since(begun)))
	again, err := d.run(ctx, "running it on the node that returned")
	if err == nil {
		err = d.check(again)
	}
	if err != nil {
		return fmt.Errorf("running the job after the node's return: %w", err)
	}
	d.say("the job gives the same answer again, in %s", output.Duration(again.took))
	return nil
}

// giveBackEvery is how often a range is asked for that has not changed its leader yet.
const giveBackEvery = 100 * time.Millisecond

// giveBack makes a store the leaseholder of the ranges that it led before, and returns how many.
func (d *demo) giveBack(ctx context.Context, to client.StoreID, before []place) (int, error) {
	step := d.progress.Step("giving it back its ranges", 0, progress.Things)
	defer step.Done()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	led := 0
	for _, p := range before {
		if p.leader != to {
			continue
		}
		if err := d.transfer(ctx, p.id, to); err != nil {
			return 0, err
		}
		led++
	}
	return led, nil
}

// transfer moves one lease and waits until the move is known. It is asked for again while it fails: the
// store may still lack a part of the log.
func (d *demo) transfer(ctx context.Context, id client.RangeID, to client.StoreID) error {
	tick := time.NewTicker(giveBackEvery)
	defer tick.Stop()
	for {
		err := d.db.TransferRange(ctx, id, to)
		if err == nil {
			var now []place
			now, err = d.places(ctx)
			if slices.ContainsFunc(now, func(p place) bool { return p.id == id && p.leader == to }) {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("range %d was not given back to store %d", id, to), err)
		case <-tick.C:
		}
	}
}
