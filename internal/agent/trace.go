package agent

import (
	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/telemetry"
	"github.com/lockstep-dev/lockstep/pkg/store"
)

// A subject is the release that a log line is about; the environment stands in every line of an agent.
type subject struct {
	revision uint64
	change   string // empty: the release is of a trust document
	trace    string // empty: it was decided in none
}

// about adds to a log line which release it is about: a trace can be followed from the command to the instance.
func (s subject) about(e *zerolog.Event) *zerolog.Event {
	e = e.Uint64("revision", s.revision)
	if s.change != "" {
		e = e.Str("change", s.change)
	}
	if s.trace != "" {
		e = e.Str("trace", s.trace)
	}
	return e
}

func (r received) subject() subject {
	s := subject{revision: r.Revision, trace: telemetry.TraceID(r.parent)}
	switch {
	case r.content.Change != nil:
		s.change = r.content.Change.ID
	case r.content.Rollback != nil:
		s.change = r.content.Rollback.ID
	}
	return s
}

func (r received) about(e *zerolog.Event) *zerolog.Event { return r.subject().about(e) }

// atCheckpoint is the release of the checkpoint, for lines about the instance; before the first there is none.
func (c *chain) atCheckpoint(e *zerolog.Event) *zerolog.Event { return c.at.about(e) }

// newest is the last release that waits: the one whose state is the target. Where none waits it is the checkpoint's, or, where the
// apply of another one is being put back, nothing but its revision is known.
func (c *chain) newest() subject {
	if n := len(c.waiting); n > 0 {
		return c.waiting[n-1].release.subject()
	}
	if c.target.Revision == c.at.revision {
		return c.at
	}
	return subject{revision: c.target.Revision}
}

// subjectOf is the release of a checkpoint that is read at the start.
func subjectOf(tx *store.Tx, checkpoint store.Checkpoint) (subject, error) {
	s := subject{revision: checkpoint.Revision, trace: telemetry.TraceID(checkpoint.TraceParent)}
	r, err := tx.Record(checkpoint.Revision)
	if r != nil {
		s.change = r.Change
	}
	return s, err
}
