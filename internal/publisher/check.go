package publisher

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// busRetry is the pause before a bus that did not answer is asked again; a reconnect asks at once.
const busRetry = time.Second

// watchLedger keeps the book equal to the ledger: it checks, follows, and begins again when the connection comes back, something
// happens to the stream, or a command's outcome is unknown (guarantee 12). When a check finds something the ledger is read-only,
// with the reason.
func (p *Publisher) watchLedger(ctx context.Context) error {
	began, opened := time.Now(), false
	for ctx.Err() == nil {
		doubts := p.book.doubted()
		err := p.checkLedger(ctx)
		switch {
		case err != nil:
			p.trouble(ctx, err, !opened && time.Since(began) < startPatience)
		case p.book.open(doubts):
			opened = true
			p.log.Info().Uint64("entry", p.book.number()).Msg("the ledger is checked and open")
			p.noteVerified()
			err := p.followLedger(ctx)
			if ctx.Err() != nil {
				return ctx.Err() // it is stopped
			}
			p.log.Info().AnErr("because", err).Msg("the ledger is checked again")
			p.book.checkAgain(events.ReasonStartup, "the ledger is being checked again")
		}
	}
	return ctx.Err()
}

// startPatience is how long a bus may be slow at the start before that is trouble: streams are made on disks that may be busy.
const startPatience = time.Minute

// slow says that the bus was reached and did not answer in time.
func slow(err error) bool {
	return errors.Is(err, bus.ErrUnavailable) && errors.Is(err, context.DeadlineExceeded)
}

// makeStreams is openStreams at the start of a publisher: a bus that is slow then is asked again.
func (p *Publisher) makeStreams(ctx context.Context) error {
	for began := time.Now(); ; {
		err := p.openStreams(ctx)
		if !slow(err) || time.Since(began) > startPatience {
			return err
		}
		p.log.Warn().Err(err).Msg("the bus does not answer yet; asking again")
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(busRetry):
		}
	}
}

// trouble makes the ledger read-only and waits until it is time to look again. At the start commands wait for a bus that is slow.
func (p *Publisher) trouble(ctx context.Context, err error, starting bool) {
	if ctx.Err() != nil {
		return
	}
	reason, pause := reasonOf(err), p.opts.Recheck
	if reason == events.ReasonBusDown {
		pause = busRetry
	}
	if starting && slow(err) {
		p.book.doubt(standing{checking: true, reason: events.ReasonStartup, message: "the bus does not answer yet: " + err.Error()})
		p.log.Warn().Err(err).Msg("the bus does not answer yet; asking again")
	} else if p.book.doubt(standing{reason: reason, message: messageOf(err)}) {
		p.log.Error().Err(err).Str("reason", string(reason)).Msg("the ledger is read-only")
	}
	select {
	case <-ctx.Done():
	case <-p.recheck:
	case <-time.After(pause):
	}
}

// checkLedger reads the whole ledger and compares it with what is known of it here, on the bus, and at the agents.
func (p *Publisher) checkLedger(ctx context.Context) error {
	select {
	case <-p.recheck: // whatever it was about is looked at now
	default:
	}
	began := time.Now()
	err := p.readLedger(ctx)
	if err == nil || isLedgerTrouble(err) {
		p.announceKnown()
	}
	if err != nil {
		return err
	}
	if err := p.counts(); err != nil {
		return err
	}
	if err := p.compareReleases(ctx); err != nil {
		return err
	}
	if err := p.compareBeats(ctx, began); err != nil {
		return err
	}
	if err := p.replicate(ctx); err != nil {
		return err
	}
	return p.begin(ctx)
}

// replicate gives the other streams the ledger's replicas: after a check, because some are made anew, and were evidence until then.
func (p *Publisher) replicate(ctx context.Context) error {
	changed, err := p.conn.Replicate(ctx)
	if len(changed) > 0 {
		p.log.Info().Strs("streams", changed).Msg("these streams have as many replicas as the ledger now; what was in them is sent again")
	}
	return err
}

// readLedger reads the ledger to its end, each entry being compared or applied.
func (p *Publisher) readLedger(ctx context.Context) error {
	if err := p.openStreams(ctx); err != nil {
		return err
	}
	if err := p.compareEnd(ctx); err != nil {
		return err
	}
	if err := p.conn.ReadLedger(ctx, 1, p.book.readBack); err != nil {
		return err
	}
	var began uint64
	p.book.read(func(s *ledger.State) { began = s.Recovering() })
	if began > 0 {
		return events.Errorf(events.ReasonLedgerTruncated, "the recovery that begins at entry %d has no end: run the repair again", began)
	}
	return nil
}

