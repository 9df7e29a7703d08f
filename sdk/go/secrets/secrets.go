// Package secrets is what the operator granted to this plugin by name: the table "secrets" of
// NAME.toml.
//
//	key, err := secrets.Require("signing-key")
//
// In a unit test they are those of package sandbartest.
package secrets

import (
	"fmt"

	"sandbar/internal/host"
)

// Get is the secret of that name, and whether it was granted.
func Get(name string) (secret []byte, ok bool) { return host.Secret(name) }

// Require is the secret of that name as text. Returned from a handler, the error of one that
// was not granted means another attempt: the operator may grant it meanwhile.
func Require(name string) (string, error) {
	secret, ok := Get(name)
	if !ok {
		return "", fmt.Errorf("secret `%s` is not granted: add it under `secrets` of this plugin", name)
	}
	return string(secret), nil
}
