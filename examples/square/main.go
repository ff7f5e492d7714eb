// Command square embeds a node of Locus that offers one function, and calls it.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/server"
	"github.com/locuskv/locus/udf"
)

func main() {
	ctx := context.Background()
	dir := must(os.MkdirTemp("", "locus-square-"))
	defer os.RemoveAll(dir)

	square := udf.Pure("square", func(_ context.Context, x int64) (int64, error) { return x * x, nil })
	registry := must(udf.NewRegistry(square))
	node := must(server.Start(ctx, server.Options{Data: dir, Listen: "127.0.0.1:0", Insecure: true, Functions: registry}))
	defer node.Stop(ctx)

	db := must(client.Open(ctx, client.Options{Addrs: []string{node.Addr()}}))
	defer db.Close()
	fmt.Println(must(client.NewFunc[int64, int64]("square").Call(ctx, db, 5)))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // deferred calls run: the node stops, and its directory goes
	}
	return v
}
