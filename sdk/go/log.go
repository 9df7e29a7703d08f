package sandbar

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"sandbar/internal/host"
)

// levelKey is the setting of the least severe level to be logged.
const levelKey = "log-level"

// LogLevel is the least severe level that is logged. The setting `log-level` sets it at
// start: off, error, warn, info (the default), debug or trace.
var LogLevel slog.LevelVar

// NewLogHandler makes a handler that writes to the host's log: "message key=value". It is
// behind [slog.Default] in a plugin, and so behind package log.
func NewLogHandler() slog.Handler {
	sink := &logSink{}
	text := slog.NewTextHandler(&sink.line, &slog.HandlerOptions{Level: &LogLevel, ReplaceAttr: sink.replace})
	return &logHandler{sink: sink, Handler: text}
}

// logHandler writes the attributes by the standard library's handler, whose time, level and
// message it leaves out: the host has them from elsewhere.
type logHandler struct {
	slog.Handler
	sink *logSink
}

type logSink struct {
	mutex sync.Mutex
	line  bytes.Buffer
	// built-in attributes of the record in work that are still to come
	builtin int
}

func (s *logSink) replace(_ []string, attr slog.Attr) slog.Attr {
	if s.builtin > 0 {
		s.builtin--
		return slog.Attr{}
	}
	return attr
}

func (h *logHandler) Handle(ctx context.Context, record slog.Record) error {
	h.sink.mutex.Lock()
	defer h.sink.mutex.Unlock()
	h.sink.line.Reset()
	message := record.Message
	// without a time, level and message are the first two
	record.Time, record.Message = time.Time{}, ""
	h.sink.builtin = 2
	err := h.Handler.Handle(ctx, record)
	if attrs := strings.TrimSpace(h.sink.line.String()); attrs != "" {
		message += " " + attrs
	}
	host.Log(hostLevel(record.Level), logContext, strings.ToValidUTF8(message, "\uFFFD"))
	return err
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logHandler{sink: h.sink, Handler: h.Handler.WithAttrs(attrs)}
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	return &logHandler{sink: h.sink, Handler: h.Handler.WithGroup(name)}
}

// logContext is the context under which lines are logged.
const logContext = "plugin"

func hostLevel(level slog.Level) host.Level {
	switch {
	case level < slog.LevelDebug:
		return host.Trace
	case level < slog.LevelInfo:
		return host.Debug
	case level < slog.LevelWarn:
		return host.Info
	case level < slog.LevelError:
		return host.Warn
	}
	return host.Error
}

// startLog is called by the host's `init`.
func startLog() {
	slog.SetDefault(slog.New(NewLogHandler()))
	level, err := ParseConfig(levelKey, slog.LevelInfo, parseLevel)
	if err != nil {
		slog.Warn(err.Error())
	}
	LogLevel.Set(level)
}

func parseLevel(name string) (slog.Level, error) {
	levels := map[string]slog.Level{
		"off": slog.LevelError + 1000, "error": slog.LevelError, "warn": slog.LevelWarn,
		"info": slog.LevelInfo, "debug": slog.LevelDebug, "trace": slog.LevelDebug - 4,
	}
	level, ok := levels[name]
	if !ok {
		return 0, fmt.Errorf("it must be one of off, error, warn, info, debug, trace")
	}
	return level, nil
}
