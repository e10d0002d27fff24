package api_test

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/access"
	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// post sends a command as from another host, with a token of anna's.
func (h *house) post(c ledger.Command, change ...func(*http.Request)) *http.Response {
	h.t.Helper()
	body, err := json.Marshal(api.Request[ledger.Body]{ID: c.ID, By: c.By, Statement: c.Statement, DryRun: c.DryRun, Command: c.Body})
	if err != nil {
		h.t.Fatal(err)
	}
	return h.ask(http.MethodPost, api.CommandPath(c), append([]func(*http.Request){bearer(h.token(access.Read)), func(r *http.Request) {
		r.Body = io.NopCloser(strings.NewReader(string(body)))
	}}, change...)...)
}

// TestUnderSignedTrustNoCommandIsTakenWithoutItsStatement: whatever the route, on loopback too, and whoever reads.
func TestUnderSignedTrustNoCommandIsTakenWithoutItsStatement(t *testing.T) {
	far, near := newHouse(t), newHouse(t, func(o *api.Options) { o.Beyond = false })
	for name, h := range map[string]*house{"far": far, "near": near} {
		var described struct {
			Paths map[string]any `json:"paths"`
		}
		if err := json.NewDecoder(h.ask(http.MethodGet, "/api/v1/openapi.json", bearer(h.token(access.Read))).Body).Decode(&described); err != nil {
			t.Fatal(err)
		}
		verbs := 0
		for path := range described.Paths {
			verb, isCommand := strings.CutPrefix(path, "/api/v1/commands/")
			if !isCommand {
				continue
			}
			verbs++
			body, known := bodies[verb]
			if !known {
				t.Errorf("no test sends the command %s", verb)
				continue
			}
			before := h.publisher.Fleet().Ledger.Tip
			r := h.ask(http.MethodPost, path, bearer(h.token(access.Read)), func(r *http.Request) {
				r.Body = io.NopCloser(strings.NewReader(`{"id":"` + verb + `","by":"anna","command":` + body + `}`))
			})
			p := h.refusal(r)
			if p.Status != http.StatusUnauthorized || p.Reason != ledger.ReasonUnsigned || p.Next == "" || h.publisher.Fleet().Ledger.Tip != before {
				t.Errorf("%s, %s: %+v", name, verb, p)
			}
			if r.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s, %s: no challenge", name, verb)
			}
		}
		if verbs != len(bodies) || h.refused[ledger.ReasonUnsigned] != verbs {
			t.Errorf("%s: %d commands, %d are sent here, %v", name, verbs, len(bodies), h.refused)
		}
	}
}

// bodies are one of each command, as far as its shape goes.
var bodies = map[string]string{
	"propose": `{"reason":"why","edits":[{"environments":["prod"],"set":{"variable/x":1}}]}`,
	"revise":  `{"change":"c1","reason":"why","edits":[{"environments":["prod"],"set":{"variable/x":1}}]}`,
	"rebase":  `{"change":"c1"}`,
	"approve": `{"change":"c1","digest":"` + strings.Repeat("1", 64) + `"}`, "reject": `{"change":"c1","reason":"why"}`, "withdraw": `{"change":"c1"}`,
	"rollback": `{"change":"c1","reason":"why"}`, "pause": `{"change":"c1","reason":"why"}`, "resume": `{"change":"c1"}`,
	"break-glass": `{"change":"c1","digest":"` + strings.Repeat("1", 64) + `","reason":"why"}`, "review": `{"change":"c1","comment":"why"}`,
	"propose-trust":   `{"document":{"version":2,"ledger":"x","publishers":[],"approvals":"signed"},"reason":"why"}`,
	"add-environment": `{"name":"dev","approvals":1}`, "update-environment": `{"name":"prod","approvals":2}`, "retire-environment": `{"name":"prod","reason":"why"}`,
	"acknowledge-alarm": `{"alarm":"af13aa6d3941","environment":"prod","reason":"why"}`, "silence-alarms": `{"environment":"prod","until":"2027-01-01T00:00:00Z","reason":"why"}`, "end-silence": `{"silence":3}`,
	"enrol-agent": `{"environment":"prod","agent":"a1","key":"U"}`, "revoke-agent": `{"environment":"prod","agent":"a1","reason":"why"}`,
}

