package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

const (
	// proposalLife is how long an open proposal waits for approval.
	proposalLife = 30 * 24 * time.Hour
	// maxWave is how many environments one change may reach: a wave is one entry, and until there are rollout plans a change is one wave.
	maxWave = 2000
)

// A Propose is a proposed change: edits with a reason.
type Propose struct {
	Reason string             `json:"reason"`
	Ticket string             `json:"ticket,omitempty"`
	Within int64              `json:"within,omitempty"` // propagation window, seconds; 0 is none
	Source *events.Provenance `json:"source,omitempty"`
	Edits  []Edit             `json:"edits"`
}

// An Edit sets and deletes resources of some environments.
type Edit struct {
	Environments []string                   `json:"environments"` // names, or patterns as of path.Match
	Set          map[string]json.RawMessage `json:"set,omitempty"`
	Delete       []string                   `json:"delete,omitempty"`
}

// Sources are what a change was compiled from: the edits as written, and what they did to each environment's override document.
type Sources struct {
	Edits     []Edit         `json:"edits"`
	Documents []DocumentEdit `json:"documents"`
}

// A DocumentEdit is an edit of one environment's override document.
type DocumentEdit struct {
	Environment string                     `json:"environment"`
	Document    string                     `json:"document"`
	Set         map[string]json.RawMessage `json:"set,omitempty"`
	Delete      []string                   `json:"delete,omitempty"`
}

// overrideDocument is where quick edits are kept.
const overrideDocument = "override"

func (Propose) name() string { return "propose" }

func (p Propose) decide(d *decision) error {
	return d.propose(p, "c"+strconv.Itoa(len(d.order)+1), events.TypeChangeProposed)
}

// Revise replaces what an open change proposes. Approvals given before do not count for it.
type Revise struct {
	Change string `json:"change"`
	Propose
}

func (Revise) name() string { return "revise" }

func (r Revise) decide(d *decision) error {
	c, err := d.openChange(r.Change, "revised", StatusOpen, StatusExpired)
	if err != nil {
		return err
	}
	if c.Author != d.by {
		return refuse(KindDenied, "ask them, or propose a change of your own", "change %s is %s's", c.ID, c.Author)
	}
	return d.propose(r.Propose, r.Change, events.TypeChangeRevised)
}

// propose compiles the edits per environment and freezes them.
func (d *decision) propose(p Propose, id string, t events.Type) error {
	edits, err := p.checked()
	if err != nil {
		return err
	}
	documents, err := d.expand(edits)
	if err != nil {
		return err
	}
	proposed := events.ChangeProposed{
		Change: id, Author: d.by, Reason: p.Reason, Ticket: p.Ticket, Within: p.Within, Source: p.Source, Expires: d.now.Add(proposalLife),
	}
	var leaves []events.Leaf
	for _, document := range documents {
		operations := d.compile(document)
		if len(operations) == 0 {
			continue // nothing changes there, so that nothing is released there
		}
		part, err := d.freeze(document.Environment, operations)
		if err != nil {
			return err
		}
		proposed.Environments = append(proposed.Environments, part)
		leaves = append(leaves, events.Leaf{Change: id, Environment: part.Environment, Inverse: part.Inverse, Operations: part.Operations})
	}
	if len(leaves) == 0 {
		return refuse(KindConflict, "", "nothing would change: every environment has these values already")
	}
	if len(leaves) > maxWave {
		return refuse(KindInvalid, "propose it in parts", "the change reaches %d environments; at most %d are released together", len(leaves), maxWave)
	}
	if proposed.Sources, err = d.store(Sources{Edits: edits, Documents: documents}); err != nil {
		return err
	}
	if proposed.Digest, _, err = events.ChangeDigest(leaves); err != nil {
		return err
	}
	for _, stored := range d.stores {
		if len(stored.JSON) > maxContent {
			return refuse(KindInvalid, "propose it in smaller parts, or keep large documents elsewhere and refer to them",
				"what the change compiles to, or replaces, in one environment has %d bytes; at most %d fit a release", len(stored.JSON), maxContent)
		}
	}
	d.change = id
	d.record(t, id, proposed)
	return nil
}

// checked is the edits with canonical values. It leaves p as it came: the command's digest is over that.
func (p Propose) checked() ([]Edit, error) {
	if err := p.checkMetadata(); err != nil {
		return nil, err
	}
	if len(p.Edits) == 0 {
		return nil, refuse(KindInvalid, "", "there are no edits")
	}
	edits := make([]Edit, len(p.Edits))
	for i, edit := range p.Edits {
		var err error
		if edits[i], err = edit.checked(); err != nil {
			return nil, refuse(KindInvalid, "", "edit %d: %v", i+1, err)
		}
	}
	return edits, nil
}

