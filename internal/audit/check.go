package audit

import (
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/seal"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/fold"
)

// A Finding is what a proof shows, and what that rests on.
type Finding struct {
	Ledger       string          `json:"ledger"`
	Change       string          `json:"change"`
	Digest       events.Digest   `json:"digest"`
	Author       string          `json:"author"`
	Reason       string          `json:"reason"`
	Ticket       string          `json:"ticket,omitempty"`
	Proposed     time.Time       `json:"proposed"`
	Approvals    []FoundApproval `json:"approvals"`
	Reviews      []FoundApproval `json:"reviews,omitempty"` // of a break-glass
	ByRule       bool            `json:"byRule,omitempty"`  // the trust document demands nobody's approval of it
	Environments []FoundRelease  `json:"environments"`
	Ended        string          `json:"ended,omitempty"` // rejected or withdrawn: by whom, and why
	Roots        []string        `json:"roots"`           // of the first signed trust document; none where approvals are names
	Seal         seal.Head       `json:"seal"`
	Rests        []string        `json:"rests"` // on what else it rests
}

// A FoundApproval is one person's yes.
type FoundApproval struct {
	By     string    `json:"by"`
	Verb   string    `json:"verb"` // approve or break-glass
	At     time.Time `json:"at"`
	Entry  uint64    `json:"entry"`
	Key    string    `json:"key,omitempty"` // that signed; none where approvals are names
	Reason string    `json:"reason,omitempty"`
}

// A FoundRelease is a release of the change, or of its rollback.
type FoundRelease struct {
	Environment string             `json:"environment"`
	Kind        events.ReleaseKind `json:"kind"`
	Revision    uint64             `json:"revision"`
	Chain       events.Digest      `json:"chain"`
	State       events.Digest      `json:"state"` // after it
	By          string             `json:"by"`
	Time        time.Time          `json:"time"`
	Entry       uint64             `json:"entry"`
	Operations  []events.Operation `json:"operations,omitempty"`
	Agents      []FoundDelivery    `json:"agents"`
}

// A FoundDelivery is what an agent signed.
type FoundDelivery struct {
	Agent    string        `json:"agent"`
	Key      string        `json:"key"`
	Applied  time.Time     `json:"applied"` // when the bus had it
	With     uint64        `json:"with"`    // the revision that it applied it with
	Expected events.Digest `json:"expected"`
	Observed events.Digest `json:"observed"` // as read back; none where nothing was
	Entry    uint64        `json:"entry"`
}

// A checker reads a proof once.
type checker struct {
	Finding
	proof    Proof
	releases map[string]map[uint64]*ProofRelease // not met in an entry yet

	documents []events.Trust // in their order
	proposal  *events.ChangeProposed
	inForce   map[string]int // the version of its trust document, by environment
	agentKeys map[[2]string]string
}

// Check says what the file of a proof shows. It reads nothing else. Where roots are named, those of the first signed trust document must
// be among them: whoever knows them from elsewhere believes nobody. A file that is not as it should be is an error.
func Check(file []byte, roots []string) (Finding, error) {
	p, err := decodeProof(file)
	if err != nil {
		return Finding{}, fmt.Errorf("the proof cannot be read: %w", err)
	}
	c := &checker{proof: p, releases: map[string]map[uint64]*ProofRelease{}}
	c.Ledger, c.Change, c.Roots, c.agentKeys = p.Ledger, p.Change, []string{}, map[[2]string]string{}
	c.inForce = map[string]int{}
	c.Approvals, c.Environments = []FoundApproval{}, []FoundRelease{}
	for _, step := range []func() error{c.openSeal, c.takeReleases, c.readEntries, func() error { return c.conclude(roots) }} {
		if err := step(); err != nil {
			return Finding{}, err
		}
	}
	return c.Finding, nil
}

