package ledger

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nkeys"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Genesis is the first command of a ledger: its first trust document. One that was prepared says whose approvals count from the first
// change on; without one, approvals are names.
type Genesis struct {
	Publisher string        `json:"publisher"` // public nkey
	Document  *events.Trust `json:"document,omitempty"`
}

func (Genesis) name() string { return "genesis" }

func (g Genesis) decide(d *decision) error {
	if d.Number != 0 {
		return refuse(KindConflict, "", "the ledger has begun already")
	}
	if !nkeys.IsValidPublicUserKey(g.Publisher) {
		return refuse(KindInvalid, "", "the publisher's key is no public user key")
	}
	document := events.Trust{Version: 1, Ledger: d.ID, Publishers: []string{g.Publisher}, Approvals: events.ApprovalsAreNames}
	if g.Document != nil {
		document = *g.Document
	}
	switch err := document.CheckSuccession(nil); {
	case err != nil:
		return &Error{Kind: KindInvalid, Message: "the first trust document is none: " + events.MessageOf(err), Next: "make one with 'publisher trust init'", Cause: err}
	case document.Approvals == events.ApprovalsAreSigned && !governable(&document):
		return refuse(KindInvalid, "give somebody the role "+string(events.RoleAdministrator), "under the first trust document nobody could propose the next one")
	case document.Version != 1 || document.Ledger != d.ID || !document.AllowsPublisher(g.Publisher):
		return refuse(KindInvalid, "make it with 'publisher trust init' beside the publisher's own key", "the first trust document is version %d for ledger %s; wanted is version 1 for ledger %s, with this publisher's key", document.Version, document.Ledger, d.ID)
	}
	d.record(events.TypeTrustUpdated, fmt.Sprintf("trust.%d", document.Version),
		&events.TrustUpdated{Document: document, Wave: events.Wave{Derivation: currentDerivation, Releases: []events.ReleaseRef{}}})
	return nil
}

// ProposeTrust proposes the next trust document: a change like any other, which is approved by the signatures of roots, and reaches
// every environment's chain as a revision.
type ProposeTrust struct {
	Document events.Trust `json:"document"` // without signatures: they are what approves it
	Reason   string       `json:"reason"`
	Ticket   string       `json:"ticket,omitempty"`
}

func (ProposeTrust) name() string { return "propose-trust" }

func (p ProposeTrust) decide(d *decision) error {
	if err := (Propose{Reason: p.Reason, Ticket: p.Ticket}).checkMetadata(); err != nil {
		return err
	}
	next, before := &p.Document, d.Trust()
	switch err := next.Check(); {
	case err != nil:
		return &Error{Kind: KindInvalid, Message: "the trust document makes no sense: " + events.MessageOf(err), Cause: err}
	case len(next.Signatures) > 0:
		return refuse(KindInvalid, "sign it when it is approved: 'publisher approve ID --root-key FILE'", "a proposed trust document is not signed yet: its digest would be another one with every signature")
	case next.Ledger != d.ID:
		return refuse(KindInvalid, "", "the trust document is for ledger %s, this is %s", next.Ledger, d.ID)
	case next.Version != before.Version+1:
		return refuse(KindConflict, "make it from the newest one: 'publisher trust show'", "the trust document has version %d; version %d comes next", next.Version, before.Version+1)
	case before.Approvals == events.ApprovalsAreSigned && next.Approvals != events.ApprovalsAreSigned:
		return refuse(KindInvalid, "", "trust document %d makes approvals names again; what was signed stays signed", next.Version)
	}
	if next.Approvals == events.ApprovalsAreSigned && !governable(next) {
		return refuse(KindInvalid, "keep somebody with the role "+string(events.RoleAdministrator), "under trust document %d nobody could propose the next one", next.Version)
	}
	if who := d.agentWith(next); who != "" {
		return refuse(KindInvalid, "make a new key for each", "a key of the trust document is the one of agent %s", who)
	}
	id := d.nextChange()
	digest, err := events.TrustChangeDigest(id, next)
	if err != nil {
		return err
	}
	d.change = id
	d.notes = append(d.notes, d.restsOn(next)...)
	d.record(events.TypeChangeProposed, id, &events.ChangeProposed{
		Change: id, Digest: digest, Author: d.by, Reason: p.Reason, Ticket: p.Ticket, Expires: d.now.Add(proposalLife), Environments: []events.ProposedEnvironment{}, Trust: next})
	return nil
}

