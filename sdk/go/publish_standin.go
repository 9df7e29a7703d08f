//go:build !wasip1

package sandbar

import "sandbar/internal/host"

// Publish publishes now, whatever the outcome of the call; the operator grants "publisher".
// It returns once the broker has confirmed every event; after an error, a [*PublishError], some
// of them may have been published. Prefer returning events: those are published only if the
// attempt succeeds.
func Publish(events ...Outgoing) error {
	all := make([]any, len(events))
	for i, event := range events {
		all[i] = event
	}
	return publishError(host.Publish(all))
}
