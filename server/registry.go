package server

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/placement"
)

// Functions in the system keyspace:
//
//	fn/<name>/<version, 10 digits>  FunctionInfo of a version, without its marks
//	fn/<name>/head                  FunctionHead: which version is active, and which numbers are taken
//	mod/<hash>/<n, 6 digits>        the n-th chunk of a module
//	registry                        the epoch of the catalog, 8 bytes (catalog.go)
//
// Versions and modules never change. A module's chunks are complete before the first version that names it is written, and
// are deleted after the last one is. A name's head outlives its versions, so that no number is given twice. Names that releases before
// heads registered have none: there the highest version is active.
const (
	prefixFunction = "fn/"
	prefixModule   = "mod/"
	headSuffix     = "head"
	keyRegistry    = "registry"

	chunkLen  = 256 << 10
	maxModule = 15 << 20 // one message carries it
	// maxVersions bounds the registered versions of all names: every node keeps the list, and each heartbeat carries it.
	maxVersions = 4096
	// maxNames bounds the names, those included whose versions have all been removed.
	maxNames = 4 * maxVersions
)

func versionKey(name string, version uint32) []byte {
	return systemLayout.Encode(fmt.Appendf(nil, "%s%s/%010d", prefixFunction, name, version))
}

func headKey(name string) []byte {
	return systemLayout.Encode([]byte(prefixFunction + name + "/" + headSuffix))
}

func chunkSpan(hash string) keys.Span {
	return keys.PrefixSpan(systemLayout.Encode([]byte(prefixModule + hash + "/")))
}

func chunkKey(hash string, n int) []byte {
	return systemLayout.Encode(fmt.Appendf(nil, "%s%s/%06d", prefixModule, hash, n))
}

func registryKey() []byte { return systemLayout.Encode([]byte(keyRegistry)) }

// registry is the records of functions in memory. Its messages are never changed, so that a copy may share them.
type registry struct {
	heads    map[string]*locuspb.FunctionHead
	versions map[string]map[uint32]*locuspb.FunctionInfo
}

// readRegistry reads the records of functions.
func readRegistry(records []placement.Record) (*registry, error) {
	g := &registry{heads: map[string]*locuspb.FunctionHead{}, versions: map[string]map[uint32]*locuspb.FunctionInfo{}}
	for _, r := range records {
		var err error
		if strings.HasSuffix(string(r.Key), "/"+headSuffix) {
			h := new(locuspb.FunctionHead)
			if err = proto.Unmarshal(r.Value, h); err == nil {
				g.heads[h.Name] = h
			}
		} else {
			i := new(locuspb.FunctionInfo)
			if err = proto.Unmarshal(r.Value, i); err == nil {
				i.Active, i.Previous = false, false
				g.put(i)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("server: record %q of a function can't be read: %w", r.Key, err)
		}
	}
	for name, versions := range g.versions {
		if g.heads[name] == nil {
			g.heads[name] = oldHead(name, versions)
		}
	}
	return g, nil
}

// oldHead is the head of a name that was registered before there were heads: each version was active when it came.
func oldHead(name string, versions map[uint32]*locuspb.FunctionInfo) *locuspb.FunctionHead {
	all := slices.Sorted(maps.Keys(versions))
	last := all[len(all)-1]
	return &locuspb.FunctionHead{Name: name, Active: last, Last: last, Before: all[:len(all)-1]}
}

func (g *registry) clone() *registry {
	c := &registry{heads: maps.Clone(g.heads), versions: maps.Clone(g.versions)}
	for name, v := range c.versions {
		c.versions[name] = maps.Clone(v)
	}
	return c
}

func (g *registry) put(i *locuspb.FunctionInfo) {
	if g.versions[i.Name] == nil {
		g.versions[i.Name] = map[uint32]*locuspb.FunctionInfo{}
	}
	g.versions[i.Name][i.Version] = i
}

// list is all versions, by name and version, with their marks.
func (g *registry) list() []*locuspb.FunctionInfo {
	var out []*locuspb.FunctionInfo
	for name, versions := range g.versions {
		for v := range versions {
			out = append(out, g.marked(name, v))
		}
	}
	slices.SortFunc(out, func(a, b *locuspb.FunctionInfo) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version))
	})
	return out
}

// marked is a version as it is told: active or not.
func (g *registry) marked(name string, version uint32) *locuspb.FunctionInfo {
	i, h := proto.CloneOf(g.versions[name][version]), g.heads[name]
	i.Active = version == h.GetActive()
	i.Previous = version == previous(h)
	return i
}

// previous is the version that was active before the one that is; 0: none.
func previous(h *locuspb.FunctionHead) uint32 {
	if n := len(h.GetBefore()); n > 0 {
		return h.Before[n-1]
	}
	return 0
}

