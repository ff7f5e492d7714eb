package api

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	"github.com/locuskv/locus/api/locuspb"
)

// Codec is how messages become bytes on connections of clients and of nodes. It is gRPC's own, but for the frames that carry
// everything frequent: code generated for them by vtprotobuf writes and reads them without the official
// runtime's reflection (BenchmarkCodec), to the same bytes. It does not check that texts are UTF-8, and refuses
// a field of another wire type, instead of taking it for an unknown one.
//
// It is set for each connection and each server, and not registered, because a registered one would be that of the whole process.
func Codec() encoding.CodecV2 { return codec{encoding.GetCodecV2(proto.Name)} }

type codec struct{ encoding.CodecV2 }

// frame is what vtprotobuf generates.
type frame interface {
	SizeVT() int
	MarshalToSizedBufferVT([]byte) (int, error)
	UnmarshalVT([]byte) error
}

func frameOf(v any) (frame, bool) {
	switch m := v.(type) {
	case *locuspb.BatchRequest:
		return m, true
	case *locuspb.BatchResponse:
		return m, true
	case *locuspb.RaftFrame:
		return m, true
	}
	return nil, false
}

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	f, ok := frameOf(v)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	size := f.SizeVT()
	if mem.IsBelowBufferPoolingThreshold(size) {
		b := make([]byte, size)
		_, err := f.MarshalToSizedBufferVT(b)
		return mem.BufferSlice{mem.SliceBuffer(b)}, err
	}
	pool := mem.DefaultBufferPool()
	b := pool.Get(size)
	if _, err := f.MarshalToSizedBufferVT((*b)[:size]); err != nil {
		pool.Put(b)
		return nil, err
	}
	return mem.BufferSlice{mem.NewBuffer(b, pool)}, nil
}

// Unmarshal reads into v, which gRPC has just made: it is not merged with what was in it.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := frameOf(v)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	b := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer b.Free()
	return f.UnmarshalVT(b.ReadOnlyData()) // copies what it keeps
}
