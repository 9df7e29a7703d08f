// Package clocks gives a plugin the host's clocks, if it is imported for that effect:
//
//	import _ "sandbar/clocks"
//
// The plugin then needs the grant "clocks". Without it [time.Now] is the timestamp of the
// event in hand, so that a replay sees the same, and [time.Sleep] returns at once.
package clocks
