package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/boottime"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/placement"
)

// catalog is the registered functions as the node that runs the placement driver knows them: it alone changes them, so what it
// has read it need not read again. That it is alone takes two conditions, which every write has:
//
//   - the office: the number of the driver's term is the one in the records. A driver that was replaced and does not know it
//     changes nothing, whenever its writes arrive.
//   - the epoch: the number in the record "registry", which the catalog raises before it reads the records. A write whose outcome is
//     not known may still arrive; the catalog then reads anew, and after it has raised the epoch the write is too late.
//
// Modules are written before the version that names them, and deleted after: the chunks that a crash leaves between, or a write whose
// turn never came, are swept up by the first change that follows a reading.
type catalog struct {
	records catalogRecords
	now     func() hlc.Timestamp

	// turn has one token: one reading or change at a time. What is below it belongs to who has it.
	turn     chan struct{}
	registry *registry
	office   *locuspb.Condition
	epoch    *locuspb.Condition
	swept    bool // no module is there that nobody names

	boot func() time.Duration // monotonic, also while the machine sleeps
	// life ends what goes on when its caller has gone: others wait for it, too. working grows under mu, and not once closed is set.
	life    context.Context
	working sync.WaitGroup

	mu struct {
		sync.Mutex
		office []byte // of list; nil: there is none
		list   []*locuspb.FunctionInfo
		last   *confirmation // the last that succeeded; nil: none has
		asking *confirmation // under way; nil: none is
		closed bool
	}
}

// confirmation is a reading of the record that says whose office it is.
type confirmation struct {
	office []byte
	began  time.Duration // by boot
	done   chan struct{}
	err    error // valid once done is closed; nil: the office is still held
}

// catalogRecords is the system keyspace.
type catalogRecords interface {
	scan(ctx context.Context, span keys.Span) ([]placement.Record, error)
	// scanKeys is scan without the values.
	scanKeys(ctx context.Context, span keys.Span) ([]placement.Record, error)
	write(ctx context.Context, key []byte, w *locuspb.WriteRequest) (more bool, err error)
}

func newCatalog(life context.Context, records catalogRecords, now func() hlc.Timestamp) *catalog {
	return &catalog{records: records, now: now, turn: make(chan struct{}, 1), boot: boottime.Now, life: life}
}

// close waits for what is under way. REQUIRES: life has ended.
func (c *catalog) close() {
	c.mu.Lock()
	c.mu.closed = true
	c.mu.Unlock()
	c.working.Wait()
}

// list is all versions of all functions, by name and version, as they are in a term of office. The messages must not be changed.
func (c *catalog) list(ctx context.Context, office *locuspb.Condition) ([]*locuspb.FunctionInfo, error) {
	c.mu.Lock()
	list, known := c.mu.list, bytes.Equal(c.mu.office, office.Value)
	c.mu.Unlock()
	if known {
		return list, nil
	}
	err := c.inTurn(ctx, office, func() (err error) {
		list = c.registry.list()
		return nil
	})
	return list, err
}

