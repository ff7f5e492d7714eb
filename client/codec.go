package client

import (
	"encoding/json"
	"fmt"
	"reflect"

	"google.golang.org/protobuf/proto"

	"github.com/locuskv/locus/api/locuspb"
)

// Codec says how a function's argument and result cross the wire. Both sides have to agree on it.
type Codec uint8

// The codecs.
const (
	// JSON is encoding/json, for any type.
	JSON Codec = iota
	// Proto is protobuf, for generated messages.
	Proto
	// Raw is the bytes themselves, for []byte and string.
	Raw
)

var wireCodecs = map[Codec]locuspb.Codec{
	JSON: locuspb.Codec_JSON, Proto: locuspb.Codec_PROTO, Raw: locuspb.Codec_RAW,
}

// encode turns an argument into bytes, which are a copy.
func encode[T any](c Codec, v T) ([]byte, error) {
	switch c {
	case JSON:
		b, err := json.Marshal(v)
		if err != nil {
			return nil, &InvalidArgumentError{Reason: "the argument can't be encoded: " + err.Error()}
		}
		return b, nil
	case Proto:
		m, ok := any(v).(proto.Message)
		if !ok {
			return nil, &InvalidArgumentError{Reason: fmt.Sprintf("%T is no protobuf message", v)}
		}
		b, err := proto.Marshal(m)
		if err != nil {
			return nil, &InvalidArgumentError{Reason: "the argument can't be encoded: " + err.Error()}
		}
		return b, nil
	case Raw:
		switch x := any(v).(type) {
		case []byte:
			return append([]byte(nil), x...), nil
		case string:
			return []byte(x), nil
		}
		return nil, &InvalidArgumentError{Reason: fmt.Sprintf("%T is neither []byte nor string, as the codec Raw requires", v)}
	}
	return nil, &InvalidArgumentError{Reason: fmt.Sprintf("codec %d is unknown", c)}
}

// decode reads a result. A function may have had its effects when its result can't be read: the error says
// so by being the caller's, not the cluster's.
func decode[T any](c Codec, b []byte) (T, error) {
	var v T
	switch c {
	case JSON:
		if err := json.Unmarshal(b, &v); err != nil {
			return v, &ResultError{Cause: err}
		}
		return v, nil
	case Proto:
		t := reflect.TypeFor[T]()
		if t.Kind() != reflect.Pointer {
			return v, &ResultError{Cause: fmt.Errorf("%s is no pointer to a protobuf message", t)}
		}
		v, _ = reflect.New(t.Elem()).Interface().(T)
		m, ok := any(v).(proto.Message)
		if !ok {
			return v, &ResultError{Cause: fmt.Errorf("%s is no protobuf message", t)}
		}
		if err := proto.Unmarshal(b, m); err != nil {
			return v, &ResultError{Cause: err}
		}
		return v, nil
	}
	switch x := any(&v).(type) {
	case *[]byte:
		*x = b
	case *string:
		*x = string(b)
	default:
		return v, &ResultError{Cause: fmt.Errorf("%T is neither []byte nor string, as the codec Raw requires", v)}
	}
	return v, nil
}

// ResultError says that a function ran, and had its effects, but that its result is not of the type that
// the caller expects.
type ResultError struct{ Cause error }

func (e *ResultError) Error() string {
	return "locus: the function's result can't be decoded: " + e.Cause.Error()
}
func (e *ResultError) Unwrap() error { return e.Cause }
