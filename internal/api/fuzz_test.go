package api_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/api/apitest"
	"github.com/lockstep-dev/lockstep/internal/ledger"
)

// FuzzRequest: whatever is asked, the answer is JSON, and what is refused is the asker's fault, a problem of a known kind, and changes
// nothing.
func FuzzRequest(f *testing.F) {
	p := apitest.New(f)
	p.Must("op", ledger.AddEnvironment{Name: "prod", Approvals: 1})
	p.Agent("prod", "a1", apitest.Applies)
	change := p.Must("anna", ledger.Propose{Reason: "why", Edits: []ledger.Edit{{Environments: []string{"prod"}, Set: map[string]json.RawMessage{"variable/x": json.RawMessage("1")}}}}).Change
	handler := api.New(api.Options{Backend: p, Version: "v1"})
	f.Add("commands/propose", propose)
	f.Add("commands/propose", strings.Replace(propose, `"debug"`, `{"a":[1e400,null,"\ud800"]}`, 1))
	f.Add("commands/approve", `{"id":"two","by":"ben","command":{"change":"`+change+`","digest":"x"}}`)
	f.Add("commands/add-environment", `{"id":"three","by":"op","dryRun":true,"command":{"name":"PROD","approvals":-1,"labels":{"":""}}}`)
	f.Add("commands/enrol-agent", `{"id":"four","by":"op","command":{"environment":"prod","agent":"a2","key":"U"}}`)
	f.Add("commands/rollback", `{"id":"five","by":"op","command":{"environment":"prod","toRevision":99999999999999999999}}`)
	f.Add("commands/withdraw", `{"id":"","by":"","command":null}`)
	f.Add("commands/nonsense", `[]`)
	manifests := `{"files":[{"name":"a.yaml","text":"apiVersion: lockstep/v1\nkind: Environment\nmetadata: {name: prod}\n---\napiVersion: lockstep/v1\nkind: Variable\nmetadata: {name: x}\nspec: {default: 2, overrides: {'p*': 3}}\n"}],"environments":["p*"],"prune":true,"confirmMany":-1}`
	f.Add("diff", manifests)
	f.Add("diff", `null`)
	f.Add("diff", `{"files":[{"name":"","text":"---"}],"environments":["["]}`)
	f.Add("commands/propose", `{"id":"six","by":"anna","dryRun":true,"command":{"reason":"why","edits":null,"directory":`+manifests+`}}`)
	f.Add("commands/rebase", `{"id":"seven","by":"anna","command":{"change":"`+change+`"}}`)
	f.Add("commands/propose", `{"id":"eight","by":"anna","command":{"reason":"why","edits":null,"promotion":{"from":"prod","to":["*"],"resources":["["]}}}`)
	for _, path := range []string{"fleet", "environments/prod", "environments/prod/resources?at=1", "environments/prod/resources/variable/x?at=2026-03-01T12:00:00Z", "environments/prod/resources?at=-1",
		"environments/%2e%2e/resources", "environments/prod/releases/18446744073709551616", "changes?status=open&status=x", "changes/" + change, "history", "history?environment=prod&resource=variable/x",
		"trust?environment=nobody", "compare?a=prod&b=prod", "compare?a=prod", "impact/variable/x", "environments/prod/explain/variable/x", "bundle?env=prod&env=nobody", "bundle", "ledger", "doctor", "openapi.json", "history?environment=%zz"} {
		f.Add(path, "")
	}
	f.Fuzz(func(t *testing.T, path, body string) {
		method := http.MethodGet
		if body != "" {
			method = http.MethodPost
		}
		r, err := http.NewRequest(method, "http://127.0.0.1"+api.Prefix+"/"+path, strings.NewReader(body))
		if err != nil {
			return // it cannot be sent
		}
		r.Header.Set("Content-Type", "application/json")
		before := p.Fleet().Ledger.Tip.Number
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		media := w.Header().Get("Content-Type")
		switch {
		case w.Code >= 500:
			t.Fatalf("%s %q: %d %s", method, path, w.Code, w.Body)
		case w.Code >= 300 && w.Code < 400:
			return // to the same path, written otherwise
		case strings.Contains(media, "json") && !json.Valid(w.Body.Bytes()):
			t.Fatalf("%s %q: %d %s", method, path, w.Code, w.Body)
		}
		if w.Code < 300 {
			return
		}
		var problem api.Problem
		if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil || problem.Kind == "" || problem.Detail == "" || problem.Status != w.Code {
			t.Fatalf("%s %q: %d %s", method, path, w.Code, w.Body)
		}
		if p.Fleet().Ledger.Tip.Number != before {
			t.Fatalf("%s %q was refused and is in the ledger", method, path)
		}
	})
}
