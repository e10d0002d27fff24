package agent

import (
	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/telemetry"
)

// about adds to a log line which release it is about; the environment stands in every line of an agent.
func (r received) about(e *zerolog.Event) *zerolog.Event {
	e = e.Uint64("revision", r.Revision)
	switch {
	case r.content.Change != nil:
		e = e.Str("change", r.content.Change.ID)
	case r.content.Rollback != nil:
		e = e.Str("change", r.content.Rollback.ID)
	}
	if trace := telemetry.TraceID(r.parent); trace != "" {
		e = e.Str("trace", trace)
	}
	return e
}

// newest is the last release that waits: the one whose state is the target. Where none waits, nothing but the revision is known.
func (c *chain) newest() received {
	if n := len(c.waiting); n > 0 {
		return c.waiting[n-1].release
	}
	return received{Release: bus.Release{Revision: c.target.Revision}}
}
