package dashboard_test

import (
	"regexp"
	"strings"
	"testing"
)

// TestAChangeNamesTheEntryOfEachDecision: who proposed, approved and rolled back, each with the entry of the ledger that holds it.
func TestAChangeNamesTheEntryOfEachDecision(t *testing.T) {
	_, _, page := read(t, everyState(t), "/changes/c19")
	_, decisions, found := strings.Cut(page, "What was decided about it")
	if !found || !regexp.MustCompile(`\d+ 2026-\S+ \S+ anna .*\d+ 2026-\S+ \S+ ben .*\d+ 2026-\S+ \S+ ben .*prod-us cannot reach the new provider`).MatchString(decisions) {
		t.Errorf("%s", page)
	}
}
