package agent

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/store"
)

// keepTipEvery is how often the newest pulse is written down: it is for saying after a restart since when nothing was heard.
const keepTipEvery = time.Minute

// mostDifferences bounds how many differing resources a beat names: beats are small.
const mostDifferences = 16

// beatNow lets the next beat be sent at once.
func (a *Agent) beatNow() {
	select {
	case a.wakeBeat <- struct{}{}:
	default:
	}
}

// beatOnChange lets a beat be sent at once when the condition changed.
func (a *Agent) beatOnChange() {
	if _, changed := a.evaluate(); changed {
		a.beatNow()
	}
}

// beats sends a beat in every interval, and at once when the bus came back or the condition changed.
func (a *Agent) beats(ctx context.Context) error {
	var number uint64
	every := a.opts.Intervals.Beat
	look := time.NewTicker(every / 10) // becoming stale is nobody's event
	defer look.Stop()
	var next, kept time.Time
	told := false // that the bus refuses it
	search := elsewhere{every: a.opts.Intervals.Pulse}
	for {
		status, changed := a.evaluate()
		now := time.Now()
		refused := status.Stale != nil && status.Stale.Reason == events.ReasonBusRefused
		if refused && !told {
			a.opts.Log.Error().Str("reason", string(events.ReasonBusRefused)).Msg(status.Stale.Message)
		}
		told = refused || told && !status.Connected
		if search.due(now, a.hearing.now().at, status.Connected) && a.conn.Move() {
			a.opts.Log.Info().Msg("no pulse of the publisher is heard; trying another server of the bus")
		}
		if changed || !now.Before(next) {
			number++
			a.sendBeat(number, status)
			next = now.Add(every - rand.N(every/5+1))
			if now.Sub(kept) >= keepTipEvery {
				a.keepHeard()
				kept = now
			}
		}
		select {
		case <-look.C:
		case <-a.wakeBeat:
			next = time.Time{}
		case <-ctx.Done():
			a.keepHeard()
			return nil
		}
	}
}

// keepHeard writes down what costs nothing to lose: the newest pulse, and which acks the bus has.
func (a *Agent) keepHeard() {
	tip, newer := a.hearing.unkept()
	sealed, grown := a.witness.unkept()
	taken := a.outbox.taken()
	if !newer && !grown && len(taken) == 0 {
		return
	}
	err := a.chain.keep(fault.AcksForgotten, func(tx *store.Tx) error {
		if newer {
			if err := tx.SetTip(&tip); err != nil {
				return err
			}
		}
		if grown {
			if err := tx.SetSeal(&sealed); err != nil {
				return err
			}
		}
		return tx.Taken(taken...)
	})
	if err != nil {
		a.outbox.untake(taken)
		a.opts.Log.Warn().Err(err).Msg("could not keep the newest pulse")
		return
	}
	a.hearing.keep(tip)
	a.witness.keptAs(sealed)
}

func (a *Agent) sendBeat(number uint64, s Status) {
	if !s.Connected {
		return // it is said again when the bus is back
	}
	beat := events.Beat{
		Environment: s.Environment, Agent: s.Agent, Ledger: s.Ledger, Boot: a.boot, Number: number, Version: s.Version, Clock: events.Stamp(a.opts.Clock()),
		Revision: s.Checkpoint.Revision, Chain: s.Checkpoint.Chain, State: s.Checkpoint.State, Observed: s.Checkpoint.Observed,
		Seen: s.Tip, Heard: a.hearing.now().counter, LastAck: s.LastAck, Condition: s.Condition.Word, Reason: s.Condition.Reason, Message: s.Condition.Message,
		Since: events.Stamp(s.Condition.Since), Until: s.Condition.Until,
		Drift: len(s.Differing), Differing: s.Differing[:min(len(s.Differing), mostDifferences)],
	}
	for _, c := range s.Connectors {
		beat.Connectors = append(beat.Connectors, c.Name)
	}
	for _, n := range s.Rejected {
		beat.Rejected += n
	}
	payload, signature, err := events.EncodeBeat(beat, a.signer)
	if err == nil {
		err = a.conn.PublishBeat(s.Environment, s.Agent, payload, signature)
	}
	if err != nil {
		a.opts.Log.Debug().Err(err).Msg("beat not sent")
	}
}
