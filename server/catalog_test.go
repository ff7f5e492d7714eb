package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/placement"
)

// memRecords is the system keyspace in memory. before, if set, is called before each write and may keep it from arriving.
type memRecords struct {
	data   map[string][]byte
	before func(w *locuspb.WriteRequest) error
	// gate, if set, lets one scan pass at a time; scanned, if set, is what comes of them.
	gate    chan struct{}
	scanned error
}

func (m *memRecords) scan(_ context.Context, span keys.Span) (out []placement.Record, err error) {
	if m.gate != nil {
		<-m.gate
	}
	for _, k := range slices.Sorted(maps.Keys(m.data)) {
		if span.Contains([]byte(k)) {
			out = append(out, placement.Record{Key: []byte(k), Value: m.data[k]})
		}
	}
	return out, m.scanned
}

func (m *memRecords) scanKeys(ctx context.Context, span keys.Span) ([]placement.Record, error) {
	return m.scan(ctx, span)
}

func (m *memRecords) write(_ context.Context, _ []byte, w *locuspb.WriteRequest) (bool, error) {
	if m.before != nil {
		if err := m.before(w); err != nil {
			return false, err
		}
	}
	return false, m.arrive(w)
}

// arrive is what the system range does with a write.
func (m *memRecords) arrive(w *locuspb.WriteRequest) error {
	for _, c := range w.Conditions {
		v, ok := m.data[string(c.Key)]
		if holds := c.Kind == locuspb.Condition_ABSENT && !ok || c.Kind == locuspb.Condition_VALUE && ok && bytes.Equal(v, c.Value); !holds {
			return &api.ConditionError{Key: c.Key, Exists: ok, Value: v}
		}
	}
	for _, x := range w.Mutations {
		if x.Delete {
			delete(m.data, string(x.Key))
		} else {
			m.data[string(x.Key)] = x.Value
		}
	}
	return nil
}

var officeKey = systemLayout.Encode([]byte("id/office"))

// office begins a term, and is the condition that it lasts.
func (m *memRecords) office(n byte) *locuspb.Condition {
	m.data[string(officeKey)] = []byte{n}
	return &locuspb.Condition{Key: officeKey, Kind: locuspb.Condition_VALUE, Value: []byte{n}}
}

func (m *memRecords) catalog() *catalog {
	return newCatalog(context.Background(), m, func() hlc.Timestamp { return hlc.Make(1, 0) })
}

func (m *memRecords) module(t *testing.T, module []byte) error {
	got, err := m.catalog().module(context.Background(), hashOf(module))
	if err == nil {
		require.Equal(t, hashOf(module), hashOf(got))
	}
	return err
}

func addTo(c *catalog, office *locuspb.Condition, name string, module []byte) (uint32, error) {
	i, err := c.add(context.Background(), office, &locuspb.FunctionInfo{Name: name, Hash: hashOf(module)}, module, false)
	return i.GetVersion(), err
}

var someModule, otherModule = bytes.Repeat([]byte("some module"), 50_000), []byte("another module")

// TestCatalogOfOldOffice: who was the driver and does not know that it is no more changes nothing, and says so.
func TestCatalogOfOldOffice(t *testing.T) {
	m := &memRecords{data: map[string][]byte{}}
	old, first := m.catalog(), m.office(1)
	_, err := addTo(old, first, "f", someModule)
	require.NoError(t, err)
	second := m.office(2)
	next := m.catalog()
	_, err = next.list(t.Context(), second)
	require.NoError(t, err)
	was := maps.Clone(m.data)

	var notDriver *api.NotDriverError
	_, err = addTo(old, first, "f", otherModule)
	require.ErrorAs(t, err, &notDriver)
	_, err = old.remove(t.Context(), first, "f", 0)
	require.ErrorAs(t, err, &notDriver)
	_, _, err = old.activate(t.Context(), first, "f", 1, 0)
	require.ErrorAs(t, err, &notDriver, "nor does it know what is active")
	require.Equal(t, was, m.data)
	version, err := addTo(next, second, "f", otherModule)
	require.NoError(t, err)
	require.Equal(t, uint32(2), version)
}

