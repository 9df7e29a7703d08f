//go:build !wasip1

// Package sandbartest sets what a plugin sees of its host in unit tests.
package sandbartest

import (
	"testing"
	"time"

	"sandbar/internal/host"
)

// Host is what the plugin sees; each field is what the function of that name answers.
type Host struct {
	PluginName, PluginVersion, Connection string
	Remaining                             time.Duration
	Config                                map[string]string
}

// Set applies for the rest of the test. Not for parallel tests: it is global.
func Set(t testing.TB, h Host) {
	t.Helper()
	old := host.Replace(host.Facts{
		Name: h.PluginName, Version: h.PluginVersion, Connection: h.Connection,
		Remaining: h.Remaining, Config: h.Config,
	})
	t.Cleanup(func() { host.Replace(old) })
}
