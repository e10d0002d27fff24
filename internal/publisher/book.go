package publisher

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/audit"
	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/tracing"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A book is the ledger as this publisher knows it: the state, the hash of every entry, the copy on disk, and whether it may be
// written. commit is held from a decision to the end of its append; mu guards the values and is never held over I/O.
type book struct {
	conn     *bus.Conn
	fault    fault.Hook
	clock    func() time.Time                    // what decisions say the time is
	released func([]ledger.Released)             // told of new releases, in order; must not block
	counts   func() error                        // why this publisher's key is none that counts
	agents   func() map[string]map[string]string // what versions agents said they have, by environment and agent

	commit sync.Mutex
	copy   *ledgerCopy
	grown  growth // what is sealed

	mu            sync.RWMutex
	state         *ledger.State
	hashes        []events.Digest // of the bytes of entry n at n-1
	journal       audit.Journal   // of the same entries
	busThen, then time.Time       // what the bus's clock said, and when
	standing
	doubts  uint64        // how often the standing was called into question
	changed chan struct{} // closed when the standing changes
}

// A standing says whether the ledger may be written, and why not.
type standing struct {
	writable bool
	checking bool // it is being found out: commands wait
	reason   events.Reason
	message  string
	since    time.Time
}

// appendTimeout outlives an append whose answer is slow; after it the outcome is unknown, and the ledger is read again.
const appendTimeout = 10 * time.Second

// newBook projects the copy of the ledger.
func newBook(entries *ledgerCopy) (*book, error) {
	b := &book{
		copy: entries, clock: time.Now, counts: func() error { return nil }, released: func([]ledger.Released) {}, agents: func() map[string]map[string]string { return nil }, changed: make(chan struct{}),
		standing: standing{checking: true, reason: events.ReasonStartup, message: "the ledger is being checked", since: time.Now()},
	}
	return b, b.load("")
}

// load makes the state anew from the copy. ID is the ledger's where it is known. What does not fit its mark after all is checked.
func (b *book) load(id string) error {
	m := b.copy.checked()
	err := b.loadFrom(id, m)
	if err != nil && m.Entry > 0 {
		err = b.loadFrom(id, unmarked())
	}
	return err
}

func (b *book) loadFrom(id string, m mark) error {
	state, hashes, journal := ledger.New(id), []events.Digest(nil), audit.Journal{}
	err := b.copy.load(m, func(s bus.Stored, checked bool) func() error {
		hash, apply := events.Sum(s.Payload), func() (events.Entry, []ledger.Released, error) { return state.Apply(s.Payload, s.Stamp) }
		if checked {
			if again, err := ledger.RereadEntry(s.Payload, hash); err == nil {
				apply = func() (events.Entry, []ledger.Released, error) { return state.ApplyAgain(again, s.Stamp) }
			}
		}
		return func() error {
			if state.ID == "" {
				first, err := events.DecodeEntry(s.Payload)
				if err != nil {
					return err
				}
				state = ledger.New(first.Ledger)
			}
			entry, _, err := apply()
			if err != nil {
				return err
			}
			hashes = append(hashes, hash)
			return journal.Add(state, entry)
		}
	})
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state, b.hashes, b.journal = state, hashes, journal
	return nil
}

// read calls fn with the state; fn must not keep or change it.
func (b *book) read(fn func(*ledger.State)) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	fn(b.state)
}

// trust is the newest trust document; nil before there is one.
func (b *book) trust() (trust *events.Trust) {
	b.read(func(s *ledger.State) { trust = s.Trust() })
	return trust
}

// number is of the newest entry known here.
func (b *book) number() uint64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.state.Number
}

// setBusTime notes what the bus's clock says now.
func (b *book) setBusTime(bus, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busThen, b.then = bus, now
}

// busTime is the bus's time: stamps are compared with it. From time.Now to time.Now it goes on steadily, whoever turns this machine's
// clock.
func (b *book) busTime(now time.Time) time.Time {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.then.IsZero() {
		return now // nothing has been heard of the bus
	}
	return b.busThen.Add(now.Sub(b.then))
}

// doubt says that the ledger may not be written, or not before it has been checked, and whether that is news.
func (b *book) doubt(s standing) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.doubts++
	return b.stand(s)
}

// checkAgain lets commands wait for the next check, unless they are refused already.
func (b *book) checkAgain(reason events.Reason, message string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.doubts++
	if b.writable {
		b.stand(standing{checking: true, reason: reason, message: message})
	}
}

// doubted is how often the standing was called into question so far.
func (b *book) doubted() uint64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.doubts
}

// open lets the ledger be written after a check, unless it was doubted since the check began.
func (b *book) open(doubts uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.doubts != doubts {
		return false
	}
	b.stand(standing{writable: true})
	return true
}