// governable says whether somebody can propose the document after this one, and not by a delegation alone.
func governable(t *events.Trust) bool {
	return slices.ContainsFunc(t.People, func(p events.Person) bool {
		return slices.ContainsFunc(p.Grants, func(g events.Grant) bool { return g.Role == events.RoleAdministrator })
	})
}

// agentWith is an agent whose key a document gives to somebody: nobody acts as two.
func (s *State) agentWith(t *events.Trust) string {
	var keys []string
	keys = append(keys, t.Publishers...)
	for _, p := range t.People {
		keys = append(keys, p.Keys...)
	}
	for _, e := range s.EnvironmentList() {
		for _, a := range e.AgentList() {
			if slices.Contains(keys, a.Key) {
				return a.Name + " in " + e.Name
			}
		}
	}
	return ""
}

// approveTrust takes signatures of roots. When they are enough, the same entry releases the document to every environment.
func (a Approve) approveTrust(d *decision, c *Change) error {
	before := d.Trust()
	if c.Trust.Version != before.Version+1 {
		return refuse(KindConflict, "propose it again, made from the newest document", "trust document %d came first, and change %s proposes version %d", before.Version, c.ID, c.Trust.Version)
	}
	if len(a.Roots) == 0 {
		return refuse(KindInvalid, "bring them with --root-key FILE or, signed elsewhere, with --root-signature FILE", "a trust document is approved by the signatures of roots")
	}
	document := *c.Trust
	document.Signatures = slices.Clone(c.Roots)
	for _, root := range a.Roots {
		if err := document.CheckRoot(root, before); err != nil {
			return &Error{Kind: KindInvalid, Message: events.MessageOf(err), Next: "sign what 'publisher trust show " + c.ID + "' shows, with a root key of this document or of the one before", Cause: err}
		}
		if slices.ContainsFunc(document.Signatures, func(s events.RootSignature) bool { return s.Key == root.Key }) {
			return refuse(KindConflict, "", "root %s has signed change %s already", root.Key, c.ID)
		}
		document.Signatures = append(document.Signatures, root)
	}
	d.change = c.ID
	d.record(events.TypeApprovalGiven, c.ID, &events.ApprovalGiven{Change: c.ID, Digest: c.Digest, By: d.by, Comment: a.Comment, Roots: a.Roots})
	if err := document.CheckSuccession(before); err != nil {
		d.notes = append(d.notes, "not yet: "+events.MessageOf(err))
		return nil
	}
	wave, err := d.releaseTrust(document)
	if err != nil {
		return err
	}
	d.record(events.TypeChangeApproved, c.ID, &events.ChangeApproved{Change: c.ID, Digest: c.Digest})
	d.record(events.TypeTrustUpdated, fmt.Sprintf("trust.%d", document.Version), &events.TrustUpdated{Document: document, Wave: wave})
	if len(wave.Releases) == 0 {
		d.record(events.TypeRolloutCompleted, c.ID, &events.RolloutCompleted{Change: c.ID})
	}
	if d.Lagging() {
		d.notes = append(d.notes, fmt.Sprintf("%d environments have it now; the publisher releases it to the others next", len(wave.Releases)))
	}
	return nil
}

// releaseTrust tries a document that follows the newest one in every environment that has that; the first maxWave of them.
func (d *decision) releaseTrust(document events.Trust) (events.Wave, error) {
	known := d.Trusts
	d.Trusts = append(slices.Clone(known), document)
	defer func() { d.Trusts = known }()
	return d.spread(document.Version)
}

func (d *decision) spread(version int) (events.Wave, error) {
	var next []tried
	for _, e := range d.EnvironmentList() {
		if !e.Retired && e.Fold.Trust != nil && e.Fold.Trust.Version == version-1 && len(next) < maxWave {
			next = append(next, tried{environment: e, release: Release{Kind: events.KindTrust, Trust: version, Entry: d.number, Time: d.now, TraceParent: d.trace}})
		}
	}
	err := d.wave.add(next...)
	return d.wave.record(), err
}

