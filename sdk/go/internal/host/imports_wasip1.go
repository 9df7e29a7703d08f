package host

import (
	"errors"
	"runtime"
	"strings"
	"time"
	"unsafe"
)

// The imports, with the flat types that the canonical ABI gives to the functions of
// wit/0.1.1. wit-component checks them against the world when it makes the component.

//go:wasmimport wasi:logging/logging@0.1.0-draft log
func importLog(level uint32, context, message string)

//go:wasmimport wasi:config/store@0.2.0-rc.1 get
func importGet(key string, result unsafe.Pointer)

//go:wasmimport wasi:config/store@0.2.0-rc.1 get-all
func importGetAll(result unsafe.Pointer)

//go:wasmimport sandbar:events/context@0.1.1 plugin-name
func importPluginName(result unsafe.Pointer)

//go:wasmimport sandbar:events/context@0.1.1 plugin-version
func importPluginVersion(result unsafe.Pointer)

//go:wasmimport sandbar:events/context@0.1.1 connection
func importConnection(result unsafe.Pointer)

//go:wasmimport sandbar:events/context@0.1.1 remaining-ms
func importRemaining() uint64

// What the build adds beside preview 1: see runtime/crates/toolchain/src/preview1.

//go:wasmimport wasi_snapshot_preview1 sandbar_lend
func lend(address unsafe.Pointer, size uint32)

//go:wasmimport wasi_snapshot_preview1 sandbar_live
func live()

//go:wasmimport wasi_snapshot_preview1 sandbar_flush
func flush()

//go:wasmimport wasi_snapshot_preview1 sandbar_event_time
func eventTime(ms uint64)

//go:wasmimport wasi_snapshot_preview1 sandbar_panic
func panicked(message string)

// lent holds what is printed until it is a line, or the reason of a crash.
var lent [32 << 10]byte

func init() { lend(unsafe.Pointer(&lent), uint32(len(lent))) }

// Start says that the host's `init` was called: imports may be used from here on.
func Start() { live() }

// EventTime sets the clock of a plugin that has no other.
func EventTime(ms uint64) { eventTime(ms) }

// Flush hands what was printed to the host's log.
func Flush() { flush() }

// Crash ends the instance for the reason given.
func Crash(reason string) {
	panicked(strings.ToValidUTF8(reason, "\uFFFD"))
}

// Log writes a line to the host's log. Both texts must be UTF-8.
func Log(level Level, context, message string) {
	importLog(uint32(level), context, message)
}

// result receives what an import returns by reference. A variable of a function would do,
// if the host's call of cabi_realloc meanwhile could not move the stack that it is on.
var result [4]uint32

// Config is a setting of the plugin.
func Config(key string) (value string, ok bool, err error) {
	importGet(strings.ToValidUTF8(key, "\uFFFD"), unsafe.Pointer(&result))
	r := result
	defer Release()
	if byte(r[0]) != 0 {
		return "", false, errors.New(Text(r[2], r[3]))
	}
	if byte(r[1]) == 0 {
		return "", false, nil
	}
	return Text(r[2], r[3]), true, nil
}

// AllConfig is every setting of the plugin.
func AllConfig() (map[string]string, error) {
	importGetAll(unsafe.Pointer(&result))
	r := result
	defer Release()
	if byte(r[0]) != 0 {
		return nil, errors.New(Text(r[2], r[3]))
	}
	return Pairs(r[1], r[2]), nil
}

func text(ask func(unsafe.Pointer)) string {
	ask(unsafe.Pointer(&result))
	defer Release()
	return Text(result[0], result[1])
}

// PluginName is the name under which the plugin runs.
func PluginName() string { return text(importPluginName) }

// PluginVersion is the version that the plugin states of itself.
func PluginVersion() string { return text(importPluginVersion) }

// Connection is where the events come from.
func Connection() string { return text(importConnection) }

// Remaining is the time until the host interrupts this call.
func Remaining() time.Duration {
	const most = uint64(1<<63-1) / uint64(time.Millisecond)
	return time.Duration(min(importRemaining(), most)) * time.Millisecond
}

// given is what the host has allocated and nobody has taken yet: without it the garbage
// collector would free what only the host knows of.
var given [][]byte

//go:wasmexport cabi_realloc
func realloc(old, oldSize, align, size uint32) uint32 {
	if size == 0 {
		return align
	}
	// whole words, for the alignment of records
	memory := make([]byte, (size+7)&^7)
	if old != 0 {
		copy(memory, unsafe.Slice((*byte)(at(old)), oldSize))
	}
	given = append(given, memory)
	return Address(unsafe.Pointer(unsafe.SliceData(memory)))
}

// Release forgets what the host has allocated: what was taken has references of its own.
func Release() {
	clear(given)
	given = given[:0]
	// what is in registers only until here
	runtime.KeepAlive(given)
}

// at is the pointer to an address that the host gave.
func at(address uint32) unsafe.Pointer { return unsafe.Add(unsafe.Pointer(nil), address) }

// Address is what the host is told of a pointer.
func Address(pointer unsafe.Pointer) uint32 { return uint32(uintptr(pointer)) }

// Text takes a string that the host has written, without a copy.
func Text(address, size uint32) string {
	if size == 0 {
		return ""
	}
	return unsafe.String((*byte)(at(address)), size)
}

// Bytes takes bytes that the host has written, without a copy; never nil.
func Bytes(address, size uint32) []byte {
	if size == 0 {
		return []byte{}
	}
	return unsafe.Slice((*byte)(at(address)), size)
}

// Words takes n numbers that the host has written.
func Words(address, n uint32) []uint32 {
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*uint32)(at(address)), n)
}

// Pairs takes a list of pairs of strings.
func Pairs(address, n uint32) map[string]string {
	if n == 0 {
		return nil
	}
	pairs := make(map[string]string, n)
	for words := Words(address, 4*n); len(words) > 0; words = words[4:] {
		pairs[Text(words[0], words[1])] = Text(words[2], words[3])
	}
	return pairs
}
