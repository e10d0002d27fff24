package publisher_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/internal/registry"
)

// directory is a production environment, with or without a freeze that never ends.
func directory(frozen bool) ledger.Propose {
	text := "apiVersion: lockstep/v1\nkind: Environment\nmetadata: {name: prod}\n---\napiVersion: lockstep/v1\nkind: Variable\nmetadata: {name: a}\nspec: {default: 1}\n"
	if frozen {
		text += "---\napiVersion: lockstep/v1\nkind: Policy\nmetadata: {name: always}\nspec: {freeze: {start: 2001-01-01T00:00, rrule: FREQ=YEARLY, duration: 8784h}}\n"
	}
	return ledger.Propose{Reason: "the directory", Directory: &ledger.Directory{Files: []registry.File{{Name: "all.yaml", Text: text}}}}
}

// What waits for the end of a freeze is in the ledger: it outlives the publisher that approved it, and of two publishers one releases it.
func TestWhatAFreezeHoldsOutlivesThePublisherAndIsReleasedOnce(t *testing.T) {
	t.Parallel()
	process := bustest.StartProcess(t)
	data := t.TempDir()
	p := start(t, data, on(process))
	addEnvironments(t, p, "prod")
	do(t, p, "ben", approval(p, do(t, p, "anna", directory(true)).Change))
	waits := propose(t, p, "variable/b", 2, "prod")
	if out := do(t, p, "ben", waits); len(out.Released) > 0 || len(out.Frozen) != 1 {
		t.Fatalf("%+v", out)
	}
	stop(t, p)

	other := t.TempDir()
	key, err := os.ReadFile(filepath.Join(data, "publisher.key"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(other, "publisher.key"), key, 0o600))
	p, q := start(t, data, on(process)), start(t, other, on(process))
	eventuallyWritable(t, p)
	eventuallyWritable(t, q)
	do(t, q, "ben", approval(q, do(t, q, "anna", directory(false)).Change)) // no resource changes: that waits for nothing
	for _, each := range []*publisher.Publisher{p, q} {
		bustest.Eventually(t, "what waited is released", func() bool { return heads(each)["prod"] == 3 })
		each.Read(func(s *ledger.State, _ fleet.Reports, _ time.Time) {
			if part := s.Changes[waits.Change].Parts[0]; part.Revision != 3 || part.Frozen != nil || len(s.FrozenChanges()) > 0 {
				t.Errorf("%+v", part)
			}
		})
	}
	verify(t, p)
}
