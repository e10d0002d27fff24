package agent

import (
	"math/rand/v2"
	"time"
)

// mostDoublings bounds how rare the tries become: with pulses every 15 s they are a quarter of an hour apart in the end.
const mostDoublings = 4

// elsewhere says when another server of the bus is worth a try. A server that is cut off from the others of its cluster keeps its
// clients, and goes on answering what it can answer alone; only pulses do not come any more. A publisher that is gone takes the pulses
// from every server, so the tries become rare. It is for one goroutine.
type elsewhere struct {
	every time.Duration // between pulses
	heard time.Time     // the newest pulse
	next  time.Time     // when it is time for a try
	tries int           // since that pulse
}

// due says whether to try now, given the newest pulse since the start. It is asked often.
func (e *elsewhere) due(now, pulse time.Time, connected bool) bool {
	switch {
	case pulse.After(e.heard):
		e.heard, e.tries = pulse, 0
	case connected && !e.next.IsZero() && now.Before(e.next):
		return false
	case connected && !e.next.IsZero():
		e.tries++
		e.wait(now)
		return true
	}
	e.wait(now)
	return false
}

// wait is as long as it takes to be stale, longer after each try, and not as long as other agents do who lost the same server.
func (e *elsewhere) wait(from time.Time) {
	e.next = from.Add(pulsesMissed*e.every<<min(e.tries, mostDoublings) + rand.N(e.every))
}
