package dashboard_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/lockstep-dev/lockstep/internal/audit"
	"github.com/lockstep-dev/lockstep/internal/dashboard"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/notify"
	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// hostile is what somebody would write who wants to be obeyed by a browser, or to be read as something else: markup that ends whatever it
// may stand in, characters that turn text around, hide it or control a terminal, what is no text at all, and more than anybody reads.
var hostile = `"'></textarea></style></title></script><script>window.obeyed=1;console.error("obeyed")</script><img src=x onerror="window.obeyed=1"><svg onload=window.obeyed=1>` +
	"<a href=\"javascript:window.obeyed=1\">{{.}}<!--</p><form action=https://evil.example><base href=https://evil.example>" +
	"\u202egnp.exe\u2066\u200b\ufeff\u2028\u00ad\x00\x07\x1b[31m\x7f\u0085\xff\xfe" + strings.Repeat("a\u0301\u0302<b>&amp;", 1<<20/13)

// hostileWorld has something hostile wherever people and agents can write something, and where they cannot: the ledger's state is altered
// behind its back.
func hostileWorld(t testing.TB) *world {
	w := newWorld(t)
	w.add("prod", "prod", "eu", "a1")
	some, err := json.Marshal(hostile[:100<<10])
	if err != nil {
		t.Fatal(err)
	}
	owner := string(some)
	manifests := "apiVersion: lockstep/v1\nkind: Environment\nmetadata: {name: prod}\nspec:\n  template: strict\n  waivers: [{resource: flag/old, rule: strict/state, owner: " + owner + ", reason: " + owner + ", expires: 2026-11-22}]\n---\napiVersion: lockstep/v1\nkind: Template\nmetadata: {name: strict}\nspec: {locked: [{name: state, resources: 'flag/*', path: /state, lock: deletion}]}\n---\napiVersion: lockstep/v1\nkind: Flag\nmetadata: {name: old, owner: " + owner +
		"}\nspec:\n  expires: 2026-11-20\n  reviewBy: 2026-11-20\n  lifecycle: deprecated\n  default: " + fmt.Sprintf(flag, "off") + "\n"
	w.approve("ben", w.do("anna", ledger.Propose{Reason: "because", Edits: []ledger.Edit{}, Directory: &ledger.Directory{Files: []registry.File{{Name: "<script>window.obeyed=1</script>.yaml", Text: manifests}}}}).Change)
	w.pass(72 * time.Hour)
	value, err := json.Marshal(map[string]string{"</script>": hostile[:400<<10]})
	if err != nil {
		t.Fatal(err)
	}
	w.release("because", "document/theme", string(value), "prod")
	w.release("because", "flag/new", `{"state":"ENABLED","variants":{"<i><script>":"`+"\u202e"+`<script>window.obeyed=1</script>"},"defaultVariant":"<i><script>"}`, "prod")
	w.apply(time.Second, "prod")
	w.release("because", "variable/x", `"<script>window.obeyed=1</script>"`, "prod")
	w.propose("anna", "because", "variable/x", `"open"`, "prod")
	w.say("prod", "a1", events.WordFailed, fleet.Failing, events.ReasonConnector, "no")
	w.decided = func(r *audit.Record) {
		r.By, r.Reason, r.Agent, r.What, r.Resources = hostile, hostile, hostile, []string{hostile}, []string{hostile, hostile}
	}
	for _, c := range w.state.Changes {
		c.BreakGlass = &ledger.GlassBroken{By: hostile, Reason: hostile, At: epoch, Reviews: []ledger.Signed{{By: hostile, Comment: hostile}}}
		c.Paused = &ledger.Paused{By: hostile, Reason: hostile, Since: epoch}
		c.Author, c.Reason, c.Ticket, c.EndReason, c.Ended = hostile, hostile, hostile, hostile, hostile
		c.Source = &events.Provenance{Repository: hostile, Commit: hostile, Build: hostile}
		c.Approvals = append(c.Approvals, events.Approval{By: hostile, At: epoch})
		c.Verdicts = []events.Verdict{{Policy: hostile, Rule: hostile, Action: hostile, Message: hostile, File: hostile, Risk: hostile, Roles: []string{hostile}, On: []events.VerdictPlace{{Environment: hostile, Key: hostile}}}}
		for i := range c.Parts {
			c.Parts[i].LeftOut = &events.LeftOut{Environment: hostile, Reason: events.Reason(hostile), Detail: hostile}
			c.Parts[i].Frozen = &events.Frozen{Environment: hostile, Until: epoch, Policy: hostile, File: hostile}
		}
	}
	e := w.state.Environments["prod"]
	e.Steward = hostile
	e.Labels = map[string]string{"stage": hostile, "region": hostile, "product": hostile, hostile: hostile}
	for i := range e.Releases {
		e.Releases[i].By, e.Releases[i].Reason = hostile, hostile
	}
	for _, a := range e.Agents {
		if a.Open != nil {
			a.Open.Reason, a.Open.Message, a.Open.Differing = events.Reason(hostile), hostile, []string{hostile}
		}
		for _, d := range a.Said() {
			if d.Word != events.WordApplied {
				d.Reason, d.Message, d.Differing = events.Reason(hostile), hostile, []string{hostile}
			}
		}
	}
	for id, b := range w.reports.Beats {
		b.Version, b.Condition, b.Reason, b.Message, b.Connectors = hostile, hostile, events.Reason(hostile), hostile, []string{hostile}
		b.Drift, b.Differing = 1, []events.DifferingResource{{Resource: hostile, Fields: []string{hostile}}, {Resource: "document/theme", Fields: []string{hostile}}}
		w.reports.Beats[id] = b
	}
	w.raise()
	alarms, err := w.Alarms()
	if err != nil {
		t.Fatal(err)
	}
	finding := notify.Finding{Rule: notify.Rule(hostile), Environment: hostile, Change: hostile, State: hostile, Reason: events.Reason(hostile), Message: hostile, Stewards: []string{hostile},
		Owners: []string{hostile}, Author: hostile, Next: hostile}
	note := notify.Note{By: hostile, Reason: hostile, Time: epoch}
	alarm := notify.Alarm{ID: hostile, Finding: finding, Raised: epoch, Told: []string{hostile}}
	delivery := notify.Delivery{ID: hostile, Target: hostile, Alarm: alarm, Error: hostile}
	alarms.Open = append(alarms.Open, notify.ShownAlarm{Alarm: alarm, Acknowledged: &note})
	alarms.Past, alarms.Silences = []notify.Alarm{alarm}, []notify.Silence{{ID: hostile, Environment: hostile, Rule: notify.Rule(hostile), Note: note}}
	alarms.Waiting, alarms.Dead = []notify.Delivery{delivery}, []notify.Delivery{delivery}
	w.told = &alarms
	w.standing = fleet.LedgerView{Reason: events.Reason(hostile), Message: hostile, Durability: hostile}
	w.state.Losses = []ledger.Loss{{By: hostile, Loss: events.Loss{Reason: hostile}}}
	return w
}

