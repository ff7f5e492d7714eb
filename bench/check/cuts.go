package check

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/locuskv/locus/bench/history"
)

// judgeCuts judges snapshots by what writers were told (P3): each has exactly the writes at or below its timestamp. A write
// of unknown outcome may have taken effect or not, but once: what one reader found of it holds for all others. REQUIRES: no
// value is written to a register twice; all operations have ended.
func judgeCuts(all []*cut, ops []history.Operation, counts []*counterLog, writers []*ledger) error {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b *cut) int { return cmp.Compare(a.at, b.at) })
	known, err := registersOf(ops, all)
	if err != nil {
		return err
	}
	for _, c := range all {
		for g := max(0, c.generation-1); g <= c.generation; g++ {
			for i := range registers {
				if err := known.judge(c, registerKey(g, i)); err != nil {
					return err
				}
			}
		}
	}
	for i, log := range counts {
		if err := judgeCounts(all, string(counterKey(i)), log); err != nil {
			return err
		}
	}
	for id, w := range writers {
		if id+prefixes < len(writers) {
			continue // not the last of its prefix
		}
		if err := judgeKeys(all, id, w); err != nil {
			return err
		}
	}
	return nil
}

// assignment is a write of a register.
type assignment struct {
	at    uint64
	value history.Value
}

// place is a value in a register, which one write put there.
type place struct{ key, data string }

// known is what is known of the writes of registers.
type known struct {
	writes  map[string][]assignment // by key, in order of their timestamps
	unknown map[place]uint64        // of unknown outcome; the timestamp at which they were seen, or 0
	deletes map[string]bool         // keys with a deletion of unknown outcome
	// gone is when, as of which snapshot, a value that nobody is known to have deleted was missing.
	gone map[place]*cut
}

// registersOf collects the writes. Of those of unknown outcome, which took effect, and when, is known from their readers.
func registersOf(ops []history.Operation, all []*cut) (*known, error) {
	k := &known{
		writes: make(map[string][]assignment), unknown: make(map[place]uint64), deletes: make(map[string]bool), gone: make(map[place]*cut),
	}
	for _, o := range ops {
		key := o.Input.Key
		switch {
		case o.Input.Kind == history.Get || o.Output.Failed:
		case o.Output.Unknown && o.Input.Kind == history.Delete:
			k.deletes[key] = true
		case o.Output.Unknown:
			k.unknown[place{key, o.Input.New.Data}] = 0
		case o.Output.Timestamp != 0:
			k.writes[key] = append(k.writes[key], assignment{o.Output.Timestamp, o.Input.New})
		}
	}
	for _, o := range ops {
		if o.Output.Value.Exists {
			if err := k.saw(record{o.Input.Key, o.Output.Value.Data, o.Output.Timestamp}); err != nil {
				return nil, err
			}
		}
	}
	for _, c := range all {
		for _, r := range c.records {
			if err := k.saw(r); err != nil {
				return nil, err
			}
		}
	}
	for p, at := range k.unknown {
		if at != 0 {
			k.writes[p.key] = append(k.writes[p.key], assignment{at, history.Of(p.data)})
		}
	}
	for _, list := range k.writes {
		slices.SortStableFunc(list, func(a, b assignment) int { return cmp.Compare(a.at, b.at) })
	}
	return k, nil
}

// saw learns from a reader when a write of unknown outcome took effect.
func (k *known) saw(r record) error {
	p := place{r.key, r.value}
	at, ok := k.unknown[p]
	switch {
	case !ok:
	case at == 0:
		k.unknown[p] = r.timestamp
	case at != r.timestamp:
		return violates(r.key, "P3: %s, whose writer was told nothing, was also seen @%d: it was written twice", r.say(true), at)
	}
	return nil
}

// judge judges what a snapshot has of a register. Snapshots come in the order of their timestamps.
func (k *known) judge(c *cut, key string) error {
	r, found := c.find(key)
	if found && r.timestamp > c.at {
		return violates(key, "P3: the snapshot at %d has a later write: %s", c.at, r.say(true))
	}
	list := k.writes[key]
	n, _ := slices.BinarySearchFunc(list, c.at, func(a assignment, at uint64) int {
		if a.at <= at {
			return -1
		}
		return 1
	})
	if n == 0 {
		if found {
			return violates(key, "P3: the snapshot at %d has %s, and nobody wrote that up to there", c.at, r.say(true))
		}
		return nil
	}
	last := list[n-1]
	deleted := false
	for i := n - 1; i >= 0 && list[i].at == last.at; i-- { // of one entry any may be the last
		a := list[i]
		deleted = deleted || !a.value.Exists
		if found && a.value == history.Of(r.value) && a.at == r.timestamp {
			if gone := k.gone[place{key, r.value}]; gone != nil {
				return violates(key, "P3: the snapshot at %d has %s again, which that at %d did not have", c.at, r.say(true), gone.at)
			}
			return nil
		}
	}
	switch {
	case !found && deleted:
		return nil
	case !found && k.deletes[key]:
		if p := (place{key, last.value.Data}); k.gone[p] == nil {
			k.gone[p] = c
		}
		return nil
	}
	return violates(key, "P3: the snapshot at %d has %s; the last write up to there was of %s @%d", c.at, r.say(found), last.value, last.at)
}