// openSeal believes a publisher of the newest trust document in the file; that the documents may follow each other is checked with the
// entries.
func (c *checker) openSeal() error {
	var newest *events.Trust
	for _, e := range c.proof.Entries {
		entry, err := events.DecodeEntry(e.Entry)
		if err != nil {
			return fmt.Errorf("an entry of the proof: %w", err)
		}
		for _, event := range entry.Events {
			if event.Type != events.TypeTrustUpdated {
				continue
			}
			fact, err := events.DecodeFact(event)
			if err != nil {
				return fmt.Errorf("entry %d: %w", entry.Number, err)
			}
			newest = &fact.(*events.TrustUpdated).Document
		}
	}
	if newest == nil {
		return events.Errorf(events.ReasonTrust, "the proof holds no trust document")
	}
	var err error
	c.Seal, err = seal.Open(c.proof.Seal, c.Ledger, newest.Publishers)
	return err
}

func (c *checker) takeReleases() error {
	for i := range c.proof.Releases {
		environment, revision, _, err := events.PeekRelease(c.proof.Releases[i].Payload)
		if err != nil {
			return err
		}
		if c.releases[environment] == nil {
			c.releases[environment] = map[uint64]*ProofRelease{}
		}
		if c.releases[environment][revision] != nil {
			return events.Errorf(events.ReasonMalformed, "revision %d of %s stands twice in the proof", revision, environment)
		}
		c.releases[environment][revision] = &c.proof.Releases[i]
	}
	return nil
}

func (c *checker) readEntries() error {
	var before uint64
	for _, e := range c.proof.Entries {
		entry, err := events.DecodeEntry(e.Entry)
		if err != nil {
			return err
		}
		if entry.Number <= before {
			return events.Errorf(events.ReasonMalformed, "entry %d stands after entry %d in the proof", entry.Number, before)
		}
		before = entry.Number
		if entry.Ledger != c.Ledger {
			return events.Errorf(events.ReasonWrongLedger, "entry %d is of ledger %s", entry.Number, entry.Ledger)
		}
		if err := c.Finding.Seal.Includes(entry.Number, e.Entry, e.Proof); err != nil {
			return err
		}
		if err := c.entry(entry); err != nil {
			return fmt.Errorf("entry %d: %w", entry.Number, err)
		}
	}
	return nil
}

func (c *checker) trust() *events.Trust {
	if len(c.documents) == 0 {
		return nil
	}
	return &c.documents[len(c.documents)-1]
}

