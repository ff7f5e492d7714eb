package functions

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/locuskv/locus/bench/functions/native"
	"github.com/locuskv/locus/bench/load"
	"github.com/locuskv/locus/bench/load/locusload"
	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/examples/flights"
)

// Keyspaces, and the ranges that they have.
const (
	jsonKeyspace  = "bench-json"
	fixedKeyspace = "bench-fixed"
	sumKeyspace   = "bench-sums"
	callKeyspace  = "bench-calls"
	manyRanges    = 12
)

type keyspace struct {
	name   string
	ranges int
}

func (n need) keyspaces() []keyspace {
	var out []keyspace
	for _, k := range []struct {
		wanted bool
		keyspace
	}{
		{n.json, keyspace{jsonKeyspace, manyRanges}}, {n.fixed, keyspace{fixedKeyspace, manyRanges}},
		{n.sums, keyspace{sumKeyspace, 1}}, {n.calls, keyspace{callKeyspace, manyRanges}},
	} {
		if k.wanted {
			out = append(out, k.keyspace)
		}
	}
	return out
}

// source says where the flights come from.
func (o Options) source() string {
	if o.Flights != "" {
		return "the first flights of " + filepath.Base(o.Flights)
	}
	return "the bundled 100,000 flights, again and again"
}

// errEnough ends the reading of a file.
var errEnough = errors.New("enough")

// flights calls f with o.Records flights.
func (o Options) flights(ctx context.Context, f func(flights.Record) error) error {
	left := o.Records
	take := func(r flights.Record) error {
		if left == 0 {
			return errEnough
		}
		left--
		if left%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		return f(r)
	}
	for left > 0 {
		file, err := o.open()
		if err != nil {
			return err
		}
		before := left
		err = flights.Read(file, take)
		_ = file.Close() // it was only read
		switch {
		case errors.Is(err, errEnough):
			return nil
		case err != nil:
			return err
		case before == left:
			return errors.New("there are no flights")
		case o.Flights != "" && left > 0:
			return fmt.Errorf("%s has only %d flights of --records %d", o.Flights, o.Records-left, o.Records)
		}
	}
	return nil
}

func (o Options) open() (io.ReadCloser, error) {
	if o.Flights == "" {
		return flights.Sample(), nil
	}
	return os.Open(o.Flights)
}

// splits cut the key space at origins into n parts of about as many flights, by the bundled sample.
func splits(n int) ([][]byte, error) {
	weight, all := make(map[string]int), 0
	sample := flights.Sample()
	defer sample.Close()
	err := flights.Read(sample, func(r flights.Record) error {
		weight[r.Origin]++
		all++
		return nil
	})
	var out [][]byte
	seen := 0
	for _, origin := range slices.Sorted(maps.Keys(weight)) {
		if seen*n >= (len(out)+1)*all {
			out = append(out, []byte(origin))
		}
		seen += weight[origin]
	}
	return out[:min(n-1, len(out))], err
}

// fill makes the keyspaces and writes what the rows need.
func (b *bench) fill(ctx context.Context, needs need) error {
	if needs.json || needs.fixed {
		b.o.Tell(fmt.Sprintf("writing %d flights: %s", b.o.Records, b.o.source()))
		if err := b.fillFlights(ctx, needs); err != nil {
			return err
		}
	}
	if needs.sums {
		if err := b.fillSums(ctx); err != nil {
			return err
		}
	}
	if needs.calls {
		l := load.Defaults()
		l.Keys = b.size.callKeys
		if err := b.db.CreateKeyspace(ctx, callKeyspace, client.KeyspaceOptions{SplitAt: load.Splits(manyRanges)}); err != nil {
			return err
		}
		if err := locusload.Fill(ctx, b.db.Keyspace(callKeyspace), l, nil); err != nil {
			return err
		}
	}
	b.o.Tell("waiting until the leaseholders are spread over the nodes")
	return b.spread(ctx, needs)
}

func (b *bench) fillFlights(ctx context.Context, needs need) error {
	at, err := splits(manyRanges)
	if err != nil {
		return err
	}
	var writers []func(r flights.Record, key []byte) error
	var ends []func() error
	for _, l := range layouts {
		if l.keyspace == jsonKeyspace && !needs.json || l.keyspace == fixedKeyspace && !needs.fixed {
			continue
		}
		if err := b.db.CreateKeyspace(ctx, l.keyspace, client.KeyspaceOptions{SplitAt: at}); err != nil {
			return err
		}
		w := b.db.Keyspace(l.keyspace).BulkWriter(ctx, client.BulkOptions{})
		writers = append(writers, func(r flights.Record, key []byte) error { return w.Put(key, l.value(r)) })
		ends = append(ends, w.Close)
	}
	var numbers flights.Numberer
	err = b.o.flights(ctx, func(r flights.Record) error {
		key := numbers.Key(r)
		for _, write := range writers {
			if err := write(r, key); err != nil {
				return err
			}
		}
		return nil
	})
	for _, end := range ends {
		err = errors.Join(err, end())
	}
	return err
}

// The records of the sums: 100 bytes, with the field at sumOffset.
const (
	sumBytes  = 100
	sumOffset = 40
)

func sumKey(i int) []byte  { return fmt.Appendf(nil, "%08d", i) }
func sumField(i int) int64 { return int64(i%1009) - 100 }
func sumValue(i int) []byte {
	return binary.LittleEndian.AppendUint64(padding(i), uint64(sumField(i)))[:sumBytes:sumBytes]
}
func padding(i int) []byte {
	b := make([]byte, sumOffset, sumBytes)
	binary.LittleEndian.PutUint64(b, uint64(i))
	return b
}

// sumOf is the truth about the records [from, to).
func sumOf(from, to int) native.Total {
	t := native.Total{Count: uint64(to - from)}
	for i := from; i < to; i++ {
		t.Sum += sumField(i)
	}
	return t
}

func (b *bench) fillSums(ctx context.Context) error {
	if err := b.db.CreateKeyspace(ctx, sumKeyspace, client.KeyspaceOptions{}); err != nil {
		return err
	}
	w := b.db.Keyspace(sumKeyspace).BulkWriter(ctx, client.BulkOptions{})
	var err error
	for i := 0; i < b.size.sums && err == nil; i++ {
		err = w.Put(sumKey(i), sumValue(i))
	}
	return cmp.Or(err, w.Close())
}