// confirm makes sure that the office was held at some moment after since, by boot; *api.NotDriverError: it was not. The driver's own
// node does not know: it may have been paused, and where the range of the records is quiet nothing tells a leader that is cut off
// that there is another. The record tells whoever reads it linearizably.
func (c *catalog) confirm(ctx context.Context, office *locuspb.Condition, since time.Duration) error {
	for !c.confirmedSince(office, since) {
		r := c.ask(office)
		if r == nil {
			return errClosing
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if r.err != nil && r.began >= since {
			return r.err
		}
	}
	return nil
}

// confirmedSince says whether the office is known to have been held at some moment after since.
func (c *catalog) confirmedSince(office *locuspb.Condition, since time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.mu.last
	return r != nil && r.began >= since && bytes.Equal(r.office, office.Value)
}

// ask begins a confirmation, or joins the one under way; nil after close.
func (c *catalog) ask(office *locuspb.Condition) *confirmation {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.mu.asking; r != nil && bytes.Equal(r.office, office.Value) {
		return r
	}
	if c.mu.closed {
		return nil
	}
	r := &confirmation{office: office.Value, began: c.boot(), done: make(chan struct{})}
	c.mu.asking = r
	c.working.Go(func() {
		r.err = c.look(office)
		c.mu.Lock()
		defer c.mu.Unlock()
		if r.err == nil && (c.mu.last == nil || c.mu.last.began < r.began) {
			c.mu.last = r
		}
		if c.mu.asking == r {
			c.mu.asking = nil
		}
		close(r.done)
	})
	return r
}

// look reads the record of the office.
func (c *catalog) look(office *locuspb.Condition) error {
	ctx, cancel := context.WithTimeout(c.life, tryTimeout)
	defer cancel()
	now, err := c.records.scan(ctx, keys.KeySpan(office.Key))
	switch {
	case err != nil:
		return &api.UnavailableError{Reason: fmt.Sprintf("the node does not know whether it still runs the placement driver: %v", err)}
	case len(now) != 1 || !bytes.Equal(now[0].Value, office.Value):
		return &api.NotDriverError{}
	}
	return nil
}

// inTurn runs f alone, with the records read. If f fails with a write whose outcome is not known, they are read again.
func (c *catalog) inTurn(ctx context.Context, office *locuspb.Condition, f func() error) error {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if c.registry != nil && bytes.Equal(c.office.GetValue(), office.Value) {
		defer c.endTurn()
		return f()
	}
	read := c.reread(office)
	select {
	case err := <-read:
		defer c.endTurn()
		if err != nil {
			return err
		}
		return f()
	case <-ctx.Done():
		go func() {
			<-read
			c.endTurn()
		}()
		return ctx.Err()
	}
}

// reread begins to read the records. REQUIRES: the turn, until there is an answer: reading goes on when its caller has gone. One that
// was given up would be for nothing, and all nodes wait for the first.
func (c *catalog) reread(office *locuspb.Condition) <-chan error {
	read := make(chan error, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed {
		read <- errClosing
		return read
	}
	c.working.Go(func() {
		ctx, cancel := context.WithTimeout(c.life, writeTimeout)
		defer cancel()
		read <- c.read(ctx, office)
	})
	return read
}

func (c *catalog) endTurn() { <-c.turn }

// read raises the epoch and reads the records.
func (c *catalog) read(ctx context.Context, office *locuspb.Condition) error {
	c.forget()
	for c.registry == nil {
		now, err := c.records.scan(ctx, keys.KeySpan(registryKey()))
		if err != nil {
			return err
		}
		was := &locuspb.Condition{Key: registryKey(), Kind: locuspb.Condition_ABSENT}
		number := uint64(0)
		if len(now) > 0 {
			if len(now[0].Value) != 8 {
				return fmt.Errorf("server: record %q has %d bytes, not 8", keyRegistry, len(now[0].Value))
			}
			number = binary.BigEndian.Uint64(now[0].Value)
			was.Kind, was.Value = locuspb.Condition_VALUE, now[0].Value
		}
		epoch := binary.BigEndian.AppendUint64(nil, number+1)
		_, err = c.records.write(ctx, registryKey(), &locuspb.WriteRequest{
			Mutations:  []*locuspb.Mutation{{Key: registryKey(), Value: epoch}},
			Conditions: []*locuspb.Condition{office, was},
		})
		var other *api.ConditionError
		if errors.As(err, &other) && bytes.Equal(other.Key, registryKey()) {
			continue // a write of ours that was given up has arrived after all
		}
		if err != nil {
			return deposed(err, office)
		}
		records, err := c.records.scan(ctx, keys.PrefixSpan(systemLayout.Encode([]byte(prefixFunction))))
		if err != nil {
			return err
		}
		g, err := readRegistry(records)
		if err != nil {
			return err
		}
		c.office, c.swept = office, false
		c.epoch = &locuspb.Condition{Key: registryKey(), Kind: locuspb.Condition_VALUE, Value: epoch}
		c.take(g)
	}
	return nil
}

// forget makes the next one who has the turn read the records.
func (c *catalog) forget() {
	c.registry = nil
	c.mu.Lock()
	c.mu.office = nil
	c.mu.Unlock()
}

// take makes g what is known.
func (c *catalog) take(g *registry) {
	c.registry = g
	list := g.list()
	c.mu.Lock()
	c.mu.office, c.mu.list = c.office.Value, list
	c.mu.Unlock()
}

// deposed makes the failed condition on the office an error that says where to go.
func deposed(err error, office *locuspb.Condition) error {
	var other *api.ConditionError
	if errors.As(err, &other) && bytes.Equal(other.Key, office.Key) {
		return &api.NotDriverError{}
	}
	return err
}

// commit writes what a change of the records makes of them. REQUIRES: the turn.
func (c *catalog) commit(ctx context.Context, changed []*locuspb.Mutation) error {
	_, err := c.records.write(ctx, registryKey(), &locuspb.WriteRequest{
		Mutations: changed, Conditions: []*locuspb.Condition{c.office, c.epoch},
	})
	if err == nil {
		return nil
	}
	office := c.office
	c.forget() // it is not known whether the write has arrived, or will
	return deposed(err, office)
}

// change plans on a copy of the records and commits what comes of it. REQUIRES: the turn.
func (c *catalog) change(ctx context.Context, plan func(*registry) ([]*locuspb.Mutation, error)) error {
	next := c.registry.clone()
	changed, err := plan(next)
	if err != nil || len(changed) == 0 {
		return err
	}
	if err := c.commit(ctx, changed); err != nil {
		return err
	}
	c.take(next)
	return nil
}

// add stores a module and gives it the next version of its name. The same module under the same name is the same version.
func (c *catalog) add(ctx context.Context, office *locuspb.Condition, info *locuspb.FunctionInfo, module []byte, inactive bool) (stored *locuspb.FunctionInfo, err error) {
	err = c.inTurn(ctx, office, func() error {
		if err := c.sweep(ctx); err != nil {
			return err
		}
		if _, _, err := c.registry.clone().add(info, inactive); err != nil {
			return err // before the module is stored for nothing
		}
		if len(c.registry.withHash(info.Hash)) == 0 {
			c.swept = false // until a version names it
			if err := c.storeModule(ctx, info.Hash, module); err != nil {
				return fmt.Errorf("server: storing a module: %w", err)
			}
		}
		info.Registered = uint64(c.now())
		var version uint32
		err := c.change(ctx, func(g *registry) (changed []*locuspb.Mutation, err error) {
			version, changed, err = g.add(info, inactive)
			return changed, err
		})
		if err == nil {
			c.swept = true
			stored = c.registry.marked(info.Name, version)
		}
		return err
	})
	return stored, err
}

// activate makes a version the active one of its name, and says which was.
func (c *catalog) activate(ctx context.Context, office *locuspb.Condition, name string, version, instead uint32) (now *locuspb.FunctionInfo, before uint32, err error) {
	err = c.inTurn(ctx, office, func() error {
		before = c.registry.heads[name].GetActive()
		err := c.change(ctx, func(g *registry) ([]*locuspb.Mutation, error) { return g.activate(name, version, instead) })
		if err == nil {
			now = c.registry.marked(name, version)
		}
		return err
	})
	return now, before, err
}

// remove takes away a version, or with version 0 a name, and the modules that nobody names any more.
func (c *catalog) remove(ctx context.Context, office *locuspb.Condition, name string, version uint32) (removed []*locuspb.FunctionInfo, err error) {
	err = c.inTurn(ctx, office, func() error {
		var modules []string
		err := c.change(ctx, func(g *registry) (changed []*locuspb.Mutation, err error) {
			removed, modules, changed, err = g.remove(name, version)
			return changed, err
		})
		if err != nil || len(modules) == 0 {
			return err
		}
		// The versions are gone, which is what was asked for; modules that stay for now are swept up.
		c.swept = false
		_ = c.sweep(ctx)
		return nil
	})
	return removed, err
}

// sweep deletes the modules that no version names. REQUIRES: the turn, so that none is being stored.
func (c *catalog) sweep(ctx context.Context) error {
	if c.swept {
		return nil
	}
	chunks, err := c.records.scanKeys(ctx, keys.PrefixSpan(systemLayout.Encode([]byte(prefixModule))))
	if err != nil {
		return err
	}
	var gone []*locuspb.Mutation
	for _, r := range chunks {
		hash, _, _ := strings.Cut(strings.TrimPrefix(string(r.Key[systemLayout.HeaderLen():]), prefixModule), "/")
		if len(c.registry.withHash(hash)) == 0 {
			gone = append(gone, &locuspb.Mutation{Key: r.Key, Delete: true})
		}
	}
	for some := range slices.Chunk(gone, 256) {
		if err := c.commit(ctx, some); err != nil {
			return err
		}
	}
	c.swept = true
	return nil
}

func (c *catalog) storeModule(ctx context.Context, hash string, module []byte) error {
	n := 0
	for chunk := range slices.Chunk(module, chunkLen) {
		if err := c.commit(ctx, []*locuspb.Mutation{{Key: chunkKey(hash, n), Value: chunk}}); err != nil {
			return err
		}
		n++
	}
	return nil
}

// errNoModule says that a module's chunks are not there: the last version that named it has been removed.
var errNoModule = errors.New("server: the module is not in the system keyspace")

// module reads a module back. The caller checks it against its hash. Any node may ask.
func (c *catalog) module(ctx context.Context, hash string) ([]byte, error) {
	records, err := c.records.scan(ctx, chunkSpan(hash))
	if err != nil {
		return nil, err
	}
	var module []byte
	for n, r := range records {
		user := string(r.Key[systemLayout.HeaderLen():])
		at := user[strings.LastIndexByte(user, '/')+1:]
		if i, err := strconv.Atoi(at); err != nil || i != n {
			return nil, fmt.Errorf("server: module %s has no chunk %d: %w", hash, n, errNoModule)
		}
		module = append(module, r.Value...)
	}
	if len(module) == 0 {
		return nil, errNoModule
	}
	return module, nil
}
