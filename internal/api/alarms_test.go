package api_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/access"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

func TestFromOtherHostsOperatorsAloneSilenceAlarmsInTheirOwnName(t *testing.T) {
	h := newHouse(t)
	until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	ask := func(by string) int {
		r := h.ask(http.MethodPost, "/api/v1/silences", bearer(h.token(access.Read)), func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(`{"environment":"*","until":"` + until + `","by":"` + by + `","reason":"why"}`))
		})
		return r.StatusCode
	}
	silences := func() int {
		view, err := h.publisher.Alarms()
		if err != nil {
			t.Fatal(err)
		}
		return len(view.Silences)
	}
	if got := ask("anna"); got != http.StatusForbidden || silences() != 0 {
		t.Errorf("an auditor: %d", got)
	}
	h.believe(events.Person{Name: "anna", Keys: []string{h.anna.Public()}, Grants: []events.Grant{{Role: events.RoleOperator, Environments: []string{"prod"}}}})
	if got := ask("ben"); got != http.StatusForbidden || silences() != 0 {
		t.Errorf("an operator in another's name: %d", got)
	}
	if got := ask("anna"); got != http.StatusOK || silences() != 1 {
		t.Errorf("an operator: %d, %d silences", got, silences())
	}
}