// stand sets the standing and says whether it is another one. mu is held.
func (b *book) stand(s standing) bool {
	s.since = b.since
	if s == b.standing {
		return false
	}
	if s.writable != b.writable || s.reason != b.reason {
		s.since = time.Now()
	}
	b.standing = s
	close(b.changed)
	b.changed = make(chan struct{})
	return true
}

// standingNow is the standing, and a channel that is closed when it is another one.
func (b *book) standingNow() (standing, <-chan struct{}) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.standing, b.changed
}

// awaitChecked waits until it is known whether the ledger may be written.
func (b *book) awaitChecked(ctx context.Context) error {
	for {
		s, changed := b.standingNow()
		if s.writable {
			return nil
		}
		if !s.checking {
			return readOnly(s.reason, s.message)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return &api.UnavailableError{Reason: s.reason, Message: s.message + "; gave up waiting", Next: "send the command again with the same id"}
		}
	}
}

func readOnly(reason events.Reason, message string) error {
	return &api.UnavailableError{Reason: reason, Message: fmt.Sprintf("the ledger is read-only (%s): %s", reason, message), Next: "nothing was changed; see 'publisher doctor'"}
}

// errMoved says that what a decision rested on is not so any more: it is to be made anew.
var errMoved = errors.New("the ledger moved")

// do decides a command and appends its entry. A decision that lost the race for its place is made anew.
func (b *book) do(ctx context.Context, c ledger.Command, dryRun bool) (ledger.Outcome, error) {
	for {
		if err := b.awaitChecked(ctx); err != nil {
			return ledger.Outcome{}, err
		}
		if out, err := b.attempt(ctx, c, dryRun); !errors.Is(err, errMoved) {
			return out, err
		}
	}
}

// attempt decides and appends once. It returns errMoved when the decision is to be made anew.
func (b *book) attempt(ctx context.Context, c ledger.Command, dryRun bool) (ledger.Outcome, error) {
	b.commit.Lock()
	defer b.commit.Unlock()
	if s, _ := b.standingNow(); !s.writable {
		return ledger.Outcome{}, errMoved // while this command waited for its turn
	}
	c.DryRun = dryRun
	_, deciding := tracing.Begin(ctx, "decide")
	d, err := b.decide(c)
	tracing.End(deciding, err)
	if err != nil {
		return ledger.Outcome{}, b.refused(ctx, err)
	}
	out := ledger.Outcome{Result: d.Result, Digest: d.Digest, Terms: d.Terms, Effect: d.Effect, Notes: d.Notes, Again: d.Known, DryRun: dryRun && !d.Known}
	if d.Known {
		return out, nil
	}
	if err := b.counts(); err != nil { // its key was replaced since the ledger was last looked at: what it sends is believed no more
		return ledger.Outcome{}, readOnly(events.ReasonTrust, messageOf(err))
	}
	if dryRun {
		return out, nil
	}
	_, appending := tracing.Begin(ctx, "append")
	err = b.appendDecision(ctx, d)
	tracing.End(appending, err)
	if errors.Is(err, bus.ErrConflict) {
		if err = b.catchUp(ctx); err == nil {
			return ledger.Outcome{}, errMoved
		}
	}
	switch {
	case err != nil:
		return ledger.Outcome{}, b.lost(err)
	case d.Entry == nil:
		return ledger.Outcome{}, errMoved // its contents are in the ledger now
	}
	out.Entry = b.number()
	return out, nil
}

// refused is what a refusal comes to: nothing is appended that would show that another publisher's entries are not known here yet, so
// they are looked for, and the decision is made anew where there are any. commit is held.
func (b *book) refused(ctx context.Context, refusal error) error {
	if ledger.KindOf(refusal) == ledger.KindInvalid {
		return refusal // whatever the state
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), appendTimeout)
	defer cancel()
	before := b.number()
	if err := b.readOn(ctx); err != nil {
		return b.lost(err)
	}
	if b.number() > before {
		return errMoved
	}
	return refusal
}

func (b *book) decide(c ledger.Command) (ledger.Decision, error) {
	c.Agents = b.agents()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state.Decide(c, b.clock())
}

// appendDecision appends the contents that a decision needs first, or its entry. It does not end with ctx: whoever asked may go,
// the outcome is to be known.
func (b *book) appendDecision(ctx context.Context, d ledger.Decision) error {
	entries, point := d.Stores, fault.ContentAppended
	if d.Entry != nil {
		entries, point = [][]byte{d.Entry}, fault.EntryAppended
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), appendTimeout)
	defer cancel()
	for _, entry := range entries {
		err := b.fault.Step(point, func() error { _, err := b.conn.Append(ctx, entry, b.number()); return err })
		if err != nil {
			return err
		}
		// The bus's stamp is known when the entry is read back; until then it is estimated.
		if err := b.apply(entry, b.busTime(time.Now())); err != nil {
			return err
		}
	}
	return nil
}

