package sandbar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Plugin is what a program says of itself. What concerns its running is a suggestion: the
// operator's configuration wins, and what is left out follows it.
type Plugin struct {
	// Name, in lower-case letters, digits and "-". The operator sees the file's name.
	Name string
	// Version, such as "1.0.0".
	Version string
	// Description is one line for people.
	Description string
	// Topics it subscribes to, exact or with "*".
	Topics []string
	// Publishes names the topics it may publish to, exact or with "*". The operator can
	// narrow it.
	Publishes []string
	// Connection is the configured one its events come from; "": the default one.
	Connection string

	// Handler handles each event.
	Handler Handler
	// Init is called on each new instance before its first event. An error keeps the
	// previous version of the plugin running.
	Init func(ctx context.Context) error

	// Ordering is "key", "partition" or "none".
	Ordering string
	// Delivery is "at-least-once" or "exactly-once".
	Delivery string
	// Concurrency is how many attempts may run at once.
	Concurrency uint32
	// MaxInFlight is how many events of a partition may be unfinished.
	MaxInFlight uint32
	// Start is where a new subscription begins: "earliest" or "latest".
	Start string
	// Retry is what becomes of an event that fails.
	Retry RetryPolicy
	// DeadLetter is what becomes of an event that is given up.
	DeadLetter DeadLetterPolicy
	// DedupWindow is how long a handled event is recognised and passed over.
	DedupWindow time.Duration
	// Breaker says when to pause because nothing works.
	Breaker BreakerPolicy

	// ConfigSchema is the JSON Schema of the plugin's configuration.
	ConfigSchema string
	// Annotations are facts for people: "homepage", "license", "authors".
	Annotations map[string]string
}

// RetryPolicy is how an event that fails is tried again.
type RetryPolicy struct {
	// MaxAttempts counts the first one too.
	MaxAttempts uint32
	// InitialDelay is before the second attempt.
	InitialDelay time.Duration
	// MaxDelay is the longest between two attempts.
	MaxDelay time.Duration
	// Multiplier is what each delay is longer than the one before; at least 1.
	Multiplier float64
	// Jitter is the part of a delay that is random, from 0 to 1.
	Jitter float64
	// MaxAge is the age of an event at which it is tried no more.
	MaxAge time.Duration
	// Through is where events wait: "memory" or "topics".
	Through string
}

// DeadLetterPolicy is what becomes of an event that is given up.
type DeadLetterPolicy struct {
	// Topic is where dead letters go.
	Topic string
	// Dialect is whose headers they have besides: "none", "spring", "connect" or "streams".
	Dialect string
	// OnExhausted is "dead-letter", "halt" or "drop".
	OnExhausted string
	// OnDeadLetter is "continue" or "halt-key".
	OnDeadLetter string
}

// BreakerPolicy is when the plugin is paused because nothing works.
type BreakerPolicy struct {
	// Failures in a row that open it.
	Failures uint32
	// Pause is the first one; each is longer than the one before.
	Pause time.Duration
	// MaxPause is the longest.
	MaxPause time.Duration
}

func (p *Plugin) check() error {
	for _, choice := range []struct {
		field, value string
		allowed      []string
	}{
		{"Ordering", p.Ordering, []string{"key", "partition", "none"}},
		{"Delivery", p.Delivery, []string{"at-least-once", "exactly-once"}},
		{"Start", p.Start, []string{"earliest", "latest"}},
		{"Retry.Through", p.Retry.Through, []string{"memory", "topics"}},
		{"DeadLetter.Dialect", p.DeadLetter.Dialect, []string{"none", "spring", "connect", "streams"}},
		{"DeadLetter.OnExhausted", p.DeadLetter.OnExhausted, []string{"dead-letter", "halt", "drop"}},
		{"DeadLetter.OnDeadLetter", p.DeadLetter.OnDeadLetter, []string{"continue", "halt-key"}},
	} {
		if choice.value != "" && !slices.Contains(choice.allowed, choice.value) {
			return fmt.Errorf("%s is %q, which is none of %q", choice.field, choice.value, choice.allowed)
		}
	}
	switch {
	case p.Name == "":
		return errors.New("Name is missing")
	case p.Version == "":
		return errors.New("Version is missing")
	case len(p.Topics) == 0:
		return errors.New("Topics is empty: say what the plugin subscribes to")
	case p.Handler == nil:
		return errors.New("Handler is missing")
	case p.ConfigSchema != "" && !json.Valid([]byte(p.ConfigSchema)):
		return errors.New("ConfigSchema is no JSON")
	}
	return nil
}

// options are the settings that are given, by the names that they have in NAME.toml.
func (p *Plugin) options() [][2]string {
	var options [][2]string
	text := func(name, value string) {
		if value != "" {
			options = append(options, [2]string{name, value})
		}
	}
	count := func(name string, value uint32) {
		if value != 0 {
			text(name, strconv.FormatUint(uint64(value), 10))
		}
	}
	number := func(name string, value float64) {
		if value != 0 {
			text(name, strconv.FormatFloat(value, 'f', -1, 64))
		}
	}
	duration := func(name string, value time.Duration) {
		if value != 0 {
			text(name, durationText(value))
		}
	}
	text("ordering", p.Ordering)
	text("delivery", p.Delivery)
	count("concurrency", p.Concurrency)
	count("max-in-flight", p.MaxInFlight)
	text("start", p.Start)
	count("retry.max-attempts", p.Retry.MaxAttempts)
	duration("retry.initial-delay", p.Retry.InitialDelay)
	duration("retry.max-delay", p.Retry.MaxDelay)
	number("retry.multiplier", p.Retry.Multiplier)
	number("retry.jitter", p.Retry.Jitter)
	duration("retry.max-age", p.Retry.MaxAge)
	text("retry.through", p.Retry.Through)
	text("dead-letter.topic", p.DeadLetter.Topic)
	text("dead-letter.dialect", p.DeadLetter.Dialect)
	text("dead-letter.on-exhausted", p.DeadLetter.OnExhausted)
	text("dead-letter.on-dead-letter", p.DeadLetter.OnDeadLetter)
	duration("dedup.window", p.DedupWindow)
	count("breaker.failures", p.Breaker.Failures)
	duration("breaker.pause", p.Breaker.Pause)
	duration("breaker.max-pause", p.Breaker.MaxPause)
	return options
}

// durationText writes a duration in the largest unit that needs no fraction.
func durationText(d time.Duration) string {
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if d%unit.length == 0 {
			return strconv.FormatInt(int64(d/unit.length), 10) + unit.name
		}
	}
	return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
}
