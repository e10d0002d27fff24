package dashboard_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// manyFlags is a fleet with flags that are well and flags that are not.
func manyFlags(t testing.TB) *world {
	w := newWorld(t)
	all := []string{"dev", "test", "staging", "prod-eu", "prod-us", "prod-ap", "tenant-alba", "tenant-brik-with-a-long-name"}
	for _, name := range all {
		stage, _, _ := strings.Cut(name, "-")
		w.add(name, stage, "", "a1")
	}
	files := []registry.File{}
	for _, name := range all {
		files = append(files, registry.File{Name: "desk/" + name + ".yaml", Text: fmt.Sprintf("apiVersion: lockstep/v1\nkind: Environment\nmetadata: {name: %s}\nspec: {}\n", name)})
	}
	for name, spec := range map[string]string{
		"order-on-one-page": "{lifecycle: active, expires: 2027-03-31, default: %s}", "old-invoice": "{lifecycle: deprecated, default: %s}",
		"winter-theme": "{lifecycle: active, expires: 2026-11-20, default: %s}", "second-signature": "{lifecycle: active, default: %s}",
	} {
		files = append(files, registry.File{Name: "desk/" + name + ".yaml", Text: fmt.Sprintf("apiVersion: lockstep/v1\nkind: Flag\nmetadata: {name: %s, owner: team-orders}\nspec: "+spec+"\n", name, fmt.Sprintf(flag, "off"))})
	}
	proposed := w.do("anna", ledger.Propose{Reason: "The desk's flags as code", Edits: []ledger.Edit{}, Directory: &ledger.Directory{Files: files}})
	w.approve("ben", proposed.Change)
	w.apply(60*time.Millisecond, all...)
	w.pass(30 * time.Hour)
	w.release("Ask for a second signature in one tenant", "flag/second-signature", fmt.Sprintf(flag, "on"), "tenant-alba", "prod-us")
	w.release("Somebody tries something", "flag/tried-by-hand", `{"state":"DISABLED","variants":{"greeting":"a rather long text that somebody wrote for those who sign in"},"defaultVariant":"greeting"}`, "dev")
	w.apply(60*time.Millisecond, all...)
	w.pass(40 * time.Minute)
	w.release("One page for an order", "flag/order-on-one-page", fmt.Sprintf(flag, "on"), "prod-*", "staging")
	w.apply(60*time.Millisecond, "staging", "prod-eu")
	w.say("prod-ap", "a1", events.WordFailed, fleet.Failing, events.ReasonConnector, "the instance answered 503")
	w.beatAll()
	return w
}

// TestTheFlagsPageShowsTheLeastHealthyFirstAndWhatIsInEffect: what was released, and what an agent that has not applied it holds still.
func TestTheFlagsPageShowsTheLeastHealthyFirstAndWhatIsInEffect(t *testing.T) {
	headline, _, all := read(t, manyFlags(t), "/flags")
	if headline != "4 of 5 flags are not healthy" {
		t.Errorf("headline %q", headline)
	}
	at := 0
	for _, want := range []string{
		"Flag Health dev test staging prod-ap prod-eu prod-us tenant-alba tenant-brik-with-a-long-name",
		"flag/order-on-one-page team-orders active until 2027-03-31 differs for", "30 fails in prod-ap not applied in prod-ap, prod-us", "on true ≠ not applied still off false",
		"flag/second-signature team-orders active", "80 differs within prod",
		"flag/old-invoice team-orders deprecated never differed", "90 deprecated, and still there",
		"flag/winter-theme team-orders active until 2026-11-20", "90 past its day, and still there",
		"flag/tried-by-hand without an owner", "100 in step everywhere", "greeting disabled", "not there",
	} {
		next := strings.Index(all[at:], want)
		if next < 0 {
			t.Fatalf("the page does not say %q after %q: %s", want, all[max(0, at-60):at], all)
		}
		at += next
	}
}
