package random

// The build sees this import, and links the host's random numbers.
//
//go:wasmimport wasi_snapshot_preview1 sandbar_host_random
func hostRandom()

func init() { hostRandom() }
