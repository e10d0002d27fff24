package publisher

import (
	"github.com/rs/zerolog"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/telemetry"
)

// ofRelease adds to a log line which release it is about: a trace can be followed from the command through every environment.
func ofRelease(e *zerolog.Event, environment string, r ledger.Release) *zerolog.Event {
	e = e.Str("environment", environment).Uint64("revision", r.Revision)
	if r.Change != "" {
		e = e.Str("change", r.Change)
	}
	return inTrace(e, r.TraceParent)
}

// ofChange adds to a log line which change it is about, and where: as it was released to an environment, or in all of its environments.
func ofChange(e *zerolog.Event, s *ledger.State, id, environment string) *zerolog.Event {
	c := s.Changes[id]
	switch {
	case c == nil && environment == "":
		return e
	case c == nil:
		return e.Str("environment", environment)
	}
	if part, found := c.PartFor(environment); found && part.Revision > 0 {
		return ofRelease(e, environment, s.Environments[environment].Releases[part.Revision-1])
	}
	e = inTrace(e.Str("change", id), c.TraceParent)
	if environment != "" {
		return e.Str("environment", environment)
	}
	return e.Strs("environments", environmentsOf(c))
}

func environmentsOf(c *ledger.Change) (names []string) {
	for _, part := range c.Parts {
		names = append(names, part.Environment)
	}
	return names
}

// inTrace adds to a log line the trace of a W3C trace context, where that is one.
func inTrace(e *zerolog.Event, parent string) *zerolog.Event {
	if trace := telemetry.TraceID(parent); trace != "" {
		e = e.Str("trace", trace)
	}
	return e
}

// ofStatement adds to a log line which agent said something of which release.
func ofStatement(e *zerolog.Event, s *ledger.State, g gathered) *zerolog.Event {
	environment := s.Environments[g.delivery.Environment]
	if last := g.statement.Last; environment != nil && last > 0 && last <= environment.Head() {
		e = ofRelease(e, environment.Name, environment.Releases[last-1])
	}
	return e.Str("agent", g.delivery.Agent).Str("word", string(g.statement.Word))
}

// logDecided says what was decided, where somebody wants to read that much.
func (p *Publisher) logDecided(c ledger.Command, out ledger.Outcome) {
	if out.Change == "" || !p.log.Debug().Enabled() {
		return
	}
	var environments []string
	p.book.read(func(s *ledger.State) {
		if change := s.Changes[out.Change]; change != nil {
			environments = environmentsOf(change)
		}
	})
	inTrace(p.log.Debug().Str("change", out.Change).Strs("environments", environments), c.TraceParent).Str("verb", c.Verb()).Uint64("entry", out.Entry).Msg("decided")
}

// logRecorded says what agents said of releases, where somebody wants to read that much.
func (p *Publisher) logRecorded(recorded []gathered) {
	if !p.log.Debug().Enabled() {
		return
	}
	p.book.read(func(s *ledger.State) {
		for _, g := range recorded {
			ofStatement(p.log.Debug(), s, g).Msg("recorded what an agent said")
		}
	})
}