// A SpreadTrust releases a trust document to environments that its entry had no room for: the publisher's own command, idempotent by
// what it finds. Until then those environments judge by the document that they have.
type SpreadTrust struct{}

func (SpreadTrust) name() string { return "spread-trust" }

func (SpreadTrust) decide(d *decision) error {
	version := 1
	for ; !d.lacksDocument(version); version++ {
		if version == len(d.Trusts) {
			return ErrNothingNew
		}
	}
	wave, err := d.spread(version)
	if err != nil {
		return err
	}
	d.record(events.TypeTrustUpdated, fmt.Sprintf("trust.%d", version), &events.TrustUpdated{Document: d.Trusts[version-1], Wave: wave})
	return nil
}

// lacksDocument says whether an environment has not got a trust document yet.
func (s *State) lacksDocument(version int) bool {
	for _, e := range s.Environments {
		if !e.Retired && e.Fold.Trust != nil && e.Fold.Trust.Version < version {
			return true
		}
	}
	return false
}

// newDocument refuses to make something else of a change of trust.
func newDocument(c *Change) error {
	return refuse(KindConflict, "withdraw it, and propose another document with 'publisher trust'", "change %s proposes a trust document", c.ID)
}

// Lagging says whether an environment has not got the newest trust document yet.
func (s *State) Lagging() bool { return s.lacksDocument(len(s.Trusts)) }

func (p *projection) trustUpdated(f *events.TrustUpdated) error {
	next := len(p.Trusts) + 1
	switch {
	case f.Document.Version == next:
		if err := f.Document.CheckSuccession(p.Trust()); err != nil || f.Document.Ledger != p.ID {
			return fmt.Errorf("%w: trust document %d of ledger %s does not follow document %d: %w", ErrBroken, f.Document.Version, f.Document.Ledger, len(p.Trusts), err)
		}
		if next > 1 && !p.approvedDocument(&f.Document) {
			return fmt.Errorf("%w: trust document %d was approved by nobody", ErrForged, f.Document.Version)
		}
		p.Trusts = append(p.Trusts, f.Document)
	case f.Document.Version < 1 || f.Document.Version > next:
		return fmt.Errorf("%w: trust document %d of ledger %s follows document %d", ErrBroken, f.Document.Version, f.Document.Ledger, len(p.Trusts))
	default:
		have, _ := p.Trusts[f.Document.Version-1].Digest()
		if again, err := f.Document.Digest(); err != nil || again != have {
			return fmt.Errorf("%w: trust document %d is another one than before", ErrBroken, f.Document.Version)
		}
	}
	for i := range f.Wave.Releases {
		if err := p.release(f.Wave, i, Release{Kind: events.KindTrust, Trust: f.Document.Version}); err != nil {
			return err
		}
	}
	p.trustReached(f)
	return nil
}

// approvedDocument says whether the entry approves the change that proposed exactly this document.
func (p *projection) approvedDocument(t *events.Trust) bool {
	c := p.Changes[p.about]
	if c == nil || c.Trust == nil || c.status != StatusReleased {
		return false
	}
	digest, err := events.TrustChangeDigest(c.ID, t)
	return err == nil && digest == c.Digest
}

// trustReached notes, of the change that proposed a document, where it was released.
func (p *projection) trustReached(f *events.TrustUpdated) {
	for _, c := range p.Changes {
		if c.Trust == nil || c.status != StatusReleased || c.Trust.Version != f.Document.Version {
			continue
		}
		for _, ref := range f.Wave.Releases {
			c.Parts = append(c.Parts, Part{Environment: ref.Environment, Revision: ref.Revision})
		}
		slices.SortFunc(c.Parts, func(a, b Part) int { return strings.Compare(a.Environment, b.Environment) })
	}
}

// trustProposed gives a change the document that it proposes, and checks that it is what its digest says.
func (p *projection) trustProposed(c *Change, f *events.ChangeProposed) error {
	digest, err := events.TrustChangeDigest(c.ID, f.Trust)
	if err == nil {
		err = f.Trust.Check()
	}
	if err != nil || digest != c.Digest || len(f.Environments) > 0 || len(f.Trust.Signatures) > 0 {
		return fmt.Errorf("%w: its trust document is not what its digest %s says: %w", ErrBroken, c.Digest.Short(), err)
	}
	c.Trust = f.Trust
	return nil
}
