// Package host is the plugin's side of the boundary: the imports. Built for anything but
// WebAssembly it has stand-ins, so that handlers run in unit tests.
package host

// Level of a log line.
type Level uint32

// The levels, as the host numbers them.
const (
	Trace Level = iota
	Debug
	Info
	Warn
	Error
	Critical
)
