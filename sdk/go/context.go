package sandbar

import (
	"context"
	"time"

	"sandbar/internal/host"
)

// PluginName is the name under which the plugin runs: the file's name without ".wasm".
func PluginName() string { return host.PluginName() }

// PluginVersion is the version that the plugin states of itself.
func PluginVersion() string { return host.PluginVersion() }

// Connection is the name of the configured connection that the events come from.
func Connection() string { return host.Connection() }

// Remaining is the time until the host interrupts this call.
func Remaining() time.Duration { return host.Remaining() }

// callContext is that of one call: its deadline is when the host interrupts it.
type callContext struct{ context.Context }

// Deadline is on the plugin's own clock.
func (callContext) Deadline() (time.Time, bool) {
	return time.Now().Add(host.Remaining()), true
}

var call = callContext{context.Background()}