func TestAStatementIsForOneCommandOnceAndNow(t *testing.T) {
	h, eve := newHouse(t), signer(t)
	h.believe(events.Person{Name: "anna", Keys: []string{h.anna.Public()}, Grants: []events.Grant{{Role: events.RoleOperator, Environments: []string{"*"}}}})
	command := ledger.Command{ID: "one", By: "anna", Body: ledger.AddEnvironment{Name: "dev", Approvals: 1}}
	signed := func(c ledger.Command, s events.Statement, by *events.Signer) ledger.Command {
		t.Helper()
		if s.Ledger == "" {
			s.Ledger = h.ledger
		}
		if s.At.IsZero() {
			s.At = time.Now()
		}
		c, err := c.Signed(s, by)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	good := signed(command, events.Statement{}, h.anna)
	other, tampered := command, good
	other.Body = ledger.AddEnvironment{Name: "test", Approvals: 1}
	envelope := *good.Statement
	envelope.Payload = strings.Replace(envelope.Payload, "A", "B", 1)
	tampered.Statement = &envelope
	with := func(body ledger.Body, id string, statement *events.Envelope) ledger.Command {
		return ledger.Command{ID: id, By: "anna", Body: body, Statement: statement}
	}
	wrong := map[string]ledger.Command{
		"tampered":             tampered,
		"of somebody unknown":  signed(command, events.Statement{}, eve),
		"of another ledger":    signed(command, events.Statement{Ledger: "another"}, h.anna),
		"signed an hour ago":   signed(command, events.Statement{At: time.Now().Add(-time.Hour)}, h.anna),
		"signed in an hour":    signed(command, events.Statement{At: time.Now().Add(time.Hour)}, h.anna),
		"of another command":   with(command.Body, "one", signed(other, events.Statement{}, h.anna).Statement),
		"under another id":     with(command.Body, "two", good.Statement),
		"of another verb":      with(ledger.RetireEnvironment{Name: "prod"}, "one", good.Statement),
		"with two signatures":  with(command.Body, "one", &events.Envelope{PayloadType: good.Statement.PayloadType, Payload: good.Statement.Payload, Signatures: append(slices.Clone(good.Statement.Signatures), good.Statement.Signatures...)}),
		"of the type of roots": with(command.Body, "one", &events.Envelope{PayloadType: events.TrustType, Payload: good.Statement.Payload, Signatures: good.Statement.Signatures}),
	}
	before := h.publisher.Fleet().Ledger.Tip
	for name, c := range wrong {
		if p := h.refusal(h.post(c)); p.Status != http.StatusUnauthorized || p.Reason != ledger.ReasonStatement || h.publisher.Fleet().Ledger.Tip != before {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if h.refused[ledger.ReasonStatement] != len(wrong) {
		t.Errorf("%d were wrong, %v were counted", len(wrong), h.refused)
	}
	var first, again ledger.Outcome
	for _, into := range []*ledger.Outcome{&first, &again} {
		r := h.post(good)
		if b, err := io.ReadAll(r.Body); err != nil || r.StatusCode != http.StatusOK || json.Unmarshal(b, into) != nil {
			t.Fatalf("%d %s %v", r.StatusCode, b, err)
		}
	}
	if first.Again || !again.Again || first.Entry != again.Entry {
		t.Errorf("%+v, then %+v", first, again)
	}
	if p := h.refusal(h.post(signed(other, events.Statement{}, h.anna))); p.Status != http.StatusConflict {
		t.Errorf("other content under the same id: %+v", p)
	}
	if p := h.refusal(h.post(good, func(r *http.Request) { r.Header.Del("Authorization") })); p.Reason != access.ReasonNoToken {
		t.Errorf("a statement is taken for a token: %+v", p)
	}
}
