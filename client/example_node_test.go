package client_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/locuskv/locus/client"
	"github.com/locuskv/locus/examples/functions"
	"github.com/locuskv/locus/server"
	"github.com/locuskv/locus/udf"
)

// The examples run against one node, which the first of them starts, with the functions below. Their errors are
// left to must, so that they show what is to be shown.

var node struct {
	start sync.Once
	node  *server.Node
	db    *client.DB
	dir   string
}

// startNode returns the address of the node and a client of it.
func startNode() (addr string, db *client.DB) {
	node.start.Do(func() {
		ctx := context.Background()
		node.dir = must(os.MkdirTemp("", "locus-examples-"))
		node.node = must(server.Start(ctx, server.Options{
			Data: node.dir, Listen: "127.0.0.1:0", Insecure: true, Functions: must(udf.NewRegistry(exampleFunctions()...)),
			TickInterval: 20 * time.Millisecond, HeartbeatInterval: 20 * time.Millisecond,
			Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		}))
		node.db = must(client.Open(ctx, client.Options{Addrs: []string{node.node.Addr()}}))
	})
	return node.node.Addr(), node.db
}

func TestMain(m *testing.M) {
	code := m.Run()
	if node.db != nil {
		done(node.db.Close())
		done(node.node.Stop(context.Background()))
	}
	if node.dir != "" {
		done(os.RemoveAll(node.dir))
	}
	os.Exit(code)
}

// newKeyspace makes a keyspace for one example.
func newKeyspace(name string, o client.KeyspaceOptions) (*client.DB, *client.Keyspace) {
	_, db := startNode()
	done(db.CreateKeyspace(context.Background(), name, o))
	return db, db.Keyspace(name)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func done(err error) {
	if err != nil {
		panic(err)
	}
}

// exampleFunctions are what the node offers: square, counter and find of package examples/functions, and some
// more.
func exampleFunctions() []udf.Function {
	return append(functions.All(),
		udf.Pure("shout", func(_ context.Context, s *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
			return wrapperspb.String(s.Value + "!"), nil
		}, udf.Proto()),
		// move takes from one account of a group and gives to another.
		udf.ReadWrite("move", func(_ context.Context, tx udf.Tx, m Move) (left uint64, err error) {
			from, to := balance(tx, m.From), balance(tx, m.To)
			if from < m.Amount {
				return 0, udf.Error(1, fmt.Sprintf("%s has only %d", m.From, from))
			}
			if err := tx.Put([]byte(m.From), binary.BigEndian.AppendUint64(nil, from-m.Amount)); err != nil {
				return 0, err
			}
			return from - m.Amount, tx.Put([]byte(m.To), binary.BigEndian.AppendUint64(nil, to+m.Amount))
		}),
		// count counts records, and the bytes of their values.
		udf.Range("count", udf.Aggregate[any, Count, Count]{
			Init: func(any) (Count, error) { return Count{}, nil },
			Add: func(_ context.Context, c Count, b udf.Batch) (Count, error) {
				for _, value := range b.All() {
					c.Records++
					c.Bytes += len(value)
				}
				return c, nil
			},
			Merge:  func(a, b Count) (Count, error) { return Count{a.Records + b.Records, a.Bytes + b.Bytes}, nil },
			Result: func(c Count) (Count, error) { return c, nil },
		}),
		// adults emits the people whose age is at least the argument.
		udf.Map("adults", func(_ context.Context, age int, b udf.Batch, emit func(Person) error) error {
			for key, value := range b.All() {
				p := Person{Name: string(key)}
				if err := json.Unmarshal(value, &p); err != nil {
					return udf.Error(1, "not a person: "+string(key))
				}
				if p.Age >= age {
					if err := emit(p); err != nil {
						return err
					}
				}
			}
			return nil
		}),
	)
}

func balance(tx udf.Tx, key string) uint64 {
	value, found, err := tx.Get([]byte(key)) // an error ends the call, whatever follows
	if err != nil || !found {
		return 0
	}
	return binary.BigEndian.Uint64(value)
}

// Move is the argument of the function move.
type Move struct {
	From, To string
	Amount   uint64
}

// Count is the result of the function count.
type Count struct{ Records, Bytes int }

// Person is an output of the function adults.
type Person struct {
	Name string
	Age  int
}
