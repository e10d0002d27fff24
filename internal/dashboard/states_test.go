package dashboard_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// documented are the rows of the table under a heading of docs/dashboard.md.
func documented(t *testing.T, heading string) (rows [][]string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/dashboard.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n"+heading+"\n")
	for line := range strings.Lines(section) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "#") {
			break
		} else if strings.HasPrefix(line, "|") {
			cells := strings.Split(strings.Trim(line, "|"), "|")
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			rows = append(rows, cells)
		}
	}
	if !found || len(rows) < 3 {
		t.Fatalf("docs/dashboard.md has no table under %q", heading)
	}
	return rows[2:] // below the head
}

// namesATest says whether a cell names the tests that show something. That they are there is looked for where all pages are (internal/arch).
var namesATest = regexp.MustCompile("`Test[A-Z]\\w+`").MatchString

// TestEveryStateIsShownAsItsTableSays: the table has every state, worst first, and each is on its environment's page by word, drawing and
// colour, with what to do.
func TestEveryStateIsShownAsItsTableSays(t *testing.T) {
	w := everyState(t)
	var states []fleet.Condition
	for _, row := range documented(t, "## States") {
		c := fleet.Condition(row[1])
		states = append(states, c)
		environments := w.Fleet().Environments
		i := slices.IndexFunc(environments, func(e fleet.Environment) bool { return e.Condition == c })
		if i < 0 {
			t.Errorf("nothing is %s", c)
			continue
		}
		slug := strings.ReplaceAll(string(c), " ", "-")
		body := markup(t, w, "/environments/"+environments[i].Name)
		if badge := `<span class="state s-` + slug + `">`; !strings.Contains(body, badge) || !strings.Contains(body, `href="#i-`+slug+`"/></svg>`+string(c)) || !strings.Contains(body, `<symbol id="i-`+slug+`"`) {
			t.Errorf("%s is not drawn so on the page of %s", c, environments[i].Name)
		}
		for _, command := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[3], -1) {
			if !strings.Contains(words(body), command[1]) {
				t.Errorf("the page of %s, which is %s, does not say %q", environments[i].Name, c, command[1])
			}
		}
		if !namesATest(row[4]) {
			t.Errorf("no test shows %s", c)
		}
	}
	if !slices.Equal(states, fleet.Conditions) {
		t.Errorf("the table has the states %q, there are %q", states, fleet.Conditions)
	}
}

// besides is how everything comes about that stands beside a state. The environment is prod with the agent a1, which is in step at c1.
var besides = map[string]func(w *world){
	"an agent is gone":    func(w *world) { w.pass(5*time.Minute + 3*time.Second) },
	"an agent never came": func(w *world) { w.reports.Beats, w.state.Environments["prod"].Agents["a1"].Heard = nil, time.Time{} },
	"one of two agents is gone": func(w *world) {
		id := fleet.AgentID{Environment: "prod", Agent: "a2"}
		w.keys[id] = signer("prod/a2")
		w.do("op", ledger.EnrolAgent{Environment: id.Environment, Agent: id.Agent, Key: w.keys[id].Public()})
		w.apply(50*time.Millisecond, "prod")
		w.pass(time.Minute)
		w.beat("prod", "a1", fleet.InStep)
	},
	"an agent came back from an old copy": func(w *world) {
		at := w.state.Environments["prod"].Releases[0]
		w.beat("prod", "a1", fleet.InStep, func(b *events.Beat) { b.Revision, b.Chain, b.State, b.Observed = 1, at.Chain, at.State, at.State })
	},
	"an instance does not answer": func(w *world) {
		w.release("because", "variable/x", `2`, "prod")
		w.beat("prod", "a1", fleet.Behind, func(b *events.Beat) {
			b.Reason, b.Message = "timeout", "at revision 2 of 3, and the connector does not answer"
		})
	},
	"a release is tried again": func(w *world) {
		w.release("because", "variable/x", `2`, "prod")
		w.beat("prod", "a1", fleet.Behind, func(b *events.Beat) { b.Reason, b.Message = events.ReasonConnector, "the instance answered 503" })
	},
	"two processes have one enrolment": func(w *world) {
		id := fleet.AgentID{Environment: "prod", Agent: "a1"}
		b := w.reports.Beats[id]
		b.Doubled = b.Stamp
		w.reports.Beats[id] = b
	},
	"a clock is off": func(w *world) {
		w.beat("prod", "a1", fleet.InStep, func(b *events.Beat) { b.Clock = b.Clock.Add(30 * time.Second) })
	},
	"an agent drops what is not signed":               func(w *world) { w.beat("prod", "a1", fleet.InStep, func(b *events.Beat) { b.Rejected = 7 }) },
	"an agent says what this publisher does not know": func(w *world) { w.beat("prod", "a1", "splendid") },
	"a connector cannot observe": func(w *world) {
		w.release("because", "variable/x", `2`, "prod")
		w.record([]events.Delivery{w.delivery("prod", "a1", events.WordApplied, time.Second, func(a *events.Ack) { a.ReadBack, a.Observed = false, events.Digest{} })})
	},
	"a hold ends by itself": func(w *world) {
		w.beat("prod", "a1", fleet.Held, func(b *events.Beat) { b.Message, b.Until = "load test", w.clock.Add(time.Hour) })
	},
	"nobody knows whether a flag is still as it was applied": func(w *world) {
		w.release("because", "flag/new", `{"state":"ENABLED","variants":{"on":true},"defaultVariant":"on"}`, "prod")
		w.apply(50*time.Millisecond, "prod")
		w.pass(time.Minute)
	},
	"a change waits for approval": func(w *world) { w.propose("carla", "because", "variable/x", `2`, "prod") },
	"something moved under a change": func(w *world) {
		w.propose("carla", "because", "variable/x", `2`, "prod")
		w.release("because", "variable/x", `3`, "prod")
	},
	"a change is frozen": func(w *world) {
		w.state.Changes[w.release("because", "variable/x", `2`, "prod")].Parts[0].Frozen = &events.Frozen{Environment: "prod", Until: w.clock.Add(time.Hour), Policy: "weekends", File: "policies.yaml", Line: 3}
	},
	"a change is paused": func(w *world) {
		w.state.Changes["c1"].Paused = &ledger.Paused{By: "carla", Reason: "the shop is full", Since: w.clock}
	},
	"an environment was left out": func(w *world) {
		part := &w.state.Changes["c1"].Parts[0]
		part.Revision, part.InSources = 0, false
		part.LeftOut = &events.LeftOut{Environment: "prod", Reason: events.ReasonBaseMoved, Detail: "variable/x was set meanwhile, by ben in c0"}
	},
	"a change is late": func(w *world) {
		w.release("because", "variable/x", `2`, "prod")
		w.pass(time.Hour)
	},
	"a break-glass is not signed off": func(w *world) {
		w.state.Changes["c1"].BreakGlass = &ledger.GlassBroken{By: "anna", Reason: "the shop is down", At: w.clock}
	},
	"the publisher does not reach the bus": func(w *world) {
		w.standing = fleet.LedgerView{Reason: events.ReasonBusDown, Message: "the bus is not reachable", Since: epoch, Durability: "proven"}
	},
	"the ledger is read-only": func(w *world) {
		w.standing = fleet.LedgerView{Reason: events.ReasonLedgerForked, Message: "entry 7 is another one", Since: epoch, Durability: "proven"}
	},
	"durability was not proven": func(w *world) { w.standing.Durability = "accepted without proof" },
	"the ledger was repaired with a loss": func(w *world) {
		w.state.Losses = []ledger.Loss{{By: "op", Loss: events.Loss{Reason: "the disks are gone"}}}
	},
	"what an environment demands was lost": func(w *world) { w.state.Environments["prod"].Lost = true },
	"an alarm is open, and nobody takes care of it": func(w *world) {
		w.pass(5 * time.Minute)
		w.raise()
	},
	"nobody is told of alarms": func(w *world) {
		w.untold = &ledger.Error{Kind: ledger.KindNotFound, Message: "nobody is told", Next: "start it with --notify FILE"}
	},
	"a page is old": func(*world) {},
}

