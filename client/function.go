package client

import (
	"context"
	"time"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/keys"
)

// Target is what a function is called on: a *DB (the function touches no key, and any node may run it), a
// Key, or a Group.
type Target interface {
	// target is the client, and for calls on keys the keyspace and the key.
	target() (*DB, *Keyspace, []byte)
}

func (db *DB) target() (*DB, *Keyspace, []byte) { return db, nil, nil }

func (k Key) target() (*DB, *Keyspace, []byte) {
	if k.ks == nil {
		return nil, nil, nil
	}
	return k.ks.db, k.ks, k.key
}

func (g Group) target() (*DB, *Keyspace, []byte) {
	if g.ks == nil {
		return nil, nil, nil
	}
	return g.ks.db, g.ks, g.key
}

// FuncOption changes what NewFunc and NewRangeFunc make.
type FuncOption interface{ applyFunc(*funcOptions) }

type funcOptions struct {
	version uint32
	codec   Codec
}

// Version pins a version of the function. Without it, calls go to the active one.
func Version(n uint32) FuncOption { return versionOption(n) }

type versionOption uint32

func (v versionOption) applyFunc(o *funcOptions) { o.version = uint32(v) }

// applyFunc lets a Codec be given to NewFunc and NewRangeFunc.
func (c Codec) applyFunc(o *funcOptions) { o.codec = c }

func funcOptionsOf(opts []FuncOption) funcOptions {
	var o funcOptions
	for _, f := range opts {
		if f != nil {
			f.applyFunc(&o)
		}
	}
	return o
}

// Func is a registered function by its name, with the types of its argument and result. It is a value
// without I/O; a package variable is a good place for it.
type Func[In, Out any] struct {
	name string
	o    funcOptions
}

// NewFunc names a function. Options are Version and a Codec (JSON by default).
func NewFunc[In, Out any](name string, opts ...FuncOption) Func[In, Out] {
	return Func[In, Out]{name, funcOptionsOf(opts)}
}

// CallOption changes how a function is called.
type CallOption interface{ applyCall(*callOptions) }

type callOptions struct {
	dryRun, optimistic bool
	id                 *RequestID
}

type dryRun struct{}

func (dryRun) applyCall(o *callOptions) { o.dryRun = true }

// DryRun runs the function as the real call would run now, and has Do return what it would write (Result.Writes) instead of writing
// it. Nothing is kept of it: with a RequestID it does not stand for the real call under the same one, whose random numbers it draws.
func DryRun() CallOption { return dryRun{} }

type optimistic struct{}

func (optimistic) applyCall(o *callOptions) { o.optimistic = true }

// Optimistic runs the function on a snapshot of its key or group, beside other writes of the range, instead of among
// them, where all of them wait for it. If anything that it read has been written meanwhile it runs again, up to 10
// times, after which the call waits and begins anew until its context ends. It is for calls that take long (up to
// 10 s each) on keys that few write to; one run may read 20,000 records. Atomic and exactly once as any call; the time
// that the function sees is its snapshot's.
func Optimistic() CallOption { return optimistic{} }

func (o RequestIDOption) applyCall(c *callOptions) { c.id = &o.id }

// Result is what a call returned, and what it took.
type Result[Out any] struct {
	Value Out
	// Timestamp of the call: of its writes, if it wrote. 0 for a call that touches no key.
	Timestamp Timestamp
	Fuel      uint64  // used
	Version   uint32  // that ran
	Writes    []Write // of a dry run: the last write to each key, by key
}

// Write is what a call would write to a key.
type Write struct {
	Key    []byte
	Value  []byte
	Delete bool
	TTL    time.Duration // 0: the value does not expire
}

// writesOf takes the writes of a dry run out of an answer.
func writesOf(c *locuspb.CallResponse, l *keys.Layout) (out []Write, err error) {
	for _, m := range c.GetWrites() {
		user, err := l.Decode(m.GetKey())
		if err != nil {
			return nil, &InternalError{Reason: "a node answered with a write to a key of another keyspace"}
		}
		out = append(out, Write{Key: user, Value: m.GetValue(), Delete: m.GetDelete(), TTL: time.Duration(m.GetTtlMs()) * time.Millisecond})
	}
	return out, nil
}

// Call runs the function on the target and returns its result. On a key or a group it is atomic and takes
// effect exactly once, like a write; its errors are a write's, and *FunctionError, *FunctionNotFoundError,
// *FuelError, *PermissionError, and *ResultError.
func (f Func[In, Out]) Call(ctx context.Context, t Target, in In, opts ...CallOption) (Out, error) {
	r, err := f.Do(ctx, t, in, opts...)
	return r.Value, err
}

// Do is Call with more to tell.
func (f Func[In, Out]) Do(ctx context.Context, t Target, in In, opts ...CallOption) (Result[Out], error) {
	var zero Result[Out]
	argument, err := encode(f.o.codec, in)
	if err != nil {
		return zero, err
	}
	resp, writes, err := doCall(ctx, t, &locuspb.CallRequest{
		Function: f.name, Version: f.o.version, Argument: argument, Codec: wireCodecs[f.o.codec],
	}, opts)
	if err != nil {
		return zero, err
	}
	c := resp.GetCall()
	r := Result[Out]{Timestamp: Timestamp(resp.Timestamp), Fuel: c.GetFuel(), Version: c.GetVersion(), Writes: writes}
	r.Value, err = decode[Out](f.o.codec, c.GetResult())
	return r, err
}

// doCall is what calls of all types share.
func doCall(ctx context.Context, t Target, req *locuspb.CallRequest, opts []CallOption) (resp *locuspb.Response, writes []Write, err error) {
	var o callOptions
	for _, f := range opts {
		if f != nil {
			f.applyCall(&o)
		}
	}
	req.DryRun, req.Optimistic = o.dryRun, o.optimistic
	if req.Function == "" {
		return nil, nil, &InvalidArgumentError{Reason: "the function has no name"}
	}
	db, ks, key := t.target()
	if db == nil {
		return nil, nil, &InvalidArgumentError{Reason: "the call's target is the zero value"}
	}
	if ks == nil {
		resp, err = db.run(ctx, nil, &locuspb.Request{Op: &locuspb.Request_Call{Call: req}}, o.id)
		return resp, nil, err
	}
	if err := checkKey(key); err != nil {
		return nil, nil, err
	}
	err = ks.twice(ctx, func(l *keys.Layout) (err error) {
		c := &locuspb.CallRequest{
			Key: l.Encode(key), Function: req.Function, Version: req.Version, Argument: req.Argument,
			Codec: req.Codec, DryRun: req.DryRun, Optimistic: req.Optimistic,
		}
		if resp, err = db.run(ctx, ks, &locuspb.Request{Op: &locuspb.Request_Call{Call: c}}, o.id); err == nil {
			writes, err = writesOf(resp.GetCall(), l)
		}
		return err
	})
	return resp, writes, err
}
