package sandbar

import (
	"fmt"

	"sandbar/internal/host"
)

// ConfigError says why a configuration value could not be used. Returned from a handler it
// means another attempt: the operator may mend the configuration meanwhile.
type ConfigError struct {
	// Key that was asked for; "" for all of them.
	Key string
	// Err says what is wrong.
	Err error
}

func (e *ConfigError) Error() string {
	if e.Key == "" {
		return fmt.Sprintf("config: %v", e.Err)
	}
	return fmt.Sprintf("config `%s` %v", e.Key, e.Err)
}

// Unwrap returns what is wrong.
func (e *ConfigError) Unwrap() error { return e.Err }

// Config is the plugin's own setting of that name: from the `config` table of NAME.toml. The
// error is a [*ConfigError], and only for a host that cannot tell.
func Config(key string) (value string, ok bool, err error) {
	value, ok, err = host.Config(key)
	if err != nil {
		return "", false, &ConfigError{Key: key, Err: err}
	}
	return value, ok, nil
}

// RequireConfig is as [Config], and a [*ConfigError] where the setting is not there.
func RequireConfig(key string) (string, error) {
	value, ok, err := Config(key)
	if err == nil && !ok {
		err = &ConfigError{Key: key, Err: fmt.Errorf("is not set: add it under `config` of this plugin")}
	}
	return value, err
}

// ParseConfig reads a setting with a function such as [strconv.Atoi] or [time.ParseDuration];
// where it is not set it is `otherwise`.
//
//	limit, err := sandbar.ParseConfig("limit", 60, strconv.Atoi)
func ParseConfig[T any](key string, otherwise T, parse func(string) (T, error)) (T, error) {
	value, ok, err := Config(key)
	if err != nil || !ok {
		return otherwise, err
	}
	parsed, err := parse(value)
	if err != nil {
		return otherwise, &ConfigError{Key: key, Err: fmt.Errorf("is %q: %w", value, err)}
	}
	return parsed, nil
}

// AllConfig is every setting of the plugin. The error is a [*ConfigError].
func AllConfig() (map[string]string, error) {
	all, err := host.AllConfig()
	if err != nil {
		return nil, &ConfigError{Err: err}
	}
	return all, nil
}
