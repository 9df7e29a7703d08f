package host

import (
	"math"
	"runtime"
	"strings"
	"unsafe"
)

// What an operator must grant. The linker leaves out what a program does not call, and so the
// component imports only what it uses.

//go:wasmimport sandbar:events/state@0.1.1 get
func importStateGet(key string, result unsafe.Pointer)

//go:wasmimport sandbar:events/state@0.1.1 set
func importStateSet(key string, value unsafe.Pointer, size uint32, hasTTL uint32, ttl uint64, result unsafe.Pointer)

//go:wasmimport sandbar:events/state@0.1.1 compare-and-set
func importStateCompareAndSet(
	key string, value unsafe.Pointer, size uint32, hasExpected uint32, expected uint64, hasTTL uint32, ttl uint64,
	result unsafe.Pointer,
)

//go:wasmimport sandbar:events/state@0.1.1 increment
func importStateIncrement(key string, delta int64, result unsafe.Pointer)

//go:wasmimport sandbar:events/state@0.1.1 delete
func importStateDelete(key string, result unsafe.Pointer)

//go:wasmimport sandbar:events/state@0.1.1 list-keys
func importStateListKeys(prefix string, hasCursor uint32, cursor string, limit uint32, result unsafe.Pointer)

//go:wasmimport sandbar:events/publisher@0.1.1 publish
func importPublish(events unsafe.Pointer, n uint32, result unsafe.Pointer)

//go:wasmimport sandbar:events/secrets@0.1.1 get
func importSecret(name string, result unsafe.Pointer)

//go:wasmimport sandbar:events/metrics@0.1.1 count
func importCount(name string, delta uint64, labels unsafe.Pointer, n uint32)

//go:wasmimport sandbar:events/metrics@0.1.1 observe
func importObserve(name string, value float64, labels unsafe.Pointer, n uint32)

// wide is as `result`, for what holds numbers of 64 bits.
var wide [4]uint64

func wideWords() []uint32 {
	return unsafe.Slice((*uint32)(unsafe.Pointer(&wide)), 2*len(wide))
}

func utf8(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

func option(there bool) uint32 {
	if there {
		return 1
	}
	return 0
}

// failure reads an error whose case is at words[0] and its text behind it.
func failure(words []uint32) *Failure {
	found := &Failure{Case: words[0] & 0xff}
	if found.Case != StateConflict {
		found.Reason = strings.Clone(Text(words[1], words[2]))
	}
	return found
}

// StateGet is the value of a key and its version.
func StateGet(key string) (value []byte, version uint64, ok bool, failed *Failure) {
	importStateGet(utf8(key), unsafe.Pointer(&wide))
	words := wideWords()
	defer Release()
	if byte(words[0]) != 0 {
		return nil, 0, false, failure(words[2:])
	}
	if byte(words[2]) == 0 {
		return nil, 0, false, nil
	}
	return Bytes(words[4], words[5]), wide[3], true, nil
}

func changed() *Failure {
	defer Release()
	if byte(result[0]) == 0 {
		return nil
	}
	return failure(result[1:])
}

// StateSet sets a key; ttl in milliseconds, 0 for good.
func StateSet(key string, value []byte, ttl uint64) *Failure {
	data := unsafe.Pointer(unsafe.SliceData(value))
	importStateSet(utf8(key), data, uint32(len(value)), option(ttl > 0), ttl, unsafe.Pointer(&result))
	runtime.KeepAlive(value)
	return changed()
}

// StateCompareAndSet sets a key that still has this version, or still is not there for nil.
func StateCompareAndSet(key string, value []byte, expected *uint64, ttl uint64) *Failure {
	data := unsafe.Pointer(unsafe.SliceData(value))
	var version uint64
	if expected != nil {
		version = *expected
	}
	importStateCompareAndSet(
		utf8(key), data, uint32(len(value)), option(expected != nil), version, option(ttl > 0), ttl,
		unsafe.Pointer(&result),
	)
	runtime.KeepAlive(value)
	return changed()
}

// StateIncrement adds to a counter.
func StateIncrement(key string, delta int64) (int64, *Failure) {
	importStateIncrement(utf8(key), delta, unsafe.Pointer(&wide))
	words := wideWords()
	defer Release()
	if byte(words[0]) != 0 {
		return 0, failure(words[2:])
	}
	return int64(wide[1]), nil
}

// StateDelete removes a key.
func StateDelete(key string) *Failure {
	importStateDelete(utf8(key), unsafe.Pointer(&result))
	return changed()
}

// StateListKeys is a page of keys, after the cursor where there is one.
func StateListKeys(prefix string, cursor *string, limit uint32) ([]string, *Failure) {
	var after string
	if cursor != nil {
		after = *cursor
	}
	importStateListKeys(utf8(prefix), option(cursor != nil), utf8(after), limit, unsafe.Pointer(&result))
	defer Release()
	if byte(result[0]) != 0 {
		return nil, failure(result[1:])
	}
	n := result[2]
	keys := make([]string, 0, n)
	for words := Words(result[1], 2*n); len(words) > 0; words = words[2:] {
		keys = append(keys, strings.Clone(Text(words[0], words[1])))
	}
	return keys, nil
}

// Publish hands over n events as the boundary lays them out.
func Publish(events unsafe.Pointer, n int) *Failure {
	importPublish(events, uint32(n), unsafe.Pointer(&wide))
	words := wideWords()
	defer Release()
	if byte(words[0]) == 0 {
		return nil
	}
	found := &Failure{Case: words[2] & 0xff}
	switch found.Case {
	case PublishTooLarge:
		found.Number = wide[2]
	case PublishTimeout:
	default:
		found.Reason = strings.Clone(Text(words[4], words[5]))
	}
	return found
}

// Secret is the secret of that name.
func Secret(name string) (value []byte, ok bool) {
	importSecret(utf8(name), unsafe.Pointer(&result))
	defer Release()
	if byte(result[0]) == 0 {
		return nil, false
	}
	return Bytes(result[1], result[2]), true
}

// Count adds to a counter.
func Count(name string, delta uint64, labels []string) {
	at, n, kept := pairs(labels)
	importCount(utf8(name), delta, at, n)
	runtime.KeepAlive(kept)
}

// Observe adds to a histogram.
func Observe(name string, value float64, labels []string) {
	if math.IsNaN(value) {
		value = math.NaN() // one NaN, whichever it was
	}
	at, n, kept := pairs(labels)
	importObserve(utf8(name), value, at, n)
	runtime.KeepAlive(kept)
}

// pairs lays out names and values, which alternate.
func pairs(texts []string) (at unsafe.Pointer, n uint32, kept []string) {
	kept = make([]string, len(texts))
	words := make([]uint32, 2*len(texts))
	for i, text := range texts {
		kept[i] = utf8(text)
		words[2*i] = Address(unsafe.Pointer(unsafe.StringData(kept[i])))
		words[2*i+1] = uint32(len(kept[i]))
	}
	return unsafe.Pointer(unsafe.SliceData(words)), uint32(len(texts) / 2), kept
}
