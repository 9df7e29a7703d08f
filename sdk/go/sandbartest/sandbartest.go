//go:build !wasip1

// Package sandbartest sets what a plugin sees of its host in unit tests, and shows what it did.
package sandbartest

import (
	"testing"
	"time"

	"sandbar"
	"sandbar/internal/host"
)

// Host is what the plugin sees; each field is what the function of that name answers.
type Host struct {
	PluginName, PluginVersion, Connection string
	Remaining                             time.Duration
	Config                                map[string]string
	// Secrets by name.
	Secrets map[string]string
	// State is what is there to begin with.
	State map[string]string
}

// Seen is what the plugin did.
type Seen struct{ fake *host.Fake }

// Set applies for the rest of the test, with nothing published and counted yet. Not for
// parallel tests: it is global.
func Set(t testing.TB, h Host) *Seen {
	t.Helper()
	fake := &host.Fake{Secrets: map[string][]byte{}}
	for name, secret := range h.Secrets {
		fake.Secrets[name] = []byte(secret)
	}
	old := host.Replace(host.Facts{
		Name: h.PluginName, Version: h.PluginVersion, Connection: h.Connection,
		Remaining: h.Remaining, Config: h.Config, Fake: fake,
	})
	t.Cleanup(func() { host.Replace(old) })
	for key, value := range h.State {
		host.StateSet(key, []byte(value), 0)
	}
	return &Seen{fake}
}

// Published is what [sandbar.Publish] has published, in order.
func (s *Seen) Published() []sandbar.Outgoing {
	events := make([]sandbar.Outgoing, len(s.fake.Published))
	for i, event := range s.fake.Published {
		events[i] = event.(sandbar.Outgoing)
	}
	return events
}

// FailPublish has the next [sandbar.Publish] fail for this reason.
func (s *Seen) FailPublish(reason string) {
	s.fake.FailPublish = &host.Failure{Case: host.PublishUnavailable, Reason: reason}
}

// Counted is what was added to a counter; labels are names and values that alternate.
func (s *Seen) Counted(name string, labels ...string) uint64 {
	return s.fake.Counters[host.Series(name, labels)]
}

// Observed is what was added to a histogram, in order.
func (s *Seen) Observed(name string, labels ...string) []float64 {
	return s.fake.Histograms[host.Series(name, labels)]
}
