package client_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/locuskv/locus/client"
)

// A handle names a function and its types; it is a value without I/O. This one touches no key: any node runs it.
func ExampleFunc_Call() {
	_, db := startNode()
	square := client.NewFunc[int64, int64]("square")
	fmt.Println(square.Call(ctx, db, 5))
	// Output: 25 <nil>
}

// A function on a group reads and writes the keys of the group, atomically and exactly once.
func ExampleFunc_Call_group() {
	_, ks := newKeyspace("accounts", client.KeyspaceOptions{Group: client.GroupRule{Delimiter: '/', Depth: 1}})
	must(ks.Put(ctx, []byte("bank/ann"), binary.BigEndian.AppendUint64(nil, 100)))

	move := client.NewFunc[Move, uint64]("move")
	bank := ks.Group([]byte("bank/"))
	fmt.Println(move.Call(ctx, bank, Move{From: "bank/ann", To: "bank/bob", Amount: 30}))

	// An error that the function makes writes nothing.
	_, err := move.Call(ctx, bank, Move{From: "bank/ann", To: "bank/bob", Amount: 1000})
	var refused *client.FunctionError
	if errors.As(err, &refused) {
		fmt.Println(refused.Code, refused.Message)
	}
	_, err = move.Call(ctx, bank, Move{From: "bank/ann", To: "elsewhere/bob", Amount: 1})
	fmt.Println(errors.Is(err, client.ErrNotOneGroup))
	// Output:
	// 70 <nil>
	// 1 bank/ann has only 70
	// true
}

// A call that takes long need not hold up the other writes of its range.
func ExampleOptimistic() {
	_, db := startNode()
	counter := client.NewFunc[int64, int64]("counter")
	sum := must(counter.Call(ctx, db.Keyspace("default").Key([]byte("slow")), 5, client.Optimistic()))
	fmt.Println(sum)
	// Output: 5
}

func ExampleFunc_Do() {
	_, db := startNode()
	ks := db.Keyspace("default")
	counter := client.NewFunc[int64, int64]("counter")
	visits := ks.Key([]byte("clicks"))

	r := must(counter.Do(ctx, visits, 10, client.DryRun()))
	fmt.Println(r.Value, string(r.Writes[0].Key), string(r.Writes[0].Value))
	_, err := ks.Get(ctx, []byte("clicks"))
	fmt.Println(errors.Is(err, client.ErrNotFound))

	r = must(counter.Do(ctx, visits, 10))
	item := must(ks.Get(ctx, []byte("clicks")))
	fmt.Println(r.Value, string(item.Value), r.Timestamp == item.Timestamp, r.Fuel > 0, r.Version)
	// Output:
	// 10 clicks 10
	// true
	// 10 10 true true 0
}

// Argument and result travel as JSON, or as the codec says that the function was declared with.
func ExampleNewFunc() {
	_, db := startNode()
	shout := client.NewFunc[*wrapperspb.StringValue, *wrapperspb.StringValue]("shout", client.Proto)
	fmt.Println(must(shout.Call(ctx, db, wrapperspb.String("hello"))).Value)

	_, err := client.NewFunc[string, string]("shout", client.Raw).Call(ctx, db, "hello")
	fmt.Println(err)
	_, err = client.NewFunc[int, int]("square", client.JSON, client.Version(7)).Call(ctx, db, 5)
	var missing *client.FunctionNotFoundError
	fmt.Println(errors.As(err, &missing), missing.Version)
	// Output:
	// hello!
	// locus: function "shout" takes codec proto, not raw
	// true 7
}

// A range function runs where the data lies, on all ranges at one timestamp; what travels is its result.
func ExampleRangeFunc_Run() {
	_, ks := newKeyspace("run", client.KeyspaceOptions{SplitAt: [][]byte{[]byte("k3"), []byte("k6")}})
	for i := range 10 {
		must(ks.Put(ctx, fmt.Appendf(nil, "k%d", i), []byte("12345")))
	}
	count := client.NewRangeFunc[any, Count]("count")
	fmt.Println(count.Run(ctx, ks.All(), nil))
	fmt.Println(count.Run(ctx, ks.Span([]byte("k2"), []byte("k8")), nil))

	at := must(ks.Delete(ctx, []byte("k0")))
	fmt.Println(count.Run(ctx, ks.All(), nil, client.AtTimestamp(at-1)))

	var last client.Progress
	r := must(count.Do(ctx, ks.All(), nil, client.OnProgress(func(p client.Progress) { last = p })))
	fmt.Println(r.Value, r.Timestamp >= at, last.RangesDone, last.RangesTotal, last.Records)
	// Output:
	// {10 50} <nil>
	// {6 30} <nil>
	// {10 50} <nil>
	// {9 45} true 3 3 9
}

