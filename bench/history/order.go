package history

import (
	"cmp"
	"fmt"
	"slices"
)

// Event is an operation with a timestamp, for CheckOrder.
type Event struct {
	Call, Return Instant
	Timestamp    uint64
	Write        bool
	Name         string // for the error
}

func (e Event) String() string {
	what := "read"
	if e.Write {
		what = "write"
	}
	return fmt.Sprintf("%s %s @%d in [%d,%d]", what, e.Name, e.Timestamp, e.Call, e.Return)
}

// OrderError is a pair of events of which the first had returned before the second was called, and whose
// timestamps say otherwise.
type OrderError struct {
	Key           string // of both, where CheckKeys found it
	Before, After Event
}

func (e *OrderError) Error() string {
	return fmt.Sprintf("history: timestamps contradict the order of events: %s, then %s", e.Before, e.After)
}

// A Scope says which events CheckOrder compares.
type Scope uint8

const (
	// OneKey: events on one key. A write is above all that ended before it began; a read is not below it.
	OneKey Scope = iota
	// OneSession: events of one client, on any keys. A write is above all that its client had seen before;
	// reads of other keys may well be older.
	OneSession
)

// CheckOrder compares the timestamps of events with real time, in O(n log n).
func CheckOrder(events []Event, scope Scope) error {
	if err := checkOrder(events, scope); err != nil {
		return err
	}
	return nil
}

func checkOrder(events []Event, scope Scope) *OrderError {
	byCall := slices.Clone(events)
	slices.SortFunc(byCall, func(a, b Event) int { return cmp.Compare(a.Call, b.Call) })
	byReturn := slices.Clone(events)
	slices.SortFunc(byReturn, func(a, b Event) int { return cmp.Compare(a.Return, b.Return) })

	var newest Event // of those that had returned
	ended := 0
	for _, e := range byCall {
		for ended < len(byReturn) && byReturn[ended].Return < e.Call {
			if byReturn[ended].Timestamp > newest.Timestamp {
				newest = byReturn[ended]
			}
			ended++
		}
		switch {
		case newest.Timestamp == 0:
		case e.Write && e.Timestamp <= newest.Timestamp,
			!e.Write && scope == OneKey && e.Timestamp < newest.Timestamp:
			return &OrderError{Before: newest, After: e}
		}
	}
	return nil
}

// CheckKeys is CheckOrder of each key of a history of registers. Reads that found nothing have no timestamp
// and say nothing.
func CheckKeys(ops []Operation) error {
	keys, byKey := split(ops)
	for _, key := range keys {
		if err := checkOrder(Events(byKey[key]), OneKey); err != nil {
			err.Key = key
			return err
		}
	}
	return nil
}

// Events are the operations that have a timestamp.
func Events(ops []Operation) []Event {
	var out []Event
	for i := range ops {
		o := &ops[i]
		if o.Output.Unknown || o.Output.Timestamp == 0 {
			continue
		}
		out = append(out, Event{
			Call: o.Call, Return: o.Return, Timestamp: o.Output.Timestamp, Write: o.wrote(),
			Name: Describe(o.Input, o.Output),
		})
	}
	return out
}
