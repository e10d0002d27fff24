package publisher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/fault"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// LossFound is what no copy of the ledger holds any more, and what accepting that costs.
type LossFound struct {
	events.Loss
	Kept         uint64   `json:"kept"`                   // entries after the first lost one that stay as they are
	Environments []string `json:"environments,omitempty"` // whose labels, steward and approvals are lost
	Unfit        []string `json:"unfit,omitempty"`        // environments with releases that do not follow what is left: they are removed from the bus
	Accepted     bool     `json:"accepted"`               // it is written
}

const (
	// maxClaimed bounds how many entries after those that signatures prove are taken for lost because an agent says so whose enrolment
	// was lost: its beat is signed with a key that nobody vouches for.
	maxClaimed = 10_000
	// maxNamed bounds the agents and tips that a loss names.
	maxNamed = 1000
)

// remains gathers what the bus knows besides copies of the ledger.
type remains struct {
	ledger.Remains
	trust    []string // publisher keys that count
	messages []found  // of the release stream
	beats    []beatFound
	proven   uint64 // newest entry that a signature proves
}

type found struct {
	environment string
	bus.Stored
}

type beatFound struct {
	id    fleet.AgentID
	key   string
	known bool // enrolled in what is left
	events.Beat
}

// lookForLoss says what is lost besides the longest verified ledger, if anything is, and what the ledger would be without it.
func (r *Repair) lookForLoss(ctx context.Context, s *salvage, chains []*chain, now time.Time) error {
	state := ledger.New("")
	rest := remains{}
	if r.chain != nil {
		state = r.chain.state
		rest.ID = state.ID
		for _, e := range r.chain.entries {
			rest.Entries = append(rest.Entries, ledger.Remaining{Payload: e.Payload, Stamp: e.Stamp})
		}
	}
	islands := s.after(len(rest.Entries), chains, &rest.ID)
	if r.chain != nil && len(islands) == 0 && len(r.Beyond) == 0 {
		return nil
	}
	rest.Entries = append(rest.Entries, islands...)
	rest.By, rest.Loss.Reason = cmp.Or(r.o.By, "nobody"), r.o.Reason
	if err := rest.readReleases(ctx, r, state); err != nil {
		return err
	}
	if rest.ID == "" {
		return errors.New("no copy holds entry 1, and the bus holds no release that this publisher's key signed: nothing can be verified; name a copy with --from")
	}
	if err := rest.readBeats(ctx, r, state); err != nil {
		return err
	}
	if err := rest.reach(); err != nil {
		return err
	}
	first, err := ledger.Recover(rest.Remains, now)
	if err != nil {
		return fmt.Errorf("what is left of the ledger: %w", err)
	}
	rest.compare(first.State)
	made, err := ledger.Recover(rest.Remains, now)
	if err != nil {
		return fmt.Errorf("what is left of the ledger: %w", err)
	}
	r.Loss = &LossFound{Loss: made.Loss.Loss, Kept: made.Kept, Unfit: made.Left, Accepted: r.o.AcceptLoss}
	for _, e := range made.State.EnvironmentList() {
		if e.Lost {
			r.Loss.Environments = append(r.Loss.Environments, e.Name)
		}
	}
	if !r.o.AcceptLoss {
		if len(islands) > 0 || r.chain == nil {
			return &ledger.Error{Kind: ledger.KindConflict, Message: "entries of the ledger are on no copy",
				Next: "name a copy that holds them with --from, or accept the loss with --accept-loss"}
		}
		return nil
	}
	r.chain = &chain{state: made.State}
	for i, e := range made.Entries {
		r.chain.entries = append(r.chain.entries, &salvaged{
			Stored: bus.Stored{Sequence: uint64(i + 1), Stamp: e.Stamp, Payload: e.Payload}, hash: events.Sum(e.Payload),
		})
	}
	for _, m := range rest.messages {
		if slices.Contains(made.Left, m.environment) {
			r.unfit = append(r.unfit, m.Stored)
		}
	}
	return nil
}

// after are the entries that copies hold after a verified beginning of n, without those that are lost: they lie before the newest that
// is followed back. What a chain holds that was not chosen is not lost. Without a ledger id the newest entry's is the one.
func (s *salvage) after(n int, chains []*chain, id *string) []ledger.Remaining {
	best := map[uint64]*salvaged{}
	var top uint64
	for _, e := range s.entries {
		chosenAgainst := slices.ContainsFunc(chains, func(c *chain) bool { return c.holds(e) })
		if e.Sequence <= uint64(n) || e.Sequence > uint64(n+len(s.entries)+maxClaimed) || e.disproved || chosenAgainst || (*id != "" && e.ledger != *id) {
			continue
		}
		is := best[e.Sequence]
		if is == nil || cmp.Or(cmp.Compare(e.next, is.next), cmp.Compare(e.copies, is.copies), cmp.Compare(is.hash.String(), e.hash.String())) > 0 {
			best[e.Sequence] = e
		}
		top = max(top, e.Sequence)
	}
	if top == 0 {
		return nil
	}
	*id = cmp.Or(*id, best[top].ledger)
	out := make([]ledger.Remaining, top-uint64(n))
	e := best[top]
	for number := top; number > uint64(n); number-- {
		if e != nil && e.Sequence == number && e.ledger == *id && number > uint64(n)+1 { // the first one is lost, or would belong to the beginning
			out[number-uint64(n)-1] = ledger.Remaining{Payload: e.Payload, Stamp: e.Stamp}
			e = cmp.Or(s.entries[e.previous], s.standIn[e.previous])
			continue
		}
		e = best[number-1]
	}
	return out
}

