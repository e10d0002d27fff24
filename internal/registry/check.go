package registry

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A Finding is something that people should look at, though it can be proposed.
type Finding struct {
	Place
	Message string `json:"message"`
}

func (f Finding) String() string { return f.Place.String() + ": " + f.Message }

// Targets are the environments that manifests declare, with the labels that those say, ordered by name.
func (s *Sources) Targets() []Target {
	var out []Target
	for _, m := range s.OfKind(KindEnvironment) {
		if m.whole {
			out = append(out, Target{Name: m.Name(), Labels: m.Metadata().Labels})
		}
	}
	return out
}

// Check renders what manifests declare in every environment, and looks for what is suspicious on a day. Errors are Problems.
func Check(s *Sources, today time.Time) ([]Finding, error) {
	targets := s.Targets()
	renderer := NewRenderer()
	var problems Problems
	var waived []Finding
	said := map[string]bool{}
	for _, t := range targets {
		rendering, err := renderer.Render(s, t)
		if err == nil {
			err = rendering.CheckFlags("")
		}
		if err == nil {
			err = checkRules(renderer, s, rendering, today, &waived)
		}
		if err != nil {
			found, _ := errors.AsType[Problems](err)
			for _, p := range found {
				if !said[p.Error()] {
					said[p.Error()] = true
					problems = append(problems, p)
				}
			}
		}
	}
	if err := problems.err(); err != nil {
		return nil, err
	}
	return append(s.findings(targets, today), waived...), nil
}

// checkRules judges an environment as far as that needs no ledger, and notes what waivers allow it.
func checkRules(renderer *Renderer, s *Sources, rendering *Rendering, today time.Time, waived *[]Finding) error {
	verdict, err := renderer.Judge(Case{Sources: s, Rendering: rendering}, today)
	if err != nil {
		return err
	}
	for _, w := range verdict.Waived {
		*waived = append(*waived, Finding{w.Place, "waived: " + w.String()})
	}
	var problems Problems
	for _, v := range verdict.Violations {
		problems = append(problems, v.err())
	}
	return problems.err()
}

func (s *Sources) findings(targets []Target, today time.Time) []Finding {
	var out []Finding
	find := func(m *Manifest, path, format string, args ...any) {
		out = append(out, Finding{m.PlaceOf(path), m.Key + " " + fmt.Sprintf(format, args...)})
	}
	if len(targets) == 0 {
		out = append(out, Finding{Message: "no environment is declared: write a manifest of kind Environment for each one whose source this is"})
	}
	for _, m := range s.manifests {
		i, err := m.index()
		if err != nil || i.resource == nil {
			continue
		}
		r := i.resource
		if r.Lifecycle == Deprecated {
			find(m, "/spec/lifecycle", "is deprecated")
		}
		if past(r.Expires, today) {
			find(m, "/spec/expires", "expired on %s", r.Expires)
		}
		if past(r.ReviewBy, today) {
			find(m, "/spec/reviewBy", "was to be reviewed by %s", r.ReviewBy)
		}
		declared := func(pattern string) bool {
			return len(targets) == 0 || slices.ContainsFunc(targets, func(t Target) bool { return matches(pattern, t.Name) })
		}
		for _, o := range i.overrides {
			if !declared(o.pattern) {
				find(m, "/spec/overrides/"+escape(o.pattern), "has an override for %q, which is no environment that is declared here%s", o.pattern, didYouMean(o.pattern, s.names(KindEnvironment)))
			}
		}
		for _, pattern := range r.Activation.Environments {
			if !declared(pattern) {
				find(m, "/spec/activation/environments", "is active in %q, which is no environment that is declared here%s", pattern, didYouMean(pattern, s.names(KindEnvironment)))
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Finding) int { return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line)) })
	return out
}

// past says whether a date lies before a day.
func past(date string, today time.Time) bool {
	t, err := time.Parse(time.DateOnly, date)
	return err == nil && t.Before(today.Truncate(24*time.Hour))
}
