//go:build !wasip1

package host

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Fake is what an operator must grant, in memory.
type Fake struct {
	Secrets map[string][]byte
	// Keys and values, and the versions of these.
	State    map[string][]byte
	versions map[string]uint64
	version  uint64
	// What was published, in order.
	Published []any
	// FailPublish is the error of the next call to publish.
	FailPublish *Failure
	// Name and labels to what was added.
	Counters   map[string]uint64
	Histograms map[string][]float64
}

// fake is that of the facts in force.
func fake() *Fake {
	mutex.Lock()
	defer mutex.Unlock()
	if facts.Fake == nil {
		facts.Fake = &Fake{}
	}
	return facts.Fake
}

// StateGet is the value of a key and its version.
func StateGet(key string) (value []byte, version uint64, ok bool, failed *Failure) {
	f := fake()
	value, ok = f.State[key]
	return slices.Clone(value), f.versions[key], ok, nil
}

// StateSet sets a key; the stand-in keeps it for good.
func StateSet(key string, value []byte, _ uint64) *Failure {
	f := fake()
	if f.State == nil {
		f.State = map[string][]byte{}
	}
	if f.versions == nil {
		f.versions = map[string]uint64{}
	}
	f.version++
	f.State[key], f.versions[key] = slices.Clone(value), f.version
	return nil
}

// StateCompareAndSet sets a key that still has this version, or still is not there for nil.
func StateCompareAndSet(key string, value []byte, expected *uint64, ttl uint64) *Failure {
	_, version, ok, _ := StateGet(key)
	if ok != (expected != nil) || (ok && version != *expected) {
		return &Failure{Case: StateConflict}
	}
	return StateSet(key, value, ttl)
}

// StateIncrement adds to a counter.
func StateIncrement(key string, delta int64) (int64, *Failure) {
	value, _, _, _ := StateGet(key)
	before, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil && len(value) > 0 {
		return 0, &Failure{Case: StateOther, Reason: err.Error()}
	}
	return before + delta, StateSet(key, strconv.AppendInt(nil, before+delta, 10), 0)
}

// StateDelete removes a key.
func StateDelete(key string) *Failure {
	delete(fake().State, key)
	return nil
}

// StateListKeys is a page of keys, after the cursor where there is one.
func StateListKeys(prefix string, cursor *string, limit uint32) ([]string, *Failure) {
	var page []string
	for _, key := range slices.Sorted(maps.Keys(fake().State)) {
		if strings.HasPrefix(key, prefix) && (cursor == nil || key > *cursor) && len(page) < int(limit) {
			page = append(page, key)
		}
	}
	return page, nil
}

// Publish keeps an event.
func Publish(events []any) *Failure {
	f := fake()
	if failed := f.FailPublish; failed != nil {
		f.FailPublish = nil
		return failed
	}
	f.Published = append(f.Published, events...)
	return nil
}

// Secret is the secret of that name.
func Secret(name string) (value []byte, ok bool) {
	value, ok = fake().Secrets[name]
	return slices.Clone(value), ok
}

// Count adds to a counter.
func Count(name string, delta uint64, labels []string) {
	f := fake()
	if f.Counters == nil {
		f.Counters = map[string]uint64{}
	}
	f.Counters[Series(name, labels)] += delta
}

// Observe adds to a histogram.
func Observe(name string, value float64, labels []string) {
	f := fake()
	if f.Histograms == nil {
		f.Histograms = map[string][]float64{}
	}
	series := Series(name, labels)
	f.Histograms[series] = append(f.Histograms[series], value)
}

// Series is a name and its labels, names and values alternating, in the order of the names.
func Series(name string, labels []string) string {
	var pairs []string
	for pair := range slices.Chunk(labels, 2) {
		pairs = append(pairs, strings.Join(pair, "="))
	}
	slices.Sort(pairs)
	return strings.Join(append([]string{name}, pairs...), "\n")
}