// readReleases takes the releases that a publisher of the ledger signed.
func (rest *remains) readReleases(ctx context.Context, r *Repair, state *ledger.State) error {
	if trust := state.Trust(); trust != nil {
		rest.trust = trust.Publishers
	} else {
		signer, err := keys.ReadKey(filepath.Join(r.o.Data, "publisher.key"))
		if err != nil {
			return fmt.Errorf("no copy says whose releases count: %w: put publisher.key into the data directory", err)
		}
		rest.trust = []string{signer.Public()}
	}
	_, err := r.p.conn.ReadAllReleases(ctx, func(environment string, m bus.Stored) error {
		rest.messages = append(rest.messages, found{environment, m})
		return nil
	})
	if err != nil && !errors.Is(err, bus.ErrNoStream) {
		return err
	}
	for _, m := range rest.messages {
		environment, _, previous, err := events.PeekRelease(m.Payload)
		if err != nil || environment != m.environment {
			continue // nobody's
		}
		release, _, err := events.DecodeRelease(m.Payload)
		if rest.ID == "" && err == nil {
			rest.ID = release.Ledger
		}
		allowed := func(key string) bool { return slices.Contains(rest.trust, key) }
		if events.VerifyWave(rest.ID, events.Chain(previous, m.Payload), m.Signature, allowed) != nil {
			if state.Trust() == nil && len(rest.Releases) == 0 {
				rest.ID = "" // it was no publisher's word
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("a release of %s: %w", environment, err)
		}
		if release.Trust != nil {
			rest.trust = append(slices.Clone(rest.trust), release.Trust.Publishers...)
		}
		rest.Releases = append(rest.Releases, events.RecoveredRelease{Payload: m.Payload, Signature: m.Signature})
		rest.proven = max(rest.proven, release.Entry)
	}
	return nil
}

// readBeats takes what agents hold and have heard of. Of those that are enrolled in what is left it is proven.
func (rest *remains) readBeats(ctx context.Context, r *Repair, state *ledger.State) error {
	err := r.p.conn.ReadBeats(ctx, func(report bus.Report) error {
		signature, err := events.ParseSignature(report.Signature)
		if err != nil {
			return nil // nobody's
		}
		b := beatFound{id: fleet.AgentID{Environment: report.Environment, Agent: report.Agent}, key: signature.Key}
		if e := state.Environments[report.Environment]; e != nil && e.Agents[report.Agent] != nil {
			if e.Agents[report.Agent].Revoked {
				return nil
			}
			b.known, b.key = true, e.Agents[report.Agent].Key
		}
		if b.Beat, err = events.DecodeBeat(report.Payload, report.Signature, report.Environment, report.Agent, b.key); err != nil || b.Ledger != rest.ID {
			return nil // not this agent's, or of another ledger
		}
		if b.known {
			rest.proven = max(rest.proven, b.Seen.Number)
		}
		rest.beats = append(rest.beats, b)
		return nil
	})
	if errors.Is(err, bus.ErrNoStream) {
		return nil
	}
	return err
}

// reach lets the ledger go as far as anybody has heard of: it must not use a number again that an agent knows with another hash.
func (rest *remains) reach() error {
	rest.proven = max(rest.proven, uint64(len(rest.Entries)))
	last := rest.proven
	for _, b := range rest.beats {
		if b.Seen.Number > rest.proven+maxClaimed {
			return fmt.Errorf("agent %s of %s says that it has heard of entry %d, %d after the newest that a signature proves, and its enrolment is not in what is left: stop it, delete the message %s of %s, and run the repair again",
				b.id.Agent, b.id.Environment, b.Seen.Number, b.Seen.Number-rest.proven, events.BeatSubject(b.id.Environment, b.id.Agent), events.StreamBeats)
		}
		last = max(last, b.Seen.Number)
	}
	rest.Entries = append(rest.Entries, make([]ledger.Remaining, last-uint64(len(rest.Entries)))...)
	return nil
}

// compare names what agents hold and have heard of and the recovered ledger does not hold.
func (rest *remains) compare(state *ledger.State) {
	l := &rest.Loss
	for _, b := range rest.beats {
		e := state.Environments[b.id.Environment]
		if e == nil || e.Agents[b.id.Agent] == nil {
			if len(l.Agents) < maxNamed {
				l.Agents = append(l.Agents, events.LostAgent{Environment: b.id.Environment, Agent: b.id.Agent, Key: b.key})
			}
		} else if b.Revision > 0 && e.OnChain(b.Revision, b.Chain) != nil {
			l.Beyond = append(l.Beyond, events.LostPosition{Environment: b.id.Environment, Agent: b.id.Agent, Revision: b.Revision, Chain: b.Chain})
		}
		if b.Seen.Number > 0 && len(l.Tips) < maxNamed && !slices.Contains(l.Tips, b.Seen) && !rest.holds(b.Seen) {
			l.Tips = append(l.Tips, b.Seen)
		}
	}
}

func (rest *remains) holds(tip events.LedgerTip) bool {
	payload := rest.Entries[tip.Number-1].Payload
	return payload != nil && events.Sum(payload) == tip.Hash
}

// giveUpUnfit removes releases from the bus that do not follow what is left of the ledger, and keeps them in a file.
func (r *Repair) giveUpUnfit(ctx context.Context, suffix string) error {
	if len(r.unfit) == 0 {
		return nil
	}
	if err := r.save("releases"+suffix, func(path string) error { return writeCopy(path, r.unfit, r.o.Fault, fault.ReplacedKept) }); err != nil {
		return err
	}
	for _, environment := range r.Loss.Unfit {
		if err := r.p.conn.PurgeReleases(ctx, environment); err != nil {
			return err
		}
	}
	return nil
}
