package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

const (
	// proposalLife is how long an open proposal waits for approval.
	proposalLife = 30 * 24 * time.Hour
	// maxWave is how many releases one entry may make; until there are rollout plans a change is one wave.
	maxWave = 2000
	// maxWithin is the longest propagation window.
	maxWithin = 365 * 24 * time.Hour
)

// A Propose is a proposed change: edits with a reason.
type Propose struct {
	Reason string             `json:"reason"`
	Ticket string             `json:"ticket,omitempty"`
	Within int64              `json:"within,omitempty"` // propagation window, seconds; 0 is none
	Source *events.Provenance `json:"source,omitempty"`
	Edits  []Edit             `json:"edits"`
	// Directory is proposed instead of edits.
	Directory *Directory `json:"directory,omitempty"`
	// Promotion is proposed instead of edits.
	Promotion *Promotion `json:"promotion,omitempty"`
}

// An Edit sets and deletes resources of some environments.
type Edit struct {
	Environments []string                   `json:"environments"` // names, or patterns as of path.Match
	Set          map[string]json.RawMessage `json:"set,omitempty"`
	Delete       []string                   `json:"delete,omitempty"`
}

// Sources are what a change was compiled from: the edits, in order, and the environments whose documents each of them edited.
type Sources struct {
	Edits     []SourceEdit    `json:"edits"`
	Directory []DirectoryEdit `json:"directory,omitempty"` // where a directory was proposed
}

// A SourceEdit is an edit as its author wrote it, with canonical values.
type SourceEdit struct {
	Edit
	Document string   `json:"document"` // that it edits, of each environment
	Matched  []string `json:"matched"`  // what its names and patterns stood for, ordered
}

// overrideDocument is where quick edits are kept.
const overrideDocument = "override"

// An override is what edits do to one environment's override document: the last value of each key, nil deletes.
type override struct {
	environment string
	values      map[string]json.RawMessage
}

func (Propose) name() string { return "propose" }

func (p Propose) decide(d *decision) error {
	return d.propose(p, d.nextChange(), events.TypeChangeProposed)
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
	if c.Trust != nil {
		return newDocument(c)
	}
	return d.propose(r.Propose, r.Change, events.TypeChangeRevised)
}

// propose compiles the edits per environment and freezes them.
func (d *decision) propose(p Propose, id string, t events.Type) error {
	if err := p.checkMetadata(); err != nil {
		return err
	}
	sources, compilation, err := d.compile(p, id)
	if err != nil {
		return err
	}
	return d.put(p, sources, compilation, id, t)
}

// put judges what was compiled, and freezes it.
func (d *decision) put(p Propose, sources Sources, compilation Compilation, id string, t events.Type) error {
	if err := d.judge(p, compilation, id); err != nil {
		return err
	}
	proposed := &events.ChangeProposed{
		Change: id, Author: d.by, Reason: p.Reason, Ticket: p.Ticket, Within: p.Within, Source: p.Source, Expires: d.now.Add(proposalLife),
		Verdicts: d.verdicts,
	}
	var leaves []events.Leaf
	var sourcesOnly []string
	for _, e := range compilation.Environments {
		if !e.Changes {
			continue
		}
		part, err := d.freeze(e.Environment, e.Operations)
		if err != nil {
			return err
		}
		if len(e.Operations) == 0 {
			sourcesOnly = append(sourcesOnly, e.Environment)
		}
		proposed.Environments = append(proposed.Environments, part)
		leaves = append(leaves, events.Leaf{Change: id, Environment: part.Environment, Inverse: part.Inverse, Operations: part.Operations})
	}
	if len(leaves) == 0 && p.Promotion != nil && len(d.notes) > 0 {
		return refuse(KindConflict, "see it with 'publisher env compare "+p.Promotion.From+" ENV'", "nothing would change: what differs stays behind: %s", some(d.notes))
	}
	if len(leaves) == 0 {
		return refuse(KindConflict, "", "nothing would change: every environment has this already")
	}
	if len(leaves) > maxWave {
		return refuse(KindInvalid, "propose it in parts", "the change reaches %d environments; at most %d are released together", len(leaves), maxWave)
	}
	var err error
	if proposed.Digest, _, err = events.ChangeDigest(leaves); err != nil {
		return err
	}
	if proposed.Sources, err = d.storeAtMost(sources, "propose it in parts", "the edits, with the environments they name,"); err != nil {
		return err
	}
	if len(sourcesOnly) > 0 {
		d.notes = append(d.notes, "only the sources change, and no resource, in "+strings.Join(sourcesOnly, ", "))
	}
	d.change = id
	d.record(t, id, proposed)
	return d.releaseByRule(proposed, t == events.TypeChangeRevised)
}