// hostilePages are all pages, with what is hostile in their addresses too.
var hostilePages = []string{
	"/", "/?filter=%3Cscript%3Ewindow.obeyed=1%3C/script%3E%22%27%E2%80%AE", "/environments/prod", "/environments/%3Cscript%3E%E2%80%AE",
	"/propagation?window=30d&filter=%22%3E%3Cscript%3E", "/approvals", "/alarms", "/audit", "/audit?person=%22%3E%3Cscript%3E&since=%3Cscript%3E%E2%80%AE", "/flags", "/flags?filter=%22%3E%3Cscript%3E", "/delivery",
	"/changes", "/changes?status=%22%3E%3Cscript%3E", "/changes/c1", "/changes/c2", "/changes/c3", "/changes/c4", "/changes/c5", "/changes/%22%3E%3Cscript%3E%E2%80%AE", "/%3Cscript%3E%E2%80%AE",
}

// TestWhatIsHostileIsShownAsText: no markup of anybody's becomes the page's, nothing that a reader would not see is sent as itself, and a
// megabyte in a field makes no page larger than a megabyte.
func TestWhatIsHostileIsShownAsText(t *testing.T) {
	handler := dashboard.New(dashboard.Options{Backend: hostileWorld(t), Version: "v1"})
	for _, page := range hostilePages {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, page, nil))
		body := answer.Body.String()
		if answer.Code >= http.StatusInternalServerError || !strings.Contains(body, "</html>") {
			t.Errorf("%s: status %d, %d bytes: %.200s", page, answer.Code, len(body), body)
		}
		if n := strings.Count(body, "<script"); n != 1 {
			t.Errorf("%s has %d scripts", page, n)
		}
		for _, tag := range []string{"<img", "<base", "<iframe", "<form action", "<i>", `href="javascript:`, `href="https:`} {
			if strings.Contains(body, tag) {
				t.Errorf("%s has %s", page, tag)
			}
		}
		for i, r := range body {
			if !unicode.IsPrint(r) && r != '\n' && r != '\u202f' {
				t.Errorf("%s sends %U as it is: %q", page, r, body[max(0, i-80):min(len(body), i+20)])
				break
			}
		}
		if len(body) > 1<<20 {
			t.Errorf("%s has %d bytes", page, len(body))
		}
	}
}

