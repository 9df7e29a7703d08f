package sandbar

import (
	"fmt"
	"runtime"
	"strings"
)

// crashText is what a dead letter says of a panic: its message, its place, and the calls
// that led there from the handler. Called by the function that recovered.
func crashText(recovered any) string {
	var counters [64]uintptr
	frames := runtime.CallersFrames(counters[:runtime.Callers(2, counters[:])])
	var text strings.Builder
	fmt.Fprint(&text, recovered)
	panicked, placed := false, false
	for {
		frame, more := frames.Next()
		switch ours := strings.HasPrefix(frame.Function, "sandbar."); {
		case strings.HasPrefix(frame.Function, "runtime."):
			panicked = panicked || frame.Function == "runtime.gopanic"
		case !panicked || ours && !placed:
			// the recovering function
		case ours:
			// below is the SDK's own call of the handler
			return text.String()
		case !placed:
			placed = true
			fmt.Fprintf(&text, " (%s:%d)\n  in %s", frame.File, frame.Line, frame.Function)
		default:
			fmt.Fprintf(&text, "\n  by %s (%s:%d)", frame.Function, frame.File, frame.Line)
		}
		if !more {
			return text.String()
		}
	}
}
