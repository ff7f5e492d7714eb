package keys

import (
	"errors"
	"fmt"
)

// Limits on what users store. Larger is refused with an error that names the limit.
const (
	MaxKeyLen   = 4 << 10
	MaxValueLen = 512 << 10
)

// ErrEmptyKey says that a user key has no bytes.
var ErrEmptyKey = errors.New("keys: the key is empty")

// LimitError names a limit on what users store, and what broke it.
type LimitError struct {
	What  string
	Limit int64
	Got   int64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("keys: %s is %d bytes, more than the limit of %d", e.What, e.Got, e.Limit)
}

// CheckUserKey refuses keys that can't be stored: with ErrEmptyKey or *LimitError. What the keyspace puts
// before the key does not count.
func (l Layout) CheckUserKey(key []byte) error {
	if len(key) == 0 {
		return ErrEmptyKey
	}
	return checkLen("key length", len(key), MaxKeyLen)
}

// CheckValue refuses values that can't be stored, with *LimitError.
func CheckValue(value []byte) error { return checkLen("value length", len(value), MaxValueLen) }

// CheckGlobalKey refuses a global key whose user key can't be stored, or that is not of the keyspace: with
// ErrNotInKeyspace, ErrBucket, ErrEmptyKey or *LimitError. A node checks what it receives with it: a key in
// a wrong bucket would be stored where nobody looks for it.
func (l Layout) CheckGlobalKey(global []byte) error {
	user, err := l.Decode(global)
	if err != nil {
		return err
	}
	if err := l.CheckUserKey(user); err != nil {
		return err
	}
	if l.Partition == PartitionHash && l.bucketOf(global) != l.Bucket(user) {
		return ErrBucket
	}
	return nil
}

func checkLen(what string, got, limit int) error {
	if got > limit {
		return &LimitError{What: what, Limit: int64(limit), Got: int64(got)}
	}
	return nil
}
