package host

// Failure is a case of an error variant of the host's, as the interface numbers them.
type Failure struct {
	Case   uint32
	Reason string
	Number uint64
}

// The cases of `state-error`.
const (
	StateConflict uint32 = iota
	StateQuota
	StateUnavailable
	StateOther
)

// The cases of `publish-error`.
const (
	PublishDenied uint32 = iota
	PublishTooLarge
	PublishTimeout
	PublishUnavailable
	PublishOther
)
