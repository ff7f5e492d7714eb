package raftstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"testing"

	"github.com/locuskv/locus/api"
	"github.com/locuskv/locus/api/locuspb"
	"github.com/locuskv/locus/internal/hlc"
	"github.com/locuskv/locus/internal/ids"
	"github.com/locuskv/locus/internal/keys"
	"github.com/locuskv/locus/internal/topology"
)

func sampleEntries() []*batchEntry {
	left, right := sampleDescriptors()
	return []*batchEntry{
		{Kind: entryBatch},
		{Kind: entryBatch, Term: 7, Base: 1 << 40, Bounds: 3, TS: hlc.Max, Closed: 1},
		{
			Kind: entryBatch, Term: 1, TS: 5, Closed: 4,
			Local: []localWrite{{Suffix: []byte("s"), Value: []byte("v")}, {Suffix: []byte("gone")}},
			Data: []dataWrite{
				{Key: []byte("k"), Value: []byte("v")}, {Key: []byte("e"), Value: []byte{}},
				{Key: []byte("d"), Delete: true}, {Key: []byte("t"), Value: []byte("x"), Expires: 99},
			},
		},
		{Kind: entrySplit, TS: 9, Closed: 9, Payload: encodeChange(left, right)},
		{Kind: entryReplicas, TS: 9, Payload: encodeChange(left, nil)},
	}
}

func sampleDescriptors() (left, right *topology.Descriptor) {
	left = &topology.Descriptor{
		ID: 7, Span: keys.Span{Start: []byte("a"), End: []byte("m")}, Epoch: topology.Epoch{Conf: 3, Bounds: 9}, NextReplica: 6,
		Replicas: []topology.Replica{{Store: 1, ID: 1, Role: topology.Voter}, {Store: 9, ID: 5, Role: topology.Learner}},
	}
	right = left.Clone()
	right.ID, right.Span = 8, keys.Span{Start: []byte("m")}
	return left, right
}

func sampleDelta() *sessionDelta {
	return &sessionDelta{TS: 77, Floor: 3, Results: []sessionResult{
		{Number: 3, Place: 1, Kind: resultApplied, TS: 70, Result: []byte("result")}, {Number: 9, TS: 71},
	}}
}

// Every decoder, by what it must give back for what was encoded, and as a function that may only fail.
var decoders = []struct {
	name    string
	samples func() [][]byte
	// decode returns what encoding the result again gives.
	decode func([]byte) ([]byte, error)
}{
	{"batch entry", func() (out [][]byte) {
		for _, e := range sampleEntries() {
			out = append(out, appendEntry(nil, e))
		}
		return out
	}, func(b []byte) ([]byte, error) {
		e, err := decodeEntry(b)
		if err != nil {
			return nil, err
		}
		return appendEntry(nil, e), nil
	}},
	{"applied state", func() [][]byte {
		a := appliedState{Index: 1, Term: 2, Count: 3, TS: 4, Closed: 5, Bytes: 6, Records: 1 << 60}
		return [][]byte{a.encode(), (&appliedState{}).encode()}
	}, func(b []byte) ([]byte, error) {
		a, err := decodeApplied(b)
		if err != nil {
			return nil, err
		}
		return a.encode(), nil
	}},
	{"session delta", func() [][]byte {
		return [][]byte{sampleDelta().encode(), (&sessionDelta{}).encode()}
	}, func(b []byte) ([]byte, error) {
		d, err := decodeSessionDelta(b)
		if err != nil {
			return nil, err
		}
		return d.encode(), nil
	}},
	{"session key", func() [][]byte {
		return [][]byte{localKey(7, sessionSuffix(sessionID{1, 2}, 9)...)}
	}, func(b []byte) ([]byte, error) {
		id, base, err := parseSessionKey(b)
		if err != nil {
			return nil, err
		}
		return append(bytes.Clone(b[:9]), sessionSuffix(id, base)...), nil
	}},
	{"lineage", func() [][]byte {
		h := newHistory(7, 3, 4)
		return [][]byte{h.encode(), h.child(7, 8, 20).encode()}
	}, func(b []byte) ([]byte, error) {
		h, err := decodeHistory(b)
		if err != nil {
			return nil, err
		}
		return h.encode(), nil
	}},
	{"group record", func() [][]byte {
		return [][]byte{groupMeta{Replica: 1}.encode(), groupMeta{Replica: 1 << 50, ParentRange: 7, ParentIndex: 9}.encode()}
	}, func(b []byte) ([]byte, error) {
		m, err := decodeGroupMeta(b)
		if err != nil {
			return nil, err
		}
		return m.encode(), nil
	}},
	{"descriptor change", func() [][]byte {
		left, right := sampleDescriptors()
		return [][]byte{encodeChange(left, nil), encodeChange(left, right)}
	}, func(b []byte) ([]byte, error) {
		left, right, err := decodeChange(b)
		if err != nil {
			return nil, err
		}
		return encodeChange(left, right), nil
	}},
	{"snapshot head", func() [][]byte {
		left, _ := sampleDescriptors()
		a := appliedState{Index: 12, Term: 6, TS: 9}
		return [][]byte{append([]byte{chunkHead}, mustMarshal(&locuspb.SnapshotHead{
			Format: snapshotFormat, Id: make([]byte, 16), Descriptor_: api.DescriptorToProto(left), Index: 12, Term: 6, AppliedState: a.encode(),
		})...)}
	}, func(b []byte) ([]byte, error) {
		head, desc, st, err := decodeSnapshotHead(b)
		if err != nil {
			return nil, err
		}
		if head == nil || desc == nil || uint64(st.Index) != head.Index {
			return nil, errors.New("a head without its parts")
		}
		return append([]byte{chunkHead}, mustMarshal(head)...), nil
	}},
	{"snapshot records", func() [][]byte {
		return [][]byte{{}, appendBytes(appendBytes(nil, []byte("key")), []byte("value"))}
	}, func(b []byte) ([]byte, error) {
		var out []byte
		err := snapshotRecords(b, func(key, value []byte) error {
			out = appendBytes(appendBytes(out, key), value)
			return nil
		})
		return out, err
	}},
}

