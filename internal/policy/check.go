package policy

import (
	"slices"

	"github.com/lockstep-dev/lockstep/internal/config"
	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Check type-checks the policies of a directory, and judges by them every resource as it stands in every environment that the directory
// declares; it renders without an error. What needs more than that is left to the proposal. Errors are registry.Problems: what is
// denied too.
func Check(s *registry.Sources) ([]registry.Finding, error) {
	if len(policies(s)) == 0 {
		return nil, nil
	}
	r := Request{Standing: true}
	renderer := registry.NewRenderer()
	for _, t := range s.Targets() {
		rendering, err := renderer.Render(s, t)
		if err != nil {
			return nil, err
		}
		r.Environments = append(r.Environments, Environment{Name: t.Name, Labels: t.Labels, Facts: rendering.Target.Facts, After: s, Operations: standing(rendering)})
	}
	if len(r.Environments) == 0 {
		r.Environments = []Environment{{After: s, Operations: slices.Values([]Operation{})}} // for the expressions alone
	}
	verdicts, err := new(Library).Judge(r)
	if err != nil {
		return nil, err
	}
	var problems registry.Problems
	for _, v := range Denials(verdicts) {
		place := placeOf(s, v)
		problems = append(problems, &config.Error{File: place.File, Line: max(place.Line, 1), Column: 1, Message: Sentence(v)})
	}
	if len(problems) > 0 {
		return nil, problems
	}
	var out []registry.Finding
	for _, v := range Warnings(verdicts) {
		out = append(out, registry.Finding{Place: placeOf(s, v), Message: Sentence(v)})
	}
	return out, nil
}

func standing(rendering *registry.Rendering) func(func(Operation) bool) {
	return func(yield func(Operation) bool) {
		for _, r := range rendering.Resources {
			if !yield(Operation{Key: r.Key, After: r.Value.JSON, Is: r.Manifest, Value: r.Value}) {
				return
			}
		}
	}
}

// placeOf is where the first resource stands that a verdict is about.
func placeOf(s *registry.Sources, v events.Verdict) registry.Place {
	if m, found := s.Manifest(v.On[0].Key); found {
		return m.PlaceOf("/spec")
	}
	return registry.Place{File: v.File, Line: v.Line}
}
