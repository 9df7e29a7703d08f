package main

import (
	"context"
	"os"
	"strings"
	"testing"

	"sandbar"
)

func run(payload string) (*sandbar.Outgoing, error) {
	event := &sandbar.Event{Topic: "github.webhooks", Position: 7, Payload: []byte(payload)}
	outputs, err := sandbar.JSON(route)(context.Background(), event)
	if err != nil {
		return nil, err
	}
	return &outputs[0], nil
}

func TestAWebhookBecomesATypedEventOfItsRepository(t *testing.T) {
	output, err := run(`{"event":"pull_request","payload":{"action":"opened","issue":null,
		"pull_request":{"number":2,"title":"Say \"hi\" <now>","updated_at":"2019-05-15T15:20:33Z"},
		"repository":{"full_name":"o/r"},"sender":{"login":"ada"}}}`)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"type":"pull_request.opened","repository":"o/r","organization":null,"sender":"ada",` +
		`"action":"opened","number":2,"title":"Say \"hi\" <now>","at":"2019-05-15T15:20:33Z"}`
	if got := string(output.Payload); got != want {
		t.Errorf("%s", got)
	}
	if string(output.Key) != "o/r" || output.Attributes["id"] != "github.webhooks/0/7" {
		t.Errorf("%s %v", output.Key, output.Attributes)
	}
}

func TestMalformedLinesAreRejectedAndSayWhy(t *testing.T) {
	for line, what := range map[string]string{
		"":                 "invalid-json: unexpected end",
		`{"event":"push"}`: "missing field `payload`",
		`{"event":"push","payload":{"action":1}}`: "at payload.action",
		`{"event":"","payload":{}}`:               "no-event-name: `event` is empty",
	} {
		if _, err := run(line); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestAllRealWebhooksAreRouted(t *testing.T) {
	webhooks, err := os.ReadFile("../data/github-webhooks.ndjson")
	if err != nil {
		t.Skip("the webhooks are in the repository only: ", err)
	}
	keys := map[string]int{}
	for line := range strings.Lines(string(webhooks)) {
		output, err := run(line)
		if err != nil {
			t.Fatal(err, line)
		}
		keys[string(output.Key)]++
	}
	if keys["Codertocat/Hello-World"] != 230 {
		t.Error(keys)
	}
}