// A map function's outputs come as the nodes make them.
func ExampleRangeFunc_Stream() {
	_, ks := newKeyspace("people", client.KeyspaceOptions{SplitAt: [][]byte{[]byte("c"), []byte("e")}})
	for name, age := range map[string]int{"ann": 40, "bob": 12, "cem": 18, "dot": 7, "eve": 64} {
		must(ks.Put(ctx, []byte(name), fmt.Appendf(nil, `{"age":%d}`, age)))
	}
	adults := client.NewRangeFunc[int, Person]("adults")
	for p, err := range adults.Stream(ctx, ks.All(), 18) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(p.Name, p.Age)
	}
	// Unordered output:
	// ann 40
	// cem 18
	// eve 64
}

func ExampleKeyOrder() {
	_, ks := newKeyspace("in-order", client.KeyspaceOptions{SplitAt: [][]byte{[]byte("c"), []byte("e")}})
	for _, k := range []string{"a", "b", "c", "d", "e"} {
		must(ks.Put(ctx, []byte(k), []byte("some text")))
	}
	find := client.NewRangeFunc[string, string]("find")
	for key, err := range find.Stream(ctx, ks.All(), "text", client.KeyOrder()) {
		fmt.Println(key, err)
		if key == "c" {
			break // ends the work on every node
		}
	}
	// Output:
	// a <nil>
	// b <nil>
	// c <nil>
}

// A process that ends in the middle of a stream, or of a run, leaves behind where it was; the next one goes on there.
func ExampleContinue() {
	_, ks := newKeyspace("continue", client.KeyspaceOptions{SplitAt: [][]byte{[]byte("c"), []byte("e")}})
	for _, k := range []string{"a", "b", "c", "d", "e"} {
		must(ks.Put(ctx, []byte(k), []byte("some text")))
	}
	find := client.NewRangeFunc[string, string]("find")
	var at client.Continuation
	keep := client.OnContinuation(func(c client.Continuation) { at = bytes.Clone(c) })
	for key, err := range find.Stream(ctx, ks.All(), "text", client.KeyOrder(), keep) {
		fmt.Println(key, err)
		if key == "c" {
			break // after the first page, of a and b, and in the second one
		}
	}
	must(ks.Put(ctx, []byte("f"), []byte("text that came later")))

	fmt.Println("and later", at.Timestamp() > 0)
	for key, err := range find.Stream(ctx, ks.All(), "text", client.KeyOrder(), client.Continue(at)) {
		fmt.Println(key, err)
	}
	_, err := find.Run(ctx, ks.All(), "other", client.Continue(at))
	var refused *client.ContinuationError
	fmt.Println(errors.As(err, &refused))
	// Output:
	// a <nil>
	// b <nil>
	// c <nil>
	// and later true
	// c <nil>
	// d <nil>
	// e <nil>
	// true
}

func ExampleExplain() {
	_, ks := newKeyspace("explain", client.KeyspaceOptions{SplitAt: [][]byte{[]byte("k3"), []byte("k6")}})
	for i := range 10 {
		must(ks.Put(ctx, fmt.Appendf(nil, "k%d", i), []byte("12345")))
	}
	before := func(p client.Plan) {
		fmt.Println(len(p.Ranges), "ranges; in the sample", p.Sample.Records, "records")
		if p.Records() > 0 { // by what nodes reported last: of a keyspace that is new nothing may be known
			_ = p.Fuel()
		}
	}
	after := func(ranges []client.RangeAccount) {
		for i, r := range ranges {
			fmt.Println(i, r.Records, r.Requests > 0)
		}
	}
	count := client.NewRangeFunc[any, Count]("count")
	fmt.Println(count.Run(ctx, ks.All(), nil, client.Explain(before, after)))
	// Output:
	// 3 ranges; in the sample 10 records
	// 0 3 true
	// 1 3 true
	// 2 4 true
	// {10 50} <nil>
}

// A WebAssembly module is stored in the cluster; from then on every node runs it.
func ExampleDB_RegisterFunction() {
	db, ks := newKeyspace("modules", client.KeyspaceOptions{})
	must(ks.Put(ctx, []byte("1"), []byte(`{"delay":40}`)))
	must(ks.Put(ctx, []byte("2"), []byte(`{"delay":2}`)))

	module := must(os.ReadFile("../examples/guests/c/fieldsum.wasm"))
	info := must(db.RegisterFunction(ctx, "fieldsum", module))
	fmt.Println(info.Name, info.Version, info.Kind, info.Runtime, info.Active)

	sum := client.NewRangeFunc[string, struct{ Count, Sum int }]("fieldsum")
	fmt.Println(sum.Run(ctx, ks.All(), "delay"))

	for _, f := range must(db.Functions(ctx)) {
		if f.Runtime == "wasm" {
			fmt.Println(f.Name, f.Version, f.Size == uint64(len(module)))
		}
	}
	// Output:
	// fieldsum 1 range wasm true
	// {2 42} <nil>
	// fieldsum 1 true
}
