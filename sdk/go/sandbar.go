// Package sandbar is for writing Sandbar plugins in Go: one function that takes an event
// and returns the events to publish.
//
//	package main
//
//	import (
//		"context"
//		"log/slog"
//
//		"sandbar"
//	)
//
//	type Arrival struct {
//		Name string `json:"name"`
//	}
//
//	func init() {
//		sandbar.Handle(sandbar.Plugin{
//			Name:      "greeter",
//			Version:   "1.0.0",
//			Topics:    []string{"arrivals"},
//			Publishes: []string{"greetings"},
//			Handler:   sandbar.JSON(greet),
//		})
//	}
//
//	func greet(ctx context.Context, event *sandbar.Event, arrival Arrival) ([]sandbar.Outgoing, error) {
//		slog.InfoContext(ctx, "greeting", "name", arrival.Name)
//		return []sandbar.Outgoing{{
//			Topic:   "greetings",
//			Key:     []byte(arrival.Name),
//			Payload: []byte("Hello, " + arrival.Name + "!"),
//		}}, nil
//	}
//
//	func main() {}
//
// `sandbar plugin build` makes a component of it. A unit test needs no Wasm: it calls the
// function. README.md has the whole way.
//
// What a handler returns is published before the event is acknowledged; a failed attempt
// publishes nothing. An error is delivered again under the retry policy unless it is, or
// wraps, one that says otherwise: see [Rejectf], [Skipf] and [Defer].
//
// A panic fails the attempt; its message, its place and the calls that led to it are in the
// dead letter. The instance is thrown away.
package sandbar

import "context"

// Handler handles one event. Events of one ordering key are never handled at once, and one
// instance of a plugin handles one event at a time.
type Handler func(ctx context.Context, event *Event) ([]Outgoing, error)

// JSON makes a [Handler] of a function that takes the payload as a T. An event whose payload
// is no T is rejected as [Event.JSON] does, and the function is not called.
func JSON[T any](handle func(ctx context.Context, event *Event, body T) ([]Outgoing, error)) Handler {
	return func(ctx context.Context, event *Event) ([]Outgoing, error) {
		var body T
		if err := event.JSON(&body); err != nil {
			return nil, err
		}
		return handle(ctx, event, body)
	}
}

// registered is what the host runs.
var registered *Plugin

// Handle says what this program is: call it once, in an init function. It panics on a plugin
// that could not run.
func Handle(plugin Plugin) {
	if registered != nil {
		panic("sandbar.Handle was called twice: a program is one plugin")
	}
	if err := plugin.check(); err != nil {
		panic("sandbar.Handle: " + err.Error())
	}
	registered = &plugin
}
