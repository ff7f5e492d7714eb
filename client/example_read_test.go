package client_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/locuskv/locus/client"
)

func ExampleKeyspace_Get() {
	_, db := startNode()
	ks := db.Keyspace("default")
	first := must(ks.Put(ctx, []byte("city"), []byte("old")))
	must(ks.Put(ctx, []byte("city"), []byte("new")))

	for name, o := range map[string]client.ReadOption{
		"the newest":               client.Linearizable(), // the default
		"of any replica":           client.Eventual(),
		"as it was after Put(old)": client.AtTimestamp(first),
	} {
		item := must(ks.Get(ctx, []byte("city"), o))
		fmt.Printf("%s: %s\n", name, item.Value)
	}
	_, err := ks.Get(ctx, []byte("missing"))
	fmt.Println(errors.Is(err, client.ErrNotFound))
	// Unordered output:
	// the newest: new
	// of any replica: new
	// as it was after Put(old): old
	// true
}

// A bounded read is served by any replica that is not further behind than that, without asking another one.
func ExampleMaxStaleness() {
	_, db := startNode()
	ks := db.Keyspace("default")
	at := must(ks.Put(ctx, []byte("weather"), []byte("v")))
	var item client.Item
	var err error
	for item.Timestamp < at { // at most a second later every replica has it
		if item, err = ks.Get(ctx, []byte("weather"), client.MaxStaleness(time.Second)); err != nil && !errors.Is(err, client.ErrNotFound) {
			break
		}
	}
	fmt.Printf("%s %v\n", item.Value, err)
	// Output: v <nil>
}

func ExampleKeyspace_Scan() {
	_, ks := newKeyspace("scan", client.KeyspaceOptions{SplitAt: [][]byte{[]byte("c")}})
	for _, k := range []string{"a", "b/1", "b/2", "c", "d"} {
		must(ks.Put(ctx, []byte(k), []byte("value of "+k)))
	}
	show := func(span client.Span, opts ...client.ReadOption) {
		for item, err := range ks.Scan(ctx, span, opts...) {
			if err != nil {
				fmt.Println(err)
				return
			}
			fmt.Printf("%s=%s;", item.Key, item.Value)
		}
		fmt.Println()
	}
	show(ks.Prefix([]byte("b/")))
	show(ks.Span([]byte("b"), []byte("d")), client.KeysOnly())
	show(ks.All(), client.Reverse(), client.Limit(2))
	show(ks.All(), client.KeysOnly(), client.PageBytes(1)) // of at least one record each
	// Output:
	// b/1=value of b/1;b/2=value of b/2;
	// b/1=;b/2=;c=;
	// d=value of d;c=value of c;
	// a=;b/1=;b/2=;c=;d=;
}

// A snapshot is the whole cluster at one timestamp.
func ExampleDB_Snapshot() {
	db, ks := newKeyspace("snapshot", client.KeyspaceOptions{SplitAt: [][]byte{[]byte("m")}})
	must(ks.Put(ctx, []byte("a"), []byte("1")))
	must(ks.Put(ctx, []byte("z"), []byte("1")))

	snap := must(db.Snapshot(ctx))
	defer snap.Close()
	must(ks.Put(ctx, []byte("a"), []byte("2")))
	must(ks.Put(ctx, []byte("m"), []byte("2")))

	then := snap.Keyspace("snapshot")
	for item, err := range then.Scan(ctx, then.All()) {
		fmt.Printf("%s=%s %v\n", item.Key, item.Value, err)
	}
	for item := range then.Scan(ctx, then.Span([]byte("b"), nil)) {
		fmt.Printf("%s ", item.Key)
	}
	for item := range then.Scan(ctx, then.Prefix([]byte("a"))) {
		fmt.Printf("%s ", item.Key)
	}
	fmt.Printf("%s\n", must(then.Get(ctx, []byte("a"))).Value)

	// Whatever else is done at its timestamp sees the same, for as long as history is kept.
	again := must(db.Snapshot(ctx, client.AtTimestamp(snap.Timestamp())))
	fmt.Printf("%s\n", must(again.Keyspace("snapshot").Get(ctx, []byte("a"))).Value)

	// That is ten minutes, unless it is held for longer.
	held := must(db.Snapshot(ctx, client.AtTimestamp(snap.Timestamp()), client.Hold(time.Hour)))
	fmt.Println(held.Close())
	// Output:
	// a=1 <nil>
	// z=1 <nil>
	// z a 1
	// 1
	// <nil>
}
