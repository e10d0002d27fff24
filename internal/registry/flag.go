package registry

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/flagd"
)

// checkFlag says whether a value may be the resource's where the resource is a flag, or the flag set, and what it refers to.
func checkFlag(key string, value json.RawMessage) ([]flagd.Reference, error) {
	switch {
	case strings.HasPrefix(key, "flag/"):
		return flagd.Check(value)
	case key == flagd.SetKey:
		return nil, flagd.CheckSet(value)
	}
	return nil, nil
}

// CheckFlags says whether the flags of an environment can be evaluated there: those that quick edits of a change define are as flagd
// wants them (what manifests define is checked when it is rendered), and the shared evaluators that flags name exist. Errors are Problems.
func (r *Rendering) CheckFlags(change string) error {
	var problems Problems
	var known map[string]bool
	for _, rendered := range r.Resources {
		references := rendered.Value.references
		if rendered.Quick != nil {
			var err error
			if references, err = checkFlag(rendered.Key, rendered.Value.JSON); err != nil && rendered.Quick.Change == change {
				problems = append(problems, fmt.Errorf("%s: %w", rendered.Key, err))
				continue
			}
		}
		for _, reference := range references {
			if known == nil {
				set, found := r.Get(flagd.SetKey)
				if known = map[string]bool{}; found {
					known = flagd.Evaluators(set.Value.JSON)
				}
			}
			if !known[reference.Name] {
				missing := &flagd.Error{Path: reference.Path, Message: fmt.Sprintf("there is no shared evaluator %q in %s: define it under $evaluators in %s", reference.Name, r.Target.Name, flagd.SetKey)}
				problems = append(problems, rendered.errorAt(missing))
			}
		}
	}
	return problems.err()
}

// errorAt places an error where the resource's value comes from.
func (r Rendered) errorAt(err error) error {
	if r.Quick != nil {
		return fmt.Errorf("%s: %w", r.Key, err)
	}
	return r.Value.errorAt(r.Key, err)
}
