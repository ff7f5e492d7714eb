package client_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/locuskv/locus/client"
)

func ExampleKeyspace_Put() {
	_, db := startNode()
	ks := db.Keyspace("default")
	at := must(ks.Put(ctx, []byte("color"), []byte("v")))
	item := must(ks.Get(ctx, []byte("color")))
	fmt.Printf("%s=%s %v\n", item.Key, item.Value, item.Timestamp == at)

	later := must(ks.Put(ctx, []byte("color"), []byte("w")))
	fmt.Println(later > at)
	// Output:
	// color=v true
	// true
}

func ExampleKeyspace_Delete() {
	_, db := startNode()
	ks := db.Keyspace("default")
	must(ks.Put(ctx, []byte("draft"), []byte("v")))
	must(ks.Delete(ctx, []byte("draft")))
	_, err := ks.Get(ctx, []byte("draft"))
	fmt.Println(errors.Is(err, client.ErrNotFound))

	_, err = ks.Delete(ctx, []byte("draft"), client.IfValue([]byte("v")))
	var cond *client.ConditionError
	fmt.Println(errors.As(err, &cond), cond.Exists)
	// Output:
	// true
	// true false
}

// A record with a time to live ceases to exist that long after it was written.
func ExampleTTL() {
	_, db := startNode()
	ks := db.Keyspace("default")
	must(ks.Put(ctx, []byte("session/42"), []byte("active"), client.TTL(30*time.Minute)))
	item := must(ks.Get(ctx, []byte("session/42")))
	fmt.Println(item.Expires.Time().Sub(item.Timestamp.Time()))

	at := must(ks.Put(ctx, []byte("session/43"), []byte("active"), client.TTL(time.Millisecond)))
	for {
		if item, err := ks.Get(ctx, []byte("session/43")); errors.Is(err, client.ErrNotFound) {
			break
		} else if err != nil || item.Timestamp != at {
			fmt.Println(item, err)
		}
	}
	fmt.Println("gone")
	// Output:
	// 30m0s
	// gone
}

func ExampleIfAbsent() {
	_, db := startNode()
	ks := db.Keyspace("default")
	_, err := ks.Put(ctx, []byte("lock"), []byte("ann"), client.IfAbsent())
	fmt.Println(err)

	_, err = ks.Put(ctx, []byte("lock"), []byte("bob"), client.IfAbsent())
	var cond *client.ConditionError
	if errors.As(err, &cond) {
		fmt.Printf("%s belongs to %s\n", cond.Key, cond.Current.Value)
	}
	// Output:
	// <nil>
	// lock belongs to ann
}

// Read, compute, and write only if nobody else did meanwhile.
func ExampleIfTimestamp() {
	_, db := startNode()
	ks := db.Keyspace("default")
	must(ks.Put(ctx, []byte("list"), []byte("1")))

	item := must(ks.Get(ctx, []byte("list")))
	_, err := ks.Put(ctx, item.Key, append(item.Value, '2'), client.IfTimestamp(item.Timestamp))
	fmt.Println(err)

	_, err = ks.Put(ctx, item.Key, append(item.Value, '3'), client.IfTimestamp(item.Timestamp))
	var cond *client.ConditionError
	fmt.Println(errors.As(err, &cond), string(cond.Current.Value))
	// Output:
	// <nil>
	// true 12
}

func ExampleKeyspace_CompareAndSwap() {
	_, db := startNode()
	ks := db.Keyspace("default")
	must(ks.CompareAndSwap(ctx, []byte("owner"), nil, []byte("ann"))) // nil: it must not exist
	must(ks.CompareAndSwap(ctx, []byte("owner"), []byte("ann"), []byte("bob")))

	_, err := ks.CompareAndSwap(ctx, []byte("owner"), []byte("ann"), []byte("eve"))
	var cond *client.ConditionError
	if errors.As(err, &cond) && cond.Exists {
		fmt.Printf("the owner is %s\n", cond.Current.Value)
	}
	// Output: the owner is bob
}

// A batch writes the keys of one group all together or not at all.
func ExampleKeyspace_Apply() {
	_, ks := newKeyspace("users", client.KeyspaceOptions{Group: client.GroupRule{Delimiter: '/', Depth: 1}})
	user := ks.Group([]byte("user7/"))

	var b client.Batch
	b.Put([]byte("user7/name"), []byte("Ann"), client.IfAbsent())
	b.Put([]byte("user7/seen"), []byte("today"), client.TTL(24*time.Hour))
	at, err := ks.Apply(ctx, user, &b)
	fmt.Println(err, must(ks.Get(ctx, []byte("user7/name"))).Timestamp == at)

	var c client.Batch
	c.Require([]byte("user7/name"), client.IfValue([]byte("Bob")))
	c.Delete([]byte("user7/seen"))
	_, err = ks.Apply(ctx, user, &c)
	var cond *client.ConditionError
	fmt.Println(errors.As(err, &cond), string(must(ks.Get(ctx, []byte("user7/seen"))).Value))

	b.Put([]byte("user8/name"), []byte("Bob")) // of another group
	_, err = ks.Apply(ctx, user, &b)
	fmt.Println(b.Len(), errors.Is(err, client.ErrNotOneGroup))
	// Output:
	// <nil> true
	// true today
	// 3 true
}

func ExampleKeyspace_BulkWriter() {
	_, ks := newKeyspace("bulk", client.KeyspaceOptions{})
	w := ks.BulkWriter(ctx, client.BulkOptions{})
	for i := range 1000 {
		if err := w.Put(fmt.Appendf(nil, "key%04d", i), []byte("value"), client.TTL(time.Hour)); err != nil {
			break // Close returns it too
		}
	}
	fmt.Println(w.Flush(), w.Written()) // what follows is ordered after what was before
	done(w.Delete([]byte("key0000")))
	fmt.Println(w.Close(), w.Written())
	// Output:
	// <nil> 1000
	// <nil> 1001
}

// A command with a request id takes effect once, even if the process that issued it dies and does it again.
func ExampleWithRequestID() {
	_, db := startNode()
	counter := client.NewFunc[int64, int64]("counter")
	visits := db.Keyspace("default").Key([]byte("example-visits"))

	id := must(db.NewRequestID(ctx))
	stored := id.String() // where a restart finds it

	fmt.Println(counter.Call(ctx, visits, 1, client.WithRequestID(id)))
	again := must(client.ParseRequestID(stored))
	fmt.Println(counter.Call(ctx, visits, 1, client.WithRequestID(again)))
	fmt.Println(counter.Call(ctx, visits, 1)) // another one
	// Output:
	// 1 <nil>
	// 1 <nil>
	// 2 <nil>
}

func ExampleParseRequestID() {
	id, err := client.ParseRequestID("000102030405060708090a0b0c0d0e0f0000018f00000001")
	fmt.Println(id, err)
	_, err = client.ParseRequestID("short")
	fmt.Println(err)
	// Output:
	// 000102030405060708090a0b0c0d0e0f0000018f00000001 <nil>
	// locus: a request id has 48 hexadecimal digits
}