// compile is what is proposed as it is kept, and what it comes to.
func (d *decision) compile(p Propose, id string) (Sources, Compilation, error) {
	if p.Directory != nil || p.Promotion != nil {
		if len(p.Edits) > 0 || p.Directory != nil && p.Promotion != nil {
			return Sources{}, Compilation{}, refuse(KindInvalid, "propose one, and then the other", "two of a directory, a promotion and edits are proposed together")
		}
		if p.Promotion != nil {
			return d.compilePromotion(p.Promotion, id)
		}
		return d.compileDirectory(p.Directory, id)
	}
	edits, err := p.checked()
	if err != nil {
		return Sources{}, Compilation{}, err
	}
	sources, overrides, err := d.expand(edits)
	if err != nil {
		return Sources{}, Compilation{}, err
	}
	if key := d.vain(overrides); key != "" {
		return Sources{}, Compilation{}, refuse(KindConflict, "look for its name with 'publisher get ENV'", "%s is to be deleted, and no environment that is named has it", key)
	}
	c, err := d.compileQuick(overrides, id)
	return sources, c, err
}

// checked is the edits with canonical values. It leaves p as it came: the command's digest is over that.
func (p Propose) checked() ([]Edit, error) {
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
	if err := checkNoted("the ticket", p.Ticket, 128); err != nil {
		return err
	}
	if p.Within < 0 || p.Within > int64(maxWithin/time.Second) {
		return refuse(KindInvalid, "", "within: want a time of at most %s that is not negative, have %d seconds", maxWithin, p.Within)
	}
	if p.Source != nil {
		for _, text := range []string{p.Source.Repository, p.Source.Commit, p.Source.Build} {
			if err := checkNoted("the source", text, 512); err != nil {
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
		if err := registry.CheckKey(key); err != nil {
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
		if err := registry.CheckKey(key); err != nil {
			return e, err
		}
		if _, both := e.Set[key]; both {
			return e, fmt.Errorf("%s is both set and deleted", key)
		}
	}
	return e, nil
}

// expand finds the environments that each edit names, and what the edits do to each environment's override document, ordered by
// environment. A later edit of the same resource wins.
func (d *decision) expand(edits []Edit) (Sources, []override, error) {
	var sources Sources
	values := map[string]map[string]json.RawMessage{}
	for i, edit := range edits {
		matched := map[string]bool{}
		for _, pattern := range edit.Environments {
			names, err := d.match(pattern)
			if err != nil {
				return sources, nil, fmt.Errorf("edit %d: %w", i+1, err)
			}
			for _, name := range names {
				matched[name] = true
			}
		}
		for name := range matched {
			if values[name] == nil {
				values[name] = map[string]json.RawMessage{}
			}
			maps.Copy(values[name], edit.Set)
			for _, key := range edit.Delete {
				values[name][key] = nil
			}
		}
		sources.Edits = append(sources.Edits, SourceEdit{Edit: edit, Document: overrideDocument, Matched: slices.Sorted(maps.Keys(matched))})
	}
	overrides := make([]override, 0, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		overrides = append(overrides, override{name, values[name]})
	}
	return sources, overrides, nil
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
	if len(names) == 0 && strings.ContainsAny(pattern, "*?[") {
		return nil, refuse(KindNotFound, "list them with 'publisher env list'", "no environment has a name like %q", pattern)
	}
	if len(names) == 0 {
		return nil, refuse(KindNotFound, "list them with 'publisher env list'", "there is no environment %q", pattern)
	}
	return names, nil
}

// vain is a resource that is to be deleted and is nowhere: its name is wrong.
func (d *decision) vain(overrides []override) string {
	found := map[string]bool{} // by resource to be deleted
	for _, o := range overrides {
		for key, value := range o.values {
			if value == nil {
				now, _ := d.Environments[o.environment].Fold.State.Get(key)
				found[key] = found[key] || now.Value != nil
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(found)) {
		if !found[key] {
			return key
		}
	}
	return ""
}

// freeze stores operations and their inverse, and notes what they change.
func (d *decision) freeze(environment string, operations []events.Operation) (events.ProposedEnvironment, error) {
	part := events.ProposedEnvironment{Environment: environment}
	if operations == nil {
		operations = []events.Operation{} // only its sources change
	}
	inverse, err := d.Environments[environment].Fold.Invert(operations)
	if err != nil {
		return part, err
	}
	const next = "propose it in smaller parts, or keep large documents elsewhere and refer to them"
	if part.Operations, err = d.storeAtMost(operations, next, "what the change does in "+environment); err != nil {
		return part, err
	}
	if part.Inverse, err = d.storeAtMost(inverse, next, "what the change replaces in "+environment); err != nil {
		return part, err
	}
	for i, op := range operations {
		d.affect(environment, op.Key, inverse[i].Value, op.Value)
	}
	return part, nil
}

// storeAtMost is store for content that a person can make smaller.
func (d *decision) storeAtMost(content any, next, what string) (events.Digest, error) {
	digest, size, err := d.store(content)
	if err == nil && size > maxContent {
		err = refuse(KindInvalid, next, "%s has %d bytes; at most %d are kept", what, size, maxContent)
	}
	return digest, err
}

func (d *decision) affect(environment, key string, before, after json.RawMessage) {
	d.effect = append(d.effect, Effect{Environment: environment, Key: key, Before: before, After: after})
}