func (p Propose) checkMetadata() error {
	if err := demand("the reason", p.Reason); err != nil {
		return err
	}
	if err := checkText("the ticket", p.Ticket, 128); err != nil {
		return err
	}
	if p.Within < 0 {
		return refuse(KindInvalid, "", "within: want a time that is not negative, have %d seconds", p.Within)
	}
	if p.Source != nil {
		for _, text := range []string{p.Source.Repository, p.Source.Commit, p.Source.Build} {
			if err := checkText("the source", text, 512); err != nil {
				return err
			}
		}
	}
	return nil
}

// checked is the edit with canonical values.
func (e Edit) checked() (Edit, error) {
	if len(e.Environments) == 0 {
		return e, errors.New("no environments are named")
	}
	if len(e.Set)+len(e.Delete) == 0 {
		return e, errors.New("nothing is set or deleted")
	}
	canonical := make(map[string]json.RawMessage, len(e.Set))
	for _, key := range slices.Sorted(maps.Keys(e.Set)) {
		if err := events.CheckKey(key); err != nil {
			return e, err
		}
		value, err := events.Canonical(e.Set[key])
		if err != nil {
			return e, fmt.Errorf("%s: %w", key, err)
		}
		if err := events.CheckValue(key, value); err != nil {
			return e, fmt.Errorf("%s: %w", key, err)
		}
		canonical[key] = value
	}
	e.Set = canonical
	for _, key := range e.Delete {
		if err := events.CheckKey(key); err != nil {
			return e, err
		}
		if _, both := e.Set[key]; both {
			return e, fmt.Errorf("%s is both set and deleted", key)
		}
	}
	return e, nil
}

// expand is what edits do to the override document of each environment they name, ordered by environment. A later edit of the
// same resource wins.
func (d *decision) expand(edits []Edit) ([]DocumentEdit, error) {
	byName := map[string]*DocumentEdit{}
	for i, edit := range edits {
		for _, pattern := range edit.Environments {
			names, err := d.match(pattern)
			if err != nil {
				return nil, fmt.Errorf("edit %d: %w", i+1, err)
			}
			for _, name := range names {
				document := byName[name]
				if document == nil {
					document = &DocumentEdit{Environment: name, Document: overrideDocument, Set: map[string]json.RawMessage{}}
					byName[name] = document
				}
				for key, value := range edit.Set {
					document.Set[key] = value
					document.Delete = slices.DeleteFunc(document.Delete, func(k string) bool { return k == key })
				}
				for _, key := range edit.Delete {
					delete(document.Set, key)
					if !slices.Contains(document.Delete, key) {
						document.Delete = append(document.Delete, key)
					}
				}
			}
		}
	}
	out := make([]DocumentEdit, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		slices.Sort(byName[name].Delete)
		out = append(out, *byName[name])
	}
	return out, nil
}

// match is the active environments that a name or pattern stands for; never none.
func (s *State) match(pattern string) ([]string, error) {
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, refuse(KindInvalid, "", "%q is no pattern of environment names", pattern)
	}
	if e, found := s.Environments[pattern]; found {
		if e.Retired {
			return nil, refuse(KindConflict, "", "environment %s is retired", pattern)
		}
		return []string{pattern}, nil
	}
	var names []string
	for name, e := range s.Environments {
		if matched, _ := path.Match(pattern, name); matched && !e.Retired {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, refuse(KindNotFound, "list them with 'publisher env list'", "there is no environment %q", pattern)
	}
	return names, nil
}

// compile is what an edit of the override document means for the environment now, ordered by key: what is so already is left out.
func (d *decision) compile(document DocumentEdit) []events.Operation {
	state := &d.Environments[document.Environment].Fold.State
	var operations []events.Operation
	for key, value := range document.Set {
		if now, _ := state.Get(key); !bytes.Equal(now.Value, value) {
			operations = append(operations, events.Operation{Op: events.OpSet, Key: key, Value: value, Base: now.Setter})
		}
	}
	for _, key := range document.Delete {
		if now, _ := state.Get(key); now.Value != nil {
			operations = append(operations, events.Operation{Op: events.OpDelete, Key: key, Base: now.Setter})
		}
	}
	slices.SortFunc(operations, func(a, b events.Operation) int { return bytes.Compare([]byte(a.Key), []byte(b.Key)) })
	return operations
}

// freeze stores operations and their inverse, and notes what they change.
func (d *decision) freeze(environment string, operations []events.Operation) (events.ProposedEnvironment, error) {
	part := events.ProposedEnvironment{Environment: environment}
	inverse, err := d.Environments[environment].Fold.Invert(operations)
	if err != nil {
		return part, err
	}
	if part.Operations, err = d.store(operations); err != nil {
		return part, err
	}
	if part.Inverse, err = d.store(inverse); err != nil {
		return part, err
	}
	for i, op := range operations {
		d.affect(environment, op.Key, inverse[i].Value, op.Value)
	}
	return part, nil
}

func (d *decision) affect(environment, key string, before, after json.RawMessage) {
	d.effect = append(d.effect, Effect{Environment: environment, Key: key, Before: before, After: after})
}