// What is encoded comes back, whatever is cut off it is an error, and so is another format.
func TestDecoders(t *testing.T) {
	for _, d := range decoders {
		t.Run(d.name, func(t *testing.T) {
			for _, sample := range d.samples() {
				again, err := d.decode(sample)
				if err != nil || !bytes.Equal(again, sample) {
					t.Fatalf("%x came back as %x, %v", sample, again, err)
				}
				for n := range sample {
					if again, err := d.decode(sample[:n]); err == nil && !bytes.Equal(again, sample[:n]) && !isProto(d.name) {
						t.Fatalf("the first %d bytes of %x were taken for %x", n, sample, again)
					}
				}
				if len(sample) > 0 && !isProto(d.name) {
					if again, err := d.decode(append(bytes.Clone(sample), 0xff)); err == nil {
						t.Fatalf("a byte behind %x was ignored: %x", sample, again)
					}
				}
			}
			for _, garbage := range [][]byte{nil, {}, {0xff}, bytes.Repeat([]byte{0xff}, 40), {1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}} {
				if d.name == "snapshot records" && len(garbage) == 0 {
					continue // no records are records
				}
				if _, err := d.decode(garbage); err == nil {
					t.Fatalf("%x was taken for a %s", garbage, d.name)
				}
			}
		})
	}
}

// isProto: of a protobuf message a beginning may be one as well.
func isProto(name string) bool { return name == "lineage" || name == "snapshot head" }

// A list's length is checked against what is left before anything is allocated.
func TestDecodersAllocateNoMoreThanTheyAreGiven(t *testing.T) {
	e := appendEntry(nil, &batchEntry{Kind: entryBatch})
	head := e[:len(e)-3]
	huge := binary.AppendUvarint(bytes.Clone(head), 1<<40)
	if _, err := decodeEntry(huge); !errors.Is(err, errEntryShort) {
		t.Fatalf("got %v", err)
	}
	delta := (&sessionDelta{}).encode()
	if _, err := decodeSessionDelta(binary.AppendUvarint(delta[:len(delta)-1], 1<<40)); !errors.Is(err, errEntryShort) {
		t.Fatalf("got %v", err)
	}
}

func TestEntryRoundTrip(t *testing.T) {
	for i, e := range sampleEntries() {
		got, err := decodeEntry(appendEntry(nil, e))
		if err != nil {
			t.Fatal(err)
		}
		if len(e.Payload) == 0 {
			got.Payload = nil
		}
		if !reflect.DeepEqual(got, e) {
			t.Fatalf("entry %d: %+v came back as %+v", i, e, got)
		}
	}
	left, right := sampleDescriptors()
	l, r, err := decodeChange(encodeChange(left, right))
	if err != nil || !reflect.DeepEqual(l, left) || !reflect.DeepEqual(r, right) {
		t.Fatalf("%+v %+v %v", l, r, err)
	}
	var d appliedState
	for range 2 {
		d = appliedState{Index: ids.Index(1), TS: 2}
		if got, err := decodeApplied(d.encode()); err != nil || got != d {
			t.Fatalf("%+v %v", got, err)
		}
	}
}

// fuzzDecoder: garbage is an error or something that encodes to what decodes to itself; never a panic.
func fuzzDecoder(f *testing.F, name string) {
	for _, d := range decoders {
		if d.name != name {
			continue
		}
		for _, s := range d.samples() {
			f.Add(s)
		}
		f.Fuzz(func(t *testing.T, b []byte) {
			once, err := d.decode(b)
			if err != nil {
				return
			}
			twice, err := d.decode(once)
			if err != nil || !bytes.Equal(once, twice) {
				t.Fatalf("%x encodes to %x, which encodes to %x, %v", b, once, twice, err)
			}
		})
		return
	}
	f.Fatalf("no decoder %q", name)
}

func FuzzBatchEntry(f *testing.F)       { fuzzDecoder(f, "batch entry") }
func FuzzAppliedState(f *testing.F)     { fuzzDecoder(f, "applied state") }
func FuzzSessionDelta(f *testing.F)     { fuzzDecoder(f, "session delta") }
func FuzzSessionKey(f *testing.F)       { fuzzDecoder(f, "session key") }
func FuzzLineage(f *testing.F)          { fuzzDecoder(f, "lineage") }
func FuzzGroupRecord(f *testing.F)      { fuzzDecoder(f, "group record") }
func FuzzDescriptorChange(f *testing.F) { fuzzDecoder(f, "descriptor change") }
func FuzzSnapshotHead(f *testing.F)     { fuzzDecoder(f, "snapshot head") }
func FuzzSnapshotRecords(f *testing.F)  { fuzzDecoder(f, "snapshot records") }
