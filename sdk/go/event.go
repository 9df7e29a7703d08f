package sandbar

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Header is a broker header. Names may repeat.
type Header struct {
	Name string
	// Value is raw bytes; a broker's null value arrives as an empty one.
	Value []byte
}

// Event is one event as it was delivered. It may be kept: nothing of it is used again.
type Event struct {
	// Topic, subject, queue or stream.
	Topic string
	// Partition or shard; 0 where the broker has none.
	Partition uint32
	// Position is the offset or stream sequence within the partition; 0 where the broker
	// has none.
	Position uint64
	// Key is the partitioning or routing key; nil where there is none.
	Key []byte
	// Payload is nil for a tombstone (a delete marker), and empty but not nil for an empty
	// payload.
	Payload []byte
	// Headers in the broker's order.
	Headers []Header
	// Time is the broker's timestamp, to the millisecond.
	Time time.Time
	// Attempt is 1 on first delivery, +1 on each retry of this event to this plugin.
	Attempt uint32
	// Attributes are the CloudEvents context attributes by bare name ("id", "type",
	// "source") and host extras under "sandbar-".
	Attributes map[string]string
}

// ID is an identity that is stable across redeliveries and replays, fit for an idempotency
// key: the CloudEvents "source#id" or "id" where the producer gave them,
// "topic/partition/position" otherwise.
func (e *Event) ID() string {
	id, ok := e.Attributes["id"]
	if !ok {
		return e.Topic + "/" + strconv.FormatUint(uint64(e.Partition), 10) + "/" + strconv.FormatUint(e.Position, 10)
	}
	if source, ok := e.Attributes["source"]; ok {
		return source + "#" + id
	}
	return id
}

// Header is the value of the first header of that name; letter case counts.
func (e *Event) Header(name string) (value []byte, ok bool) {
	for _, header := range e.Headers {
		if header.Name == name {
			return header.Value, true
		}
	}
	return nil, false
}

// ContentType is the media type of the payload: the CloudEvents attribute "datacontenttype",
// else the header "content-type" in any letter case, else "".
func (e *Event) ContentType() string {
	if value, ok := e.Attributes["datacontenttype"]; ok {
		return value
	}
	for _, header := range e.Headers {
		if strings.EqualFold(header.Name, "content-type") && utf8.Valid(header.Value) {
			return string(header.Value)
		}
	}
	return ""
}

// Text is the payload as text. It rejects a tombstone with code "no-payload" and bytes that
// are no UTF-8 with code "invalid-utf8".
func (e *Event) Text() (string, error) {
	if e.Payload == nil {
		return "", noPayload()
	}
	if !utf8.Valid(e.Payload) {
		return "", Rejectf("invalid-utf8", "the payload is no UTF-8")
	}
	return string(e.Payload), nil
}

// JSON reads the payload into what v points to, as [json.Unmarshal] does. It rejects a
// tombstone with code "no-payload" and anything else that does not fit with code
// "invalid-json", naming path, line and column.
func (e *Event) JSON(v any) error {
	if e.Payload == nil {
		return noPayload()
	}
	if !utf8.Valid(e.Payload) {
		return Rejectf("invalid-json", "the payload is no UTF-8")
	}
	if err := json.Unmarshal(e.Payload, v); err != nil {
		return invalidJSON(e.Payload, err)
	}
	return nil
}

func noPayload() *RejectError { return Rejectf("no-payload", "the event is a tombstone") }

func invalidJSON(payload []byte, err error) *RejectError {
	var (
		syntax *json.SyntaxError
		kind   *json.UnmarshalTypeError
		offset int64
		path   string
	)
	switch {
	case errors.As(err, &syntax):
		offset = syntax.Offset
	case errors.As(err, &kind):
		offset = kind.Offset
		if kind.Field != "" {
			path = "at " + kind.Field + ": "
		}
	case errors.Is(err, io.ErrUnexpectedEOF):
		offset = int64(len(payload))
	default:
		return &RejectError{Code: "invalid-json", Err: err}
	}
	before := payload[:min(offset, int64(len(payload)))]
	line := bytes.Count(before, []byte{'\n'}) + 1
	column := len(before) - bytes.LastIndexByte(before, '\n') - 1
	return &RejectError{
		Code: "invalid-json",
		Err:  fmt.Errorf("%s%w at line %d column %d", path, err, line, column),
	}
}

// Outgoing is an event to be published.
type Outgoing struct {
	// Connection is a configured one; "": the plugin's default output.
	Connection string
	// Topic must be one that the plugin may publish to.
	Topic string
	// Key is the partitioning or routing key; nil for none.
	Key []byte
	// Payload is nil for a tombstone (a delete marker).
	Payload []byte
	// Headers are written as given.
	Headers []Header
	// Attributes are CloudEvents attributes by bare name; the host writes them as the
	// broker spells them.
	Attributes map[string]string
}

// Marshal writes v as JSON: what [json.Marshal] gives, but only with the escapes that JSON
// demands. What has no JSON form is rejected with code "invalid-json".
func Marshal(v any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, &RejectError{Code: "invalid-json", Err: err}
	}
	return unescaped(bytes.TrimSuffix(text.Bytes(), []byte{'\n'})), nil
}

// unescaped puts U+2028 and U+2029 themselves, which the encoder escapes for the sake of
// JavaScript.
func unescaped(text []byte) []byte {
	if !bytes.Contains(text, []byte(`\u202`)) {
		return text
	}
	out := make([]byte, 0, len(text))
	for at := 0; at < len(text); {
		switch rest := text[at:]; {
		case bytes.HasPrefix(rest, []byte(`\u2028`)):
			out, at = append(out, "\u2028"...), at+6
		case bytes.HasPrefix(rest, []byte(`\u2029`)):
			out, at = append(out, "\u2029"...), at+6
		case rest[0] == '\\' && len(rest) > 1:
			// the next byte belongs to this escape
			out, at = append(out, rest[:2]...), at+2
		default:
			out, at = append(out, rest[0]), at+1
		}
	}
	return out
}
