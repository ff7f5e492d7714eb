package udf

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"

	"google.golang.org/protobuf/proto"
)

// coder turns values of T into bytes and back.
type coder[T any] struct {
	encode func(T) ([]byte, error)
	decode func([]byte) (T, error)
}

// coderOf is the coder that a codec has for T, or what keeps it from having one.
func coderOf[T any](c Codec) (coder[T], error) {
	switch c {
	case CodecJSON:
		return jsonCoder[T](), nil
	case CodecProto:
		return protoCoder[T]()
	case CodecRaw:
		if k, ok := rawCoder[T](); ok {
			return k, nil
		}
		return coder[T]{}, fmt.Errorf("codec raw carries []byte, string or a type with MarshalBinary and UnmarshalBinary, not %s", typeName[T]())
	}
	return coder[T]{}, fmt.Errorf("codec %d is unknown", c)
}

// accumulatorCoder is how accumulators cross nodes.
func accumulatorCoder[T any]() coder[T] {
	if k, ok := rawCoder[T](); ok {
		return k
	}
	return jsonCoder[T]()
}

// jsonCoder reads no bytes at all as null, so that a function without an argument can be called with none.
func jsonCoder[T any]() coder[T] {
	return coder[T]{
		encode: func(v T) ([]byte, error) { return json.Marshal(v) },
		decode: func(data []byte) (v T, err error) {
			if len(data) == 0 {
				return v, nil
			}
			return v, json.Unmarshal(data, &v)
		},
	}
}

func protoCoder[T any]() (coder[T], error) {
	var zero T
	m, ok := any(zero).(proto.Message)
	if !ok || reflect.TypeFor[T]().Kind() != reflect.Pointer {
		return coder[T]{}, fmt.Errorf("codec proto carries pointers to generated messages, not %s", typeName[T]())
	}
	return coder[T]{
		encode: func(v T) ([]byte, error) { return proto.Marshal(any(v).(proto.Message)) },
		decode: func(data []byte) (T, error) {
			v := m.ProtoReflect().New().Interface()
			return v.(T), proto.Unmarshal(data, v)
		},
	}, nil
}

// rawCoder covers []byte, string, and types that encode themselves: T itself, or what T points to.
func rawCoder[T any]() (coder[T], bool) {
	switch any(*new(T)).(type) {
	case []byte:
		return coder[T]{
			encode: func(v T) ([]byte, error) { return any(v).([]byte), nil },
			decode: func(data []byte) (T, error) { return any(data).(T), nil },
		}, true
	case string:
		return coder[T]{
			encode: func(v T) ([]byte, error) { return []byte(any(v).(string)), nil },
			decode: func(data []byte) (T, error) { return any(string(data)).(T), nil },
		}, true
	}
	return binaryCoder[T]()
}

func binaryCoder[T any]() (coder[T], bool) {
	t := reflect.TypeFor[T]()
	if !t.Implements(reflect.TypeFor[encoding.BinaryMarshaler]()) {
		return coder[T]{}, false
	}
	k := coder[T]{encode: func(v T) ([]byte, error) { return any(v).(encoding.BinaryMarshaler).MarshalBinary() }}
	unmarshaler := reflect.TypeFor[encoding.BinaryUnmarshaler]()
	switch {
	case t.Kind() == reflect.Pointer && t.Implements(unmarshaler):
		k.decode = func(data []byte) (T, error) {
			v := reflect.New(t.Elem()).Interface()
			return v.(T), v.(encoding.BinaryUnmarshaler).UnmarshalBinary(data)
		}
	case reflect.PointerTo(t).Implements(unmarshaler):
		k.decode = func(data []byte) (T, error) {
			v := new(T)
			err := any(v).(encoding.BinaryUnmarshaler).UnmarshalBinary(data)
			return *v, err
		}
	default:
		return coder[T]{}, false
	}
	return k, true
}

func typeName[T any]() string { return reflect.TypeFor[T]().String() }
