//go:build !linux

package wasm

import "errors"

func reserve(uint64) ([]byte, error) { return nil, errors.ErrUnsupported }

func commit([]byte) error { return errors.ErrUnsupported }

func release([]byte) {}
