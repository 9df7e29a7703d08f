package sandbar

import (
	"math"
	"slices"
	"strings"
	"time"
	"unsafe"

	"sandbar/internal/host"
)

// The exports, with the flat types that the canonical ABI gives to the functions of
// wit/0.1.1. What they return by reference stays alive until the next call.

//go:wasmexport sandbar:events/plugin@0.1.1#describe
func exportDescribe() unsafe.Pointer {
	defer crash()
	answer = answer[:0]
	p := plugin()
	metadata := words(15)
	putText(metadata[0:], p.Name)
	putText(metadata[2:], p.Version)
	putText(metadata[4:], p.Description)
	subscription := words(7)
	putList(metadata[6:], subscription, 1)
	putOptional(subscription[0:], []byte(p.Connection), p.Connection != "")
	putTexts(subscription[3:], p.Topics)
	putPairs(subscription[5:], p.options())
	putTexts(metadata[8:], p.Publishes)
	putOptional(metadata[10:], []byte(p.ConfigSchema), p.ConfigSchema != "")
	putPairs(metadata[13:], sorted(p.Annotations))
	return unsafe.Pointer(unsafe.SliceData(metadata))
}

//go:wasmexport sandbar:events/lifecycle@0.1.1#init
func exportInit() unsafe.Pointer {
	defer crash()
	host.Start()
	startLog()
	defer host.Flush()
	answer = answer[:0]
	result := words(3)
	if init := plugin().Init; init != nil {
		if err := init(call); err != nil {
			result[0] = 1
			putText(result[1:], err.Error())
		}
	}
	return unsafe.Pointer(unsafe.SliceData(result))
}

//go:wasmexport sandbar:events/handler@0.1.1#handle
func exportHandle(
	topic, topicLen, partition uint32, position uint64,
	hasKey, key, keyLen, hasPayload, payload, payloadLen, headers, headersLen uint32,
	timestamp uint64, attempt, attributes, attributesLen uint32,
) unsafe.Pointer {
	defer crash()
	event := Event{
		Topic:      host.Text(topic, topicLen),
		Partition:  partition,
		Position:   position,
		Time:       time.UnixMilli(int64(timestamp)),
		Attempt:    attempt,
		Attributes: host.Pairs(attributes, attributesLen),
	}
	if hasKey != 0 {
		event.Key = host.Bytes(key, keyLen)
	}
	if hasPayload != 0 {
		event.Payload = host.Bytes(payload, payloadLen)
	}
	if headersLen > 0 {
		event.Headers = make([]Header, 0, headersLen)
		for words := host.Words(headers, 4*headersLen); len(words) > 0; words = words[4:] {
			header := Header{Name: host.Text(words[0], words[1]), Value: host.Bytes(words[2], words[3])}
			event.Headers = append(event.Headers, header)
		}
	}
	host.Release()
	host.EventTime(timestamp)
	outputs, err := plugin().Handler(call, &event)
	host.Flush()
	answer = answer[:0]
	if err != nil {
		return failed(verdict(err))
	}
	return published(outputs)
}

// plugin is the registered one.
func plugin() *Plugin {
	if registered == nil {
		panic("no init function of the program called sandbar.Handle")
	}
	return registered
}

// crash hands a panic to the host, with its place.
func crash() {
	if recovered := recover(); recovered != nil {
		host.Crash(crashText(recovered))
	}
}

// resultWords is the size of a handler's result: at 0 whether it failed, at 8 the list of
// events, or the failure: its kind at 8, what it holds from 16 on.
const resultWords = 10

func published(outputs []Outgoing) unsafe.Pointer {
	result := words(resultWords)
	putList(result[2:], outgoing(outputs), len(outputs))
	return unsafe.Pointer(unsafe.SliceData(result))
}

// outgoing lays out a list of events.
func outgoing(outputs []Outgoing) []uint32 {
	const size = 15
	list := words(size * len(outputs))
	for i, output := range outputs {
		record := list[size*i:]
		putOptional(record[0:], []byte(output.Connection), output.Connection != "")
		putText(record[3:], output.Topic)
		putOptional(record[5:], output.Key, output.Key != nil)
		putOptional(record[8:], output.Payload, output.Payload != nil)
		headers := words(4 * len(output.Headers))
		putList(record[11:], headers, len(output.Headers))
		for j, header := range output.Headers {
			putText(headers[4*j:], header.Name)
			putBytes(headers[4*j+2:], header.Value)
		}
		putPairs(record[13:], sorted(output.Attributes))
	}
	return list
}

func failed(failure error) unsafe.Pointer {
	result := words(resultWords)
	result[0] = 1
	kind, held := &result[2], result[4:]
	switch f := failure.(type) {
	case *RetryError:
		*kind = 0
		putText(held[0:], f.Err.Error())
		if f.Delay > 0 {
			held[2] = 1
			putMillis(held[4:], f.Delay)
		}
	case *RejectError:
		*kind = 1
		putText(held[0:], f.Code)
		putText(held[2:], f.Err.Error())
	case *SkipError:
		*kind = 2
		putText(held[0:], f.Reason)
	case *DeferError:
		*kind = 3
		putMillis(held[0:], f.Pause)
	}
	return unsafe.Pointer(unsafe.SliceData(result))
}

// answer keeps alive what the host is about to read: all it has are addresses.
var answer []unsafe.Pointer

func keep(pointer unsafe.Pointer) uint32 {
	answer = append(answer, pointer)
	return host.Address(pointer)
}

// words are n numbers that stay; aligned for the largest that a record holds.
func words(n int) []uint32 {
	if n == 0 {
		return nil
	}
	aligned := make([]uint64, (n+1)/2)
	keep(unsafe.Pointer(unsafe.SliceData(aligned)))
	return unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(aligned))), n)
}

func putList(at []uint32, list []uint32, n int) {
	if n > 0 {
		at[0], at[1] = host.Address(unsafe.Pointer(unsafe.SliceData(list))), uint32(n)
	}
}

func putText(at []uint32, text string) {
	// the host ends a plugin that hands it anything else
	text = strings.ToValidUTF8(text, "\uFFFD")
	if text != "" {
		at[0], at[1] = keep(unsafe.Pointer(unsafe.StringData(text))), uint32(len(text))
	}
}

func putBytes(at []uint32, bytes []byte) {
	if len(bytes) > 0 {
		at[0], at[1] = keep(unsafe.Pointer(unsafe.SliceData(bytes))), uint32(len(bytes))
	}
}

func putOptional(at []uint32, bytes []byte, there bool) {
	if there {
		at[0] = 1
		putBytes(at[1:], bytes)
	}
}

func putTexts(at []uint32, texts []string) {
	list := words(2 * len(texts))
	putList(at, list, len(texts))
	for i, text := range texts {
		putText(list[2*i:], text)
	}
}

func putPairs(at []uint32, pairs [][2]string) {
	list := words(4 * len(pairs))
	putList(at, list, len(pairs))
	for i, pair := range pairs {
		putText(list[4*i:], pair[0])
		putText(list[4*i+2:], pair[1])
	}
}

func putMillis(at []uint32, d time.Duration) {
	ms := uint64(max(d.Milliseconds(), 0))
	at[0], at[1] = uint32(ms&math.MaxUint32), uint32(ms>>32)
}

// sorted gives a map the same order each time.
func sorted(pairs map[string]string) [][2]string {
	list := make([][2]string, 0, len(pairs))
	for name, value := range pairs {
		list = append(list, [2]string{name, value})
	}
	slices.SortFunc(list, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return list
}