// announceKnown lets acks and beats in, and this publisher lead. Only watchLedger's goroutine calls it.
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
	var found string
	err := p.opts.Fault.Step(fault.StreamsMade, func() (err error) {
		found, err = p.conn.EnsureStreams(ctx, bus.StreamOptions{LedgerID: id, Found: p.founds(), Replicas: p.opts.Replicas, LeaseTTL: p.opts.LeaseTTL})
		return err
	})
	if setting, ok := errors.AsType[*bus.SettingError](err); ok && setting.Stream == events.StreamLedger {
		return p.whichLedger(ctx, id, err)
	}
	if err != nil {
		return err
	}
	p.book.mu.Lock()
	defer p.book.mu.Unlock()
	p.book.state.ID = found
	return nil
}

// whichLedger says what a LEDGER with other settings is: another ledger, one that lost entries by those settings, or only unsafe.
func (p *Publisher) whichLedger(ctx context.Context, id string, setting error) error {
	info, err := p.conn.LedgerEnd(ctx)
	if err != nil {
		return err
	}
	if id != "" && info.ID != id {
		return events.Errorf(events.ReasonLedgerForked, "the bus holds ledger %q, and this data directory is of ledger %s: give it a directory or a bus of its own", info.ID, id)
	}
	if err := p.compareEnd(ctx); err != nil {
		return err
	}
	return setting
}

// compareEnd compares the ledger's extent with what is known here: shorter is cut, fewer messages than numbers is holed.
func (p *Publisher) compareEnd(ctx context.Context) error {
	known := p.book.number() // before the bus is asked: this publisher may be appending
	info, err := p.conn.LedgerEnd(ctx)
	if err != nil {
		return err
	}
	p.book.setBusTime(info.Now, time.Now())
	switch {
	case info.Last < known:
		return events.Errorf(events.ReasonLedgerTruncated, "the bus's ledger ends at entry %d, and %d entries are known here", info.Last, known)
	case info.Messages != info.Last || (info.Last > 0 && info.First != 1):
		return events.Errorf(events.ReasonLedgerTruncated, "the bus's ledger holds %d entries between %d and %d: some are missing", info.Messages, info.First, info.Last)
	}
	return nil
}

// compareReleases compares with the releases on the bus: a signed one that the ledger does not know shows that it was cut or forked.
func (p *Publisher) compareReleases(ctx context.Context) error {
	_, err := p.conn.ReadAllReleases(ctx, func(environment string, m bus.Stored) error {
		return p.twice(ctx, func() error { return p.contradicts(environment, m) })
	})
	return err
}

// twice judges again, with the ledger read to its end, what seems to contradict it: another publisher may be ahead of what was read
// here.
func (p *Publisher) twice(ctx context.Context, judge func() error) error {
	if judge() == nil {
		return nil
	}
	if err := p.book.sync(ctx); err != nil {
		return err
	}
	return judge()
}

// contradicts says that a message of the release stream is validly signed, and not what the ledger released. What is not signed is
// no evidence: the sender removes it. A ledger without entries is different: nobody's releases can be older than it.
func (p *Publisher) contradicts(environment string, m bus.Stored) (err error) {
	of, revision, previous, peek := events.PeekRelease(m.Payload)
	chain := events.Chain(previous, m.Payload)
	p.book.read(func(s *ledger.State) {
		trust, e := s.Trust(), s.Environments[environment]
		switch {
		case trust == nil:
			err = events.Errorf(events.ReasonLedgerTruncated, "the ledger is empty, and the bus holds releases of %s: it lost its ledger, or is not new", environment)
		case peek != nil || of != environment, e != nil && e.OnChain(revision, chain) == nil:
		case events.VerifyWave(s.ID, chain, m.Signature, trust.AllowsPublisher) == nil:
			err = contradiction(s, environment, revision, chain, "the release stream")
		}
	})
	return err
}

// contradiction says that somebody holds a revision which the ledger has not released.
func contradiction(s *ledger.State, environment string, revision uint64, chain events.Digest, who string) error {
	e, known := s.Environments[environment]
	switch {
	case revision == 0 || s.Gone(environment, revision, chain):
		return nil
	case !known || revision > e.Head():
		return events.Errorf(events.ReasonLedgerTruncated, "%s holds revision %d of %s, which is not in the ledger any more", who, revision, environment)
	case e.Releases[revision-1].Chain != chain:
		return events.Errorf(events.ReasonLedgerForked, "%s holds another revision %d of %s than the ledger released", who, revision, environment)
	}
	return nil
}

