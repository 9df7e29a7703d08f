// Package metrics is counters and histograms of the plugin's own; the operator grants
// "metrics".
//
//	metrics.Count("orders", 1, "country", "de")
//	metrics.Observe("order_total_euro", 99.5)
//
// The runtime exports them as sandbar_plugin_user_NAME, with the plugin's name as a label. What
// is counted is counted at once, also in an attempt that fails later. Labels are for few
// values, not for ids: what goes beyond the runtime's bounds is dropped, counted, and told in
// the plugin's log.
package metrics

import "sandbar/internal/host"

// Count adds to a counter. Labels are names and values that alternate, as in log/slog; a name
// without a value is left out.
func Count(name string, delta uint64, labels ...string) {
	host.Count(name, delta, labels[:len(labels)/2*2])
}

// Observe adds an observation to a histogram; labels as in [Count].
func Observe(name string, value float64, labels ...string) {
	host.Observe(name, value, labels[:len(labels)/2*2])
}
