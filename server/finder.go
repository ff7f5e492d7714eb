package server

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/server/clustermap"
	"github.com/locuskv/locus/server/rpc"
)

// forwardedKey marks calls that one node passes on to another, which must answer them itself.
const forwardedKey = "locus-forwarded"

// tryTimeout bounds one attempt at one node that may run the driver.
const tryTimeout = 2 * time.Second

// finder finds the node that runs the placement driver: the leaseholder of the system range. Whatever it
// knows is a hint; a node that is asked and does not run the driver says who may.
type finder struct {
	self   ids.StoreID
	store  store
	cmap   *clustermap.Map
	peers  *peers
	pool   *rpc.Pool
	gossip func() (address string, ok bool)

	mu struct {
		sync.Mutex
		last string // who answered last
	}
}

// candidates lists addresses to ask, the likeliest first. The empty address is this node.
func (f *finder) candidates() []string {
	var out []string
	add := func(a string) {
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	addStore := func(id ids.StoreID) {
		switch {
		case id == 0:
		case id == f.self:
			add("")
		default:
			if a, err := f.peers.address(id); err == nil {
				add(a)
			}
		}
	}
	if info, ok := f.store.Range(ids.SystemRange); ok {
		addStore(info.Leader)
	}
	f.mu.Lock()
	last := f.mu.last
	f.mu.Unlock()
	if last != "" {
		add(last)
	}
	if a, ok := f.gossip(); ok {
		add(a)
	}
	if r, ok := f.cmap.Range(ids.SystemRange); ok {
		addStore(r.Leaseholder)
		for _, v := range r.Descriptor.Voters() {
			addStore(v.Store)
		}
	}
	for _, n := range f.cmap.Nodes() {
		addStore(ids.StoreID(n.StoreId))
	}
	add("")
	return out
}

// hint is the likeliest address of the driver's node that is not this one; empty if none is known.
func (f *finder) hint() string {
	for _, a := range f.candidates() {
		if a != "" {
			return a
		}
	}
	return ""
}

// askDriver calls local if the driver is here, else remote at the nodes that may have it, in turn, and
// follows their hints. The last error is returned when nobody answers.
func askDriver[T any](ctx context.Context, f *finder, local func(ctx context.Context) (T, error), remote func(ctx context.Context, conn grpc.ClientConnInterface) (T, error)) (T, error) {
	var zero T
	var last error
	queue := f.candidates()
	asked := make(map[string]bool)
	for len(queue) > 0 && ctx.Err() == nil {
		address := queue[0]
		queue = queue[1:]
		if asked[address] {
			continue
		}
		asked[address] = true
		v, err := askOne(ctx, f, address, local, remote)
		if err == nil {
			f.mu.Lock()
			f.mu.last = address
			f.mu.Unlock()
			return v, nil
		}
		var other *api.NotDriverError
		if errors.As(err, &other) {
			if other.Address != "" {
				queue = slices.Insert(queue, 0, other.Address)
			}
			if last == nil {
				last = err
			}
			continue
		}
		if !elsewhere(err) {
			return zero, err
		}
		last = err
	}
	if ctx.Err() != nil {
		return zero, ctx.Err()
	}
	var other *api.NotDriverError
	if last == nil || errors.As(last, &other) {
		last = &api.UnavailableError{Reason: "no node runs the placement driver at the moment"}
	}
	return zero, last
}

func askOne[T any](ctx context.Context, f *finder, address string, local func(ctx context.Context) (T, error), remote func(ctx context.Context, conn grpc.ClientConnInterface) (T, error)) (T, error) {
	if address == "" {
		return local(ctx)
	}
	var zero T
	conn, err := f.pool.Get(address, rpc.Control)
	if err != nil {
		return zero, err
	}
	v, err := remote(metadata.AppendToOutgoingContext(ctx, forwardedKey, "1"), conn)
	if err != nil {
		return zero, again(ctx, err)
	}
	return v, nil
}

// forwarded says whether another node passed the call on.
func forwarded(ctx context.Context) bool {
	return len(metadata.ValueFromIncomingContext(ctx, forwardedKey)) > 0
}

// untilDriver repeats a call of askDriver while no driver is in office, until ctx ends. Only for calls that
// may be repeated.
func untilDriver[T any](ctx context.Context, call func(ctx context.Context) (T, error)) (T, error) {
	pause := firstRetry
	for {
		v, err := call(ctx)
		if err == nil || !elsewhere(err) {
			return v, err
		}
		select {
		case <-ctx.Done():
			var zero T
			return zero, err
		case <-time.After(pause):
		}
		pause = min(2*pause, longestRetry)
	}
}
