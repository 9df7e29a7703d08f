package clocks

// The build sees this import, and links the host's clocks.
//
//go:wasmimport wasi_snapshot_preview1 sandbar_host_clocks
func hostClocks()

func init() { hostClocks() }
