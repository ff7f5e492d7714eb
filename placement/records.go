package placement

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
)

// The records of the driver, as keys of the system keyspace. Others live beside them (functions: "fn/").
//
//	id/office        number of the newest term of office
//	id/range         the range ids below are taken (in batches; ids left over at the end of an office are lost)
//	id/store         the next store id
//	id/keyspace      the next keyspace id
//	store/<id>       NodeInfo of the node that the store id belongs to, for ever
//	keyspace/<name>  Keyspace
//	dropped/<id>     Keyspace whose name is free and whose data is being deleted
//	hold/<id>        Hold, its id in hexadecimal
//
// Numbers in values are 8 bytes, big endian.
const (
	prefixID       = "id/"
	prefixStore    = "store/"
	prefixKeyspace = "keyspace/"
	prefixDropped  = "dropped/"
	prefixHold     = "hold/"

	keyOffice       = prefixID + "office"
	keyNextRange    = prefixID + "range"
	keyNextStore    = prefixID + "store"
	keyNextKeyspace = prefixID + "keyspace"
)

// prefixes are what a driver loads when it takes office.
var prefixes = []string{prefixID, prefixStore, prefixKeyspace, prefixDropped, prefixHold}

var systemLayout = keys.Layout{ID: 0}

func recordKey(user string) []byte { return systemLayout.Encode([]byte(user)) }

func recordSpan(prefix string) keys.Span { return keys.PrefixSpan(recordKey(prefix)) }

func storeKey(id uint64) []byte   { return recordKey(prefixStore + strconv.FormatUint(id, 10)) }
func spaceKey(name string) []byte { return recordKey(prefixKeyspace + name) }
func droppedKey(id uint32) []byte {
	return recordKey(prefixDropped + strconv.FormatUint(uint64(id), 10))
}

func putNumber(key string, n uint64) *locuspb.Mutation {
	return &locuspb.Mutation{Key: recordKey(key), Value: number(n)}
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func parseNumber(v []byte) (uint64, error) {
	if len(v) != 8 {
		return 0, fmt.Errorf("a number of %d bytes instead of 8", len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}

func putMessage(key []byte, m proto.Message) *locuspb.Mutation {
	v, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		// Invariant: names are validated as ASCII and all else is numbers and bytes.
		panic(fmt.Sprintf("placement: a record can't be encoded: %v", err))
	}
	return &locuspb.Mutation{Key: key, Value: v}
}

func deleteKey(key []byte) *locuspb.Mutation { return &locuspb.Mutation{Key: key, Delete: true} }

// catalog is the records in memory.
type catalog struct {
	office, nextRange, nextStore, nextKeyspace uint64

	stores  map[ids.StoreID]*locuspb.NodeInfo
	byNode  map[string]ids.StoreID
	spaces  map[string]*locuspb.Keyspace
	byID    map[ids.KeyspaceID]*locuspb.Keyspace // not the dropped
	dropped map[ids.KeyspaceID]*locuspb.Keyspace
	holds   map[string]*locuspb.Hold // by id
}

func newCatalog() catalog {
	return catalog{
		stores: map[ids.StoreID]*locuspb.NodeInfo{}, byNode: map[string]ids.StoreID{},
		spaces: map[string]*locuspb.Keyspace{}, byID: map[ids.KeyspaceID]*locuspb.Keyspace{},
		dropped: map[ids.KeyspaceID]*locuspb.Keyspace{},
		holds:   map[string]*locuspb.Hold{},
	}
}

// read takes one record. A record that can't be read is an error: going on without it could hand out an id
// again.
func (c *catalog) read(rec Record) error {
	user, err := systemLayout.Decode(rec.Key)
	if err == nil {
		err = c.parse(string(user), rec.Value)
	}
	if err != nil {
		return fmt.Errorf("placement: record %q can't be read: %w", rec.Key, err)
	}
	return nil
}

func (c *catalog) parse(user string, v []byte) error {
	switch {
	case strings.HasPrefix(user, prefixID):
		return c.parseCounter(user, v)
	case strings.HasPrefix(user, prefixStore):
		var info locuspb.NodeInfo
		if err := proto.Unmarshal(v, &info); err != nil {
			return err
		}
		c.putStore(&info)
	case strings.HasPrefix(user, prefixKeyspace), strings.HasPrefix(user, prefixDropped):
		var ks locuspb.Keyspace
		if err := proto.Unmarshal(v, &ks); err != nil {
			return err
		}
		if ks.Dropped {
			c.dropped[ids.KeyspaceID(ks.Id)] = &ks
		} else {
			c.putSpace(&ks)
		}
	case strings.HasPrefix(user, prefixHold):
		var h locuspb.Hold
		if err := proto.Unmarshal(v, &h); err != nil {
			return err
		}
		c.holds[string(h.Id)] = &h
	}
	return nil
}

func (c *catalog) parseCounter(user string, v []byte) error {
	n, err := parseNumber(v)
	if err != nil {
		return err
	}
	switch user {
	case keyOffice:
		c.office = n
	case keyNextRange:
		c.nextRange = n
	case keyNextStore:
		c.nextStore = n
	case keyNextKeyspace:
		c.nextKeyspace = n
	}
	return nil
}

func (c *catalog) putStore(info *locuspb.NodeInfo) {
	c.stores[ids.StoreID(info.StoreId)] = info
	c.byNode[info.NodeId] = ids.StoreID(info.StoreId)
}

func (c *catalog) putSpace(ks *locuspb.Keyspace) {
	c.spaces[ks.Name] = ks
	c.byID[ids.KeyspaceID(ks.Id)] = ks
}

func (c *catalog) drop(ks *locuspb.Keyspace) {
	delete(c.spaces, ks.Name)
	delete(c.byID, ids.KeyspaceID(ks.Id))
	c.dropped[ids.KeyspaceID(ks.Id)] = ks
}

func equalKey(a, b []byte) bool { return bytes.Equal(a, b) }
