package load

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"sync"
	"time"
)

// fake is a store in memory that takes a time for each operation.
type fake struct {
	takes func(op int) time.Duration // op: how many came before
	fails func(op int) error

	mu   sync.Mutex
	ops  int
	data map[string][]byte
	log  []string // of writes and scans
}

func newFake(takes time.Duration, keys int) *fake {
	f := &fake{takes: func(int) time.Duration { return takes }, data: make(map[string][]byte)}
	for i := range uint64(keys) {
		f.data[string(AppendKey(nil, i))] = []byte("loaded")
	}
	return f
}

func (f *fake) begin() error {
	f.mu.Lock()
	op := f.ops
	f.ops++
	f.mu.Unlock()
	time.Sleep(f.takes(op)) // of the bubble's clock
	if f.fails != nil {
		return f.fails(op)
	}
	return nil
}

func (f *fake) Get(_ context.Context, key []byte) ([]byte, bool, error) {
	if err := f.begin(); err != nil {
		return nil, false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	v, ok := f.data[string(key)]
	return v, ok, nil
}

func (f *fake) Put(_ context.Context, key, value []byte) error {
	if err := f.begin(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.data[string(key)] = bytes.Clone(value)
	f.log = append(f.log, string(key))
	return nil
}

func (f *fake) Scan(_ context.Context, from []byte, n int) (int, error) {
	if err := f.begin(); err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var after []string
	for k := range f.data {
		if k >= string(from) {
			after = append(after, k)
		}
	}
	slices.Sort(after)
	f.log = append(f.log, "scan")
	return min(n, len(after)), nil
}

func (f *fake) Increment(_ context.Context, key []byte) (int, error) {
	if err := f.begin(); err != nil {
		return 1, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, _ := strconv.Atoi(string(f.data[string(key)]))
	f.data[string(key)] = strconv.AppendInt(nil, int64(n+1), 10)
	return 2, nil
}
