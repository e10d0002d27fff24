package publisher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

const (
	// recheckInterval is how often a running publisher looks whether the ledger still is what it was (guarantee 12).
	recheckInterval = 10 * time.Second
	// busRetry is the pause before a bus that did not answer is asked again; a reconnect asks at once.
	busRetry = time.Second
	// beatWait is how long the first check waits for a beat of every agent that was alive.
	beatWait = 12 * time.Second
)

// watchLedger keeps the book equal to the ledger: it checks, follows, and begins again when the connection comes back, something
// happens to the stream, or a command's outcome is unknown. While a check finds something the ledger is read-only, with the reason.
func (p *Publisher) watchLedger(ctx context.Context) error {
	for {
		err := p.checkLedger(ctx)
		if err == nil {
			p.book.stand(standing{writable: true})
			p.log.Info().Uint64("entry", p.book.number()).Msg("the ledger is checked and open")
			err = p.followLedger(ctx)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.As(err, new(fatal)) {
			return err
		}
		pause := p.noteTrouble(err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.recheck:
		case <-time.After(pause):
		}
	}
}

// noteTrouble makes the ledger read-only and says when to look again. Commands wait for a check, and are refused otherwise.
func (p *Publisher) noteTrouble(err error) (pause time.Duration) {
	if err == nil || errors.Is(err, errRecheck) {
		p.book.stand(standing{checking: true, reason: events.ReasonStartup, message: "the ledger is being checked again"})
		return 0
	}
	reason := reasonOf(err)
	if p.book.stand(standing{reason: reason, message: err.Error()}) {
		p.log.Error().Err(err).Str("reason", string(reason)).Msg("the ledger is read-only")
	}
	if reason == events.ReasonBusDown {
		return busRetry
	}
	return p.opts.recheck()
}

var errRecheck = errors.New("the ledger is to be checked again")

// checkLedger reads the whole ledger and compares it with what is known of it here, on the bus, and at the agents.
func (p *Publisher) checkLedger(ctx context.Context) error {
	began := time.Now()
	if err := p.openStreams(ctx); err != nil {
		return err
	}
	if err := p.compareEnd(ctx); err != nil {
		return err
	}
	if err := p.conn.ReadLedger(ctx, 1, p.book.readBack); err != nil {
		return err
	}
	if err := p.compareHeads(ctx); err != nil {
		return err
	}
	p.announceKnown()
	if err := p.conn.ReadBeats(ctx, p.takeBeat); err != nil {
		return err
	}
	if err := p.compareBeats(ctx, began); err != nil {
		return err
	}
	return p.begin(ctx)
}

// announceKnown lets acks and beats in. Only watchLedger calls it.
func (p *Publisher) announceKnown() {
	select {
	case <-p.known:
	default:
		close(p.known)
	}
}

// openStreams makes the streams that are missing and checks the others.
func (p *Publisher) openStreams(ctx context.Context) error {
	var id string
	p.book.read(func(s *ledger.State) { id = s.ID })
	found, err := p.conn.EnsureStreams(ctx, bus.StreamOptions{LedgerID: id, Replicas: p.opts.Replicas, LeaseTTL: p.opts.LeaseTTL})
	if err != nil {
		return err
	}
	if id != "" && found != id {
		return events.Errorf(events.ReasonLedgerForked, "the bus holds ledger %s, and this data directory is of ledger %s: give it a directory of its own", found, id)
	}
	p.book.mu.Lock()
	defer p.book.mu.Unlock()
	p.book.state.ID = found
	return nil
}

// compareEnd compares the ledger's extent with what is known here: shorter is cut, fewer messages than numbers is holed.
func (p *Publisher) compareEnd(ctx context.Context) error {
	info, err := p.conn.LedgerEnd(ctx)
	if err != nil {
		return err
	}
	p.reports.setBusTime(info.Now, time.Now())
	known := p.book.number()
	switch {
	case info.Last < known:
		return events.Errorf(events.ReasonLedgerTruncated, "the bus's ledger ends at entry %d, and %d entries are known here", info.Last, known)
	case info.Messages != info.Last || (info.Last > 0 && info.First != 1):
		return events.Errorf(events.ReasonLedgerTruncated, "the bus's ledger holds %d entries between %d and %d: some are missing", info.Messages, info.First, info.Last)
	}
	return nil
}

// compareHeads compares with the releases on the bus: a signed one that the ledger does not know shows that it was cut or forked.
func (p *Publisher) compareHeads(ctx context.Context) error {
	counts, err := p.conn.ReleaseCounts(ctx)
	if err != nil {
		return err
	}
	for environment := range counts {
		if events.CheckName(environment) != nil {
			continue // no environment's subject: the sender removes it
		}
		head, err := p.conn.Head(ctx, environment)
		if err != nil {
			return err
		}
		if err := p.compareHead(environment, head); err != nil {
			return err
		}
	}
	return nil
}

func (p *Publisher) compareHead(environment string, head bus.Stored) (err error) {
	of, revision, previous, peek := events.PeekRelease(head.Payload)
	if head.Sequence == 0 || peek != nil || of != environment {
		return nil
	}
	chain := events.Chain(previous, head.Payload)
	p.book.read(func(s *ledger.State) {
		if trust := s.Trust(); trust != nil && events.VerifyWave(s.ID, chain, head.Signature, trust.AllowsPublisher) != nil {
			return // not ours: the sender removes it
		} else if trust == nil && events.VerifyWave(s.ID, chain, head.Signature, func(key string) bool { return key == p.signer.Public() }) != nil {
			return
		}
		err = contradiction(s, environment, revision, chain, "the release stream")
	})
	return err
}

// contradiction says that somebody holds a revision which the ledger has not released.
func contradiction(s *ledger.State, environment string, revision uint64, chain events.Digest, who string) error {
	e, known := s.Environments[environment]
	switch {
	case revision == 0:
		return nil
	case !known || revision > e.Head():
		return events.Errorf(events.ReasonLedgerTruncated, "%s holds revision %d of %s, which is not in the ledger any more", who, revision, environment)
	case e.Releases[revision-1].Chain != chain:
		return events.Errorf(events.ReasonLedgerForked, "%s holds another revision %d of %s than the ledger released", who, revision, environment)
	}
	return nil
}

// compareBeats compares with one beat of every agent that was last seen alive, waiting for it at most beatWait.
func (p *Publisher) compareBeats(ctx context.Context, began time.Time) error {
	wait, cancel := context.WithTimeout(ctx, p.opts.beatWait())
	defer cancel()
	missing, err := p.reports.awaitBeats(wait, began)
	if err != nil {
		return err
	}
	for _, id := range missing {
		p.log.Warn().Str("environment", id.Environment).Str("agent", id.Agent).Msg("the agent was alive, and did not beat while the ledger was checked")
	}
	for id, beat := range p.reports.beats() {
		if err := p.judgeBeat(id, beat); err != nil {
			return err
		}
	}
	return nil
}

// judgeBeat compares what an agent holds, and the newest entry it has heard of, with the ledger.
func (p *Publisher) judgeBeat(id fleet.AgentID, beat fleet.Beat) (err error) {
	who := fmt.Sprintf("agent %s of %s", id.Agent, id.Environment)
	p.book.mu.RLock()
	defer p.book.mu.RUnlock()
	s := p.book.state
	if e, known := s.Environments[id.Environment]; known && e.Agents[id.Agent] != nil && e.Agents[id.Agent].Revoked {
		return nil
	}
	if err := contradiction(s, id.Environment, beat.Revision, beat.Chain, who); err != nil {
		return err
	}
	switch seen := beat.Seen; {
	case seen.Number > s.Number:
		return events.Errorf(events.ReasonLedgerTruncated, "%s has heard of entry %d, and the ledger ends at %d", who, seen.Number, s.Number)
	case seen.Number > 0 && p.book.hashes[seen.Number-1] != seen.Hash:
		return events.Errorf(events.ReasonLedgerForked, "%s has heard of another entry %d than the ledger holds", who, seen.Number)
	}
	return nil
}

// begin makes the first entry of a new ledger, and makes sure that this publisher's key is one that agents believe.
func (p *Publisher) begin(ctx context.Context) error {
	var trust *events.Trust
	p.book.read(func(s *ledger.State) { trust = s.Trust() })
	if trust == nil {
		p.book.commit.Lock()
		defer p.book.commit.Unlock()
		d, err := p.book.decide(ledger.Command{By: "publisher", Body: ledger.Genesis{Publisher: p.signer.Public()}})
		if err != nil {
			return err
		}
		_, err = p.book.appendDecision(ctx, d)
		return err
	}
	if !trust.AllowsPublisher(p.signer.Public()) {
		return fatal{fmt.Errorf("the key in %s is none that the ledger's trust document names: copy publisher.key from the first publisher's data directory", p.opts.Data)}
	}
	return nil
}

// followLedger reads entries as they come, and looks at the ledger's end from time to time, until something is to be checked.
func (p *Publisher) followLedger(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		cancel(p.watchEnd(ctx))
	}()
	err := p.conn.FollowLedger(ctx, p.book.copied()+1, p.book.readBack)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// watchEnd returns when the ledger is to be checked again, with the reason.
func (p *Publisher) watchEnd(ctx context.Context) error {
	tick := time.NewTicker(p.opts.recheck())
	defer tick.Stop()
	for {
		now, changed := p.book.standingNow()
		if !now.writable {
			return errRecheck // the bus is gone, or a command's outcome is unknown
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-p.recheck:
			return errRecheck
		case <-tick.C:
			if err := p.compareEnd(ctx); err != nil && ctx.Err() == nil {
				return err
			}
			for id, beat := range p.reports.beats() {
				if p.judgeBeat(id, beat) != nil {
					return errRecheck // another publisher may be ahead of what was read here: the check decides
				}
			}
		}
	}
}
