package publisher_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// fleetOfThree is a publisher with three environments, an agent in each, and some releases.
func fleetOfThree(t *testing.T) (*publisher.Publisher, map[string]*agent) {
	p := start(t, t.TempDir())
	addEnvironments(t, p, "dev", "stage", "prod")
	agents := map[string]*agent{}
	for name := range heads(p) {
		agents[name] = enrol(t, p, name, "one")
	}
	for i := range 5 {
		release(t, p, "variable/x", i, "*")
	}
	release(t, p, "variable/y", "only here", "dev")
	for name, head := range heads(p) {
		agents[name].reaches(head)
	}
	return p, agents
}

func TestADeletedReleaseStreamComesBackWithTheSameBytes(t *testing.T) {
	t.Parallel()
	p, agents := fleetOfThree(t)
	conn := bustest.Connect(t, p.BusURL())
	before := eventuallySent(t, p, conn)

	bustest.NewWire(t, p.BusURL()).DropStream(events.StreamReleases)
	after := eventuallySent(t, p, conn)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
	release(t, p, "variable/x", "later", "*")
	for name, head := range heads(p) {
		agents[name].reaches(head)
	}
	verify(t, p)
}

func TestAReleaseStreamThatWasAlteredIsMadeGood(t *testing.T) {
	t.Parallel()
	p, agents := fleetOfThree(t)
	conn := bustest.Connect(t, p.BusURL())
	wire := bustest.NewWire(t, p.BusURL())
	ctx := bustest.Context(t)
	before := eventuallySent(t, p, conn)
	place := func(environment string, revision int) (found bus.Stored) {
		n := 0
		must(t, conn.ReadReleases(ctx, environment, func(s bus.Stored) error {
			if n++; n == revision {
				found = s
			}
			return nil
		}))
		return found
	}
	last := place("prod", len(before["prod"]))
	for name, alter := range map[string]func(){
		"purged":                 func() { must(t, conn.PurgeReleases(ctx, "dev")) },
		"cut in the middle":      func() { must(t, conn.DeleteRelease(ctx, place("dev", 3).Sequence)) },
		"cut at the end":         func() { must(t, conn.DeleteRelease(ctx, place("dev", len(before["dev"])).Sequence)) },
		"something unsigned":     func() { wire.Store("dev", []byte("hello"), "") },
		"altered":                func() { wire.Store("prod", []byte(strings.Replace(string(last.Payload), "4", "5", 1)), last.Signature) },
		"doubled":                func() { wire.Store("prod", last.Payload, last.Signature) },
		"another environment's":  func() { wire.Store("stage", last.Payload, last.Signature) },
		"of no environment":      func() { wire.Store("unknown", last.Payload, last.Signature) },
		"under no possible name": func() { wire.Store("NO_NAME", []byte("hello"), "") },
		"one replaced by another": func() {
			must(t, conn.DeleteRelease(ctx, place("dev", 3).Sequence))
			wire.Store("dev", []byte("hello"), "")
		},
		"last replaced, unsigned": func() { must(t, conn.DeleteRelease(ctx, last.Sequence)); wire.Store("prod", last.Payload, "") },
	} {
		alter()
		if after := eventuallySent(t, p, conn); !cmp.Equal(before, after) {
			t.Errorf("%s: %s", name, cmp.Diff(before, after))
		}
		if !p.Fleet().Ledger.Writable {
			t.Errorf("%s: the ledger is read-only: %+v", name, p.Fleet().Ledger)
		}
		last = place("prod", len(before["prod"]))
	}
	release(t, p, "variable/x", "later", "*")
	for name, head := range heads(p) {
		agents[name].reaches(head)
	}
}

func TestEveryStreamAndTheLeaseComeBack(t *testing.T) {
	t.Parallel()
	p, agents := fleetOfThree(t)
	wire := bustest.NewWire(t, p.BusURL())
	for _, name := range []string{events.StreamAcks, events.StreamBeats, events.StreamReleases, "KV_" + events.BucketLease} {
		wire.DropStream(name)
	}
	// The ledger is read-only where a stream is looked at while it is not there.
	out := again(t, p, command("anna", set("variable/x", "later", "*")))
	again(t, p, command("ben", approval(p, out.Change)))
	for name, head := range heads(p) {
		agents[name].reaches(head)
	}
	bustest.Eventually(t, "a beat is heard and an ack recorded", func() bool {
		agents["dev"].beat() // there may be no stream yet that takes it
		for _, e := range p.Fleet().Environments {
			if e.Name == "dev" {
				return e.Agents[0].Condition == "in step"
			}
		}
		return false
	})
	names := slices.Sorted(maps.Keys(heads(p)))
	if diff := cmp.Diff([]string{"dev", "prod", "stage"}, names); diff != "" {
		t.Error(diff)
	}
}
