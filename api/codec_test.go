package api

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api/locuspb"
)

// frames are one of each kind, with as many messages as a busy connection has in one.
func frames() []proto.Message {
	q, a, r := &locuspb.BatchRequest{Clock: 1 << 60}, &locuspb.BatchResponse{Clock: 1 << 60}, &locuspb.RaftFrame{}
	for i := range uint64(20) {
		q.Requests = append(q.Requests, &locuspb.Request{
			Id: 1000 + i, RangeId: 100, BoundsEpoch: 5, Token: 1 << 60, TimeoutMs: 10_000,
			Session: &locuspb.Session{Id: bytes.Repeat([]byte{7}, 16), Number: i, Retry: true},
			Op:      &locuspb.Request_Get{Get: &locuspb.GetRequest{Key: bytes.Repeat([]byte("k"), 25)}},
		})
		a.Responses = append(a.Responses, &locuspb.Response{
			Id: 1000 + i, Timestamp: 1 << 60,
			Result: &locuspb.Response_Get{Get: &locuspb.GetResponse{Found: true, Value: bytes.Repeat([]byte("v"), 128), Timestamp: 1 << 60}},
		})
		r.Envelopes = append(r.Envelopes, &locuspb.RaftEnvelope{
			RangeId: i, FromReplica: 1, ToReplica: 2, FromStore: 3, ToStore: 4, ConfEpoch: 5, Message: bytes.Repeat([]byte("m"), 200),
			Span: &locuspb.Span{Start: []byte("a"), End: []byte("b")}, Probe: &locuspb.ClockProbe{Asked: -1},
		})
	}
	return []proto.Message{q, a, r}
}

// The frames are the same bytes, to both, as the official runtime's; empty and small ones too, and each reads what the other wrote.
func TestCodec(t *testing.T) {
	ours, official := Codec(), encoding.GetCodecV2(grpcproto.Name)
	require.Equal(t, official.Name(), ours.Name())
	messages := append(frames(), &locuspb.BatchRequest{}, &locuspb.BatchResponse{Clock: 1}, &locuspb.RaftFrame{}, &locuspb.DropKeyspaceRequest{Name: "k"})
	for _, m := range messages {
		for _, codecs := range [][2]encoding.CodecV2{{ours, official}, {official, ours}, {ours, ours}} {
			data, err := codecs[0].Marshal(m)
			require.NoError(t, err)
			want, err := proto.Marshal(m)
			require.NoError(t, err)
			require.Equal(t, len(want), data.Len())
			require.True(t, bytes.Equal(want, data.Materialize()), "%T", m)
			got := m.ProtoReflect().New().Interface()
			require.NoError(t, codecs[1].Unmarshal(data, got))
			require.True(t, proto.Equal(m, got), "%T", m)
			data.Free()
		}
	}
}

// What is not a frame is an error and no panic, wherever it is cut off, and what is kept of one does not lie in its buffer.
func TestCodecOnBadFrames(t *testing.T) {
	c := Codec()
	for _, m := range frames() {
		whole, err := proto.Marshal(m)
		require.NoError(t, err)
		for n := range whole {
			got := m.ProtoReflect().New().Interface()
			want := m.ProtoReflect().New().Interface()
			gotErr := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(whole[:n])}, got)
			wantErr := proto.Unmarshal(whole[:n], want)
			require.Equal(t, wantErr == nil, gotErr == nil, "%T cut off at %d", m, n)
		}
		b := bytes.Clone(whole)
		got := m.ProtoReflect().New().Interface()
		require.NoError(t, c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, got))
		clear(b)
		require.True(t, proto.Equal(m, got), "%T", m)
	}
}

// FuzzCodec: what both read from any bytes is the same, and nothing panics. The official runtime refuses texts that are not UTF-8,
// ours fields of another wire type, which the official one takes for unknown.
func FuzzCodec(f *testing.F) {
	for i, m := range frames() {
		b, err := proto.Marshal(m)
		require.NoError(f, err)
		f.Add(uint8(i), b)
	}
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		m := frames()[int(kind)%3]
		got, want := m.ProtoReflect().New().Interface(), m.ProtoReflect().New().Interface()
		err := Codec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, got)
		if err == nil && proto.Unmarshal(b, want) == nil {
			require.True(t, proto.Equal(want, got))
		}
	})
}

func BenchmarkCodec(b *testing.B) {
	for _, m := range frames() {
		for name, c := range map[string]encoding.CodecV2{"ours": Codec(), "official": encoding.GetCodecV2(grpcproto.Name)} {
			data, err := c.Marshal(m)
			require.NoError(b, err)
			run := string(m.ProtoReflect().Descriptor().Name()) + "/" + name
			b.Run(run+"/marshal", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					out, _ := c.Marshal(m)
					out.Free()
				}
			})
			b.Run(run+"/unmarshal", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					_ = c.Unmarshal(data, m.ProtoReflect().New().Interface())
				}
			})
		}
	}
}
