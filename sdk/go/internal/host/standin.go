//go:build !wasip1

package host

import (
	"maps"
	"sync"
	"time"
)

// Facts are what the stand-ins answer; package sandbartest sets them.
type Facts struct {
	Name, Version, Connection string
	Remaining                 time.Duration
	Config                    map[string]string
	Log                       func(level Level, context, message string)
	Fake                      *Fake
}

var (
	mutex sync.Mutex
	facts Facts
)

// Replace sets the facts and returns those before.
func Replace(new Facts) Facts {
	mutex.Lock()
	defer mutex.Unlock()
	old := facts
	facts = new
	return old
}

func now() Facts {
	mutex.Lock()
	defer mutex.Unlock()
	return facts
}

// Log writes a line to the host's log.
func Log(level Level, context, message string) {
	if log := now().Log; log != nil {
		log(level, context, message)
	}
}

// Config is a setting of the plugin.
func Config(key string) (value string, ok bool, err error) {
	value, ok = now().Config[key]
	return value, ok, nil
}

// AllConfig is every setting of the plugin.
func AllConfig() (map[string]string, error) { return maps.Clone(now().Config), nil }

// PluginName is the name under which the plugin runs.
func PluginName() string { return now().Name }

// PluginVersion is the version that the plugin states of itself.
func PluginVersion() string { return now().Version }

// Connection is where the events come from.
func Connection() string { return now().Connection }

// Remaining is the time until the host interrupts this call.
func Remaining() time.Duration { return now().Remaining }