// withHash finds the versions, of any name, that name a module.
func (g *registry) withHash(hash string) (out []*locuspb.FunctionInfo) {
	for _, versions := range g.versions {
		for _, i := range versions {
			if i.Hash == hash {
				out = append(out, i)
			}
		}
	}
	return out
}

// add gives a module the next version of its name, or finds the one that it has. It is active from then on, unless the caller
// says otherwise.
func (g *registry) add(info *locuspb.FunctionInfo, inactive bool) (version uint32, changed []*locuspb.Mutation, err error) {
	for v, i := range g.versions[info.Name] {
		if i.Hash == info.Hash {
			if inactive {
				return v, nil, nil
			}
			changed, err = g.activate(info.Name, v, 0)
			return v, changed, err
		}
	}
	count := 0
	for _, v := range g.versions {
		count += len(v)
	}
	if count >= maxVersions {
		return 0, nil, &api.LimitError{What: "registered versions of functions", Limit: maxVersions, Got: int64(count + 1)}
	}
	old := g.heads[info.Name]
	if old == nil && len(g.heads) >= maxNames {
		return 0, nil, &api.LimitError{What: "names of functions, removed ones included", Limit: maxNames, Got: int64(len(g.heads) + 1)}
	}
	head := &locuspb.FunctionHead{Name: info.Name}
	if old != nil {
		head = proto.CloneOf(old)
	}
	head.Last++
	stored := proto.CloneOf(info)
	stored.Version, stored.Active, stored.Previous = head.Last, false, false
	if !inactive {
		makeActive(head, stored.Version)
	}
	g.put(stored)
	g.heads[info.Name] = head
	return stored.Version, []*locuspb.Mutation{
		record(versionKey(info.Name, stored.Version), stored), record(headKey(info.Name), head),
	}, nil
}

// activate makes a version the active one. instead, if not 0, is the one that must be active now; but a change that was made
// already is made.
func (g *registry) activate(name string, version, instead uint32) ([]*locuspb.Mutation, error) {
	if g.versions[name][version] == nil {
		return nil, &api.FunctionNotFoundError{Name: name, Version: version}
	}
	h := g.heads[name]
	switch {
	case h.Active == version:
		return nil, nil
	case instead != 0 && h.Active != instead:
		return nil, &api.InvalidArgumentError{Reason: fmt.Sprintf("version %d of function %q is active, not %d: somebody else has changed it meanwhile", h.Active, name, instead)}
	}
	head := proto.CloneOf(h)
	makeActive(head, version)
	g.heads[name] = head
	return []*locuspb.Mutation{record(headKey(name), head)}, nil
}

func makeActive(h *locuspb.FunctionHead, version uint32) {
	h.Before = slices.DeleteFunc(h.Before, func(v uint32) bool { return v == version })
	if h.Active != 0 {
		h.Before = append(h.Before, h.Active)
	}
	h.Active = version
}

// remove takes away one version, or with version 0 all that the name has. Removed modules are those that no version names any more.
func (g *registry) remove(name string, version uint32) (removed []*locuspb.FunctionInfo, modules []string, changed []*locuspb.Mutation, err error) {
	h := g.heads[name]
	switch {
	case len(g.versions[name]) == 0 || version != 0 && g.versions[name][version] == nil:
		return nil, nil, nil, &api.FunctionNotFoundError{Name: name, Version: version}
	case version != 0 && h.Active == version:
		return nil, nil, nil, &api.InvalidArgumentError{Reason: fmt.Sprintf("version %d of function %q is active: activate another one first, or remove the name with all its versions", version, name)}
	}
	head := proto.CloneOf(h)
	for _, v := range slices.Sorted(maps.Keys(g.versions[name])) {
		if version == 0 || v == version {
			removed = append(removed, g.marked(name, v))
			changed = append(changed, &locuspb.Mutation{Key: versionKey(name, v), Delete: true})
		}
	}
	for _, i := range removed {
		delete(g.versions[name], i.Version)
		head.Before = slices.DeleteFunc(head.Before, func(v uint32) bool { return v == i.Version })
		if head.Active == i.Version {
			head.Active = 0
		}
	}
	for _, i := range removed {
		if len(g.withHash(i.Hash)) == 0 && !slices.Contains(modules, i.Hash) {
			modules = append(modules, i.Hash)
		}
	}
	if len(g.versions[name]) == 0 {
		delete(g.versions, name)
	}
	g.heads[name] = head
	return removed, modules, append(changed, record(headKey(name), head)), nil
}

func record(key []byte, m proto.Message) *locuspb.Mutation {
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		// Invariant: names were checked by the runtime, and all else is numbers and text of our own.
		panic("server: a record of a function can't be encoded: " + err.Error())
	}
	return &locuspb.Mutation{Key: key, Value: value}
}
