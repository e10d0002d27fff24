package dashboard

import (
	"cmp"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

const (
	// readable is how many environments are listed one by one where nobody asked for some; of more, only groups are.
	readable = 40
	// mostRows is how many environments a list has.
	mostRows = 200
	// sparkPoints is how many releases the line of an environment has.
	sparkPoints = 24
)

// fewTroubled is how many environments of a folded list are read one by one. Where more are not in step, the groups come first: they
// tell sooner what those have in common.
const fewTroubled = 12

// The overview of all environments, or of those that a filter lets through.
type overview struct {
	Told      *told
	Filter    string
	Known     []string // what the filter could say
	Shown     int
	All       int
	Retired   int // of those that are shown
	Totals    []total
	Attention []row // not in step, worst first
	Troubled  int   // how many are not in step
	Groups    []group
	Folded    bool // groups only
	Listed    int  // environments that are in step, or retired
	Unlisted  int  // those of them for which there was no room
}

// A total is how many environments are in a condition.
type total struct {
	Condition fleet.Condition
	Count     int
	Address   string // of these environments
}

// A group are the environments of one stage and region.
type group struct {
	Name   string
	Headed bool // above its rows; a heading above each single environment says nothing
	Size   int
	Rows   []row // of those that are in step or retired; the others are listed before all groups
	Totals []total
	words  []string // of a filter that lets its environments through
	counts map[fleet.Condition]int
}

// Address is that of the group's environments.
func (g group) Address() string { return address(g.words) }

// A row is an environment in a table.
type row struct {
	fleet.Environment
	AsOf    time.Time
	Changed time.Time // when its last change was released
	Group   string    // its stage and region, where it is not listed below them
	Spark   template.HTML
	common  map[string]bool // labels of all environments that are shown
}

// Labels are the environment's stage and region, where its group does not say them, and its labels beyond those and those that all have.
func (r row) Labels() (out []string) {
	if r.Group != "" {
		out = append(out, r.Group)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Environment.Labels)) {
		if name != "stage" && name != "region" && !r.common[name+"="+r.Environment.Labels[name]] {
			out = append(out, name+"="+r.Environment.Labels[name])
		}
	}
	return out
}

// Living is how many agents were heard.
func (r row) Living() int { return r.Alive(r.AsOf) }

func (d *dashboard) overview(r *http.Request, p *page) error {
	p.Section = "overview"
	o := &overview{Told: p.told, Filter: strings.TrimSpace(r.URL.Query().Get("filter"))}
	p.Body = o
	wanted := filter(o.Filter)
	known, common := map[string]int{}, map[string]bool{}
	counts := map[fleet.Condition]int{}
	view := p.view
	p.AsOf = view.AsOf
	for _, e := range view.Environments {
		o.All++
		for name, value := range e.Labels {
			known[written([]string{name + "=" + value})]++
		}
		if wanted(e) {
			o.Shown++
			counts[e.Condition]++
		}
	}
	o.Retired, o.Folded = counts[fleet.Retired], o.Filter == "" && o.Shown > readable
	d.Backend.Read(func(s *ledger.State, reports fleet.Reports, _ time.Time) {
		for _, e := range view.Environments {
			if of := s.Environments[e.Name]; of != nil && wanted(e) {
				o.add(e, func() row {
					return row{e, view.AsOf, released(of, e.LastChange), groupOf(e), spark(fleet.LagSeries(of, reports, sparkPoints, view.AsOf)), common}
				})
			}
		}
	})
	for label, n := range known {
		common[strings.Join(wordsIn(label), "")] = n == o.All
	}
	o.Known = slices.Sorted(maps.Keys(known))
	o.Totals = totals(counts, wordsIn(o.Filter))
	o.arrange()
	p.Title = o.Headline()
	return nil
}

// released is when a change was released to an environment; zero where it was not.
func released(e *ledger.Environment, change string) time.Time {
	for _, r := range slices.Backward(e.Releases) {
		if r.Change == change && r.Kind == events.KindChange {
			return r.Stamp
		}
	}
	return time.Time{}
}

// Headline says how many environments are not in step: what somebody on call reads first.
func (o *overview) Headline() string {
	switch active := o.Active(); {
	case o.All == 0:
		return "There are no environments yet"
	case o.Shown == 0:
		return "No environment is like that"
	case active == 0 && o.Shown == 1:
		return "The environment is retired"
	case active == 0:
		return "All " + thousands(o.Shown) + " environments are retired"
	case active == 1 && o.Troubled == 1:
		return "The environment is not in step"
	case active == 1:
		return "The environment is in step"
	case o.Troubled == 0:
		return "All " + thousands(active) + " environments are in step"
	case o.Troubled == active:
		return "None of " + thousands(active) + " environments is in step"
	case o.Troubled == 1:
		return "1 of " + thousands(active) + " environments is not in step"
	}
	return thousands(o.Troubled) + " of " + thousands(o.Active()) + " environments are not in step"
}