// judgeCounts judges what snapshots, in the order of their timestamps, have of a counter.
func judgeCounts(all []*cut, key string, log *counterLog) error {
	log.mu.Lock()
	defer log.mu.Unlock()
	adds := slices.Clone(log.adds)
	slices.SortFunc(adds, func(a, b history.Addition) int {
		return cmp.Or(cmp.Compare(a.Timestamp, b.Timestamp), cmp.Compare(a.Sum, b.Sum))
	})
	var allowed int64
	for _, n := range log.unknown {
		allowed += n
	}
	var last history.Addition // at or below the snapshot
	var before int64          // what the snapshot before had
	for _, c := range all {
		for len(adds) > 0 && adds[0].Timestamp <= c.at {
			last, adds = adds[0], adds[1:]
		}
		r, found := c.find(key)
		var value int64
		if found {
			var err error
			if value, err = strconv.ParseInt(r.value, 10, 64); err != nil {
				return violates(key, "P3: the snapshot at %d has %s, which is no number", c.at, r.say(true))
			}
		}
		switch {
		case r.timestamp > c.at:
			return violates(key, "P3: the snapshot at %d has a later write: %s", c.at, r.say(true))
		case value < last.Sum || value > last.Sum+allowed:
			return violates(key, "P3: the snapshot at %d has %s; the calls up to there were told %d @%d, and those of unknown outcome added %d at most",
				c.at, r.say(found), last.Sum, last.Timestamp, allowed)
		case value == last.Sum && r.timestamp != last.Timestamp:
			return violates(key, "P3: the snapshot at %d has %s; the call that was told so has the timestamp %d", c.at, r.say(found), last.Timestamp)
		case len(adds) > 0 && value > adds[0].Sum-adds[0].Amount:
			return violates(key, "P3: the snapshot at %d has %s; the call after it added %d and was told %d @%d",
				c.at, r.say(found), adds[0].Amount, adds[0].Sum, adds[0].Timestamp)
		case value < before:
			return violates(key, "P3: the snapshot at %d has %s; an earlier one has %d", c.at, r.say(found), before)
		}
		before = value
	}
	return nil
}

// judgeKeys judges what snapshots, in the order of their timestamps, have of a writer's unique keys.
func judgeKeys(all []*cut, id int, w *ledger) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := make(map[int]uint64) // keys of unknown outcome, with the timestamps they were seen at
	for n, o := range w.mu.outcomes {
		if o != ambiguous {
			continue
		}
		for _, c := range all {
			if r, found := c.find(string(uniqueKey(id, n))); found && seen[n] == 0 {
				seen[n] = r.timestamp
			}
		}
	}
	for _, c := range all {
		for n := c.from[id%prefixes]; n < len(w.mu.outcomes); n++ {
			o, at := w.mu.outcomes[n], w.mu.timestamps[n]
			key := string(uniqueKey(id, n))
			r, found := c.find(key)
			known := at
			if o == ambiguous {
				known = seen[n]
			}
			switch {
			case found && r.value != "":
				return violates(key, "P3: the snapshot at %d has %s", c.at, r.say(true))
			case found && r.timestamp > c.at:
				return violates(key, "P3: the snapshot at %d has a later write: %s", c.at, r.say(true))
			case found && o == refused:
				return violates(key, "P3: the snapshot at %d has %s, and its writer was told that nothing was done", c.at, r.say(true))
			case found && known != 0 && r.timestamp != known:
				return violates(key, "P3: the snapshot at %d has %s; it was written @%d", c.at, r.say(true), known)
			case !found && known != 0 && known <= c.at:
				return violates(key, "P3: the snapshot at %d lacks %s, which was written @%d", c.at, key, known)
			}
			if o == acknowledged && at > c.at && !c.hasAfter(key) {
				break // all later ones are above it too, by the order of the client's session
			}
		}
	}
	return nil
}

// hasAfter says whether a cut has a later key of a unique key's writer.
func (c *cut) hasAfter(key string) bool {
	i, found := slices.BinarySearchFunc(c.records, key, byKey)
	if found {
		i++
	}
	return i < len(c.records) && isUnique(c.records[i].key) && c.records[i].key[:len(key)-8] == key[:len(key)-8]
}
