package udf

import (
	"fmt"
	"reflect"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/udf/internal/coder"
)

// coderOf is the coder that a codec has for T, or what keeps it from having one.
func coderOf[T any](c Codec) (coder.Coder[T], error) {
	switch c {
	case CodecJSON:
		return coder.JSON[T](), nil
	case CodecProto:
		return protoCoder[T]()
	case CodecRaw:
		if k, ok := coder.Raw[T](); ok {
			return k, nil
		}
		return coder.Coder[T]{}, fmt.Errorf("codec raw carries []byte, string or a type with MarshalBinary and UnmarshalBinary, not %s", coder.TypeName[T]())
	}
	return coder.Coder[T]{}, fmt.Errorf("codec %d is unknown", c)
}

func protoCoder[T any]() (coder.Coder[T], error) {
	var zero T
	m, ok := any(zero).(proto.Message)
	if !ok || reflect.TypeFor[T]().Kind() != reflect.Pointer {
		return coder.Coder[T]{}, fmt.Errorf("codec proto carries pointers to generated messages, not %s", coder.TypeName[T]())
	}
	return coder.Coder[T]{
		Encode: func(v T) ([]byte, error) { return proto.Marshal(any(v).(proto.Message)) },
		Decode: func(data []byte) (T, error) {
			v := m.ProtoReflect().New().Interface()
			return v.(T), proto.Unmarshal(data, v)
		},
	}, nil
}