// TestModuleRegisteredWhileItIsDeleted: the driver removes the last version of a module and loses its office before the module's chunks
// are deleted; the next one registers the same module; then the deletion arrives.
func TestModuleRegisteredWhileItIsDeleted(t *testing.T) {
	m := &memRecords{data: map[string][]byte{}}
	old, first := m.catalog(), m.office(1)
	_, err := addTo(old, first, "f", someModule)
	require.NoError(t, err)
	var late *locuspb.WriteRequest
	m.before = func(w *locuspb.WriteRequest) error {
		if w.Mutations[0].Delete && bytes.Contains(w.Mutations[0].Key, []byte(prefixModule)) {
			late = w
			return &api.AmbiguousError{Cause: context.DeadlineExceeded}
		}
		return nil
	}
	removed, err := old.remove(t.Context(), first, "f", 0)
	require.NoError(t, err)
	require.Len(t, removed, 1)
	require.NotNil(t, late)
	m.before = nil

	second := m.office(2)
	version, err := addTo(m.catalog(), second, "g", someModule)
	require.NoError(t, err)
	require.Equal(t, uint32(1), version)
	var refused *api.ConditionError
	require.ErrorAs(t, m.arrive(late), &refused)
	require.NoError(t, m.module(t, someModule))
}

// TestWriteThatArrivesLate: a change whose outcome was not known is either seen by the next reading or never made.
func TestWriteThatArrivesLate(t *testing.T) {
	m := &memRecords{data: map[string][]byte{}}
	c, office := m.catalog(), m.office(1)
	for _, module := range [][]byte{someModule, otherModule} {
		_, err := addTo(c, office, "f", module)
		require.NoError(t, err)
	}
	for name, arrives := range map[string]bool{"before the reading": true, "after it": false} {
		t.Run(name, func(t *testing.T) {
			active := func() uint32 {
				list, err := c.list(t.Context(), office)
				require.NoError(t, err)
				i, ok := choose(list, "f", 0)
				require.True(t, ok)
				return i.Version
			}
			before := active()
			var late *locuspb.WriteRequest
			m.before = func(w *locuspb.WriteRequest) error {
				late = w
				return &api.AmbiguousError{Cause: context.DeadlineExceeded}
			}
			_, _, err := c.activate(t.Context(), office, "f", 3-before, 0)
			var ambiguous *api.AmbiguousError
			require.ErrorAs(t, err, &ambiguous)
			m.before = nil
			if arrives {
				require.NoError(t, m.arrive(late))
				require.Equal(t, 3-before, active())
				return
			}
			require.Equal(t, before, active())
			require.Error(t, m.arrive(late), "the list would be old, and nobody would know")
			require.Equal(t, before, active())
		})
	}
}

// TestSweep: what a registration that did not end has stored is deleted by the next change, and nothing else is.
func TestSweep(t *testing.T) {
	m := &memRecords{data: map[string][]byte{}}
	c, office := m.catalog(), m.office(1)
	_, err := addTo(c, office, "f", otherModule)
	require.NoError(t, err)
	chunks := 0
	m.before = func(w *locuspb.WriteRequest) error {
		if chunks++; chunks > 2 {
			return &api.UnavailableError{Reason: "test"}
		}
		return nil
	}
	_, err = addTo(c, office, "g", someModule)
	require.Error(t, err)
	m.before = nil
	require.Contains(t, m.data, string(chunkKey(hashOf(someModule), 1)), "a part of it is there")
	_, err = addTo(c, office, "h", otherModule)
	require.NoError(t, err)
	require.ErrorIs(t, m.module(t, someModule), errNoModule)
	require.NoError(t, m.module(t, otherModule))

	// Names share a module; the last one takes it along.
	_, err = c.remove(t.Context(), office, "f", 0)
	require.NoError(t, err)
	require.NoError(t, m.module(t, otherModule))
	_, err = c.remove(t.Context(), office, "h", 0)
	require.NoError(t, err)
	require.ErrorIs(t, m.module(t, otherModule), errNoModule)
}

