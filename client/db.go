package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/clientcore"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// DB is a client of one cluster. It is safe for concurrent use; a process needs one.
//
// A DB is also a Target: of calls that touch no key.
type DB struct {
	o        Options
	driver   *driver
	conns    *conns
	peers    map[ids.StoreID]*peer // guarded by the driver's lock
	nodes    directory
	lastLink atomic.Uint64

	life struct {
		sync.Mutex
		ctx    context.Context
		cancel context.CancelFunc
		closed bool
		tasks  sync.WaitGroup
	}
}

// Open connects to a cluster. It returns when one of the addresses has answered, or with the error of the
// last that did not.
func Open(ctx context.Context, o Options) (*DB, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	db := &DB{o: o, conns: newConns(o.TLS, o.Dial), peers: make(map[ids.StoreID]*peer)}
	db.life.ctx, db.life.cancel = context.WithCancel(context.Background())
	db.nodes.seeds = o.Addrs
	db.nodes.keyspaces = make(map[string]*Keyspace)
	db.driver = newDriver(clientcore.Options{
		Rand:           rand.New(rand.NewChaCha8(seed())),
		MaxOps:         o.MaxInFlight,
		MaxBytes:       o.MaxInFlightBytes,
		RetryMin:       o.Retry.Min,
		RetryMax:       o.Retry.Max,
		AttemptTimeout: o.Retry.Attempt,
		Policy:         policies[o.Balance.Policy],
		Weight:         o.Balance.weight,
	}, db)

	ctx, cancel := context.WithTimeout(ctx, budget(ctx, o.Timeout))
	defer cancel()
	m, err := call(ctx, db, true, func(ctx context.Context, c locuspb.LocusClient) (*locuspb.RoutesResponse, error) {
		return c.Routes(ctx, &locuspb.RoutesRequest{Span: &locuspb.Span{}, Limit: 1})
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	db.conns.cluster.Store(m.ClusterId)
	db.learn(m)
	return db, nil
}

// Close ends all operations with ErrClosed and gives everything back. Commands that were under way become
// *AmbiguousError.
func (db *DB) Close() error {
	db.life.Lock()
	if db.life.closed {
		db.life.Unlock()
		return nil
	}
	db.life.closed = true
	db.life.Unlock()
	db.driver.close()
	db.life.cancel()
	db.conns.close()
	db.life.tasks.Wait()
	return nil
}

// Token is a point in time at or after everything this DB has seen. See WithToken.
func (db *DB) Token() Token {
	db.driver.mu.Lock()
	defer db.driver.mu.Unlock()
	return Token(db.driver.core.Token())
}

// Stats counts since Open.
type Stats struct {
	BytesSent     uint64 // on the network, all protocols included
	BytesReceived uint64
	Requests      uint64 // to ranges and functions, attempts counted singly
	Retries       uint64 // those of them that were not an operation's first attempt
}

// Stats returns the counters of this DB.
func (db *DB) Stats() Stats {
	db.driver.mu.Lock()
	s := db.driver.core.Stats()
	db.driver.mu.Unlock()
	return Stats{
		BytesSent:     db.conns.traffic.sent.Load(),
		BytesReceived: db.conns.traffic.received.Load(),
		Requests:      s.Requests,
		Retries:       s.Retries,
	}
}

// spawn runs a task that Close waits for; false after Close.
func (db *DB) spawn(f func(context.Context)) bool {
	db.life.Lock()
	defer db.life.Unlock()
	if db.life.closed {
		return false
	}
	db.life.tasks.Add(1)
	go func() {
		defer db.life.tasks.Done()
		f(db.life.ctx)
	}()
	return true
}

// carry implements carrier.
func (db *DB) carry(store ids.StoreID, req *locuspb.Request) (uint64, error) {
	p := db.peers[store]
	if p == nil {
		return 0, &UnavailableError{Reason: "the address of store " + store.String() + " is not known"}
	}
	return p.carry(req)
}

// fetch implements carrier: it asks one node after another for routes. After Close nobody waits for them.
func (db *DB) fetch(span keys.Span, limit uint64) {
	db.spawn(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, db.o.Timeout)
		defer cancel()
		m, err := call(ctx, db, true, func(ctx context.Context, c locuspb.LocusClient) (*locuspb.RoutesResponse, error) {
			return c.Routes(ctx, &locuspb.RoutesRequest{Span: &locuspb.Span{Start: span.Start, End: span.End}, Limit: limit})
		})
		if err != nil {
			db.driver.routesFailed(err)
			return
		}
		db.learn(m)
	})
}

// learn takes in which nodes there are and where ranges lie.
func (db *DB) learn(m *locuspb.RoutesResponse) {
	if len(m.Nodes) > 0 {
		addrs := db.nodes.set(m.Nodes)
		db.driver.mu.Lock()
		for _, n := range m.Nodes {
			store := ids.StoreID(n.GetStoreId())
			if p := db.peers[store]; n.GetAddress() != "" && (p == nil || p.addr != n.Address) {
				db.peers[store] = &peer{store: store, addr: n.Address, db: db}
			}
		}
		db.driver.mu.Unlock()
		db.conns.keep(addrs)
	}
	db.driver.routesArrived(m)
}

func (b BalanceOptions) weight(n *locuspb.NodeInfo) int {
	if w, ok := b.Weights[n.GetAddress()]; ok {
		return w
	}
	return 1
}

// directory is what a DB knows of the cluster beside routes: nodes, and keyspaces by name.
type directory struct {
	mu        sync.Mutex
	seeds     []string
	addrs     []string // of nodes that are not known to be dead
	turn      int
	keyspaces map[string]*Keyspace
}

// set takes in the nodes and returns all addresses that are still of use.
func (d *directory) set(nodes []*locuspb.NodeInfo) map[string]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	keep := make(map[string]bool)
	for _, a := range d.seeds {
		keep[a] = true
	}
	d.addrs = d.addrs[:0]
	for _, n := range nodes {
		if n.GetAddress() == "" || n.State == "left" {
			continue
		}
		keep[n.Address] = true
		if n.State != "dead" {
			d.addrs = append(d.addrs, n.Address)
		}
	}
	return keep
}

// order lists all addresses to try, nodes first, beginning with another one each time.
func (d *directory) order() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turn++
	var out []string
	seen := make(map[string]bool)
	for _, list := range [][]string{d.addrs, d.seeds} {
		for i := range list {
			if a := list[(i+d.turn)%len(list)]; !seen[a] {
				seen[a] = true
				out = append(out, a)
			}
		}
	}
	return out
}

// pause between two rounds over all nodes.
const roundPause = 100 * time.Millisecond
