package sandbar

import (
	"unsafe"

	"sandbar/internal/host"
)

// Publish publishes now, whatever the outcome of the call; the operator grants "publisher".
// It returns once the broker has confirmed every event; after an error, a [*PublishError], some
// of them may have been published. Prefer returning events: those are published only if the
// attempt succeeds.
func Publish(events ...Outgoing) error {
	// nothing else is kept alive while a handler runs
	defer func() { answer = answer[:0] }()
	list := outgoing(events)
	return publishError(host.Publish(unsafe.Pointer(unsafe.SliceData(list)), len(events)))
}
