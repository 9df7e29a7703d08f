//go:build !wasip1

package sandbartest_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"sandbar"
	"sandbar/metrics"
	"sandbar/sandbartest"
	"sandbar/secrets"
	"sandbar/state"
)

func TestStateIsKeptComparedCountedAndListed(t *testing.T) {
	sandbartest.Set(t, sandbartest.Host{State: map[string]string{"k": "v"}})
	entry, err := state.Load("k")
	if err != nil || string(entry.Value) != "v" {
		t.Fatalf("%v, %v", entry, err)
	}
	if err := state.CompareAndSet("k", []byte("w"), entry, time.Hour); err != nil {
		t.Fatal(err)
	}
	for _, stale := range []*state.Entry{entry, nil} {
		if err := state.CompareAndSet("k", nil, stale, 0); !errors.Is(err, state.ErrConflict) {
			t.Errorf("no conflict: %v", err)
		}
	}
	for _, want := range []int64{2, 4} {
		if sum, err := state.Increment("n", 2); sum != want || err != nil {
			t.Errorf("%d, %v", sum, err)
		}
	}
	var keys []string
	for key, err := range state.Keys("") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	if !slices.Equal(keys, []string{"k", "n"}) {
		t.Errorf("%q", keys)
	}
	if err := state.Delete("k"); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := state.Get("k"); ok || err != nil {
		t.Errorf("still there, %v", err)
	}
}

func TestWhatIsPublishedAndCountedIsSeen(t *testing.T) {
	seen := sandbartest.Set(t, sandbartest.Host{})
	if err := sandbar.Publish(sandbar.Outgoing{Topic: "t"}); err != nil {
		t.Fatal(err)
	}
	seen.FailPublish("by the test")
	if err := sandbar.Publish(sandbar.Outgoing{Topic: "u"}); !errors.Is(err, sandbar.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if published := seen.Published(); len(published) != 1 || published[0].Topic != "t" {
		t.Errorf("%v", published)
	}
	metrics.Count("seen", 1, "b", "2", "a", "1")
	metrics.Count("seen", 2, "a", "1", "b", "2")
	metrics.Observe("size", 1.5)
	if n := seen.Counted("seen", "a", "1", "b", "2"); n != 3 {
		t.Errorf("%d", n)
	}
	if all := seen.Observed("size"); !slices.Equal(all, []float64{1.5}) {
		t.Errorf("%v", all)
	}
}

func TestASecretIsThereOrNamed(t *testing.T) {
	sandbartest.Set(t, sandbartest.Host{Secrets: map[string]string{"token": "x"}})
	if token, err := secrets.Require("token"); token != "x" || err != nil {
		t.Errorf("%q, %v", token, err)
	}
	_, err := secrets.Require("other")
	if err == nil || err.Error() != "secret `other` is not granted: add it under `secrets` of this plugin" {
		t.Errorf("%v", err)
	}
}
