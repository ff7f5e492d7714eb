package client_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/locuskv/locus/client"
)

var ctx = context.Background()

func Example() {
	addr, _ := startNode() // locus start --insecure listens on 127.0.0.1:7400

	db, err := client.Open(ctx, client.Options{Addrs: []string{addr}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()

	ks := db.Keyspace("default") // always exists
	if _, err := ks.Put(ctx, []byte("greeting"), []byte("hello")); err != nil {
		fmt.Println(err)
		return
	}
	item, err := ks.Get(ctx, []byte("greeting"))
	fmt.Printf("%s %v\n", item.Value, err)

	square := client.NewFunc[int64, int64]("square")
	fmt.Println(square.Call(ctx, db, 5))
	// Output:
	// hello <nil>
	// 25 <nil>
}

func ExampleOpen() {
	addr, _ := startNode()
	db, err := client.Open(ctx, client.Options{
		Addrs:   []string{addr}, // of some nodes; the client learns of the others
		Timeout: 5 * time.Second,
		Balance: client.BalanceOptions{Policy: client.RoundRobin},
		Retry:   client.RetryOptions{Max: 100 * time.Millisecond},
	})
	fmt.Println(err)
	fmt.Println(db.Close())

	_, err = db.Keyspace("default").Get(ctx, []byte("k"))
	fmt.Println(errors.Is(err, client.ErrClosed))
	// Output:
	// <nil>
	// <nil>
	// true
}

func ExampleOptions_Validate() {
	o := client.Options{Addrs: []string{"localhost"}}
	fmt.Println(o.Validate())
	// Output: locus: address "localhost" is not host:port
}

// Errors are told apart by errors.Is and errors.As; they say what was wrong, and which limit it broke.
func Example_errors() {
	db, ks := newKeyspace("errors", client.KeyspaceOptions{})

	_, err := ks.Get(ctx, []byte("missing"))
	fmt.Println(errors.Is(err, client.ErrNotFound))

	_, err = ks.Put(ctx, make([]byte, 5000), nil)
	var limit *client.LimitError
	fmt.Println(errors.As(err, &limit), limit.What, limit.Limit, limit.Got)

	_, err = db.Keyspace("nowhere").Get(ctx, []byte("k"))
	var missing *client.KeyspaceNotFoundError
	fmt.Println(errors.As(err, &missing), missing.Name)

	err = db.CreateKeyspace(ctx, "errors", client.KeyspaceOptions{})
	var exists *client.KeyspaceExistsError
	fmt.Println(errors.As(err, &exists), exists.Name)

	_, err = client.NewFunc[int, int]("nothere").Call(ctx, db, 1)
	var function *client.FunctionNotFoundError
	fmt.Println(errors.As(err, &function), function.Name)

	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = ks.Put(ended, []byte("k"), nil)
	fmt.Println(errors.Is(err, context.Canceled))
	// Output:
	// true
	// true key length 4096 5000
	// true nowhere
	// true errors
	// true nothere
	// true
}

func ExampleDB_Stats() {
	_, db := startNode()
	ks := db.Keyspace("default")
	must(ks.Put(ctx, []byte("blob"), nil)) // finds the range
	before := db.Stats()
	must(ks.Put(ctx, []byte("blob"), make([]byte, 1000)))
	after := db.Stats()
	fmt.Println(after.Requests-before.Requests, after.BytesSent-before.BytesSent > 1000, after.BytesReceived > before.BytesReceived)
	// Output: 1 true true
}

// A token carries causality from one client to another: whatever the first has seen, the second sees too.
func ExampleWithToken() {
	addr, a := startNode()
	b := must(client.Open(ctx, client.Options{Addrs: []string{addr}}))
	defer b.Close()

	at := must(a.Keyspace("default").Put(ctx, []byte("order"), []byte("paid")))
	token := a.Token() // travels with the message from one service to the other
	fmt.Println(client.Timestamp(token) >= at)

	item := must(b.Keyspace("default").Get(client.WithToken(ctx, token), []byte("order"), client.MaxStaleness(time.Minute)))
	fmt.Printf("%s %v\n", item.Value, b.Token() >= token)
	// Output:
	// true
	// paid true
}

func ExampleTimestamp() {
	t := client.Timestamp(1_000_000 << 16)
	fmt.Println(t, t.Add(time.Second), t.Time().UTC().Format(time.TimeOnly))
	// Output: 1000000.00000 1001000.00000 00:16:40
}
