package client_test

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/locuskv/locus/client"
)

// sumModules are two modules that do the same: a custom section tells them apart.
func sumModules() (first, second []byte) {
	first = must(os.ReadFile("../examples/guests/c/fieldsum.wasm"))
	return first, append(slices.Clip(first), 0, 3, 1, 'x', 0)
}

// A new version is tried by those who name it, made the active one, and taken back.
func ExampleDB_ActivateFunction() {
	db, ks := newKeyspace("versions", client.KeyspaceOptions{})
	must(ks.Put(ctx, []byte("1"), []byte(`{"delay":40}`)))
	first, second := sumModules()
	must(db.RegisterFunction(ctx, "total", first))
	v2 := must(db.RegisterFunction(ctx, "total", second, client.Inactive()))

	type sum struct{ Count, Sum int }
	version := func(opts ...client.FuncOption) uint32 {
		return must(client.NewRangeFunc[string, sum]("total", opts...).Do(ctx, ks.All(), "delay")).Version
	}
	fmt.Println(version(), version(client.Version(v2.Version)))
	fmt.Println(db.ActivateFunction(ctx, "total", 2))
	fmt.Println(version())
	now, before, err := db.RollbackFunction(ctx, "total")
	fmt.Println(now.Version, before, err)
	fmt.Println(version())

	for _, v := range must(db.DescribeFunction(ctx, "total")).Versions {
		fmt.Println(v.Version, v.Kind, v.Codec, v.Active, v.Previous)
	}
	fmt.Println(db.RemoveFunctionVersion(ctx, "total", 2))
	fmt.Println(len(must(db.RemoveFunction(ctx, "total"))))
	_, err = client.NewRangeFunc[string, sum]("total").Run(ctx, ks.All(), "delay")
	var missing *client.FunctionNotFoundError
	fmt.Println(errors.As(err, &missing))
	// Output:
	// 1 2
	// 1 <nil>
	// 2
	// 1 2 <nil>
	// 1
	// 1 range json true false
	// 2 range json false true
	// <nil>
	// 1
	// true
}

func ExampleDB_FunctionStats() {
	db, ks := newKeyspace("stats", client.KeyspaceOptions{})
	must(ks.Put(ctx, []byte("1"), []byte(`{"delay":40}`)))
	first, _ := sumModules()
	must(db.RegisterFunction(ctx, "counted", first))
	sum := client.NewRangeFunc[string, struct{ Count, Sum int }]("counted")
	for range 3 {
		must(sum.Run(ctx, ks.All(), "delay"))
	}
	report := must(db.FunctionStats(ctx, "counted"))
	for _, f := range report.Functions {
		fmt.Println(f.Name, f.Version, f.Calls, f.Parts, f.RecordsRead, f.Fuel > 0, len(f.Errors))
	}
	fmt.Println(len(report.Silent), len(must(db.FunctionStats(ctx, "counted", client.ByRange())).Functions))
	must(db.RemoveFunction(ctx, "counted"))
	// Output:
	// counted 1 3 3 3 true 0
	// 0 2
}
