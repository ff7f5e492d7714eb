package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/locuskv/locus/client"
)

// The examples without output need a cluster at 127.0.0.1:7400 (locus start --insecure); they are compiled
// here, and the same calls run against a real cluster in the tests of package server.

func Example() {
	ctx := context.Background()
	db, err := client.Open(ctx, client.Options{Addrs: []string{"127.0.0.1:7400"}})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	ks := db.Keyspace("default")
	if _, err := ks.Put(ctx, []byte("greeting"), []byte("hello")); err != nil {
		log.Fatal(err)
	}
	item, err := ks.Get(ctx, []byte("greeting"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, written at %s\n", item.Value, item.Timestamp.Time())
}

func ExampleFunc_Call() {
	var db *client.DB // from client.Open
	square := client.NewFunc[int64, int64]("square")
	r, err := square.Call(context.Background(), db, 5) // touches no key: any node runs it
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r) // 25
}

func ExampleKeyspace_CompareAndSwap() {
	var ks *client.Keyspace // from DB.Keyspace
	_, err := ks.CompareAndSwap(context.Background(), []byte("owner"), []byte("ann"), []byte("bob"))
	var cond *client.ConditionError
	if errors.As(err, &cond) && cond.Exists {
		fmt.Printf("the owner is %s\n", cond.Current.Value)
	}
}

func ExampleKeyspace_Apply() {
	var ks *client.Keyspace // of a keyspace whose groups end at the first '/'
	var b client.Batch
	b.Put([]byte("user7/name"), []byte("Ann"), client.IfAbsent())
	b.Put([]byte("user7/seen"), []byte("today"), client.TTL(24*time.Hour))
	if _, err := ks.Apply(context.Background(), ks.Group([]byte("user7/")), &b); err != nil {
		log.Fatal(err)
	}
}

func ExampleKeyspace_BulkWriter() {
	var ks *client.Keyspace
	w := ks.BulkWriter(context.Background(), client.BulkOptions{})
	for i := range 1_000_000 {
		if err := w.Put(fmt.Appendf(nil, "key%07d", i), []byte("value")); err != nil {
			break // Close returns it too
		}
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
}

func ExampleKeyspace_Scan() {
	var ks *client.Keyspace
	for item, err := range ks.Scan(context.Background(), ks.Prefix([]byte("user7/")), client.Limit(100)) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s = %s\n", item.Key, item.Value)
	}
}

func ExampleRangeFunc_Run() {
	var ks *client.Keyspace
	count := client.NewRangeFunc[struct{}, uint64]("count")
	n, err := count.Run(context.Background(), ks.All(), struct{}{}, client.OnProgress(func(p client.Progress) {
		fmt.Printf("%d of %d ranges\n", p.RangesDone, p.RangesTotal)
	}))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(n)
}

func ExampleDB_NewRequestID() {
	ctx := context.Background()
	var db *client.DB
	id, err := db.NewRequestID(ctx)
	if err != nil {
		log.Fatal(err)
	}
	// Store id.String() where a restart finds it, then issue the command, as often as it takes.
	_, err = db.Keyspace("default").Put(ctx, []byte("order"), []byte("1"), client.WithRequestID(id))
	var ambiguous *client.AmbiguousError
	if errors.As(err, &ambiguous) {
		fmt.Println("issue it again with the same id")
	}
}

func ExampleWithToken() {
	var a, b *client.DB // of two services
	token := a.Token()  // travels with the message from one to the other
	ctx := client.WithToken(context.Background(), token)
	_, _ = b.Keyspace("default").Get(ctx, []byte("k")) // sees what a has seen
}

func ExampleOptions_Validate() {
	o := client.Options{Addrs: []string{"localhost"}}
	fmt.Println(o.Validate())
	// Output: locus: address "localhost" is not host:port
}

func ExampleTimestamp() {
	t := client.Timestamp(1_000_000 << 16)
	fmt.Println(t, t.Add(time.Second), t.Time().UTC().Format(time.TimeOnly))
	// Output: 1000000.00000 1001000.00000 00:16:40
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
