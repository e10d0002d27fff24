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
	if trace := telemetry.TraceID(r.TraceParent); trace != "" {
		e = e.Str("trace", trace)
	}
	return e
}

// logRecorded says what agents said of releases, where somebody wants to read that much.
func (p *Publisher) logRecorded(recorded []gathered) {
	if !p.log.Debug().Enabled() {
		return
	}
	p.book.read(func(s *ledger.State) {
		for _, g := range recorded {
			e := s.Environments[g.delivery.Environment]
			if last := g.statement.Last; e != nil && last > 0 && last <= e.Head() {
				ofRelease(p.log.Debug(), e.Name, e.Releases[last-1]).Str("agent", g.delivery.Agent).Str("word", string(g.statement.Word)).Msg("recorded what an agent said")
			}
		}
	})
}
