package bus

import (
	"testing"
	"time"
)

// Ten thousand agents lose their bus in one moment and come back evenly over the window that they are spread over, and over a larger
// one the longer the bus is away.
func TestReconnectsAreSpreadEvenly(t *testing.T) {
	const (
		agents = 10_000
		spread = 2 * time.Second
		parts  = 20
	)
	for attempt, window := range map[int]time.Duration{1: spread, 2: 2 * spread, 3: reconnectMost, 50: reconnectMost} {
		var at [parts]int
		for range agents {
			d := reconnectDelay(spread, attempt) - reconnectFirst/2
			if d < 0 || d >= window {
				t.Fatalf("attempt %d comes after %s, the window is %s", attempt, d, window)
			}
			at[int(d*parts/window)]++
		}
		for part, n := range at {
			if n > 2*agents/parts {
				t.Errorf("attempt %d: %d of %d agents come in part %d of %d", attempt, n, agents, part, parts)
			}
		}
	}
}
