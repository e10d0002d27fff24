package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Terms are everything that a change's digest is over. Whoever signs the digest computes it from the terms that they were shown, and
// need not believe the publisher that the digest is of those.
type Terms struct {
	Change       string        `json:"change"`
	Environments []TermsIn     `json:"environments,omitempty"` // ordered by name
	Trust        *events.Trust `json:"trust,omitempty"`        // the document of a change of trust
}

// TermsIn are a change's terms in one environment.
type TermsIn struct {
	Environment string             `json:"environment"`
	Operations  []events.Operation `json:"operations"`
	Inverse     []events.Inverse   `json:"inverse"`
}

// Digest is the digest of the change with these terms. Terms of which it would not cover all, or that do not say what each operation
// replaces, have none.
func (t Terms) Digest() (events.Digest, error) {
	if t.Trust != nil {
		if len(t.Environments) > 0 {
			return events.Digest{}, errors.New("a change of trust has no operations")
		}
		return events.TrustChangeDigest(t.Change, t.Trust)
	}
	leaves := make([]events.Leaf, len(t.Environments))
	for i, e := range t.Environments {
		if !slices.EqualFunc(e.Operations, e.Inverse, func(op events.Operation, back events.Inverse) bool { return op.Key == back.Key }) {
			return events.Digest{}, fmt.Errorf("the operations in %s are not those that their inverse undoes", e.Environment)
		}
		operations, err := events.OperationsDigest(e.Operations)
		if err != nil {
			return events.Digest{}, err
		}
		inverse, err := events.OperationsDigest(e.Inverse)
		if err != nil {
			return events.Digest{}, err
		}
		leaves[i] = events.Leaf{Change: t.Change, Environment: e.Environment, Inverse: inverse, Operations: operations}
	}
	digest, _, err := events.ChangeDigest(leaves)
	return digest, err
}

// Effects are what the terms change, for people.
func (t Terms) Effects() []Effect {
	var out []Effect
	for _, e := range t.Environments {
		for i, op := range e.Operations {
			out = append(out, Effect{Environment: e.Environment, Key: op.Key, Before: e.Inverse[i].Value, After: op.Value})
		}
	}
	return out
}

// TermsOf are a change's terms.
func (s *State) TermsOf(id string) (Terms, error) {
	c, found := s.Changes[id]
	if !found {
		return Terms{}, refuse(KindNotFound, "list them with 'publisher changes'", "there is no change %s", id)
	}
	if c.Recovered {
		return Terms{}, refuse(KindConflict, "", "the proposal of change %s was lost", id)
	}
	out := Terms{Change: id, Trust: c.Trust}
	if c.Trust != nil {
		return out, nil // its parts say where it was released
	}
	for _, part := range c.Parts {
		out.Environments = append(out.Environments, TermsIn{part.Environment, part.Operations, part.Inverse})
	}
	return out, nil
}

// terms are those of a change that is proposed now, whose contents may not be in the ledger yet.
func (d *decision) terms() (*Terms, error) {
	if !d.signed() || len(d.facts) == 0 {
		return nil, nil
	}
	f, proposes := d.facts[0].Data.(*events.ChangeProposed)
	if !proposes {
		return nil, nil
	}
	out := &Terms{Change: f.Change, Trust: f.Trust}
	for _, e := range f.Environments {
		in := TermsIn{Environment: e.Environment}
		if err := json.Unmarshal(d.content(e.Operations), &in.Operations); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(d.content(e.Inverse), &in.Inverse); err != nil {
			return nil, err
		}
		out.Environments = append(out.Environments, in)
	}
	return out, nil
}

// content is what has a digest, in the ledger or on its way there.
func (d *decision) content(digest events.Digest) json.RawMessage {
	if i := slices.IndexFunc(d.stores, func(c events.ContentStored) bool { return c.Digest == digest }); i >= 0 {
		return d.stores[i].JSON
	}
	return d.contents[digest]
}