// TestNamesWithoutHeads: what a release before versions could be activated has registered goes on as it was.
func TestNamesWithoutHeads(t *testing.T) {
	m := &memRecords{data: map[string][]byte{}}
	for v := uint32(1); v <= 3; v++ {
		r := record(versionKey("f", v), &locuspb.FunctionInfo{Name: "f", Version: v, Hash: hashOf([]byte{byte(v)}), Active: true})
		m.data[string(r.Key)] = r.Value
	}
	c, office := m.catalog(), m.office(1)
	list, err := c.list(t.Context(), office)
	require.NoError(t, err)
	var marks []bool
	for _, i := range list {
		marks = append(marks, i.Active, i.Previous)
	}
	require.Equal(t, []bool{false, false, false, true, true, false}, marks)
	now, before, err := c.activate(t.Context(), office, "f", 1, 3)
	require.NoError(t, err)
	require.Equal(t, uint32(3), before)
	require.True(t, now.Active)
	_, _, err = c.activate(t.Context(), office, "f", 2, 3)
	require.ErrorContains(t, err, "version 1 of function \"f\" is active, not 3")
	version, err := addTo(m.catalog(), office, "f", someModule)
	require.NoError(t, err)
	require.Equal(t, uint32(4), version)
}

// TestConfirm: an office is confirmed by a reading that began after the question's moment, which all who ask meanwhile share; one that
// was taken by another is told from one that can't be looked at.
func TestConfirm(t *testing.T) {
	m := &memRecords{data: map[string][]byte{}}
	c := m.catalog()
	var now time.Duration
	c.boot = func() time.Duration { now += time.Second; return now }
	office := m.office(1)
	require.False(t, c.confirmedSince(office, 0))
	require.NoError(t, c.confirm(t.Context(), office, 0))
	require.Equal(t, time.Second, now)
	require.NoError(t, c.confirm(t.Context(), office, time.Second), "known")
	require.Equal(t, time.Second, now)
	require.False(t, c.confirmedSince(office, 2*time.Second))

	m.scanned = errors.New("no quorum")
	var unavailable *api.UnavailableError
	require.ErrorAs(t, c.confirm(t.Context(), office, 2*time.Second), &unavailable)
	require.False(t, c.confirmedSince(office, 2*time.Second))
	require.True(t, c.confirmedSince(office, time.Second), "what was known before is known still")

	m.scanned = nil
	m.office(2)
	var notDriver *api.NotDriverError
	require.ErrorAs(t, c.confirm(t.Context(), office, 3*time.Second), &notDriver)
	require.False(t, c.confirmedSince(office, 3*time.Second))
}

// TestConfirmIsShared: who asks while a reading is under way that began too early for it has another one made.
func TestConfirmIsShared(t *testing.T) {
	m := &memRecords{data: map[string][]byte{}, gate: make(chan struct{})}
	c := m.catalog()
	var now atomic.Int64
	c.boot = func() time.Duration { return time.Duration(now.Add(1)) }
	office := m.office(1)
	answers := make(chan error, 3)
	ask := func(since time.Duration) { answers <- c.confirm(context.Background(), office, since) }
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, c.confirm(gone, office, 0), context.Canceled)
	go ask(0) // joins what the one that has gone began
	go ask(1)
	go ask(2)
	for range 2 {
		m.gate <- struct{}{}
	}
	for range 3 {
		require.NoError(t, <-answers)
	}
	require.Equal(t, int64(2), now.Load(), "readings")
}

// TestReadingOutlivesItsCaller: a reading of the records whose caller has gone serves those who come after; none is made anew.
func TestReadingOutlivesItsCaller(t *testing.T) {
	m := &memRecords{data: map[string][]byte{}, gate: make(chan struct{})}
	c, office := m.catalog(), m.office(1)
	gone, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := c.list(gone, office)
		left <- err
	}()
	m.gate <- struct{}{} // it is reading
	cancel()
	require.ErrorIs(t, <-left, context.Canceled)
	close(m.gate)
	_, err := c.list(t.Context(), office)
	require.NoError(t, err)
	require.Equal(t, uint64(1), binary.BigEndian.Uint64(m.data[string(registryKey())]), "times that the records were read")
}
