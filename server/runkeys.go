package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/server/gateway"
)

// Secrets of the cluster in the system keyspace, which nodes alone may read:
//
//	secret/run  RunKeys: the keys of continuation tokens. Whichever node needs them first makes the first one, on
//	            the condition that there is none; a rotation appends one. Keys are never changed
const prefixSecret = "secret/"

var (
	secretSpan = keys.PrefixSpan(systemLayout.Encode([]byte(prefixSecret)))
	runKeysKey = systemLayout.Encode([]byte(prefixSecret + "run"))
)

// checkSecret refuses a span with secrets in it.
func checkSecret(span keys.Span) error {
	if span.Overlaps(secretSpan) {
		return api.ErrPermission
	}
	return nil
}

const (
	runKeyLen = 32
	// reloadEvery is the least time between two looks for a key that is not known here: anybody may name one.
	reloadEvery = time.Second
	loadTimeout = 10 * time.Second
)

// runKeys are the keys of continuation tokens, as this node knows them.
type runKeys struct {
	system *system
	clock  *hlc.Clock
	log    *slog.Logger
	wanted chan struct{} // of capacity 1: somebody asked for the current key, and it is not known
	ready  chan struct{} // closed once it is

	loading sync.Mutex // one load at a time; taken before mu

	mu struct {
		sync.Mutex
		keys   []gateway.Key // the last one is current
		loaded time.Time
	}
}

var _ gateway.Keyring = (*runKeys)(nil)

func newRunKeys(s *system, clock *hlc.Clock, log *slog.Logger) *runKeys {
	return &runKeys{system: s, clock: clock, log: log, wanted: make(chan struct{}, 1), ready: make(chan struct{})}
}

// run loads the keys at once, and again when they are wanted and not there, until ctx ends.
func (k *runKeys) run(ctx context.Context) {
	for {
		if err := k.load(ctx, reloadEvery); err != nil && ctx.Err() == nil {
			// Whoever runs functions asks again.
			k.log.Warn("the keys of continuation tokens can't be read", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-k.wanted:
		}
	}
}

// Current is the key for new tokens, if it is known here before ctx ends.
func (k *runKeys) Current(ctx context.Context) (gateway.Key, bool) {
	if key, ok := k.current(); ok {
		return key, true
	}
	select {
	case k.wanted <- struct{}{}:
	default:
	}
	select {
	case <-k.ready:
	case <-ctx.Done():
	}
	return k.current()
}

func (k *runKeys) current() (gateway.Key, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if n := len(k.mu.keys); n > 0 {
		return k.mu.keys[n-1], true
	}
	return gateway.Key{}, false
}

// Find is the key of an id; one that is not known here is looked for.
func (k *runKeys) Find(ctx context.Context, id uint64) (gateway.Key, bool, error) {
	if key, ok := k.known(id); ok {
		return key, true, nil
	}
	if err := k.load(ctx, reloadEvery); err != nil {
		return gateway.Key{}, false, err
	}
	key, ok := k.known(id)
	return key, ok, nil
}

func (k *runKeys) known(id uint64) (gateway.Key, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := slices.IndexFunc(k.mu.keys, func(key gateway.Key) bool { return key.ID == id })
	if i < 0 {
		return gateway.Key{}, false
	}
	return k.mu.keys[i], true
}

// load reads the keys, unless that was done less than age ago, and makes the first one if there is none.
func (k *runKeys) load(ctx context.Context, age time.Duration) error {
	k.loading.Lock()
	defer k.loading.Unlock()
	k.mu.Lock()
	fresh := len(k.mu.keys) > 0 && time.Since(k.mu.loaded) < age
	k.mu.Unlock()
	if fresh {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	list, err := k.read(ctx)
	if err == nil && len(list) == 0 {
		if err = k.create(ctx); err == nil {
			list, err = k.read(ctx)
		}
	}
	if err != nil {
		return fmt.Errorf("server: keys of continuation tokens: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.mu.keys) == 0 {
		close(k.ready)
	}
	k.mu.keys, k.mu.loaded = list, time.Now()
	return nil
}

// read is what the system keyspace has; nothing before the first key was made.
func (k *runKeys) read(ctx context.Context) ([]gateway.Key, error) {
	records, err := k.system.scan(ctx, keys.KeySpan(runKeysKey))
	if err != nil || len(records) == 0 {
		return nil, err
	}
	m := new(locuspb.RunKeys)
	if err := proto.Unmarshal(records[0].Value, m); err != nil {
		return nil, err
	}
	var list []gateway.Key
	for _, key := range m.Keys {
		if len(key.Secret) != runKeyLen {
			return nil, fmt.Errorf("key %016x has %d bytes, not %d", key.Id, len(key.Secret), runKeyLen)
		}
		list = append(list, gateway.Key{ID: key.Id, Secret: bytes.Clone(key.Secret)})
	}
	if len(list) == 0 {
		return nil, errors.New("the record has no key")
	}
	return list, nil
}

// create makes the first key, or finds that another node did.
func (k *runKeys) create(ctx context.Context) error {
	random := make([]byte, 8+runKeyLen)
	if _, err := rand.Read(random); err != nil {
		return err
	}
	value, err := proto.Marshal(&locuspb.RunKeys{Keys: []*locuspb.RunKey{{
		Id: binary.BigEndian.Uint64(random), Secret: random[8:], Created: uint64(k.clock.Now()),
	}}})
	if err != nil {
		return err
	}
	_, err = k.system.write(ctx, runKeysKey, &locuspb.WriteRequest{
		Mutations:  []*locuspb.Mutation{{Key: runKeysKey, Value: value}},
		Conditions: []*locuspb.Condition{{Key: runKeysKey, Kind: locuspb.Condition_ABSENT}},
	})
	var taken *api.ConditionError
	if errors.As(err, &taken) {
		return nil
	}
	return err
}
