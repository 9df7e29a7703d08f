package sandbar

import (
	"errors"
	"fmt"
	"time"
)

// RetryError asks for another delivery; it uses up one attempt, then the event goes to the
// dead-letter queue. Every error that is none of this package's counts as one.
type RetryError struct {
	// Err is the cause, for people.
	Err error
	// Delay before the next attempt; the host clamps it to the policy's maximum. Zero
	// follows the policy.
	Delay time.Duration
}

// Retryf makes a [RetryError]; it takes %w as [fmt.Errorf] does.
func Retryf(format string, args ...any) *RetryError {
	return &RetryError{Err: fmt.Errorf(format, args...)}
}

// After asks for this delay before the next attempt.
func (e *RetryError) After(delay time.Duration) *RetryError {
	return &RetryError{Err: e.Err, Delay: delay}
}

func (e *RetryError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *RetryError) Unwrap() error { return e.Err }

// RejectError sends the event straight to the dead-letter queue.
type RejectError struct {
	// Code is stable and machine-readable; dead letters are grouped by it.
	Code string
	// Err is the cause, for people.
	Err error
}

// Rejectf makes a [RejectError]; it takes %w as [fmt.Errorf] does.
func Rejectf(code, format string, args ...any) *RejectError {
	return &RejectError{Code: code, Err: fmt.Errorf(format, args...)}
}

func (e *RejectError) Error() string { return e.Code + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *RejectError) Unwrap() error { return e.Err }

// SkipError says that the event is not for this plugin: it is acknowledged and counted as
// skipped.
type SkipError struct {
	// Reason is for people.
	Reason string
}

// Skipf makes a [SkipError].
func Skipf(format string, args ...any) *SkipError {
	return &SkipError{Reason: fmt.Sprintf(format, args...)}
}

func (e *SkipError) Error() string { return "skipped: " + e.Reason }

// DeferError says that something the plugin depends on is down: the whole plugin is paused,
// then the event is delivered again without using up an attempt.
type DeferError struct {
	// Pause is counted in whole milliseconds.
	Pause time.Duration
}

// Defer makes a [DeferError].
func Defer(pause time.Duration) *DeferError { return &DeferError{Pause: pause} }

func (e *DeferError) Error() string { return fmt.Sprintf("deferred for %v", e.Pause) }

// verdict finds what a handler's error asks for; one of the four types above.
func verdict(err error) error {
	var (
		retry  *RetryError
		reject *RejectError
		skip   *SkipError
		pause  *DeferError
	)
	switch {
	case errors.As(err, &reject):
		// the text around it is for people too
		if err == error(reject) {
			return reject
		}
		return &RejectError{Code: reject.Code, Err: err}
	case errors.As(err, &skip):
		return skip
	case errors.As(err, &pause):
		return pause
	case errors.As(err, &retry):
		if err == error(retry) {
			return retry
		}
		return &RetryError{Err: err, Delay: retry.Delay}
	}
	return &RetryError{Err: err}
}
