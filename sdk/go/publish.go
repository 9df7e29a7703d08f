package sandbar

import (
	"errors"
	"fmt"

	"sandbar/internal/host"
)

// What a [*PublishError] is, for [errors.Is].
var (
	// ErrDenied is of a topic that the plugin may not publish to.
	ErrDenied = errors.New("not among the topics that this plugin may publish to")
	// ErrTooLarge is of an event that the host or the broker does not take.
	ErrTooLarge = errors.New("too large")
	// ErrTimeout is of a broker that did not confirm in time: it may have the events or not.
	ErrTimeout = errors.New("the broker did not confirm in time")
	// ErrUnavailable is of a broker that is away.
	ErrUnavailable = errors.New("the broker is away")
)

// PublishError says why [Publish] did not publish all events. Returned from a handler it
// means another attempt.
type PublishError struct {
	// Reason is the host's.
	Reason string
	kind   error
}

func (e *PublishError) Error() string {
	switch {
	case e.kind == nil:
		return "publish: " + e.Reason
	case e.Reason == "":
		return "publish: " + e.kind.Error()
	}
	return fmt.Sprintf("publish: %v: %s", e.kind, e.Reason)
}

// Unwrap is one of the errors of this package, or nil.
func (e *PublishError) Unwrap() error { return e.kind }

func publishError(failure *host.Failure) error {
	if failure == nil {
		return nil
	}
	kinds := map[uint32]error{
		host.PublishDenied: ErrDenied, host.PublishTooLarge: ErrTooLarge, host.PublishTimeout: ErrTimeout,
		host.PublishUnavailable: ErrUnavailable,
	}
	err := &PublishError{Reason: failure.Reason, kind: kinds[failure.Case]}
	if failure.Case == host.PublishTooLarge {
		err.Reason = fmt.Sprintf("more than %d bytes", failure.Number)
	}
	return err
}
