package sandbar

import (
	"encoding/binary"
	"math"
	"strings"
	"time"
	"unsafe"

	"sandbar/internal/host"
)

// The fast path: a frame of many events in, a frame of their outcomes out. Sandbar's
// docs/packed-frames.md has the format. No handler sees which way it was called.

const (
	frameVersion = 1
	// absent is the length of what is not there.
	absent = math.MaxUint32
)

//go:wasmexport sandbar:events/packed-handler@0.1.1#handle-packed
func exportHandlePacked(events, eventsLen uint32) unsafe.Pointer {
	defer crash()
	in := frame(host.Bytes(events, eventsLen))
	host.Release()
	if in.take(1)[0] != frameVersion {
		panic("the frame of events has a version that is not known here")
	}
	count := in.count()
	outcomes = append(outcomes[:0], frameVersion)
	outcomes = binary.LittleEndian.AppendUint32(outcomes, uint32(count))
	for range count {
		event := in.event()
		host.EventTime(uint64(event.Time.UnixMilli()))
		outputs, err := plugin().Handler(call, event)
		host.Flush()
		if err != nil {
			outcomes = appendFailure(outcomes, verdict(err))
		} else {
			outcomes = appendOutputs(outcomes, outputs)
		}
	}
	if len(in) > 0 {
		panic("there is something behind the frame of events")
	}
	answer = answer[:0]
	result := words(2)
	putBytes(result, outcomes)
	return unsafe.Pointer(unsafe.SliceData(result))
}

// frame is what has not been read of one. What is taken is not copied.
type frame []byte

func (f *frame) take(n int) []byte {
	if len(*f) < n {
		panic("the frame of events ends too early")
	}
	// an append must not write over what follows
	taken := (*f)[:n:n]
	*f = (*f)[n:]
	return taken
}

func (f *frame) u32() uint32 { return binary.LittleEndian.Uint32(f.take(4)) }

func (f *frame) u64() uint64 { return binary.LittleEndian.Uint64(f.take(8)) }

// count is the length of a list, of which each item takes eight bytes at least.
func (f *frame) count() int {
	n := f.u32()
	if uint64(n)*8 > uint64(len(*f)) {
		panic("the frame of events ends too early")
	}
	return int(n)
}

// bytes is nil for what is absent, and for nothing else.
func (f *frame) bytes() []byte {
	n := f.u32()
	if n == absent {
		return nil
	}
	return f.take(int(n))
}

func (f *frame) text() string {
	bytes := f.bytes()
	return unsafe.String(unsafe.SliceData(bytes), len(bytes))
}

func (f *frame) event() *Event {
	event := &Event{Position: f.u64(), Time: time.UnixMilli(int64(f.u64()))}
	event.Partition, event.Attempt = f.u32(), f.u32()
	event.Topic, event.Key, event.Payload = f.text(), f.bytes(), f.bytes()
	if n := f.count(); n > 0 {
		event.Headers = make([]Header, n)
		for i := range event.Headers {
			event.Headers[i] = Header{Name: f.text(), Value: f.bytes()}
		}
	}
	if n := f.count(); n > 0 {
		event.Attributes = make(map[string]string, n)
		for range n {
			name := f.text()
			event.Attributes[name] = f.text()
		}
	}
	return event
}

// outcomes is the frame that the host is about to read; its memory is used again.
var outcomes []byte

func appendOutputs(to []byte, outputs []Outgoing) []byte {
	to = binary.LittleEndian.AppendUint32(append(to, 0), uint32(len(outputs)))
	for _, output := range outputs {
		to = appendOptional(to, []byte(output.Connection), output.Connection != "")
		to = appendText(to, output.Topic)
		to = appendOptional(to, output.Key, output.Key != nil)
		to = appendOptional(to, output.Payload, output.Payload != nil)
		to = binary.LittleEndian.AppendUint32(to, uint32(len(output.Headers)))
		for _, header := range output.Headers {
			to = appendText(to, header.Name)
			to = appendOptional(to, header.Value, true)
		}
		to = binary.LittleEndian.AppendUint32(to, uint32(len(output.Attributes)))
		for _, pair := range sorted(output.Attributes) {
			to = appendText(appendText(to, pair[0]), pair[1])
		}
	}
	return to
}

func appendFailure(to []byte, failure error) []byte {
	switch f := failure.(type) {
	case *RetryError:
		to = appendText(append(to, 1), f.Err.Error())
		if f.Delay > 0 {
			return appendMillis(append(to, 1), f.Delay)
		}
		return appendMillis(append(to, 0), 0)
	case *RejectError:
		return appendText(appendText(append(to, 2), f.Code), f.Err.Error())
	case *SkipError:
		return appendText(append(to, 3), f.Reason)
	case *DeferError:
		return appendMillis(append(to, 4), f.Pause)
	}
	return to
}

func appendText(to []byte, text string) []byte {
	// the host refuses anything else
	text = strings.ToValidUTF8(text, "\uFFFD")
	return append(binary.LittleEndian.AppendUint32(to, uint32(len(text))), text...)
}

func appendOptional(to []byte, bytes []byte, there bool) []byte {
	if !there {
		return binary.LittleEndian.AppendUint32(to, absent)
	}
	return append(binary.LittleEndian.AppendUint32(to, uint32(len(bytes))), bytes...)
}

func appendMillis(to []byte, d time.Duration) []byte {
	return binary.LittleEndian.AppendUint64(to, uint64(max(d.Milliseconds(), 0)))
}
