// Package state is durable key-value state private to the plugin; the operator grants "state".
//
//	seen, err := state.Increment("seen/"+key, 1)
//
// A call sees its own writes at once. They become visible to others, and durable, when the
// event is acknowledged, and vanish when the attempt fails. An error that a handler returns
// means another attempt, from clean state. In a unit test it is in memory; package sandbartest
// empties it.
package state

import (
	"errors"
	"iter"
	"time"

	"sandbar/internal/host"
)

// pageSize is how many keys are asked for at once.
const pageSize = 1000

// What an [*Error] is, for [errors.Is].
var (
	// ErrConflict is of a key that has changed meanwhile.
	ErrConflict = errors.New("state: the key has changed meanwhile")
	// ErrQuota is of more keys or bytes than the plugin may keep.
	ErrQuota = errors.New("state: the quota is exceeded")
	// ErrUnavailable is of a store that does not answer now.
	ErrUnavailable = errors.New("state: the store does not answer")
)

// Error is why the store did not do it.
type Error struct {
	// Reason is the host's.
	Reason string
	kind   error
}

func (e *Error) Error() string {
	if e.Reason == "" && e.kind != nil {
		return e.kind.Error()
	}
	return "state: " + e.Reason
}

// Unwrap is one of the errors of this package, or nil.
func (e *Error) Unwrap() error { return e.kind }

func failed(failure *host.Failure) error {
	if failure == nil {
		return nil
	}
	kinds := map[uint32]error{
		host.StateConflict: ErrConflict, host.StateQuota: ErrQuota, host.StateUnavailable: ErrUnavailable,
	}
	return &Error{Reason: failure.Reason, kind: kinds[failure.Case]}
}

// Entry is a value, and its version for [CompareAndSet].
type Entry struct {
	Value   []byte
	Version uint64
}

// Get is the value of key, and whether there is one.
func Get(key string) (value []byte, ok bool, err error) {
	value, _, ok, failure := host.StateGet(key)
	return value, ok, failed(failure)
}

// Load is the value of key and its version; nil where there is none.
func Load(key string) (*Entry, error) {
	value, version, ok, failure := host.StateGet(key)
	if !ok {
		return nil, failed(failure)
	}
	return &Entry{Value: value, Version: version}, nil
}

// Set sets key, for ttl, or for good where that is 0.
func Set(key string, value []byte, ttl time.Duration) error {
	return failed(host.StateSet(key, value, milliseconds(ttl)))
}

// CompareAndSet sets key if it still is as expected says, or if there still is none for nil;
// else the error is [ErrConflict].
func CompareAndSet(key string, value []byte, expected *Entry, ttl time.Duration) error {
	var version *uint64
	if expected != nil {
		version = &expected.Version
	}
	return failed(host.StateCompareAndSet(key, value, version, milliseconds(ttl)))
}

// Increment adds to a counter, 0 where there is none, and returns the sum as this call sees it.
func Increment(key string, by int64) (int64, error) {
	sum, failure := host.StateIncrement(key, by)
	return sum, failed(failure)
}

// Delete removes key; nothing happens where there is none.
func Delete(key string) error { return failed(host.StateDelete(key)) }

// Keys are all keys with the prefix, in byte order. An error is the last pair.
func Keys(prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		var cursor *string
		for {
			page, failure := host.StateListKeys(prefix, cursor, pageSize)
			if err := failed(failure); err != nil {
				yield("", err)
				return
			}
			for _, key := range page {
				if !yield(key, nil) {
					return
				}
			}
			if len(page) == 0 {
				return
			}
			cursor = &page[len(page)-1]
		}
	}
}

// milliseconds rounds up: what lives at all lives a moment.
func milliseconds(d time.Duration) uint64 {
	return uint64(max(d+time.Millisecond-1, 0) / time.Millisecond)
}
