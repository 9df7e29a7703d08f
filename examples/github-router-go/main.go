// Turns GitHub webhooks into small typed events, in order per repository.
package main

import (
	"context"
	"time"

	"sandbar"
)

// output is where the typed events go.
const output = "github.events"

// webhook is a webhook as a relay writes it: GitHub's event name and the body it posted.
type webhook struct {
	Event   *string `json:"event"`
	Payload *body   `json:"payload"`
}

// body has the few fields that are looked at; everything else is passed over.
type body struct {
	Action       *string     `json:"action"`
	Repository   *repository `json:"repository"`
	Organization *account    `json:"organization"`
	Sender       *account    `json:"sender"`
	Issue        *subject    `json:"issue"`
	PullRequest  *subject    `json:"pull_request"`
	Discussion   *subject    `json:"discussion"`
}

type repository struct {
	FullName *string `json:"full_name"`
}

type account struct {
	Login *string `json:"login"`
}

// subject is what an event is about.
type subject struct {
	Number    *uint64 `json:"number"`
	Title     *string `json:"title"`
	UpdatedAt *string `json:"updated_at"`
}

// typed is the event that is published; the same webhook always gives the same bytes.
type typed struct {
	Type         string  `json:"type"`
	Repository   *string `json:"repository"`
	Organization *string `json:"organization"`
	Sender       *string `json:"sender"`
	Action       *string `json:"action"`
	Number       *uint64 `json:"number"`
	Title        *string `json:"title"`
	At           *string `json:"at"`
}

func init() {
	sandbar.Handle(sandbar.Plugin{
		Name:        "github-router-go",
		Version:     "1.0.0",
		Description: "Turns GitHub webhooks into typed events keyed by repository",
		Topics:      []string{"github.webhooks"},
		Publishes:   []string{output},
		Handler:     sandbar.JSON(route),
		Ordering:    "key",
		Retry:       sandbar.RetryPolicy{MaxAttempts: 5, InitialDelay: 200 * time.Millisecond},
	})
}

func route(_ context.Context, event *sandbar.Event, hook webhook) ([]sandbar.Outgoing, error) {
	if err := hook.check(); err != nil {
		return nil, err
	}
	body := hook.Payload
	result := typed{Type: *hook.Event, Action: body.Action}
	if body.Action != nil {
		result.Type += "." + *body.Action
	}
	if body.Repository != nil {
		result.Repository = body.Repository.FullName
	}
	if body.Organization != nil {
		result.Organization = body.Organization.Login
	}
	if body.Sender != nil {
		result.Sender = body.Sender.Login
	}
	if s := first(body.PullRequest, body.Issue, body.Discussion); s != nil {
		result.Number, result.Title, result.At = s.Number, s.Title, s.UpdatedAt
	}
	payload, err := sandbar.Marshal(result)
	if err != nil {
		return nil, err
	}
	// events of one repository, or else of one organisation, stay in order
	key := "none"
	if name := first(result.Repository, result.Organization); name != nil {
		key = *name
	}
	return []sandbar.Outgoing{{
		Topic:   output,
		Key:     []byte(key),
		Payload: payload,
		Attributes: map[string]string{
			// an id that a redelivery repeats lets consumers find duplicates
			"id":     event.ID(),
			"source": "/github-router",
			"type":   result.Type,
		},
	}}, nil
}

func (w webhook) check() error {
	switch {
	case w.Event == nil:
		return sandbar.Rejectf("invalid-json", "missing field `event`")
	case w.Payload == nil:
		return sandbar.Rejectf("invalid-json", "missing field `payload`")
	case *w.Event == "":
		return sandbar.Rejectf("no-event-name", "`event` is empty")
	}
	return nil
}

// first is the first that is there.
func first[T any](candidates ...*T) *T {
	for _, candidate := range candidates {
		if candidate != nil {
			return candidate
		}
	}
	return nil
}

func main() {}