// compareBeats compares with one beat of every agent that was last seen alive, waiting for it at most BeatWait.
func (p *Publisher) compareBeats(ctx context.Context, began time.Time) error {
	if p.book.number() == 0 {
		return p.conn.ReadBeats(ctx, func(r bus.Report) error {
			return events.Errorf(events.ReasonLedgerTruncated, "the ledger is empty, and agent %s of %s has beaten: the bus lost its ledger, or is not new", r.Agent, r.Environment)
		})
	}
	if err := p.conn.ReadBeats(ctx, p.reports.beat); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, p.opts.BeatWait)
	defer cancel()
	for _, id := range p.reports.awaitBeats(wait, began) {
		p.log.Warn().Str("environment", id.Environment).Str("agent", id.Agent).Msg("the agent was alive, and did not beat while the ledger was checked")
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return p.twice(ctx, p.judgeBeats)
}

func (p *Publisher) judgeBeats() error {
	for id, beat := range p.reports.beats() {
		if err := p.judgeBeat(id, beat); err != nil {
			return err
		}
	}
	return nil
}

// judgeBeat compares what an agent holds, and the newest entry it has heard of, with the ledger.
func (p *Publisher) judgeBeat(id fleet.AgentID, beat fleet.Beat) error {
	who := fmt.Sprintf("agent %s of %s", id.Agent, id.Environment)
	p.book.mu.RLock()
	defer p.book.mu.RUnlock()
	s := p.book.state
	if err := contradiction(s, id.Environment, beat.Revision, beat.Chain, who); err != nil {
		return err
	}
	switch seen := beat.Seen; {
	case s.Explains(seen):
	case seen.Number > s.Number:
		return events.Errorf(events.ReasonLedgerTruncated, "%s has heard of entry %d, and the ledger ends at %d", who, seen.Number, s.Number)
	case seen.Number > 0 && p.book.hashes[seen.Number-1] != seen.Hash:
		return events.Errorf(events.ReasonLedgerForked, "%s has heard of another entry %d than the ledger holds", who, seen.Number)
	}
	return nil
}

// begin makes the first entry of a new ledger.
func (p *Publisher) begin(ctx context.Context) error {
	if p.book.trust() != nil {
		return nil
	}
	p.book.commit.Lock()
	defer p.book.commit.Unlock()
	d, err := p.book.decide(ledger.Command{By: "publisher", Body: ledger.Genesis{Publisher: p.signer.Public(), Document: p.founding}})
	if err != nil {
		return err
	}
	return p.book.appendDecision(ctx, d)
}

// counts says that the newest trust document names this publisher's key. Otherwise nobody believes what it sends.
func (p *Publisher) counts() error {
	trust, file := p.book.trust(), filepath.Join(p.opts.Data, "publisher.key")
	if trust == nil || trust.AllowsPublisher(p.signer.Public()) {
		return nil
	}
	return events.Errorf(events.ReasonTrust, "trust document %d does not name the key in %s, and nobody believes what it signs: put the key there that the document names, from a backup, from another publisher, or from where the new one was made, and start the publisher again", trust.Version, file)
}

// followLedger reads entries as they come, and looks at the bus from time to time, until something is to be checked.
func (p *Publisher) followLedger(ctx context.Context) error {
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error { return p.conn.FollowLedger(ctx, p.book.copied()+1, p.book.readBack) })
	both.Go(func() error { return p.watchEnd(ctx) })
	return both.Wait()
}

// watchEnd returns when the ledger is to be checked again, with the reason.
func (p *Publisher) watchEnd(ctx context.Context) error {
	tick := time.NewTicker(p.opts.Recheck)
	defer tick.Stop()
	for {
		now, changed := p.book.standingNow()
		if !now.writable {
			return errors.New(now.message) // the bus is gone, or a command's outcome is unknown
		}
		look := p.openStreams
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
			continue
		case <-p.recheck:
			return errors.New("something happened to the bus")
		case <-p.streams:
		case <-tick.C:
			look = p.lookAround
		}
		if err := look(ctx); err != nil {
			return err
		}
		if err := p.replicate(ctx); err != nil {
			return err
		}
		nudge(p.sender.look)
	}
}

// lookAround looks whether the bus still holds what it should, and whether an agent knows better.
func (p *Publisher) lookAround(ctx context.Context) error {
	if err := p.openStreams(ctx); err != nil {
		return err
	}
	if err := p.compareEnd(ctx); err != nil {
		return err
	}
	if err := p.twice(ctx, p.judgeBeats); err != nil {
		return err
	}
	if err := p.counts(); err != nil {
		return err
	}
	p.noteVerified()
	return nil
}

// noteVerified says that the ledger was looked at just now, and nothing contradicts it.
func (p *Publisher) noteVerified() {
	now := p.book.busTime(time.Now())
	p.verified.Store(&now)
	if err := p.book.mark(); err != nil {
		p.log.Warn().Err(err).Msg("the next start checks every signature of the ledger again")
	}
}