// Spread says that too many environments are not in step to read of each.
func (o *overview) Spread() bool { return o.Folded && o.Troubled > fewTroubled }

// Active is how many of those that are shown are not retired.
func (o *overview) Active() int { return o.Shown - o.Retired }

// add lists an environment, as far as there is room. Its row is made where it is needed.
func (o *overview) add(e fleet.Environment, row func() row) {
	name := groupOf(e)
	i := slices.IndexFunc(o.Groups, func(g group) bool { return g.Name == name })
	if i < 0 {
		i = len(o.Groups)
		o.Groups = append(o.Groups, group{Name: name, words: wordsOf(e), counts: map[fleet.Condition]int{}})
	}
	g := &o.Groups[i]
	g.counts[e.Condition]++
	g.Size++
	switch {
	case e.Condition != fleet.InStep && e.Condition != fleet.Retired:
		o.Troubled++
		if len(o.Attention) < readable || !o.Folded && len(o.Attention) < mostRows {
			o.Attention = append(o.Attention, row())
		}
	case o.Folded:
	case o.Listed < mostRows:
		o.Listed++
		g.Rows = append(g.Rows, row())
	default:
		o.Unlisted++
	}
}

// wordsOf are those of a filter that lets an environment's group through.
func wordsOf(e fleet.Environment) []string {
	if e.Condition == fleet.Retired {
		return []string{"state=retired"}
	}
	return []string{"stage=" + e.Labels["stage"], "region=" + e.Labels["region"]}
}

// address is that of the environments that a filter of words lets through.
func address(words []string) string { return "/?filter=" + url.QueryEscape(written(words)) }

// groupOf is the stage and region of an environment.
func groupOf(e fleet.Environment) string {
	stage, region := e.Labels["stage"], e.Labels["region"]
	switch {
	case e.Condition == fleet.Retired:
		return "retired"
	case stage == "" && region == "":
		return "without stage"
	case region == "":
		return stage
	}
	return cmp.Or(stage, "without stage") + " · " + region
}

// arrange puts the groups in order and folds them where there are too many environments to read. Rows came worst first and stay so.
func (o *overview) arrange() {
	slices.SortFunc(o.Groups, func(a, b group) int {
		return cmp.Or(cmp.Compare(rank(a.Name), rank(b.Name)), strings.Compare(a.Name, b.Name))
	})
	headed := slices.ContainsFunc(o.Groups, func(g group) bool { return g.Size > 1 })
	for i := range o.Groups {
		g := &o.Groups[i]
		g.Totals, g.Headed = totals(g.counts, g.words), headed
		for j := range g.Rows {
			if headed {
				g.Rows[j].Group = ""
			}
		}
	}
}

// stages are in the order in which changes usually come to them.
var stages = []string{"dev", "development", "test", "qa", "staging", "preprod", "prod", "production"}

// rank is where a group stands: by its stage, then others, then what has no stage, and last what is retired.
func rank(group string) int {
	stage, _, _ := strings.Cut(group, " · ")
	if i := slices.Index(stages, stage); i >= 0 {
		return i
	}
	return len(stages) + 1 + slices.Index([]string{"without stage", "retired"}, stage)
}

// totals are how many environments of those that a filter lets through are in which condition, worst first.
func totals(counts map[fleet.Condition]int, words []string) (out []total) {
	words = slices.DeleteFunc(slices.Clone(words), func(w string) bool { return strings.HasPrefix(w, "state=") })
	for _, c := range fleet.Conditions {
		if n := counts[c]; n > 0 {
			out = append(out, total{c, n, address(append(slices.Clone(words), "state="+slug(c)))})
		}
	}
	return out
}

// wordsIn are those of a filter: what stands between spaces; a space between quotes is a part of its word.
func wordsIn(filter string) (out []string) {
	quoted := false
	for _, word := range strings.FieldsFunc(filter, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return unicode.IsSpace(r) && !quoted
	}) {
		out = append(out, strings.ReplaceAll(word, `"`, ""))
	}
	return out
}

// written is a filter of such words.
func written(words []string) string {
	out := make([]string, len(words))
	for i, word := range words {
		if out[i] = word; strings.ContainsFunc(word, unicode.IsSpace) {
			name, value, _ := strings.Cut(word, "=")
			out[i] = name + `="` + value + `"`
		}
	}
	return strings.Join(out, " ")
}

// filter says which environments a person asked for: words that are all to be true. name=value is a label, which is not there where the
// value is empty, state=word a condition, and any other word a part of the name.
func filter(words string) func(fleet.Environment) bool {
	asked := wordsIn(words)
	return func(e fleet.Environment) bool {
		for _, word := range asked {
			name, value, labelled := strings.Cut(word, "=")
			switch {
			case labelled && name == "state" && value == slug(e.Condition), labelled && name != "state" && e.Labels[name] == value:
			case !labelled && strings.Contains(e.Name, strings.ToLower(word)):
			default:
				return false
			}
		}
		return true
	}
}
