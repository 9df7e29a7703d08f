// Package random gives a plugin random numbers of the host's, if it is imported for that
// effect:
//
//	import _ "sandbar/random"
//
// The plugin then needs the grant "random". Without it crypto/rand ends the attempt with an
// error; math/rand works, and gives the same numbers in each instance.
package random
