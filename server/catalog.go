package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/keys"
)

// Functions in the system keyspace:
//
//	fn/<name>/<version, 10 digits>  FunctionInfo of a version; the highest is the active one
//	mod/<hash>/<n, 6 digits>        the n-th chunk of a module
//
// A module's chunks are complete before the first version that names it is written. Versions and modules
// are never changed; registering the same module again under a name is the same version.
const (
	prefixFunction = "fn/"
	prefixModule   = "mod/"
	chunkLen       = 256 << 10
	maxModule      = 15 << 20 // one message carries it
)

func versionKey(name string, version uint32) []byte {
	return systemLayout.Encode(fmt.Appendf(nil, "%s%s/%010d", prefixFunction, name, version))
}

func chunkSpan(hash string) keys.Span {
	return keys.PrefixSpan(systemLayout.Encode([]byte(prefixModule + hash + "/")))
}

func chunkKey(hash string, n int) []byte {
	return systemLayout.Encode(fmt.Appendf(nil, "%s%s/%06d", prefixModule, hash, n))
}

// catalog is the registered functions, as this node knows them. On the node that runs the placement driver
// it is the truth, because only that node changes it: it is read from the system range once per office.
type catalog struct {
	system *system

	register sync.Mutex // one registration at a time

	mu struct {
		sync.Mutex
		loaded bool
		list   []*locuspb.FunctionInfo
	}
}

// forget makes the next list read the records again: another office may have changed them.
func (c *catalog) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.loaded = false
}

// list is all versions of all functions, by name and version.
func (c *catalog) list(ctx context.Context) ([]*locuspb.FunctionInfo, error) {
	c.mu.Lock()
	list, loaded := c.mu.list, c.mu.loaded
	c.mu.Unlock()
	if loaded {
		return list, nil
	}
	return c.reload(ctx)
}

func (c *catalog) reload(ctx context.Context) ([]*locuspb.FunctionInfo, error) {
	records, err := c.system.scan(ctx, keys.PrefixSpan(systemLayout.Encode([]byte(prefixFunction))))
	if err != nil {
		return nil, err
	}
	var list []*locuspb.FunctionInfo
	for _, r := range records {
		info := new(locuspb.FunctionInfo)
		if err := proto.Unmarshal(r.Value, info); err != nil {
			return nil, fmt.Errorf("server: record %q of a function can't be read: %w", r.Key, err)
		}
		if n := len(list); n > 0 && list[n-1].Name == info.Name {
			list[n-1].Active = false
		}
		info.Active = true
		list = append(list, info)
	}
	c.mu.Lock()
	c.mu.list, c.mu.loaded = list, true
	c.mu.Unlock()
	return list, nil
}

// add stores a module and gives it the next version of its name.
func (c *catalog) add(ctx context.Context, info *locuspb.FunctionInfo, module []byte) (*locuspb.FunctionInfo, error) {
	c.register.Lock()
	defer c.register.Unlock()
	for {
		list, err := c.reload(ctx)
		if err != nil {
			return nil, err
		}
		last := newest(list, info.Name)
		if last != nil && last.Hash == info.Hash {
			return last, nil
		}
		if !slices.ContainsFunc(list, func(i *locuspb.FunctionInfo) bool { return i.Hash == info.Hash }) {
			if err := c.storeModule(ctx, info.Hash, module); err != nil {
				return nil, err
			}
		}
		info.Version, info.Active = last.GetVersion()+1, true
		err = c.storeVersion(ctx, info)
		var taken *api.ConditionError
		if errors.As(err, &taken) {
			continue // registered by another office meanwhile
		}
		if err != nil {
			return nil, err
		}
		_, err = c.reload(ctx)
		return info, err
	}
}

// newest is the highest version of a name; nil if there is none.
func newest(list []*locuspb.FunctionInfo, name string) *locuspb.FunctionInfo {
	info, _ := choose(list, name, 0)
	return info
}

func (c *catalog) storeModule(ctx context.Context, hash string, module []byte) error {
	n := 0
	for chunk := range slices.Chunk(module, chunkLen) {
		key := chunkKey(hash, n)
		w := &locuspb.WriteRequest{Mutations: []*locuspb.Mutation{{Key: key, Value: chunk}}}
		if _, err := c.system.write(ctx, key, w); err != nil {
			return fmt.Errorf("server: storing a module: %w", err)
		}
		n++
	}
	return nil
}

func (c *catalog) storeVersion(ctx context.Context, info *locuspb.FunctionInfo) error {
	value, err := proto.Marshal(info)
	if err != nil {
		return err
	}
	key := versionKey(info.Name, info.Version)
	w := &locuspb.WriteRequest{
		Mutations:  []*locuspb.Mutation{{Key: key, Value: value}},
		Conditions: []*locuspb.Condition{{Key: key, Kind: locuspb.Condition_ABSENT}},
	}
	_, err = c.system.write(ctx, key, w)
	return err
}

// module reads a module back. The caller checks it against its hash.
func (c *catalog) module(ctx context.Context, hash string) ([]byte, error) {
	records, err := c.system.scan(ctx, chunkSpan(hash))
	if err != nil {
		return nil, err
	}
	var module []byte
	for n, r := range records {
		user := string(r.Key[systemLayout.HeaderLen():])
		at := user[strings.LastIndexByte(user, '/')+1:]
		if i, err := strconv.Atoi(at); err != nil || i != n {
			return nil, fmt.Errorf("server: module %s has no chunk %d", hash, n)
		}
		module = append(module, r.Value...)
	}
	if len(module) == 0 {
		return nil, fmt.Errorf("server: module %s is not in the system keyspace", hash)
	}
	return module, nil
}