// apply projects the next entry and hands on what it released. After an error the state is made anew from the copy: it may have
// taken half of the entry. commit is held.
func (b *book) apply(payload []byte, stamp time.Time) error {
	b.mu.Lock()
	entry, released, err := b.state.Apply(payload, stamp)
	if err == nil {
		err = b.journal.Add(b.state, entry)
	}
	if err == nil {
		b.hashes = append(b.hashes, events.Sum(payload))
		if len(released) > 0 {
			b.released(released) // before anybody sees them in the state: who sends them says how long they took since
		}
	}
	id := b.state.ID
	b.mu.Unlock()
	if err != nil {
		return errors.Join(err, b.load(id))
	}
	return nil
}

// lost notes that the bus or the ledger failed a command whose outcome is not known. The ledger is read again before the next
// append.
func (b *book) lost(err error) error {
	b.checkAgain(reasonOf(err), "the outcome of an append is not known: "+err.Error())
	return &api.UnavailableError{Reason: reasonOf(err), Message: "the ledger could not be written: " + err.Error(),
		Next: "send the command again with the same id: what was done is not done twice"}
}

// isLedgerTrouble says that an error is about what the ledger holds, not about reaching it.
func isLedgerTrouble(err error) bool {
	switch reasonOf(err) {
	case events.ReasonLedgerTruncated, events.ReasonLedgerForked, events.ReasonUpgradeNeeded:
		return true
	}
	return false
}

// reasonOf is why the ledger cannot be written.
func reasonOf(err error) events.Reason {
	var setting *bus.SettingError
	switch reason := events.ReasonOf(err); {
	case errors.Is(err, bus.ErrHole), errors.Is(err, bus.ErrLedgerChanged):
		return events.ReasonLedgerTruncated
	case errors.Is(err, ledger.ErrBroken), errors.Is(err, ledger.ErrForged), errors.Is(err, ledger.ErrDerivation), reason == events.ReasonMalformed:
		return events.ReasonLedgerForked
	case reason != "":
		return reason
	case errors.As(err, &setting):
		return events.ReasonBusSettings
	}
	return events.ReasonBusDown
}

// messageOf is what an error says beside its reason, which stands next to it everywhere.
func messageOf(err error) string {
	return strings.TrimPrefix(err.Error(), string(reasonOf(err))+": ")
}

// sync reads what other publishers appended.
func (b *book) sync(ctx context.Context) error {
	b.commit.Lock()
	defer b.commit.Unlock()
	return b.readOn(ctx)
}

// readOn reads the entries after the newest that is known here. commit is held.
func (b *book) readOn(ctx context.Context) error {
	return b.conn.ReadLedger(ctx, b.number()+1, func(s bus.Stored) error { return b.apply(s.Payload, s.Stamp) })
}

// catchUp reads the entry that came first, and those after it. Where there is none, the ledger is not what it was. commit is held.
func (b *book) catchUp(ctx context.Context) error {
	before := b.number()
	err := b.readOn(ctx)
	if err == nil && b.number() == before {
		err = events.Errorf(events.ReasonLedgerTruncated, "the bus's ledger does not end at entry %d, and holds none after it", before)
	}
	return err
}

// readBack takes an entry that came from the bus: one's own, which now has its stamp, or another publisher's. It is compared or
// applied, and copied. A known entry with other bytes is ReasonLedgerForked.
func (b *book) readBack(s bus.Stored) error {
	b.commit.Lock()
	defer b.commit.Unlock()
	if s.Sequence > b.number() {
		if err := b.apply(s.Payload, s.Stamp); err != nil {
			return err
		}
	} else if err := b.compare(s); err != nil {
		return err
	}
	if s.Sequence == b.copy.last+1 {
		if err := b.copy.add(s); err != nil {
			return err
		}
	}
	return b.grown.add(s) // never ahead of the copy: the state is made anew from there
}

func (b *book) compare(s bus.Stored) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if want := b.hashes[s.Sequence-1]; events.Sum(s.Payload) != want {
		return events.Errorf(events.ReasonLedgerForked, "entry %d is another one on the bus than the one known here (%s)", s.Sequence, want.Short())
	}
	b.state.Stamp(s.Sequence, s.Stamp)
	return nil
}

// copied is the newest entry that was read back from the bus.
func (b *book) copied() uint64 {
	b.commit.Lock()
	defer b.commit.Unlock()
	return b.copy.last
}