// TestWhatStandsBesideAStateIsSeenAsItsTableSays brings about whatever the table names and looks for its words on the pages that it names.
func TestWhatStandsBesideAStateIsSeenAsItsTableSays(t *testing.T) {
	var named []string
	for _, row := range documented(t, "### What stands beside a state") {
		what, where, said := row[0], row[1], regexp.MustCompile(`\*([^*]+)\*`).FindAllStringSubmatch(row[2], -1)
		named = append(named, what)
		t.Run(what, func(t *testing.T) {
			comes := besides[what]
			if comes == nil || len(said) == 0 {
				t.Fatal("nothing brings it about, or nothing is seen of it")
			}
			w := newWorld(t)
			w.add("prod", "prod", "eu", "a1")
			w.release("because", "variable/x", `1`, "prod")
			w.apply(50*time.Millisecond, "prod")
			w.pass(fleet.BeatInterval)
			comes(w)
			pages := map[string]string{"overview": "/", "environment": "/environments/prod", "approvals": "/approvals", "alarms": "/alarms", "flags": "/flags",
				"change": fmt.Sprintf("/changes/c%d", len(w.state.Changes))}
			places := strings.Split(where, ", ")
			if where == "every page" {
				places = slices.Collect(maps.Keys(pages))
			}
			for _, place := range places {
				_, _, page := read(t, w, pages[place])
				for _, words := range said {
					if !strings.Contains(page, words[1]) {
						t.Errorf("%s does not say %q: %s", place, words[1], page)
					}
				}
			}
		})
	}
	for what := range besides {
		if !slices.Contains(named, what) {
			t.Errorf("the table does not name that %s", what)
		}
	}
}

// TestEveryReasonOfAgentsIsInTheTable, and none that is not.
func TestEveryReasonOfAgentsIsInTheTable(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../pkg/events/reason.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var reasons, listed []string
	for _, decl := range file.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST || strings.HasPrefix(group.Doc.Text(), "Reasons of verification") {
			continue
		}
		for _, spec := range group.Specs {
			value, err := strconv.Unquote(spec.(*ast.ValueSpec).Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			reasons = append(reasons, value)
		}
	}
	for _, row := range documented(t, "### Reasons of agents") {
		listed = append(listed, row[0])
		if !namesATest(row[3]) {
			t.Errorf("no test shows %s", row[0])
		}
	}
	if !slices.Equal(listed, reasons) {
		t.Errorf("the table has %q, the code %q", listed, reasons)
	}
}
