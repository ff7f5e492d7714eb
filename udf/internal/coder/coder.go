// Package coder turns the arguments, results and accumulators of functions into bytes, for native
// functions (package udf) and Go guests (package udf/guest) alike. It knows JSON and raw bytes; protobuf,
// which would double the size of a guest, is package udf's own.
package coder

import (
	"encoding"
	"encoding/json"
	"reflect"
)

// Coder turns values of T into bytes and back. What Decode returns may be a part of data.
type Coder[T any] struct {
	Encode func(T) ([]byte, error)
	Decode func(data []byte) (T, error)
}

// Accumulator is how accumulators travel: raw if their type can, JSON otherwise.
func Accumulator[T any]() Coder[T] {
	if k, ok := Raw[T](); ok {
		return k
	}
	return JSON[T]()
}

// JSON reads no bytes at all as null, so that a function without an argument can be called with none.
func JSON[T any]() Coder[T] {
	return Coder[T]{
		Encode: func(v T) ([]byte, error) { return json.Marshal(v) },
		Decode: func(data []byte) (v T, err error) {
			if len(data) == 0 {
				return v, nil
			}
			return v, json.Unmarshal(data, &v)
		},
	}
}

// Raw covers []byte, string, and types with MarshalBinary and UnmarshalBinary.
func Raw[T any]() (Coder[T], bool) {
	switch any(*new(T)).(type) {
	case []byte:
		return Coder[T]{
			Encode: func(v T) ([]byte, error) { return any(v).([]byte), nil },
			Decode: func(data []byte) (T, error) { return any(data).(T), nil },
		}, true
	case string:
		return Coder[T]{
			Encode: func(v T) ([]byte, error) { return []byte(any(v).(string)), nil },
			Decode: func(data []byte) (T, error) { return any(string(data)).(T), nil },
		}, true
	}
	return binary[T]()
}

func binary[T any]() (Coder[T], bool) {
	t := reflect.TypeFor[T]()
	if !t.Implements(reflect.TypeFor[encoding.BinaryMarshaler]()) {
		return Coder[T]{}, false
	}
	k := Coder[T]{Encode: func(v T) ([]byte, error) { return any(v).(encoding.BinaryMarshaler).MarshalBinary() }}
	unmarshaler := reflect.TypeFor[encoding.BinaryUnmarshaler]()
	switch {
	case t.Kind() == reflect.Pointer && t.Implements(unmarshaler):
		k.Decode = func(data []byte) (T, error) {
			v := reflect.New(t.Elem()).Interface()
			return v.(T), v.(encoding.BinaryUnmarshaler).UnmarshalBinary(data)
		}
	case reflect.PointerTo(t).Implements(unmarshaler):
		k.Decode = func(data []byte) (T, error) {
			v := new(T)
			err := any(v).(encoding.BinaryUnmarshaler).UnmarshalBinary(data)
			return *v, err
		}
	default:
		return Coder[T]{}, false
	}
	return k, true
}

// TypeName is T's name for messages.
func TypeName[T any]() string { return reflect.TypeFor[T]().String() }
