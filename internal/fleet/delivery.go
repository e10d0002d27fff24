package fleet

import (
	"cmp"
	"slices"
	"time"

	"github.com/lockstep-dev/lockstep/internal/ledger"
)

// A DeliveryReport is how changes have fared that were approved in some weeks.
type DeliveryReport struct {
	Since    time.Time
	All      Deliveries
	Weeks    []DeliveryWeek // oldest first
	Stages   []Deliveries   // by the label stage of the environments that a change was released to; it counts in each, with what became of it there
	Products []Deliveries   // by the label product
}

// A DeliveryWeek are the changes that were approved in a week, which begins on a Monday.
type DeliveryWeek struct {
	From time.Time
	Deliveries
}

// Deliveries is how some changes have fared.
type Deliveries struct {
	Name       string
	Changes    int       // approved and released
	ToStep     Quantiles // from proposal to in step everywhere
	Failed     int       // changes that an agent said it could not apply
	RolledBack int       // changes that were undone somewhere
	Recover    Quantiles // from such a failure to the agent applying that revision or a later one, the slowest of a change's agents
	Unmended   int       // changes with a failure that still stands
	toStep     []float64
	toRecover  []float64
}

// Share is a number of changes in a hundred.
func (d Deliveries) Share(of int) int {
	if d.Changes == 0 {
		return 0
	}
	return (100*of + d.Changes/2) / d.Changes
}

// ReportDeliveries reports on the weeks up to now.
func ReportDeliveries(s *ledger.State, r Reports, weeks int, asOf time.Time) DeliveryReport {
	monday := asOf.UTC().Truncate(24 * time.Hour)
	monday = monday.AddDate(0, 0, -(int(monday.Weekday())+6)%7)
	out := DeliveryReport{Since: monday.AddDate(0, 0, -7*(weeks-1))}
	for i := range weeks {
		out.Weeks = append(out.Weeks, DeliveryWeek{From: out.Since.AddDate(0, 0, 7*i)})
	}
	stages, products := map[string]*Deliveries{}, map[string]*Deliveries{}
	for _, c := range slices.Backward(s.ChangeList()) {
		if c.Approved.IsZero() || c.Approved.Before(out.Since) {
			continue
		}
		fared := fareOf(s, r, c, "", "")
		out.All.add(fared)
		if i := int(c.Approved.Sub(out.Since) / (7 * 24 * time.Hour)); i < weeks {
			out.Weeks[i].add(fared)
		}
		for label, by := range map[string]map[string]*Deliveries{"stage": stages, "product": products} {
			for _, value := range valuesOf(s, c, label) {
				if by[value] == nil {
					by[value] = &Deliveries{Name: value}
				}
				by[value].add(fareOf(s, r, c, label, value))
			}
		}
	}
	out.All.conclude()
	for i := range out.Weeks {
		out.Weeks[i].conclude()
	}
	out.Stages, out.Products = concluded(stages), concluded(products)
	return out
}

func concluded(by map[string]*Deliveries) (out []Deliveries) {
	for _, d := range by {
		d.conclude()
		out = append(out, *d)
	}
	slices.SortFunc(out, func(a, b Deliveries) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// A fare is what became of one change.
type fare struct {
	toStep     float64 // negative: it is not in step everywhere
	failed     bool
	rolledBack bool
	mended     bool // every failure is
	recovered  float64
}

// fareOf is what became of a change, in the environments that have a label, or in all where none is named.
func fareOf(s *ledger.State, r Reports, c *ledger.Change, label, value string) fare {
	out := fare{toStep: -1, mended: true}
	if !c.Completed.IsZero() {
		out.toStep = c.Completed.Sub(c.Proposed).Seconds()
	}
	for _, part := range c.Parts {
		if label != "" && s.Environments[part.Environment].Labels[label] != value {
			continue
		}
		out.rolledBack = out.rolledBack || part.Undone > 0
		if part.Revision == 0 {
			continue
		}
		e := s.Environments[part.Environment]
		failed, recovered := e.Releases[part.Revision-1].Failed()
		out.failed, out.recovered = out.failed || failed, max(out.recovered, recovered.Seconds())
		for _, a := range r.enrolled(e) {
			failed, past, took := a.Recovery(part.Revision)
			out.failed, out.mended = out.failed || failed, out.mended && past
			out.recovered = max(out.recovered, took.Seconds())
		}
	}
	return out
}

// valuesOf are the values of a label of the environments that a change was released to.
func valuesOf(s *ledger.State, c *ledger.Change, label string) (out []string) {
	for _, part := range c.Parts {
		if value := s.Environments[part.Environment].Labels[label]; part.Revision > 0 && value != "" && !slices.Contains(out, value) {
			out = append(out, value)
		}
	}
	return out
}

func (d *Deliveries) add(f fare) {
	d.Changes++
	if f.toStep >= 0 {
		d.toStep = append(d.toStep, f.toStep)
	}
	if f.rolledBack {
		d.RolledBack++
	}
	if f.failed {
		d.Failed++
		if f.mended {
			d.toRecover = append(d.toRecover, f.recovered)
		} else {
			d.Unmended++
		}
	}
}

func (d *Deliveries) conclude() { d.ToStep, d.Recover = quantiles(d.toStep), quantiles(d.toRecover) }
