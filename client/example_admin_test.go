package client_test

import (
	"errors"
	"fmt"
	"slices"

	"github.com/locuskv/locus/client"
)

func ExampleDB_CreateKeyspace() {
	_, db := startNode()
	done(db.CreateKeyspace(ctx, "orders", client.KeyspaceOptions{
		Partition: client.PartitionHash, // spread evenly; PartitionRange, the default, keeps order
		Group:     client.GroupRule{Delimiter: '/', Depth: 1},
		SplitInto: 4,
	}))
	orders := db.Keyspace("orders")
	info := must(orders.Info(ctx))
	fmt.Println(orders.Name(), info.Partition == client.PartitionHash, info.Group.Depth)
	fmt.Println(len(must(orders.Ranges(ctx))))

	listed := slices.ContainsFunc(must(db.Keyspaces(ctx)), func(k client.KeyspaceInfo) bool { return k.Name == "orders" })
	fmt.Println(listed)
	// Output:
	// orders true 1
	// 4
	// true
}

func ExampleDB_DropKeyspace() {
	db, ks := newKeyspace("scratch", client.KeyspaceOptions{})
	must(ks.Put(ctx, []byte("k"), []byte("v")))
	done(db.DropKeyspace(ctx, "scratch"))

	_, err := ks.Get(ctx, []byte("k"))
	var missing *client.KeyspaceNotFoundError
	fmt.Println(errors.As(err, &missing))
	// Output: true
}

func ExampleKeyspace_Split() {
	_, ks := newKeyspace("split", client.KeyspaceOptions{})
	split := must(ks.Split(ctx, []byte("m")))
	for _, r := range must(ks.Ranges(ctx)) {
		fmt.Printf("[%s,%s) %v %v\n", r.Start, r.End, r.ID == split.Left, r.ID == split.Right)
	}
	fmt.Printf("%s\n", split.Key)
	// Output:
	// [,m) true false
	// [m,) false true
	// m
}

// A range can also be split by its number: in the middle of its records.
func ExampleDB_SplitRange() {
	db, ks := newKeyspace("middle", client.KeyspaceOptions{})
	for i := range 10 {
		must(ks.Put(ctx, fmt.Appendf(nil, "k%d", i), []byte("v")))
	}
	split := must(db.SplitRange(ctx, must(ks.Ranges(ctx))[0].ID))
	fmt.Printf("%s\n", split.Key)
	// Output: k5
}

func ExampleDB_Ranges() {
	db, ks := newKeyspace("ranges", client.KeyspaceOptions{SplitAt: [][]byte{[]byte("g")}})
	must(ks.Put(ctx, []byte("k"), []byte("v")))
	for _, r := range must(db.Ranges(ctx)) {
		if r.Keyspace == "ranges" || r.Keyspace == "(system)" {
			fmt.Printf("%s [%s,%s) %d %s\n", r.Keyspace, r.Start, r.End, len(r.Replicas), r.Replicas[0].Role)
		}
	}
	// Output:
	// (system) [,) 1 voter
	// ranges [,g) 1 voter
	// ranges [g,) 1 voter
}

func ExampleDB_TransferRange() {
	db, ks := newKeyspace("transfer", client.KeyspaceOptions{})
	r := must(ks.Ranges(ctx))[0]
	nodes := must(db.Nodes(ctx))
	fmt.Println(db.TransferRange(ctx, r.ID, nodes[0].Store)) // which leads it already
	// Output: <nil>
}

func ExampleDB_Status() {
	_, db := startNode()
	s := must(db.Status(ctx))
	fmt.Println(s.LiveNodes, s.DeadNodes, s.Unavailable, s.UnderReplicated)
	for _, n := range must(db.Nodes(ctx)) {
		fmt.Println(n.State, n.Store == s.Store, n.ID == s.NodeID, n.Address == s.DriverAddress)
	}
	// Output:
	// 1 0 0 0
	// up true true true
}
