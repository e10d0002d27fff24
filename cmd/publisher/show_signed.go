package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// signed says whether a change is approved by signatures.
func signed(change fleet.Change) bool {
	return change.Proposal != nil
}

// signedApprovals say who approved, and until when that counts.
func signedApprovals(change fleet.Change) string {
	var out []string
	for _, a := range change.Approvals {
		said := plain(a.By) + " " + ago(a.At)
		if a.Envelope != nil {
			s, err := a.Envelope.Open()
			if err == nil && s.Verb == events.VerbBreakGlass {
				continue // it stands in the place of approvals, and is shown by itself
			}
			if err == nil && !s.Expires.IsZero() && len(change.Demands) > 0 {
				said += ", which counts until " + s.Expires.UTC().Format("2006-01-02 15:04:05Z")
			}
		}
		out = append(out, said)
	}
	switch {
	case len(out) > 0:
		return strings.Join(out, "; ")
	case change.BreakGlass != nil:
		return "none"
	}
	return "none yet"
}

// lackings say how many more people of which roles must approve where, who demands it, and who could: what is the same in several
// environments is said once.
func lackings(demands []ledger.Demand) []string {
	type group struct{ environments, of []string }
	groups := map[string]*group{}
	var order []string
	for _, d := range demands {
		if d.Lacking == 0 {
			continue
		}
		var by []string
		for _, role := range d.Roles {
			by = append(by, string(role))
		}
		could := "nobody could"
		if len(d.Could) > 0 {
			could = strings.Join(d.Could, " or ") + " could"
		}
		text := fmt.Sprintf("%d more by %s in \x00 (\x00): %s", d.Lacking, strings.Join(by, " or "), could)
		of := d.Of
		if of == "environment "+d.Environment {
			of = "the environment"
		}
		g := groups[text]
		if g == nil {
			g = &group{}
			groups[text] = g
			order = append(order, text)
		}
		if !slices.Contains(g.environments, d.Environment) {
			g.environments = append(g.environments, d.Environment)
		}
		if !slices.Contains(g.of, of) {
			g.of = append(g.of, of)
		}
	}
	var out []string
	for _, text := range order {
		g := groups[text]
		text = strings.Replace(text, "\x00", someOf(g.environments), 1)
		out = append(out, plain(strings.Replace(text, "\x00", strings.Join(g.of, ", "), 1)))
	}
	return out
}

// someOf is a list that stays short.
func someOf(names []string) string {
	const most = 6
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// reviews say who signed a break-glass off.
func reviews(g ledger.GlassBroken) string {
	if len(g.Reviews) == 0 {
		return "; nobody has signed it off"
	}
	var by []string
	for _, r := range g.Reviews {
		by = append(by, plain(r.By)+because(r.Comment))
	}
	out := "; signed off by " + strings.Join(by, ", ")
	if g.UnderReview() {
		out += ", and one more must"
	}
	return out
}
