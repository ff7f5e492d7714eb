// Package guesttest runs the functions that a guest registers, in the process of a test: no WebAssembly,
// no node. It checks the function's own logic; what the sandbox bounds, it does not.
//
//	func TestCounter(t *testing.T) {
//		h := guesttest.New(map[string]string{"visits": "41"})
//		got, err := h.Call("counter", "visits", `1`) // 42
//	}
package guesttest

import (
	"time"

	"github.com/locuskv/locus/udf/guest/bare"
	"github.com/locuskv/locus/udf/internal/memstore"
	"github.com/locuskv/locus/udf/internal/shape"
)

// Host holds records and runs the functions that are registered in this program.
type Host struct {
	store *memstore.Store
	// Info is what calls see of themselves, but for the key.
	Info shape.Info
}

// New makes a host with some records.
func New(records map[string]string) *Host {
	return &Host{store: memstore.New(records), Info: shape.Info{Timestamp: shape.Timestamp(time.Now().UnixMilli()) << 16}}
}

// Get is the value that a key has now.
func (h *Host) Get(key string) (value string, found bool) {
	value, found = h.store.Data[key]
	return value, found
}

// Call runs a function on a key, with an argument and a result in the function's codec. What it writes
// takes effect if it returns no error.
func (h *Host) Call(name, key, arg string) (result string, err error) {
	c := &call{Store: h.store.Clone(), info: h.Info}
	c.info.Key = []byte(key)
	b, err := bare.Invoke(name, c, []byte(arg))
	if err != nil {
		return "", err
	}
	h.store = c.Store
	return string(b), nil
}

// Run runs a range function over all records, which it treats as that many ranges.
func (h *Host) Run(name, arg string, ranges int) (result string, err error) {
	total, err := bare.Begin(name, []byte(arg))
	if err != nil {
		return "", err
	}
	small := h.store.Clone()
	small.BatchBytes = 1 // one record each: they are dealt out to the ranges
	batches := small.Batches(shape.Span{})
	for i := range max(1, ranges) {
		part, err := bare.Begin(name, []byte(arg))
		if err != nil {
			return "", err
		}
		lo, hi := len(batches)*i/max(1, ranges), len(batches)*(i+1)/max(1, ranges)
		for _, b := range batches[lo:hi] {
			if err := part.Add(b); err != nil {
				return "", err
			}
		}
		encoded, err := part.Encode()
		if err != nil {
			return "", err
		}
		if err := total.Merge(encoded); err != nil {
			return "", err
		}
	}
	b, err := total.Result()
	return string(b), err
}

// Map runs a map function over all records, and returns its outputs in key order.
func (h *Host) Map(name, arg string) (outputs []string, err error) {
	f, err := bare.BeginMap(name, []byte(arg))
	if err != nil {
		return nil, err
	}
	small := h.store.Clone()
	small.BatchBytes = 1 // one record each: no output may depend on how records are batched
	for _, b := range small.Batches(shape.Span{}) {
		if err := f(b, func(o []byte) { outputs = append(outputs, string(o)) }); err != nil {
			return nil, err
		}
	}
	return outputs, nil
}

// call is the bare.Host of one call.
type call struct {
	*memstore.Store
	info shape.Info
}

func (c *call) Info() shape.Info { return c.info }

func (c *call) OpenScan(span shape.Span) (bare.Cursor, error) {
	return &cursor{store: c.Store, span: span}, c.Err
}

// cursor yields the batches that there are when it is first asked.
type cursor struct {
	store   *memstore.Store
	span    shape.Span
	started bool
	batches [][]byte
}

func (c *cursor) Next() (batch []byte, err error) {
	if !c.started {
		c.started, c.batches = true, c.store.Batches(c.span)
	}
	if len(c.batches) > 0 {
		batch, c.batches = c.batches[0], c.batches[1:]
	}
	return batch, nil
}

func (c *cursor) Close() {}
