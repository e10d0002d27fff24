package registry

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// checkWaivers says whether every waiver says what it allows, who answers for it, why, and until when.
func (e *Environment) checkWaivers() error {
	for n, w := range e.Waivers {
		at := "/spec/waivers/" + strconv.Itoa(n)
		for _, field := range [][2]string{{"rule", w.Rule}, {"owner", w.Owner}, {"reason", w.Reason}, {"expires", w.Expires}} {
			if strings.TrimSpace(field[1]) == "" {
				return wrong(at, "the waiver has no %s: it says which rule is broken, who answers for it, why, and until when", field[0])
			}
		}
		if err := isDate(at, w.Expires); err != nil {
			return err
		}
		if w.Resource == "" && strings.HasSuffix(w.Rule, "/"+facts) {
			continue // the environment itself deviates
		}
		if err := CheckKey(w.Resource); err != nil {
			return wrong(at, "%v", err)
		}
	}
	return nil
}

// allows says whether the waiver is about a violation.
func (w Waiver) allows(v Violation) bool { return w.Rule == v.Rule && w.Resource == v.Resource }

// A Waived is a violation that a waiver allows.
type Waived struct {
	Violation
	Waiver
}

func (w Waived) String() string {
	return fmt.Sprintf("%s %s may break rule %s until %s (%s: %s)", w.Environment, w.Violation.Resource, w.Violation.Rule, w.Expires, w.Owner, w.Reason)
}

// waive takes out of a verdict what the waivers of an environment allow on a day. One that is over allows nothing and is a violation
// itself, as is one of a rule that the environment's templates do not have.
func (v *Verdict) waive(m *Manifest, of *ruleset, today time.Time) {
	found := v.Violations
	v.Violations = nil
	waivers := m.Environment().Waivers
	for n, w := range waivers {
		broken := Violation{Environment: m.Name(), Resource: w.Resource, Rule: w.Rule, At: m.PlaceOf("/spec/waivers/" + strconv.Itoa(n))}
		broken.Place = broken.At
		switch known := of.names(); {
		case past(w.Expires, today):
			broken.Message = fmt.Sprintf("has a waiver that ended on %s (%s: %s): comply, or have it extended", w.Expires, w.Owner, w.Reason)
		case !slices.Contains(known, w.Rule):
			broken.Message = "has a waiver of a rule that none of its templates has" + didYouMean(w.Rule, known)
		default:
			continue
		}
		v.Violations = append(v.Violations, broken)
	}
	for _, violation := range found {
		waived := false
		for _, w := range waivers {
			if waived = w.allows(violation); !waived {
				continue
			}
			if !past(w.Expires, today) {
				v.Waived = append(v.Waived, Waived{violation, w})
			}
			break // one that is over stands among the violations by itself
		}
		if !waived {
			v.Violations = append(v.Violations, violation)
		}
	}
}
