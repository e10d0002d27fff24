package publisher_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-dev/lockstep/internal/api"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/keys"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/pkg/events"
	"github.com/lockstep-dev/lockstep/pkg/events/trusttest"
)

// TestAPublisherWhoseKeyWasReplacedTakesNoMoreCommands: nobody believes what it sends from then on. It says what to do, and started with
// the new key it goes on.
func TestAPublisherWhoseKeyWasReplacedTakesNoMoreCommands(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := start(t, data)
	addEnvironments(t, p, "prod")
	trustPeople(t, p, func(d *events.Trust) { d.Publishers = []string{trusttest.Key(t, "new publisher").Public()} })

	_, err := doSigned(t, p, "ada", ledger.AddEnvironment{Name: "late", Approvals: 1})
	if unavailable, ok := err.(*api.UnavailableError); !ok || unavailable.Reason != events.ReasonTrust || !strings.Contains(unavailable.Message, "put the key there that the document names") {
		t.Errorf("the command after the replacement: %v", err)
	}
	bustest.Eventually(t, "every screen says so", func() bool { return !p.Fleet().Ledger.Writable && p.Fleet().Ledger.Reason == events.ReasonTrust })

	stop(t, p)
	file := filepath.Join(data, "publisher.key")
	must(t, os.Remove(file))
	must(t, keys.WriteKey(file, trusttest.Seed(t, "new publisher"), nil))
	trustPeople(t, start(t, data), func(d *events.Trust) { d.Publishers = []string{trusttest.Key(t, "new publisher").Public()} })
}