// TestTheViewHasNoFieldThatHostilityMisses: a string that is added to what the fleet says of environments and changes must be made
// hostile above, so that it is seen to be shown as text.
func TestTheViewHasNoFieldThatHostilityMisses(t *testing.T) {
	w := hostileWorld(t)
	found := map[string]bool{} // fields with text, and whether one is hostile
	see := func(what any, err error) {
		if err != nil {
			t.Fatal(err)
		}
		note(found, "", reflect.ValueOf(what))
	}
	w.Read(func(s *ledger.State, r fleet.Reports, at time.Time) {
		everything := func(*ledger.Environment) bool { return true }
		see(fleet.Build(s, r, w.standing, at), nil)
		see(fleet.Changes(s, r, at), nil)
		see(fleet.History(s, r, "prod", ""))
		see(fleet.Resources(s, "prod", s.Environments["prod"].Head()))
		see(fleet.Flags(s, r, everything, at))
		see(fleet.OverdueOf(s, at))
		see(fleet.ReportDeliveries(s, r, 12, at), nil)
		see(fleet.PropagationOf(s, r, 24*time.Hour, everything, at), nil)
	})
	see(w.Decisions(audit.Filter{}, 0, 100), nil)
	see(*w.told, nil)
	// Ids, names, digests and words of a closed set: what they may be is checked before they are in the ledger, or they are ours.
	closed := []string{"LedgerView.ID", "Environment.Name", "Environment.LastChange", "Environment.Condition", "Agent.Name", "Agent.Condition", "Change.ID", "Change.Status",
		"Change.Window", "ChangeEnvironment.Environment", "ChangeEnvironment.Outcome", "ChangeEnvironment.Moved", "OperationView.Op", "OperationView.Key", "AgentDelivery.Agent", "AgentDelivery.Word",
		"AgentDelivery.Failed", "FrozenChange.Change", "OpenReview.Change", "OpenReview.Environments", "Change.Risk", "Change.Expires", "View.Totals, a key",
		"HistoryItem.Change", "HistoryItem.Environment", "HistoryItem.Kind", "ResourceView.Key", "ResourceView.Environment", "ResourceView.Change",
		"LagPoint.Change", "LagPoint.Environment", "LagPoint.Kind", "LagPoint.Phases, a key", "EnvironmentLag.Name", "PhaseLag.Phase",
		"FlagMatrix.Environments", "FlagRow.Key", "FlagRow.Lifecycle", "FlagRow.Expires", "FlagCell.Change",
		"Overdue.What", "Overdue.Key", "Overdue.Environments", "Record.Changes", "Record.Environments"}
	for field, isHostile := range found {
		ours := false
		for _, c := range closed {
			ours = ours || c == field
		}
		if !isHostile && !ours {
			t.Errorf("%s is not hostile: make it so in hostileWorld", field)
		}
	}
}

// note walks a value and notes its fields with text.
func note(found map[string]bool, name string, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		found[name] = found[name] || strings.Contains(v.String(), "<script>")
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			note(found, name, v.Elem())
		}
	case reflect.Slice, reflect.Array:
		if v.Type() == reflect.TypeFor[json.RawMessage]() && v.Len() > 0 {
			note(found, name, reflect.ValueOf(string(v.Bytes())))
			return
		}
		for i := range v.Len() {
			note(found, name, v.Index(i))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			note(found, name+", a key", key)
			note(found, name, v.MapIndex(key))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			field, value := v.Type().Field(i), v.Field(i)
			if !field.IsExported() {
				continue
			}
			note(found, v.Type().Name()+"."+field.Name, value)
		}
	}
}