func (c *checker) entry(entry events.Entry) error {
	for _, event := range entry.Events {
		fact, err := events.DecodeFact(event)
		if err != nil {
			return err
		}
		switch f := fact.(type) {
		case *events.ContentStored:
			if events.Sum(f.JSON) != f.Digest {
				err = events.Errorf(events.ReasonMalformed, "a content is not what its digest says")
			}
		case *events.TrustUpdated:
			err = c.trusted(f)
		case *events.EnvironmentAdded:
			c.inForce[f.Environment] = len(c.documents)
		case *events.AgentEnrolled:
			c.agentKeys[[2]string{f.Environment, f.Agent}] = f.Key
		case *events.AgentRevoked:
			delete(c.agentKeys, [2]string{f.Environment, f.Agent})
		case *events.DeliveryRecorded:
			err = c.delivered(f, entry)
		default:
			if slices.Contains(aboutOf(fact).changes, c.Change) {
				err = c.fact(fact, entry)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// trusted takes a trust document with the environments that it reaches; one may come again, for more of them.
func (c *checker) trusted(f *events.TrustUpdated) error {
	if version := f.Document.Version; version >= 1 && version <= len(c.documents) {
		before, err := c.documents[version-1].Digest()
		if again, err2 := f.Document.Digest(); err != nil || err2 != nil || again != before {
			return events.Errorf(events.ReasonTrust, "trust document %d is another one than before", version)
		}
	} else {
		if err := f.Document.CheckSuccession(c.trust()); err != nil {
			return err
		}
		if c.trust() == nil && f.Document.Version != 1 || f.Document.Ledger != c.Ledger {
			return events.Errorf(events.ReasonTrust, "the proof begins with trust document %d of ledger %s", f.Document.Version, f.Document.Ledger)
		}
		c.documents = append(c.documents, f.Document)
	}
	for _, ref := range f.Wave.Releases {
		c.inForce[ref.Environment] = f.Document.Version
	}
	return nil
}

// fact takes what an entry says of the change.
func (c *checker) fact(fact any, entry events.Entry) error {
	if c.trust() == nil {
		return events.Errorf(events.ReasonTrust, "it comes before any trust document in the proof")
	}
	switch f := fact.(type) {
	case *events.ChangeProposed:
		return c.proposed(f, entry)
	case *events.ApprovalGiven:
		return c.approved(f.Digest, FoundApproval{By: f.By, Verb: events.VerbApprove, At: entry.Time, Entry: entry.Number, Reason: f.Comment}, entry)
	case *events.ChangeApproved:
		c.ByRule = f.ByRule
	case *events.BreakGlassUsed:
		return c.approved(f.Digest, FoundApproval{By: f.By, Verb: events.VerbBreakGlass, At: entry.Time, Entry: entry.Number, Reason: f.Reason}, entry)
	case *events.BreakGlassReviewed:
		key, err := c.spoken(entry, f.By, c.Digest, ledger.Command{Body: ledger.Review{}}.Verb())
		c.Reviews = append(c.Reviews, FoundApproval{By: f.By, Verb: "review", At: entry.Time, Entry: entry.Number, Key: key, Reason: f.Comment})
		return err
	case *events.ChangeEnded:
		c.Ended = f.By + ": " + f.Reason
	case *events.WaveReleased:
		for _, ref := range f.Wave.Releases {
			if err := c.released(ref, entry, f.Change); err != nil {
				return err
			}
		}
	case *events.RollbackOrdered:
		for i, undone := range f.Undone {
			if undone.Change == c.Change && i < len(f.Wave.Releases) {
				if err := c.released(f.Wave.Releases[i], entry, undone.Change); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// proposed takes a proposal, and forgets what was approved before it.
func (c *checker) proposed(f *events.ChangeProposed, entry events.Entry) error {
	if f.Trust != nil {
		if digest, err := events.TrustChangeDigest(f.Change, f.Trust); err != nil || digest != f.Digest {
			return events.Errorf(events.ReasonTrust, "the digest of change %s is not that of the trust document that it proposes", f.Change)
		}
	} else {
		leaves := make([]events.Leaf, len(f.Environments))
		for i, e := range f.Environments {
			leaves[i] = events.Leaf{Change: f.Change, Environment: e.Environment, Inverse: e.Inverse, Operations: e.Operations}
		}
		root, _, err := events.ChangeDigest(leaves)
		if err != nil {
			return err
		}
		if len(leaves) == 0 || root != f.Digest {
			return events.Errorf(events.ReasonLeafPath, "the digest of change %s is not that of its parts", f.Change)
		}
	}
	if _, err := c.spoken(entry, f.Author, f.Digest, events.VerbPropose, events.VerbRevise, events.VerbRebase, ledger.Command{Body: ledger.ProposeTrust{}}.Verb()); err != nil {
		return err
	}
	c.proposal, c.Approvals, c.ByRule = f, c.Approvals[:0], false
	c.Digest, c.Author, c.Reason, c.Ticket, c.Proposed = f.Digest, f.Author, f.Reason, f.Ticket, entry.Time
	return nil
}

func (c *checker) approved(digest events.Digest, a FoundApproval, entry events.Entry) error {
	if digest != c.Digest {
		return events.Errorf(events.ReasonApprovals, "%q approved %s, and the change is %s", a.By, digest.Short(), c.Digest.Short())
	}
	key, err := c.spoken(entry, a.By, digest, a.Verb)
	a.Key = key
	c.Approvals = append(c.Approvals, a)
	return err
}

// spoken says which key of a person signed an entry's command over the change, where approvals are signed.
func (c *checker) spoken(entry events.Entry, by string, digest events.Digest, verbs ...string) (key string, err error) {
	t := c.trust()
	if t.Approvals != events.ApprovalsAreSigned {
		return "", nil
	}
	if entry.Command.Statement == nil {
		return "", events.Errorf(events.ReasonSignature, "what %q did is not signed", by)
	}
	s, err := entry.Command.Statement.Open()
	if err != nil {
		return "", err
	}
	if err := t.Owns(s); err != nil {
		return "", err
	}
	if s.Ledger != c.Ledger || s.Change != c.Change || s.Digest != digest {
		return "", events.Errorf(events.ReasonSignature, "%q signed for change %q (%s), and this is change %q (%s)", s.By, s.Change, s.Digest.Short(), c.Change, digest.Short())
	}
	if s.By != by || s.By != entry.Command.By || s.Command != entry.Command.ID || s.Content != entry.Command.Digest || !slices.Contains(verbs, s.Verb) {
		return "", events.Errorf(events.ReasonSignature, "%q signed %q, which is another command", s.By, s.Verb)
	}
	return s.Key, nil
}

// released takes a release that an entry made: as agents judged it, but for what other releases of the environment say.
func (c *checker) released(ref events.ReleaseRef, entry events.Entry, change string) error {
	found := c.releases[ref.Environment][ref.Revision]
	if found == nil {
		return events.Errorf(events.ReasonRevisionGap, "the proof lacks revision %d of %s", ref.Revision, ref.Environment)
	}
	delete(c.releases[ref.Environment], ref.Revision)
	r, event, err := events.DecodeRelease(found.Payload)
	if err != nil {
		return err
	}
	chain := events.Chain(r.Previous, found.Payload)
	if r.Environment != ref.Environment || r.Revision != ref.Revision || chain != ref.Chain || r.Entry != entry.Number || r.Ledger != c.Ledger || !event.Time.Equal(entry.Time) {
		return events.Errorf(events.ReasonChainBroken, "the proof holds another revision %d of %s than the ledger released", ref.Revision, ref.Environment)
	}
	out := FoundRelease{
		Environment: r.Environment, Kind: r.Kind, Revision: r.Revision, Chain: chain, State: r.State, Time: entry.Time, Entry: entry.Number, Operations: r.Operations, Agents: []FoundDelivery{},
	}
	if r.Kind == events.KindRollback {
		if out.By = r.Rollback.By; r.Rollback.ID != change || r.Rollback.Digest != c.Digest {
			return events.Errorf(events.ReasonInverse, "revision %d of %s undoes another change", r.Revision, r.Environment)
		}
	} else {
		if out.By = c.Author; r.Change == nil || r.Change.ID != change || r.Change.Digest != c.Digest {
			return events.Errorf(events.ReasonApprovals, "revision %d of %s is of another change", r.Revision, r.Environment)
		}
		if err := c.agreed(&r, entry); err != nil {
			return err
		}
	}
	c.Environments = append(c.Environments, out)
	return nil
}

// agreed says whether the operations of a release are what was approved, by whom the trust document of its time demands.
func (c *checker) agreed(r *events.Release, entry events.Entry) error {
	if err := fold.CheckLeaf(*r); err != nil {
		return err
	}
	if c.inForce[r.Environment] == 0 {
		return events.Errorf(events.ReasonTrust, "the proof lacks the trust document of %s", r.Environment)
	}
	for _, a := range r.Change.Approvals {
		given := slices.ContainsFunc(c.Approvals, func(f FoundApproval) bool { return f.By == a.By && f.At.Equal(a.At) })
		if !given {
			return events.Errorf(events.ReasonApprovals, "revision %d of %s carries an approval of %q, which no entry of the proof records", r.Revision, r.Environment, a.By)
		}
	}
	return c.documents[c.inForce[r.Environment]-1].CheckApprovals(r, entry.Time, nil)
}

// delivered takes what agents said of the change's releases.
func (c *checker) delivered(f *events.DeliveryRecorded, entry events.Entry) error {
	for _, d := range f.Deliveries {
		key, enrolled := c.agentKeys[[2]string{d.Environment, d.Agent}]
		if !enrolled {
			continue // of an environment that this is not about, or of an agent that was revoked since
		}
		said, err := statementOf(d, key)
		if err != nil {
			return err
		}
		if said.Ledger != c.Ledger {
			return events.Errorf(events.ReasonWrongLedger, "%s of %s speaks of ledger %s", d.Agent, d.Environment, said.Ledger)
		}
		for i := range c.Environments {
			r := &c.Environments[i]
			if r.Environment != d.Environment || said.Word != events.WordApplied || r.Revision < said.First || r.Revision > said.Last || r.knows(d.Agent) {
				continue
			}
			if said.Last == r.Revision && said.Chain != r.Chain {
				return events.Errorf(events.ReasonLedgerForked, "%s of %s applied another revision %d", d.Agent, d.Environment, r.Revision)
			}
			r.Agents = append(r.Agents, FoundDelivery{Agent: d.Agent, Key: key, Applied: d.Stamp, With: said.Last, Expected: said.Expected, Observed: said.Observed, Entry: entry.Number})
		}
	}
	return nil
}

func (r *FoundRelease) knows(agent string) bool {
	return slices.ContainsFunc(r.Agents, func(d FoundDelivery) bool { return d.Agent == agent })
}

// statementOf is what an agent signed: an ack, or a beat that stands for one.
func statementOf(d events.Delivery, key string) (events.Ack, error) {
	if d.Ack != nil {
		return events.DecodeAck(d.Ack, d.Signature, d.Environment, d.Agent, key)
	}
	b, err := events.DecodeBeat(d.Beat, d.Signature, d.Environment, d.Agent, key)
	return events.Ack{Ledger: b.Ledger, Word: events.WordApplied, First: 1, Last: b.Revision, Chain: b.Chain, Expected: b.State, Observed: b.Observed}, err
}

// conclude says whether the file is whole, and what it rests on.
func (c *checker) conclude(roots []string) error {
	if c.proposal == nil {
		return events.Errorf(events.ReasonMalformed, "the proof holds no proposal of change %s", c.Change)
	}
	for environment, left := range c.releases {
		for revision := range left {
			return events.Errorf(events.ReasonMalformed, "revision %d of %s stands in the proof, and no entry of it released that", revision, environment)
		}
	}
	for _, r := range c.proof.Releases {
		if err := c.waved(r); err != nil {
			return err
		}
	}
	first := firstSigned(c.documents)
	switch {
	case first == nil && len(roots) > 0:
		return events.Errorf(events.ReasonTrust, "roots are named, and no trust document of this ledger is signed by roots: approvals are names")
	case first == nil:
		c.rests("the publisher's key: approvals are names that it vouches for")
	case unknownRoot(first, roots) != "":
		return events.Errorf(events.ReasonTrust, "root %s of trust document %d is none that was named", unknownRoot(first, roots), first.Version)
	case len(roots) == 0:
		c.Roots = first.Roots.Keys
		c.rests("the roots that the file names, which were compared with nothing: name those that you know with --root")
	default:
		c.Roots = first.Roots.Keys
	}
	c.rests("the seal: the publisher vouches that these entries are the ledger's; agents hold its seals against each other")
	c.rests("what is in the file: that no newer trust document was in force, and that nothing else became of the change, 'publisher audit verify' shows")
	c.rests("the clocks of the publisher and of the bus, for times")
	if len(c.agentKeys) > 0 {
		c.rests("the agents' keys as they were enrolled: what an agent applied and read back is its own word")
	}
	return nil
}

func (c *checker) rests(on string) { c.Rests = append(c.Rests, on) }

// waved says whether a publisher of any of the trust documents signed a release: a stream that is sent again is signed again.
func (c *checker) waved(r ProofRelease) error {
	_, _, previous, err := events.PeekRelease(r.Payload)
	if err != nil {
		return err
	}
	return events.VerifyWave(c.Ledger, events.Chain(previous, r.Payload), r.Signature, func(key string) bool {
		return slices.ContainsFunc(c.documents, func(t events.Trust) bool { return t.AllowsPublisher(key) })
	})
}
