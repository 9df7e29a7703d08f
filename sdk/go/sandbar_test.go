//go:build !wasip1

package sandbar

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"sandbar/internal/host"
)

func rejection(t *testing.T, err error) *RejectError {
	t.Helper()
	var rejected *RejectError
	if !errors.As(err, &rejected) {
		t.Fatalf("not rejected: %v", err)
	}
	return rejected
}

func TestIdentityIsSourceAndIDOrThePosition(t *testing.T) {
	event := Event{Topic: "t", Partition: 2, Position: 7, Attributes: map[string]string{"source": "/s"}}
	for _, step := range []struct{ name, value, id string }{
		{"type", "x", "t/2/7"}, {"id", "1", "/s#1"},
	} {
		event.Attributes[step.name] = step.value
		if got := event.ID(); got != step.id {
			t.Errorf("%q, not %q", got, step.id)
		}
	}
	delete(event.Attributes, "source")
	if got := event.ID(); got != "1" {
		t.Errorf("%q", got)
	}
}

func TestTombstoneEmptyAndBinaryAreToldApart(t *testing.T) {
	if text, err := (&Event{Payload: []byte{}}).Text(); text != "" || err != nil {
		t.Errorf("%q %v", text, err)
	}
	_, err := (&Event{}).Text()
	if code := rejection(t, err).Code; code != "no-payload" {
		t.Error(code)
	}
	_, err = (&Event{Payload: []byte{0xff}}).Text()
	if code := rejection(t, err).Code; code != "invalid-utf8" {
		t.Error(code)
	}
}

func TestWhatIsWrongWithAPayloadIsSaidWithItsPlace(t *testing.T) {
	type order struct {
		Lines []struct{ Amount uint32 }
	}
	for payload, want := range map[string]string{
		"{\n\"Lines\":[{\"Amount\":-1}]}": "at Lines.Amount: json: cannot unmarshal number -1 into Go struct field .Lines.Amount of type uint32 at line 2 column 21",
		"{\"Lines\":]":                    "invalid character ']' looking for beginning of value at line 1 column 10",
		"":                                "unexpected end of JSON input at line 1 column 0",
		"\"\xff\"":                        "the payload is no UTF-8",
	} {
		rejected := rejection(t, (&Event{Payload: []byte(payload)}).JSON(new(order)))
		if got := rejected.Err.Error(); rejected.Code != "invalid-json" || got != want {
			t.Errorf("%q: %s: %s", payload, rejected.Code, got)
		}
	}
}

func TestJSONHasOnlyTheEscapesThatItDemands(t *testing.T) {
	value := "<&>\u2028\u2029 \\u2028 \\\\u2029 é\x01\"\n\b\f"
	got, err := Marshal(map[string]string{"a": value})
	want := `{"a":"<&>` + "\u2028\u2029" + ` \\u2028 \\\\u2029 é\u0001\"\n\b\f"}`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := Marshal(make(chan int)); rejection(t, err).Code != "invalid-json" {
		t.Error(err)
	}
}

func TestAnErrorAsksForWhatItSaysOrForARetry(t *testing.T) {
	wrapped := func(err error) error { return errors.Join(io.EOF, err) }
	for _, test := range []struct{ given, want error }{
		{io.EOF, &RetryError{Err: io.EOF}},
		{Rejectf("c", "m"), Rejectf("c", "m")},
		{Skipf("%d", 1), &SkipError{Reason: "1"}},
		{wrapped(Defer(time.Second)), Defer(time.Second)},
	} {
		if got := verdict(test.given); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%v became %#v", test.given, got)
		}
	}
	// what surrounds it is kept for people, and the cause is found
	retry := verdict(wrapped(Retryf("busy: %w", io.ErrClosedPipe).After(time.Second))).(*RetryError)
	if retry.Delay != time.Second || retry.Error() != "EOF\nbusy: io: read/write on closed pipe" || !errors.Is(retry, io.ErrClosedPipe) {
		t.Errorf("%#v", retry)
	}
	reject := verdict(wrapped(Rejectf("c", "m"))).(*RejectError)
	if reject.Code != "c" || reject.Err.Error() != "EOF\nc: m" {
		t.Errorf("%#v", reject)
	}
}

func TestSettingsAreNamedAsInTheConfiguration(t *testing.T) {
	plugin := Plugin{
		Name: "p", Version: "1", Topics: []string{"t"}, Handler: func(context.Context, *Event) ([]Outgoing, error) { return nil, nil },
		Ordering: "key", Concurrency: 2, DedupWindow: 48 * time.Hour,
		Retry: RetryPolicy{MaxAttempts: 5, InitialDelay: 200 * time.Millisecond, MaxDelay: 90 * time.Second, Jitter: 0.5},
	}
	want := [][2]string{
		{"ordering", "key"}, {"concurrency", "2"}, {"retry.max-attempts", "5"}, {"retry.initial-delay", "200ms"},
		{"retry.max-delay", "90s"}, {"retry.jitter", "0.5"}, {"dedup.window", "2d"},
	}
	if got := plugin.options(); !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	if err := plugin.check(); err != nil {
		t.Error(err)
	}
	plugin.Ordering = "keys"
	if err := plugin.check(); err == nil || !strings.Contains(err.Error(), `Ordering is "keys"`) {
		t.Error(err)
	}
}

func TestLinesHaveTheirAttributesAfterTheMessage(t *testing.T) {
	type line struct {
		level   host.Level
		message string
	}
	var lines []line
	facts := host.Facts{
		Config: map[string]string{"log-level": "debug"},
		Log:    func(level host.Level, _, message string) { lines = append(lines, line{level, message}) },
	}
	defer host.Replace(host.Replace(facts))
	defer slog.SetDefault(slog.Default())
	startLog()
	slog.With("msg", 1).WithGroup("g").Debug("hello", "level", "two words", "e", io.EOF)
	slog.Error("bad \xff")
	slog.Log(context.Background(), slog.LevelDebug-4, "not logged")
	want := []line{{host.Debug, `hello msg=1 g.level="two words" g.e=EOF`}, {host.Error, "bad \uFFFD"}}
	if !reflect.DeepEqual(lines, want) {
		t.Errorf("%v", lines)
	}
}

func TestConfigErrorsNameKeyValueAndWhatToDo(t *testing.T) {
	defer host.Replace(host.Replace(host.Facts{Config: map[string]string{"n": "many"}}))
	_, err := ParseConfig("n", 0, strconv.Atoi)
	if err == nil || err.Error() != "config `n` is \"many\": strconv.Atoi: parsing \"many\": invalid syntax" {
		t.Error(err)
	}
	if value, err := ParseConfig("m", 60, strconv.Atoi); value != 60 || err != nil {
		t.Error(value, err)
	}
	if _, err := RequireConfig("m"); err == nil || err.Error() != "config `m` is not set: add it under `config` of this plugin" {
		t.Error(err)
	}
}
